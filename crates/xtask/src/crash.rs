//! `cargo xtask crash`: every point at which services and clients change their disk, failed one by one; what came of each is kept,
//! so that a run that was stopped goes on, and written to `deploy/CRASH-POINTS.md`. Each mode of a service has a file, and two
//! processes that go through every second number of it.

mod table;

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{shell, test};

/// Whose points; the longest first, since several are gone through at a time.
pub(crate) const SERVICES: [&str; 5] = ["archive", "audit", "relay", "client", "escrow-1"];
pub(crate) const MODES: [&str; 5] = ["die", "torn", "cut", "broken", "full"];
/// The test that goes through them.
const TEST: &str = "crash::every_point";
/// More than the machine of the tests has processors: lives wait more than they compute.
const AT_ONCE: usize = 6;

/// What is to be gone through.
#[derive(Default)]
struct Wanted {
    service: Option<String>,
    mode: Option<String>,
    from: Option<String>,
    every: Option<String>,
    at_once: Option<usize>,
    table: bool,
}

impl Wanted {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut wanted = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument == "--table" {
                wanted.table = true;
                continue;
            }
            let given = rest
                .next()
                .with_context(|| format!("{argument} takes a value"))?
                .clone();
            let number = given.parse::<u64>().is_ok_and(|number| number > 0);
            match argument.as_str() {
                "--service" if SERVICES.contains(&&*given) => wanted.service = Some(given),
                "--mode" if MODES.contains(&&*given) => wanted.mode = Some(given),
                "--from" if number => wanted.from = Some(given),
                "--every" if number => wanted.every = Some(given),
                "--at-once" if number => wanted.at_once = Some(given.parse()?),
                _ => bail!(
                    "{argument} {given} is not understood; there are --service ({}), --mode ({}), --from N, --every N, --at-once N and --table",
                    SERVICES.join(", "),
                    MODES.join(", ")
                ),
            }
        }
        Ok(wanted)
    }

    fn is_everything(&self) -> bool {
        self.service.is_none() && self.mode.is_none() && self.from.is_none() && self.every.is_none()
    }

    /// What is gone through by a process each: the slowest mode first.
    fn parts(&self) -> Vec<Part> {
        let is = |wanted: &Option<String>, name: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == name)
        };
        // Every second number each; numbers that were asked for are not shared out.
        let shares = match (&self.from, &self.every) {
            (None, None) => vec![("1", "2"), ("2", "2")],
            (from, every) => vec![(
                from.as_deref().unwrap_or("1"),
                every.as_deref().unwrap_or("1"),
            )],
        };
        let mut parts = Vec::new();
        for mode in MODES.into_iter().rev().filter(|mode| is(&self.mode, mode)) {
            for service in SERVICES.into_iter().filter(|name| is(&self.service, name)) {
                parts.extend(shares.iter().map(|(from, every)| Part {
                    service,
                    mode,
                    from: (*from).to_owned(),
                    every: (*every).to_owned(),
                }));
            }
        }
        parts
    }
}

/// Some numbers of a mode of a service.
struct Part {
    service: &'static str,
    mode: &'static str,
    from: String,
    every: String,
}

/// What was found out about a mode of a service.
fn file(results: &Path, service: &str, mode: &str) -> PathBuf {
    results.join(format!("{service}.{mode}.tsv"))
}

/// Goes through what is wanted, everything unless told otherwise.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let wanted = Wanted::parse(arguments)?;
    let commit = shell::read("git", &["rev-parse", "--short", "HEAD"])?;
    let commit = String::from_utf8_lossy(&commit).trim().to_owned();
    let results = shell::root().join("target/crash").join(&commit);
    std::fs::create_dir_all(&results)
        .with_context(|| format!("{} cannot be made", results.display()))?;
    let results = results.canonicalize()?;
    if wanted.table {
        return table::write(&results, &commit);
    }
    shell::build()?;
    let folder = shell::root().join("crates/cli");
    let built = test::programs()?;
    let program = built.of(&folder)?;
    let failed = go_through(program, &folder, &wanted, &results)?;
    ensure!(
        failed.is_empty(),
        "something else than may be came of a point of: {}; what was found so far is in {}",
        failed.join(", "),
        results.display()
    );
    if !wanted.is_everything() {
        eprintln!(
            "crash: what was asked for holds; the table is written when everything is gone through, or with --table"
        );
        return Ok(());
    }
    table::write(&results, &commit)
}

/// Goes through what is wanted, several parts at a time; gives those that failed.
fn go_through(
    program: &str,
    folder: &Path,
    wanted: &Wanted,
    results: &Path,
) -> Result<Vec<String>> {
    let mut waiting = wanted.parts().into_iter();
    let mut running: Vec<(Part, Child)> = Vec::new();
    let mut failed = Vec::new();
    loop {
        while running.len() < wanted.at_once.unwrap_or(AT_ONCE)
            && let Some(part) = waiting.next()
        {
            let child = part.begin(program, folder, results)?;
            running.push((part, child));
        }
        if running.is_empty() {
            return Ok(failed);
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        for at in (0..running.len()).rev() {
            let (part, child) = &mut running[at];
            if let Some(status) = child.try_wait()? {
                if !status.success() {
                    failed.push(format!("{} {}", part.service, part.mode));
                }
                running.remove(at);
            }
        }
    }
}

impl Part {
    fn begin(&self, program: &str, folder: &Path, results: &Path) -> Result<Child> {
        let results = file(results, self.service, self.mode);
        let mut command = Command::new(program);
        command
            .args([TEST, "--exact", "--ignored", "--nocapture"])
            .env("GREFFE_CRASH_RESULTS", results)
            .current_dir(folder);
        let mut said = String::new();
        for (name, given) in [
            ("SERVICE", self.service),
            ("MODE", self.mode),
            ("FROM", &self.from),
            ("EVERY", &self.every),
        ] {
            command.env(format!("GREFFE_CRASH_{name}"), given);
            said += &format!("GREFFE_CRASH_{name}={given} ");
        }
        eprintln!("$ {said}{program} {TEST}");
        command
            .spawn()
            .with_context(|| format!("{program} cannot be started"))
    }
}
