//! Mutants that no test can notice, or need not, each with the reason.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

pub(super) const FILE: &str = "crates/xtask/mutants.tsv";

/// A mutant's name without its line and column, which every change of a file moves.
pub(super) fn name(line: &str) -> String {
    let mut parts = line.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(file), Some(_), Some(_), Some(change)) => format!("{file}:{change}"),
        _ => line.to_owned(),
    }
}

/// How many of a name there are, and why.
#[derive(Debug)]
pub(super) struct Reason {
    pub(super) count: usize,
    pub(super) why: String,
}

/// By name.
#[derive(Debug, Default)]
pub(super) struct Known(pub(super) BTreeMap<String, Reason>);

impl Known {
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("{} cannot be read", file.display()))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut known = Self::default();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        for line in lines {
            let [name, count, why] = line.split('\t').collect::<Vec<_>>()[..] else {
                bail!("{FILE}: name, number and reason, with a tab between them: {line}");
            };
            let reason = Reason {
                count: count.parse().with_context(|| format!("{FILE}: {line}"))?,
                why: why.to_owned(),
            };
            if why.is_empty() || known.0.insert(name.to_owned(), reason).is_some() {
                bail!("{FILE}: no reason, or a second time: {name}");
            }
        }
        Ok(known)
    }

    /// What is not as it says in a package, where file names begin with the folder of the package.
    pub(super) fn compare(&self, package: &str, missed: &[String]) -> Vec<String> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for name in missed {
            *counts.entry(name).or_default() += 1;
        }
        let mut wrong = Vec::new();
        for (name, count) in &counts {
            let explained = self.0.get(*name).map_or(0, |reason| reason.count);
            if *count != explained {
                wrong.push(format!(
                    "{count} survive, {explained} are explained: {name}"
                ));
            }
        }
        let folder = package.trim_start_matches("greffe-");
        let here = |name: &str| name.split('/').nth(1) == Some(folder);
        let gone = self.0.keys();
        let gone = gone.filter(|name| here(name) && !counts.contains_key(name.as_str()));
        wrong.extend(gone.map(|name| format!("explained, and noticed by a test: {name}")));
        wrong
    }
}

#[cfg(test)]
mod checks {
    use super::{Known, name};

    const LINE: &str = "crates/policy/src/a.rs: replace f -> bool with true";

    #[test]
    fn a_name_is_without_its_place() {
        assert_eq!(
            name("crates/policy/src/a.rs:12:5: replace f -> bool with true"),
            LINE
        );
    }

    #[test]
    fn what_survives_is_explained_and_what_is_explained_survives() {
        let known = Known::parse(&format!("# a comment\n{LINE}\t1\tbecause\n")).unwrap();
        let one = [LINE.to_owned()];
        let two = [LINE.to_owned(), LINE.to_owned()];
        assert!(known.compare("greffe-policy", &one).is_empty());
        assert_eq!(known.compare("greffe-policy", &two).len(), 1);
        assert_eq!(known.compare("greffe-policy", &[]).len(), 1);
        assert!(known.compare("greffe-tlog", &[]).is_empty());
        assert_eq!(Known::default().compare("greffe-policy", &one).len(), 1);
    }

    #[test]
    fn a_line_has_its_reason() {
        assert!(Known::parse(&format!("{LINE}\t1\t\n")).is_err());
        assert!(Known::parse(&format!("{LINE}\t1\n")).is_err());
        assert!(Known::parse(&format!("{LINE}\tmany\tbecause\n")).is_err());
    }
}
