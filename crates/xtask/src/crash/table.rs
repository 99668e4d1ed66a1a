//! The table of `deploy/CRASH-POINTS.md`, from the lines that the tests have left.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use super::{MODES, SERVICES};
use crate::shell;

const FILE: &str = "deploy/CRASH-POINTS.md";

const HEAD: &str = "\
# Crash points

What came of failing, one by one, calls by which a service or a client changes what is on its disk, as many as are counted below: bytes written, files and
folders made, named, cut off and removed, and each fsync. Written by `cargo xtask crash`; how it is done, and what is not gone
through, says `crates/cli/tests/it/crash/mod.rs`.

Over a life (a device, a conversation, messages, an attachment, a hold, an order, its opening; of a client, the same by commands
as far as it has them) one process fails at one point after the other, and never at the next before the last one was recovered
from: where the process has ended it is started again, and something that is asked for after the fault has to be done. What it
does meanwhile to take up is not failed. After each life everything is held against everything: nothing acknowledged is lost,
nothing comes twice, numbers are dense, and the log has what the archive has. Anything else ends the run. Points are numbered as
they come in a life, over all its processes; every number of a life without a fault is failed once in some life, and of the
further ones, which lives have that are longer by what is asked for again, those that were reached while there was nothing to
recover from.

- **die**: the process ends before the call. **torn**: half of a write is done, anything else whole, and the process ends.
  **cut**: power is lost before the call, and with it all that was not made durable, names included.
- **broken**: the call fails with EIO, once. **full**: calls that take room fail with ENOSPC for 0.2 s.
- *resumed*: it was started again, and what was under way was done. *ended*: the process ended by itself and said why; then as
  before. *refused*: callers were told a reason before the next fault, and it was done when they asked again. *absorbed*: nobody
  noticed.

";

/// What came of one point.
struct Line {
    number: u64,
    kind: String,
    class: String,
    outcome: String,
    reason: String,
}

/// What was found out about a mode of a service.
#[derive(Default)]
struct Found {
    lines: Vec<Line>,
    /// Points of the longest life without a fault; of a full disk, those that take room.
    life: u64,
    /// Numbers as far as which no life came after all.
    none: BTreeSet<u64>,
}

/// By mode.
type Service = BTreeMap<&'static str, Found>;

impl Found {
    /// What is there; nothing of a mode that was not begun.
    fn read(file: &Path, mode: &str) -> Result<Self> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be read", file.display()));
            }
        };
        let mut found = Self::default();
        for line in text.lines() {
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["life", points, roomy] => {
                    let life = if mode == "full" { roomy } else { points };
                    found.life = found.life.max(life.parse()?);
                }
                ["none", of, number] if of == mode => drop(found.none.insert(number.parse()?)),
                [of, number, kind, class, outcome, reason] if of == mode => {
                    found.lines.push(Line {
                        number: number.parse()?,
                        kind: kind.to_owned(),
                        class: class.to_owned(),
                        outcome: outcome.to_owned(),
                        reason: reason.to_owned(),
                    });
                }
                _ => bail!("{}: {line:?} is no result", file.display()),
            }
        }
        Ok(found)
    }

    /// Points gone through, and how many there are: those of a life without a fault, and those further ones as far as which lives
    /// with faults came.
    fn share(&self) -> (u64, u64) {
        let gone: BTreeSet<u64> = self.lines.iter().map(|line| line.number).collect();
        let there = (1..=self.life).filter(|number| !self.none.contains(number));
        let all = gone.iter().copied().chain(there).collect::<BTreeSet<u64>>();
        (gone.len() as u64, all.len() as u64)
    }
}

/// `71 resumed, 2 ended`, or nothing.
fn counts<'a>(lines: impl Iterator<Item = &'a Line>) -> String {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for line in lines {
        *counts.entry(&line.outcome).or_default() += 1;
    }
    let counts: Vec<String> = counts
        .iter()
        .map(|(outcome, count)| format!("{count} {outcome}"))
        .collect();
    if counts.is_empty() {
        "–".to_owned()
    } else {
        counts.join(", ")
    }
}

fn row(text: &mut String, cells: &[String]) {
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

fn head(text: &mut String, first: &[&str]) {
    let names: Vec<String> = first
        .iter()
        .chain(&MODES)
        .map(|name| (*name).to_owned())
        .collect();
    row(text, &names);
    row(text, &vec!["---".to_owned(); names.len()]);
}

/// Writes the table of what was found, and says how much that is.
pub(super) fn write(results: &Path, commit: &str) -> Result<()> {
    let mut all: BTreeMap<&str, Service> = BTreeMap::new();
    let (mut done, mut there) = (0, 0);
    for service in SERVICES {
        for mode in MODES {
            let found = Found::read(&super::file(results, service, mode), mode)?;
            let (gone, points) = found.share();
            done += gone;
            there += points;
            all.entry(service).or_default().insert(mode, found);
        }
    }
    ensure!(there > 0, "nothing was gone through yet");
    // Rounded down: 100 only when none is missing.
    let percent = done * 100 / there;
    let mut text = HEAD.to_owned();
    let _ = writeln!(
        text,
        "At {commit}: {done} of {there} points gone through, {percent} %.\n\n## By service\n"
    );
    head(&mut text, &["service"]);
    for (service, found) in &all {
        let mut cells = vec![(*service).to_owned()];
        cells.extend(MODES.map(|mode| {
            let (gone, points) = found[mode].share();
            format!("{gone} of {points}: {}", counts(found[mode].lines.iter()))
        }));
        row(&mut text, &cells);
    }
    for (service, found) in &all {
        let _ = writeln!(text, "\n## {service}\n");
        by_call(&mut text, found);
    }
    let file = shell::root().join(FILE);
    std::fs::write(&file, text).with_context(|| format!("{} cannot be written", file.display()))?;
    eprintln!(
        "crash: {done} of {there} points gone through, {percent} %; {FILE} says what came of each"
    );
    Ok(())
}

fn by_call(text: &mut String, found: &Service) {
    head(text, &["call", "on"]);
    let lines = || found.values().flat_map(|found| &found.lines);
    let calls: BTreeSet<(&str, &str)> = lines().map(|line| (&*line.kind, &*line.class)).collect();
    for (kind, class) in calls {
        let mut cells = vec![kind.to_owned(), format!("`{class}`")];
        cells.extend(MODES.map(|mode| {
            let here = |line: &&Line| line.kind == kind && line.class == class;
            counts(found[mode].lines.iter().filter(here))
        }));
        row(text, &cells);
    }
    let reasons: BTreeSet<&str> = lines()
        .flat_map(|line| line.reason.split(' '))
        .filter(|reason| !reason.is_empty())
        .collect();
    let reasons: Vec<String> = reasons.iter().map(|reason| format!("`{reason}`")).collect();
    if !reasons.is_empty() {
        let _ = writeln!(text, "\nReasons that were given: {}.", reasons.join(", "));
    }
}
