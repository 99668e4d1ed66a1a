//! A file of `crates/xtask/defences/`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::tests::Test;

/// One defence, and how to take it out.
#[derive(Debug)]
pub(super) struct Patch {
    pub(super) name: String,
    pub(super) file: PathBuf,
    pub(super) attack: String,
    pub(super) defence: String,
    pub(super) tests: Vec<Test>,
}

impl Patch {
    /// Every one, by name.
    pub(super) fn all(folder: &Path) -> Result<Vec<Self>> {
        let entries = std::fs::read_dir(folder)
            .with_context(|| format!("{} cannot be read", folder.display()))?;
        let mut files = Vec::new();
        for entry in entries {
            files.push(entry?.path());
        }
        files.sort();
        files.iter().map(|file| Self::read(file)).collect()
    }

    fn read(file: &Path) -> Result<Self> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let name = name
            .strip_suffix(".patch")
            .with_context(|| format!("{} is not called .patch", file.display()))?;
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("{} cannot be read", file.display()))?;
        Self::parse(name, file, &text)
            .with_context(|| format!("{} is not understood", file.display()))
    }

    fn parse(name: &str, file: &Path, text: &str) -> Result<Self> {
        let (head, _) = text
            .split_once("\ndiff --git ")
            .context("no diff as git writes it")?;
        let field = |key: &str| -> Vec<String> {
            let lines = head.lines();
            let values = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
            values.map(|value| value.trim().to_owned()).collect()
        };
        let one = |key: &str| -> Result<String> {
            let mut values = field(key);
            ensure!(values.len() == 1, "there has to be one line {key}:");
            values.pop().with_context(|| format!("no line {key}:"))
        };
        let tests: Vec<Test> = field("Test")
            .iter()
            .map(|line| Test::parse(line))
            .collect::<Result<_>>()?;
        ensure!(!tests.is_empty(), "no line Test:");
        Ok(Self {
            name: name.to_owned(),
            file: file.to_owned(),
            attack: one("Attack")?,
            defence: one("Defence")?,
            tests,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Patch;

    const TEXT: &str =
        "Attack: 7\nDefence: a fence\nTest: greffe-mls lib attack_07_\n\ndiff --git a/x b/x\n";

    fn parse(text: &str) -> Result<Patch, String> {
        Patch::parse("7-a-fence", Path::new("7-a-fence.patch"), text)
            .map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_patch_says_what_it_takes_out_and_who_notices() {
        let patch = parse(TEXT).unwrap();
        assert_eq!((&*patch.attack, &*patch.defence), ("7", "a fence"));
        assert_eq!(patch.tests[0].to_string(), "greffe-mls lib attack_07_");
    }

    #[test]
    fn a_patch_that_leaves_something_out_is_refused() {
        for (without, reason) in [
            ("Attack: 7\n", "there has to be one line Attack:"),
            ("Defence: a fence\n", "there has to be one line Defence:"),
            ("Test: greffe-mls lib attack_07_\n", "no line Test:"),
            ("diff --git a/x b/x\n", "no diff as git writes it"),
        ] {
            assert_eq!(parse(&TEXT.replace(without, "")).unwrap_err(), reason);
        }
    }
}
