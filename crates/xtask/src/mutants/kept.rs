//! What came of a package's mutants, kept from run to run.
//!
//! `noticed` and `unviable` have a mutant a line, after the revision at which it was tried, `files` the blobs of the sources that they
//! are of. A mutant's name has its line and column: what is known of a file goes when the file changes. What no test noticed, or
//! with which one did not end, is tried in every run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{Found, known};
use crate::shell;

/// Outcomes that stay, and the files in which cargo-mutants has them.
const OUTCOMES: [(&str, &str); 2] = [("noticed", "caught.txt"), ("unviable", "unviable.txt")];

/// The names of mutants, each with the revision at which it was tried.
type Names = BTreeMap<String, String>;

/// Of one package.
pub(super) struct Kept {
    folder: PathBuf,
    commit: String,
    outcomes: [Names; 2],
    missed: BTreeSet<String>,
    endless: BTreeSet<String>,
}

impl Kept {
    /// What is kept, without what changed files had, and with what a run that was stopped had come to.
    pub(super) fn open(folder: &Path, package: &str, commit: &str) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let mut kept = Self {
            folder: folder.to_owned(),
            // What a run that was stopped had come to is of its revision.
            commit: lines(&folder.join("commit"))?
                .pop_first()
                .unwrap_or_default(),
            outcomes: Default::default(),
            missed: BTreeSet::new(),
            endless: BTreeSet::new(),
        };
        for (names, (outcome, _)) in kept.outcomes.iter_mut().zip(OUTCOMES) {
            let lines = lines(&folder.join(outcome))?;
            let pairs = lines.iter().filter_map(|line| line.split_once(' '));
            *names = pairs
                .map(|(at, name)| (name.to_owned(), at.to_owned()))
                .collect();
        }
        kept.take_in()?;
        let before = lines(&folder.join("files"))?;
        let now = blobs(package, commit)?;
        let same: BTreeSet<&str> = now
            .iter()
            .filter(|(path, blob)| before.contains(&format!("{blob} {path}")))
            .map(|(path, _)| path.as_str())
            .collect();
        for names in &mut kept.outcomes {
            names.retain(|name, _| same.contains(file_of(name)));
        }
        kept.missed.clear();
        kept.endless.clear();
        commit.clone_into(&mut kept.commit);
        // Nothing of an old file may stand beside the blob of the new one.
        kept.write()?;
        let files = now.iter().map(|(path, blob)| format!("{blob} {path}"));
        write(&folder.join("files"), files)?;
        write(&folder.join("commit"), [commit.to_owned()].into_iter())?;
        Ok(kept)
    }

    /// A folder for a share of the run, where cargo-mutants finds what it need not try.
    pub(super) fn share(&self, number: usize) -> Result<PathBuf> {
        let share = self.folder.join(format!("share-{number}"));
        let out = share.join("mutants.out");
        fs::create_dir_all(&out)?;
        let known = self.outcomes.iter().flat_map(BTreeMap::keys);
        write(&out.join("caught.txt"), known.cloned())?;
        share
            .canonicalize()
            .with_context(|| format!("{} cannot be found", share.display()))
    }

    /// Takes in what the shares came to, and removes them.
    pub(super) fn take_in(&mut self) -> Result<()> {
        let known: BTreeSet<String> = self
            .outcomes
            .iter()
            .flat_map(BTreeMap::keys)
            .cloned()
            .collect();
        let shares: Vec<PathBuf> = (0..)
            .map(|number| self.folder.join(format!("share-{number}")))
            .take_while(|share| share.exists())
            .collect();
        for share in &shares {
            let out = share.join("mutants.out");
            for (names, (_, file)) in self.outcomes.iter_mut().zip(OUTCOMES) {
                let new = lines(&out.join(file))?;
                let new = new.difference(&known).cloned();
                names.extend(new.map(|name| (name, self.commit.clone())));
            }
            self.missed.extend(lines(&out.join("missed.txt"))?);
            self.endless.extend(lines(&out.join("timeout.txt"))?);
        }
        self.write()?;
        // The last one first: the others are found by going up to the first that is not there.
        shares.iter().rev().try_for_each(|share| {
            fs::remove_dir_all(share)
                .with_context(|| format!("{} cannot be removed", share.display()))
        })
    }

    /// What came of all of them.
    pub(super) fn found(&self) -> Found {
        let [noticed, unviable] = self.outcomes.each_ref().map(BTreeMap::len);
        let before = self.outcomes.iter().flat_map(BTreeMap::values);
        Found {
            caught: noticed,
            unviable,
            endless: self.endless.len(),
            missed: self.missed.iter().map(|name| known::name(name)).collect(),
            commits: before.chain([&self.commit]).cloned().collect(),
        }
    }

    fn write(&self) -> Result<()> {
        for (names, (outcome, _)) in self.outcomes.iter().zip(OUTCOMES) {
            let lines = names.iter().map(|(name, at)| format!("{at} {name}"));
            write(&self.folder.join(outcome), lines)?;
        }
        Ok(())
    }
}

fn file_of(name: &str) -> &str {
    name.split(':').next().unwrap_or_default()
}

fn lines(file: &Path) -> Result<BTreeSet<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", file.display())),
    }
}

fn write(file: &Path, lines: impl Iterator<Item = String>) -> Result<()> {
    let text: String = lines.flat_map(|line| [line, "\n".to_owned()]).collect();
    fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))
}

/// The blobs of the commit's sources of a package, by path.
fn blobs(package: &str, commit: &str) -> Result<BTreeMap<String, String>> {
    let name = package.trim_start_matches("greffe-");
    let folders = [format!("crates/{name}/src"), format!("services/{name}/src")];
    let listed = shell::read(
        "git",
        &["ls-tree", "-r", commit, "--", &folders[0], &folders[1]],
    )?;
    let listed = String::from_utf8(listed)?;
    let entry = |line: &str| {
        let (entry, path) = line.split_once('\t')?;
        let blob = entry.split(' ').nth(2)?;
        Some((path.to_owned(), blob.to_owned()))
    };
    Ok(listed.lines().filter_map(entry).collect())
}

#[cfg(test)]
mod checks {
    use super::{BTreeSet, Kept, Path, fs, write};

    const NOTICED: &str = "crates/policy/src/mode.rs:1:2: replace a with b";
    const ELSEWHERE: &str = "crates/policy/src/gone.rs:1:2: replace a with b";
    const SURVIVES: &str = "crates/policy/src/mode.rs:3:4: replace c with d";

    fn put(file: &Path, lines: &[&str]) {
        write(file, lines.iter().map(|line| (*line).to_owned())).unwrap();
    }

    #[test]
    fn what_was_noticed_is_kept_while_its_file_is_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let open = |commit| Kept::open(folder.path(), "greffe-policy", commit).unwrap();
        let mut kept = open("HEAD");
        let out = kept.share(0).unwrap().join("mutants.out");
        put(&out.join("caught.txt"), &[NOTICED, ELSEWHERE]);
        put(&out.join("missed.txt"), &[SURVIVES]);
        kept.take_in().unwrap();
        assert_eq!((kept.found().caught, kept.found().missed.len()), (2, 1));
        // The next run has not to try it again, tries what survived, and knows nothing of a file that is no more.
        let again = open("HEAD^0");
        assert_eq!((again.found().caught, again.found().missed.len()), (1, 0));
        let both = ["HEAD", "HEAD^0"].map(str::to_owned);
        assert_eq!(again.found().commits, BTreeSet::from(both));
        let share = again.share(0).unwrap().join("mutants.out");
        let tried = fs::read_to_string(share.join("caught.txt")).unwrap();
        assert_eq!(tried, format!("{NOTICED}\n"));
        // A run that was stopped has come to something, which is of its revision.
        put(&share.join("caught.txt"), &[NOTICED, SURVIVES]);
        let stopped = open("HEAD");
        assert_eq!(stopped.found().caught, 2);
        assert_eq!(stopped.outcomes[0][SURVIVES], "HEAD^0");
        // Nothing is known of a file that has changed.
        put(
            &folder.path().join("files"),
            &["0000 crates/policy/src/mode.rs"],
        );
        assert_eq!(open("HEAD").found().caught, 0);
    }
}
