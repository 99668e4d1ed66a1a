//! The table of `deploy/DEFENCES.md`.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::Patch;
use crate::shell;

const FILE: &str = "deploy/DEFENCES.md";

const HEAD: &str = "\
# Tests without their defence

Every test below is named after an attack or a fault, and was run on a build in which the defence beside it had been taken out. It has
to fail there, and to pass on the build as it is. Written by `cargo xtask defences`, which builds and runs all of it again; the patches
are in `crates/xtask/defences/`.

";

/// Writes what was shown, in the order of the attacks.
pub(super) fn write(commit: &str, shown: &[(&Patch, String)]) -> Result<()> {
    let mut text = HEAD.to_owned();
    writeln!(text, "At {commit}.\n")?;
    text.push_str("| attack | defence taken out | what its test said |\n| --- | --- | --- |\n");
    let mut rows: Vec<_> = shown.iter().collect();
    rows.sort_by_key(|(patch, _)| (patch.attack.parse::<u32>().unwrap_or(u32::MAX), &patch.name));
    for (patch, said) in rows {
        let Patch {
            attack, defence, ..
        } = patch;
        writeln!(text, "| {attack} | {defence} | `{}` |", cell(said))?;
    }
    let file = shell::root().join(FILE);
    std::fs::write(&file, text).with_context(|| format!("{FILE} cannot be written"))?;
    eprintln!("defences: {FILE} is written");
    Ok(())
}

/// One line, short enough to be read, that does not end the cell.
fn cell(said: &str) -> String {
    const MOST: usize = 160;
    let said = said.replace('|', "/").replace('`', "'");
    match said.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", said.get(..at).unwrap_or_default()),
        None => said,
    }
}
