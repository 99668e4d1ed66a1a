//! Faults of a disk in a real process: `faults.c`, built when it is needed and preloaded into a program that knows nothing of it.
//!
//! What a point is, what can happen there and what is not counted says the head of `faults.c`. Not injected: a read that fails, an
//! fsync that lies, bytes that rot, and changes through mapped memory, which nobody here makes but SQLite in its `-shm` file.

use core::fmt;
use core::str::FromStr;
use std::collections::BTreeSet;
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

/// A fault that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub point: Point,
    /// In which of the processes that have taken up after one another, from 0.
    pub process: usize,
}

impl Fault {
    /// Whether it was at an fsync of what was not durable yet.
    pub fn failed_sync(&self) -> bool {
        matches!(self.point.kind.as_str(), "sync" | "sync-folder")
    }
}

/// What processes did that have taken up after one another, and where their faults were.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// Every point.
    pub points: Vec<Point>,
    /// The faults, in the order in which they happened.
    pub faults: Vec<Fault>,
    /// How many processes there have been.
    pub processes: usize,
}

impl Trace {
    /// Reads a trace; one that was not begun is empty.
    fn read(file: &Path) -> Self {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::default(),
            Err(error) => panic!("{}: {error}", file.display()),
        };
        let mut trace = Self::default();
        // A last line that is still being written says nothing yet.
        for line in text
            .split_inclusive('\n')
            .filter_map(|line| line.strip_suffix('\n'))
        {
            if line == ">" {
                trace.processes += 1;
                continue;
            }
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
                let process = trace.processes - 1;
                trace.faults.push(Fault { point, process });
            } else {
                trace.points.push(point);
            }
        }
        trace
    }

    /// How many points are counted in a mode up to one: all, or those that take room.
    pub fn counted(&self, mode: Mode, up_to: u64) -> u64 {
        let before = self.points.iter().filter(|point| point.number <= up_to);
        before
            .filter(|point| mode != Mode::Full || point.takes_room())
            .count() as u64
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

    /// A disk whose trace begins anew in a file of that name, on the same file system as what is traced.
    pub fn disk(&self, trace: &Path) -> Disk {
        let disk = Disk {
            library: self.library.clone(),
            trace: trace.to_owned(),
            faults: None,
            after: None,
        };
        for file in [&disk.trace, &disk.beside("at")] {
            let _absent = fs::remove_file(file);
        }
        disk.release();
        let _absent = fs::remove_dir_all(disk.beside("saved"));
        disk
    }
}

/// A disk that fails at some points, under processes that take up after one another.
#[derive(Debug, Clone)]
pub struct Disk {
    library: PathBuf,
    trace: PathBuf,
    faults: Option<Mode>,
    after: Option<&'static str>,
}

impl Disk {
    /// Has it fail at points of these numbers, one at a time: after each at none before [`Disk::release`].
    ///
    /// # Panics
    /// When they cannot be written down.
    #[must_use]
    pub fn failing(mut self, mode: Mode, numbers: &BTreeSet<u64>) -> Self {
        let last = numbers.last().copied().unwrap_or_default();
        let chosen: Vec<u8> = (1..=last)
            .map(|number| u8::from(numbers.contains(&number)))
            .collect();
        let file = self.beside("at");
        fs::write(&file, chosen).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.faults = Some(mode);
        self
    }

    /// Has points of a process that takes up counted only once it has given a file this name.
    #[must_use]
    pub const fn counting_after(mut self, name: &'static str) -> Self {
        self.after = Some(name);
        self
    }

    /// Has a command work on it below a folder, and take up after those before.
    pub fn inject(&self, command: &mut Command, below: &Path) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAULTS_BELOW", below)
            .env("FAULTS_TRACE", &self.trace);
        if let Some(mode) = self.faults {
            command
                .env("FAULTS_AT", self.beside("at"))
                .env("FAULTS_MODE", mode.as_str());
        }
        let trace = self.trace();
        if trace.processes > 0 {
            let [all, roomy] = [Mode::Die, Mode::Full].map(|mode| trace.counted(mode, u64::MAX));
            command.env("FAULTS_PASSED", format!("{all} {roomy}"));
            if let Some(name) = self.after {
                command.env("FAULTS_AFTER", name);
            }
        }
    }

    /// What was done on it so far.
    pub fn trace(&self) -> Trace {
        Trace::read(&self.trace)
    }

    /// Whether there was a fault after which no other happens yet.
    pub fn is_held(&self) -> bool {
        self.beside("held").exists()
    }

    /// Says that everything goes on again after the last fault, so that there may be another.
    pub fn release(&self) {
        let _absent = fs::remove_file(self.beside("held"));
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.trace.clone().into_os_string();
        name.push(".");
        name.push(ending);
        name.into()
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
            let mut disk = faults.disk(&folder.path().join("trace"));
            if let Some((number, mode)) = fault {
                disk = disk.failing(mode, &BTreeSet::from([number]));
            }
            let code = program_on(&disk, &program, data.path());
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
            (code, left, disk.trace())
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
        assert_eq!(trace.faults, []);
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
            let [fault] = &trace.faults[..] else {
                panic!("{:?}", trace.faults);
            };
            // Among those that take room the fourth is the sixth of all.
            let number = if mode == Mode::Full { 6 } else { point };
            assert_eq!(fault.point.number, number);
            assert_eq!(trace.counted(mode, number), point);
            assert_eq!(
                fault.point.kind,
                every[usize::try_from(number).unwrap() - 1]
            );
        }
    }

    #[test]
    fn faults_go_on_over_processes_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::build(folder.path());
        let program = program(folder.path());
        let data = tempfile::tempdir_in(folder.path()).unwrap();
        let disk = faults.disk(&folder.path().join("trace"));
        let disk = disk.failing(Mode::Die, &BTreeSet::from([2, 3, 4, 14]));
        let run = || program_on(&disk, &program, data.path());
        // The file is there after the first, so that only that makes one. While it is held, the third passes points that were chosen.
        assert_eq!((run(), disk.is_held()), (DIED, true));
        disk.release();
        assert_eq!((run(), run(), disk.is_held()), (DIED, 0, true));
        disk.release();
        assert_eq!((run(), run()), (DIED, 0));
        let trace = disk.trace();
        let found: Vec<_> = trace
            .faults
            .iter()
            .map(|fault| (fault.point.number, fault.process))
            .collect();
        assert_eq!(found, [(2, 0), (3, 1), (14, 3)]);
        let numbers = trace.points.iter().map(|point| point.number);
        assert!(numbers.eq(1..=trace.points.len() as u64), "{trace:?}");
        assert_eq!(trace.processes, 5);
    }

    #[test]
    fn a_process_that_takes_up_is_counted_from_when_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::build(folder.path());
        let program = program(folder.path());
        let data = tempfile::tempdir_in(folder.path()).unwrap();
        let disk = faults.disk(&folder.path().join("trace"));
        let disk = disk.counting_after("b");
        for _ in 0..2 {
            assert_eq!(program_on(&disk, &program, data.path()), 0);
        }
        let trace = disk.trace();
        let kinds: Vec<&str> = trace.points.iter().map(|point| &*point.kind).collect();
        let whole = &kinds[..9];
        // The first is counted whole; of the second, what follows its first rename.
        assert_eq!(&kinds[9..], &whole[4..]);
    }

    fn program_on(disk: &Disk, program: &Path, data: &Path) -> i32 {
        let mut command = Command::new(program);
        command.arg(data);
        disk.inject(&mut command, data);
        command.status().unwrap().code().unwrap()
    }
}
