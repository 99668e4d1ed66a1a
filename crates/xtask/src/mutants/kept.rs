//! What came of a package's mutants, kept from run to run.
//!
//! `noticed`, `unviable` and `endless` have a mutant a line, `files` the blobs of the sources that they are of. A mutant's name has
//! its line and column: what is known of a file goes when the file changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{Found, known};
use crate::shell;

/// Outcomes that stay, and the files in which cargo-mutants has them.
const OUTCOMES: [(&str, &[&str]); 3] = [
    ("noticed", &["caught.txt", "previously_caught.txt"]),
    ("unviable", &["unviable.txt"]),
    ("endless", &["timeout.txt"]),
];

/// The names of mutants.
type Names = BTreeSet<String>;

/// Of one package.
pub(super) struct Kept {
    folder: PathBuf,
    outcomes: [Names; 3],
    missed: Names,
}

impl Kept {
    /// What is kept, without what changed files had, and with what a run that was stopped had come to.
    pub(super) fn open(folder: &Path, package: &str) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let mut kept = Self {
            folder: folder.to_owned(),
            outcomes: Default::default(),
            missed: Names::new(),
        };
        for (names, (outcome, _)) in kept.outcomes.iter_mut().zip(OUTCOMES) {
            *names = lines(&folder.join(outcome))?;
        }
        kept.take_in()?;
        kept.missed.clear();
        let before = lines(&folder.join("files"))?;
        let now = blobs(package)?;
        let same: BTreeSet<&str> = now
            .iter()
            .filter(|(path, blob)| before.contains(&format!("{blob} {path}")))
            .map(|(path, _)| path.as_str())
            .collect();
        for names in &mut kept.outcomes {
            names.retain(|name| same.contains(file_of(name)));
        }
        let files = now.iter().map(|(path, blob)| format!("{blob} {path}"));
        write(&folder.join("files"), files)?;
        kept.write()?;
        Ok(kept)
    }

    /// A folder for a share of the run, where cargo-mutants finds what it need not try.
    pub(super) fn share(&self, number: usize) -> Result<PathBuf> {
        let share = self.folder.join(format!("share-{number}"));
        let out = share.join("mutants.out");
        fs::create_dir_all(&out)?;
        let [noticed, unviable, endless] = &self.outcomes;
        write(
            &out.join("caught.txt"),
            noticed.iter().chain(unviable).chain(endless).cloned(),
        )?;
        share
            .canonicalize()
            .with_context(|| format!("{} cannot be found", share.display()))
    }

    /// Takes in what the shares came to, and removes them.
    pub(super) fn take_in(&mut self) -> Result<()> {
        let known: Names = self.outcomes.iter().flatten().cloned().collect();
        for number in 0.. {
            let share = self.folder.join(format!("share-{number}"));
            if !share.exists() {
                break;
            }
            let out = share.join("mutants.out");
            for (names, (_, files)) in self.outcomes.iter_mut().zip(OUTCOMES) {
                for file in files {
                    names.extend(lines(&out.join(file))?.difference(&known).cloned());
                }
            }
            self.missed.extend(lines(&out.join("missed.txt"))?);
        }
        self.write()?;
        for number in 0.. {
            let share = self.folder.join(format!("share-{number}"));
            if !share.exists() {
                return Ok(());
            }
            fs::remove_dir_all(&share)?;
        }
        Ok(())
    }

    /// What came of all of them.
    pub(super) fn found(&self) -> Found {
        let [noticed, unviable, endless] = self.outcomes.each_ref().map(BTreeSet::len);
        Found {
            caught: noticed,
            unviable,
            endless,
            missed: self.missed.iter().map(|name| known::name(name)).collect(),
        }
    }

    fn write(&self) -> Result<()> {
        for (names, (outcome, _)) in self.outcomes.iter().zip(OUTCOMES) {
            write(&self.folder.join(outcome), names.iter().cloned())?;
        }
        Ok(())
    }
}

fn file_of(name: &str) -> &str {
    name.split(':').next().unwrap_or_default()
}

fn lines(file: &Path) -> Result<Names> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Names::new()),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", file.display())),
    }
}

fn write(file: &Path, lines: impl Iterator<Item = String>) -> Result<()> {
    let text: String = lines.flat_map(|line| [line, "\n".to_owned()]).collect();
    fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))
}

/// The blobs of the commit's sources of a package, by path.
fn blobs(package: &str) -> Result<BTreeMap<String, String>> {
    let name = package.trim_start_matches("greffe-");
    let folders = [format!("crates/{name}/src"), format!("services/{name}/src")];
    let listed = shell::read(
        "git",
        &["ls-tree", "-r", "HEAD", "--", &folders[0], &folders[1]],
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
    use super::{Kept, Names, fs, write};

    const NOTICED: &str = "crates/policy/src/mode.rs:1:2: replace a with b";
    const ELSEWHERE: &str = "crates/policy/src/gone.rs:1:2: replace a with b";
    const SURVIVES: &str = "crates/policy/src/mode.rs:3:4: replace c with d";

    #[test]
    fn what_was_noticed_is_kept_while_its_file_is_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = Kept::open(folder.path(), "greffe-policy").unwrap();
        let out = kept.share(0).unwrap().join("mutants.out");
        let lines = |lines: &[&str]| {
            lines
                .iter()
                .map(|line| (*line).to_owned())
                .collect::<Names>()
        };
        write(
            &out.join("caught.txt"),
            lines(&[NOTICED, ELSEWHERE]).into_iter(),
        )
        .unwrap();
        write(&out.join("missed.txt"), lines(&[SURVIVES]).into_iter()).unwrap();
        kept.take_in().unwrap();
        assert_eq!((kept.found().caught, kept.found().missed.len()), (2, 1));
        // The next run has not to try it again, tries what survived, and knows nothing of a file that is no more.
        let again = Kept::open(folder.path(), "greffe-policy").unwrap();
        assert_eq!((again.found().caught, again.found().missed.len()), (1, 0));
        let share = again.share(0).unwrap().join("mutants.out/caught.txt");
        assert_eq!(fs::read_to_string(share).unwrap(), format!("{NOTICED}\n"));
        // Nor of one that has changed.
        write(
            &folder.path().join("files"),
            lines(&["0000 crates/policy/src/mode.rs"]).into_iter(),
        )
        .unwrap();
        let changed = Kept::open(folder.path(), "greffe-policy").unwrap();
        assert_eq!(changed.found().caught, 0);
    }
}
