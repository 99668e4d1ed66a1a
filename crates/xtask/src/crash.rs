//! `cargo xtask crash`: every point at which services and clients change their disk, failed one by one; what came of each is kept,
//! so that a run that was stopped goes on, and written to `deploy/CRASH-POINTS.md`.

mod table;

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{shell, test};

/// Whose points; the longest first, since two are gone through at a time.
pub(crate) const SERVICES: [&str; 5] = ["archive", "audit", "relay", "client", "escrow-1"];
pub(crate) const MODES: [&str; 5] = ["die", "torn", "cut", "broken", "full"];
/// The test that goes through them.
const TEST: &str = "crash::every_point";
/// As many as the machine of the tests has processors.
const AT_ONCE: usize = 2;

/// What is to be gone through.
#[derive(Default)]
struct Wanted {
    service: Option<String>,
    mode: Option<String>,
    from: Option<String>,
    every: Option<String>,
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
                _ => bail!(
                    "{argument} {given} is not understood; there are --service ({}), --mode ({}), --from N, --every N and --table",
                    SERVICES.join(", "),
                    MODES.join(", ")
                ),
            }
        }
        Ok(wanted)
    }

    fn is_everything(&self) -> bool {
        self.mode.is_none() && self.from.is_none() && self.every.is_none()
    }

    fn services(&self) -> Vec<&str> {
        match &self.service {
            Some(service) => vec![service],
            None => SERVICES.to_vec(),
        }
    }
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
    let mut waiting = wanted.services().into_iter();
    let mut running: Vec<(&str, Child)> = Vec::new();
    let mut failed = Vec::new();
    loop {
        while running.len() < AT_ONCE
            && let Some(service) = waiting.next()
        {
            let child = begin(program, &folder, service, &wanted, &results)?;
            running.push((service, child));
        }
        if running.is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        for at in (0..running.len()).rev() {
            let (service, child) = &mut running[at];
            if let Some(status) = child.try_wait()? {
                if !status.success() {
                    failed.push(*service);
                }
                running.remove(at);
            }
        }
    }
    ensure!(
        failed.is_empty(),
        "something else than may be came of a point of: {}; what was found so far is in {}",
        failed.join(", "),
        results.display()
    );
    if !wanted.is_everything() || wanted.service.is_some() {
        eprintln!(
            "crash: what was asked for holds; the table is written when everything is gone through, or with --table"
        );
        return Ok(());
    }
    table::write(&results, &commit)
}

fn begin(
    program: &str,
    folder: &Path,
    service: &str,
    wanted: &Wanted,
    results: &Path,
) -> Result<Child> {
    let file: PathBuf = results.join(format!("{service}.tsv"));
    let mut command = Command::new(program);
    command
        .args([TEST, "--exact", "--ignored", "--nocapture"])
        .env("GREFFE_CRASH_SERVICE", service)
        .env("GREFFE_CRASH_RESULTS", &file)
        .current_dir(folder);
    for (name, given) in [
        ("GREFFE_CRASH_MODE", &wanted.mode),
        ("GREFFE_CRASH_FROM", &wanted.from),
        ("GREFFE_CRASH_EVERY", &wanted.every),
    ] {
        if let Some(given) = given {
            command.env(name, given);
        }
    }
    eprintln!("$ GREFFE_CRASH_SERVICE={service} {program} {TEST}");
    command
        .spawn()
        .with_context(|| format!("{program} cannot be started"))
}
