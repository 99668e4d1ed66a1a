//! The table of `deploy/DEFENCES.md`: a row for each patch, with the revision at which it was shown. Rows stay for as long as their
//! patch is what it was then, so that the table can be made in parts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::{FOLDER, Patch};
use crate::shell;

const FILE: &str = "deploy/DEFENCES.md";

const HEAD: &str = "\
# Tests without their defence

Each patch takes one defence out. The tests of its attack that it names were run on that build, at the revision beside it: they have to
fail there, and to pass on the build as it is. A row without a revision was not run by the command yet. Written by `cargo xtask defences`,
which builds and runs all of it again, or some; the patches are in `crates/xtask/defences/`.

| attack | patch | defence taken out | at | what its test said |
| --- | --- | --- | --- | --- |
";

/// What came of a patch, as its row has it.
struct Row {
    at: String,
    said: String,
}

/// The rows that stand, by the name of their patch.
pub(super) struct Table(BTreeMap<String, Row>);

impl Table {
    /// What was shown before, of patches that are the same now.
    pub(super) fn read() -> Self {
        let text = std::fs::read_to_string(shell::root().join(FILE)).unwrap_or_default();
        let rows = text.lines().filter_map(row);
        Self(rows.filter(|(name, row)| is_same(name, &row.at)).collect())
    }

    /// Whether it was shown.
    pub(super) fn has(&self, patch: &Patch) -> bool {
        self.0.contains_key(&patch.name)
    }

    /// Keeps what was shown, and writes all of it.
    pub(super) fn add(
        &mut self,
        patches: &[Patch],
        patch: &Patch,
        at: &str,
        said: &str,
    ) -> Result<()> {
        let row = Row {
            at: at.to_owned(),
            said: cell(said),
        };
        self.0.insert(patch.name.clone(), row);
        let mut text = HEAD.to_owned();
        for patch in patches {
            let Patch {
                name,
                attack,
                defence,
                ..
            } = patch;
            match self.0.get(name) {
                Some(Row { at, said }) => {
                    writeln!(text, "| {attack} | {name} | {defence} | {at} | `{said}` |")?;
                }
                None => writeln!(
                    text,
                    "| {attack} | {name} | {defence} | – | not shown yet |"
                )?,
            }
        }
        std::fs::write(shell::root().join(FILE), text)
            .with_context(|| format!("{FILE} cannot be written"))
    }
}

/// A row that says at which revision something was shown.
fn row(line: &str) -> Option<(String, Row)> {
    let cells = line.strip_prefix("| ")?.strip_suffix(" |")?;
    let [_attack, name, _defence, at, said] = cells.split(" | ").collect::<Vec<_>>()[..] else {
        return None;
    };
    let said = said.strip_prefix('`')?.strip_suffix('`')?.to_owned();
    let at = at.to_owned();
    Some((name.to_owned(), Row { at, said }))
}

/// Whether the patch is what it was at a revision.
fn is_same(name: &str, at: &str) -> bool {
    let file = format!("{FOLDER}/{name}.patch");
    shell::read("git", &["diff", "--quiet", at, "--", &file]).is_ok()
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

#[cfg(test)]
mod checks {
    use super::{cell, row};

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let said = cell("left: `a` | right: b");
        let line = format!("| 7 | 07-a-fence | a fence (a.rs) | 1234567 | `{said}` |");
        let (name, read) = row(&line).unwrap();
        assert_eq!(
            (&*name, &*read.at, &*read.said),
            ("07-a-fence", "1234567", &*said)
        );
        assert!(row("| 7 | 07-a-fence | a fence (a.rs) | – | not shown yet |").is_none());
        assert!(row("| attack | patch | defence taken out | at | what its test said |").is_none());
    }
}
