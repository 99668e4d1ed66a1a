//! The tables of `deploy/MUTANTS.md`: a row for each package, with the revisions at which its mutants were tried.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::known::Known;
use super::{Found, SUBJECTS, Subject};
use crate::shell;

const FILE: &str = "deploy/MUTANTS.md";

const HEAD: &str = "\
# Mutants

Small changes of what decides (a comparison turned round, a result replaced, a branch left out), one at a time: a test of the same
package has to fail. Written by `cargo xtask mutants`, whole or by the name of a package; each row has the revisions at which its
mutants were tried. Those that no test notices are below with the reason, kept in `crates/xtask/mutants.tsv`; any other fails the command, which
then writes no row. *Endless* are those with which a test does not end, *does not compile* says itself.

| package | at | noticed | endless | does not compile | explained |
| --- | --- | --- | --- | --- | --- |
";

/// The rows, by the name of their package.
pub(super) struct Table(BTreeMap<String, String>);

impl Table {
    /// What was tried before.
    pub(super) fn read() -> Self {
        let text = std::fs::read_to_string(shell::root().join(FILE)).unwrap_or_default();
        let rows = text.lines().filter_map(|line| {
            let package = line.strip_prefix("| ")?.split(' ').next()?;
            let known = SUBJECTS.iter().any(|subject| subject.package == package);
            known.then(|| (package.to_owned(), line.to_owned()))
        });
        Self(rows.collect())
    }

    /// What came of a package.
    pub(super) fn add(&mut self, package: &str, found: &Found) {
        let Found {
            caught,
            unviable,
            endless,
            missed,
            commits,
        } = found;
        let explained = missed.len();
        let at: Vec<&str> = commits.iter().map(String::as_str).collect();
        let at = at.join(" ");
        let row = format!("| {package} | {at} | {caught} | {endless} | {unviable} | {explained} |");
        self.0.insert(package.to_owned(), row);
    }

    /// Writes all of it.
    pub(super) fn write(&self, known: &Known) -> Result<()> {
        let mut text = HEAD.to_owned();
        for Subject { package, .. } in SUBJECTS {
            match self.0.get(package) {
                Some(row) => writeln!(text, "{row}")?,
                None => writeln!(text, "| {package} | – | not tried yet | | | |")?,
            }
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
}
