//! The tables of `deploy/MUTANTS.md`.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::Found;
use super::known::Known;
use crate::shell;

const FILE: &str = "deploy/MUTANTS.md";

const HEAD: &str = "\
# Mutants

Small changes of what decides (a comparison turned round, a result replaced, a branch left out), one at a time: a test of the same
package has to fail. Written by `cargo xtask mutants`, which makes and tests all of them again. Those that no test notices are below
with the reason, kept in `crates/xtask/mutants.tsv`; any other fails the command. *Endless* are those with which a test does not end,
*does not compile* says itself.

";

/// Writes what came of every package.
pub(super) fn write(commit: &str, found: &[(&str, Found)], known: &Known) -> Result<()> {
    let mut text = HEAD.to_owned();
    writeln!(text, "At {commit}.\n")?;
    text.push_str("| package | noticed | endless | does not compile | explained |\n| --- | --- | --- | --- | --- |\n");
    for (package, found) in found {
        let Found {
            caught,
            unviable,
            endless,
            missed,
        } = found;
        let explained = missed.len();
        writeln!(
            text,
            "| {package} | {caught} | {endless} | {unviable} | {explained} |"
        )?;
    }
    text.push_str(
        "\n## Explained\n\n| mutant | number | why no test notices |\n| --- | --- | --- |\n",
    );
    for (name, reason) in &known.0 {
        let name = name.replace('|', "\\|");
        writeln!(text, "| `{name}` | {} | {} |", reason.count, reason.why)?;
    }
    let file = shell::root().join(FILE);
    std::fs::write(&file, text).with_context(|| format!("{FILE} cannot be written"))?;
    eprintln!("mutants: {FILE} is written");
    Ok(())
}
