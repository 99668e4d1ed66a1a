//! Faults of a disk in a real process: `faults.c`, built when it is needed and preloaded into a program that knows nothing of it.
//!
//! What a point is, what can happen there and what is not counted says the head of `faults.c`. Not injected: a read that fails, an
//! fsync that lies, bytes that rot, and changes through mapped memory, which nobody here makes but SQLite in its `-shm` file.

use core::fmt;
use core::str::FromStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

/// How a process ends that dies at its point.
pub const DIED: i32 = 99;

const SOURCE: &str = include_str!("faults.c");

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// The process ends before the call.
    Die,
    /// Half of a write is done, anything else whole, and the process ends.
    Torn,
    /// The process ends, and what was not made durable is lost.
    Cut,
    /// The call fails with EIO.
    Broken,
    /// The disk is full for a moment. Points are numbered among those that take room ([`Point::takes_room`]).
    Full,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Die, Self::Torn, Self::Cut, Self::Broken, Self::Full];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Die => "die",
            Self::Torn => "torn",
            Self::Cut => "cut",
            Self::Broken => "broken",
            Self::Full => "full",
        }
    }

    /// Whether the process ends there by itself.
    pub const fn is_death(self) -> bool {
        matches!(self, Self::Die | Self::Torn | Self::Cut)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|mode| mode.as_str() == name);
        known.ok_or_else(|| format!("no mode {name:?}; there are die, torn, cut, broken and full"))
    }
}

/// A call that changes what is on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Its number, from 1.
    pub number: u64,
    /// What kind of call: `write`, `sync`, `rename` and so on.
    pub kind: String,
    /// On what, below the folder.
    pub path: String,
}

impl Point {
    /// Whether the call takes room on the disk, and so fails when that is full.
    pub fn takes_room(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "write" | "create" | "mkdir" | "rename" | "link"
        )
    }
}

/// What a process did, and where its fault was.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// Every point.
    pub points: Vec<Point>,
    /// The one at which the fault happened.
    pub fault: Option<Point>,
}

impl Trace {
    /// Reads a trace; one that was not begun is empty.
    ///
    /// # Panics
    /// When it is no trace.
    pub fn read(file: &Path) -> Self {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::default(),
            Err(error) => panic!("{}: {error}", file.display()),
        };
        let mut trace = Self::default();
        for line in text.lines() {
            let (fault, line) = line
                .strip_prefix('!')
                .map_or((false, line), |rest| (true, rest));
            let mut parts = line.splitn(3, ' ');
            let mut part = || {
                let part = parts.next();
                part.unwrap_or_else(|| panic!("{}: {line:?} is no point", file.display()))
            };
            let point = Point {
                number: part().parse().expect("a number"),
                kind: part().to_owned(),
                path: part().to_owned(),
            };
            if fault {
                trace.fault = Some(point);
            } else {
                trace.points.push(point);
            }
        }
        trace
    }

    /// Whether the fault was at an fsync of what was not durable yet.
    pub fn failed_sync(&self) -> bool {
        let fault = self.fault.as_ref();
        fault.is_some_and(|fault| matches!(fault.kind.as_str(), "sync" | "sync-folder"))
    }
}

/// The library.
#[derive(Debug, Clone)]
pub struct Faults {
    library: PathBuf,
}

impl Faults {
    /// Builds it into a folder.
    ///
    /// # Panics
    /// Without a C compiler.
    pub fn build(folder: &Path) -> Self {
        let source = folder.join("faults.c");
        fs::write(&source, SOURCE).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        let library = folder.join("faults.so");
        let status = Command::new("cc")
            .args(["-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .status()
            .unwrap_or_else(|error| panic!("cc: {error}; install a C compiler (build-essential)"));
        assert!(status.success(), "cc ended with {status}");
        Self { library }
    }

    /// Has a command traced below a folder, with a fault at a point if one is named. The trace is written anew by each process.
    pub fn inject(
        &self,
        command: &mut Command,
        below: &Path,
        trace: &Path,
        fault: Option<(u64, Mode)>,
    ) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAULTS_BELOW", below)
            .env("FAULTS_TRACE", trace);
        if let Some((point, mode)) = fault {
            command
                .env("FAULTS_AT", point.to_string())
                .env("FAULTS_MODE", mode.as_str());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program with known points: a file is written, named and made durable, then more is written that is not.
    const PROGRAM: &str = r#"
        #include <fcntl.h>
        #include <stdio.h>
        #include <unistd.h>
        int main(int count, char **words) {
            if (count != 2 || chdir(words[1])) return 2;
            int folder = open(".", O_RDONLY), file = open("a", O_WRONLY | O_CREAT, 0600);
            if (file < 0 || write(file, "kept", 4) != 4 || fsync(file)) return 1;
            if (rename("a", "b") || fsync(folder)) return 1;
            if (write(file, "lost", 4) != 4 || rename("b", "c")) return 1;
            return fsync(file) || fsync(folder);
        }"#;

    fn program(folder: &Path) -> PathBuf {
        let source = folder.join("program.c");
        fs::write(&source, PROGRAM).unwrap();
        let program = folder.join("program");
        let built = Command::new("cc")
            .arg("-o")
            .args([&program, &source])
            .status();
        assert!(built.unwrap().success());
        program
    }

    #[test]
    fn each_fault_leaves_what_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::build(folder.path());
        let program = program(folder.path());
        let run = |fault: Option<(u64, Mode)>| {
            let data = tempfile::tempdir_in(folder.path()).unwrap();
            let trace = folder.path().join("trace");
            let mut command = Command::new(&program);
            command.arg(data.path());
            faults.inject(&mut command, data.path(), &trace, fault);
            let code = command.status().unwrap().code();
            let mut left: Vec<_> = fs::read_dir(data.path())
                .unwrap()
                .map(|entry| {
                    let path = entry.unwrap().path();
                    let bytes = fs::read_to_string(&path).unwrap();
                    (
                        path.file_name().unwrap().to_str().unwrap().to_owned(),
                        bytes,
                    )
                })
                .collect();
            left.sort();
            let left: String = left
                .iter()
                .map(|(name, bytes)| format!("{name}={bytes}"))
                .collect();
            (code.unwrap(), left, Trace::read(&trace))
        };
        let (code, left, trace) = run(None);
        assert_eq!((code, left.as_str()), (0, "c=keptlost"));
        let kinds: Vec<&str> = trace
            .points
            .iter()
            .map(|point| point.kind.as_str())
            .collect();
        let every = [
            "create",
            "write",
            "sync",
            "rename",
            "sync-folder",
            "write",
            "rename",
            "sync",
            "sync-folder",
        ];
        assert_eq!(kinds, every);
        assert_eq!(trace.fault, None);
        for (point, mode, code, left) in [
            (2, Mode::Die, DIED, "a="),
            (2, Mode::Torn, DIED, "a=ke"),
            (3, Mode::Cut, DIED, ""),
            (5, Mode::Die, DIED, "b=kept"),
            // The file's bytes are durable, its name is not.
            (5, Mode::Cut, DIED, ""),
            (7, Mode::Die, DIED, "b=keptlost"),
            (7, Mode::Torn, DIED, "c=keptlost"),
            (7, Mode::Cut, DIED, "b=kept"),
            (9, Mode::Cut, DIED, "b=keptlost"),
            (2, Mode::Broken, 1, "a="),
            (8, Mode::Broken, 1, "c=keptlost"),
            (4, Mode::Full, 1, "b=kept"),
        ] {
            let (ended, found, trace) = run(Some((point, mode)));
            assert_eq!((ended, found.as_str()), (code, left), "{mode} at {point}");
            let fault = trace.fault.unwrap();
            // Among those that take room the fourth is the sixth of all.
            let number = if mode == Mode::Full { 6 } else { point };
            assert_eq!(fault.number, number);
            assert_eq!(fault.kind, every[usize::try_from(number).unwrap() - 1]);
        }
    }
}
