//! The table of `deploy/CRASH-POINTS.md`, from the lines that the tests have left.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
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

After each fault the process is started again where it has ended, a life goes on over it (a device, a conversation, messages, an
attachment, a hold, an order, its opening), and everything is held against everything: nothing acknowledged is lost, nothing comes
twice, numbers are dense, and the log has what the archive has. Anything else ends the run.

- **die**: the process ends before the call. **torn**: half of a write is done, anything else whole, and the process ends.
  **cut**: power is lost before the call, and with it all that was not made durable, names included.
- **broken**: the call fails with EIO, once. **full**: calls that take room fail with ENOSPC for 0.2 s.
- *resumed*: it was started again, and what was under way was done. *ended*: the process ended by itself and said why; then as
  before. *refused*: callers were told a reason, and it was done when they asked again. *absorbed*: nobody noticed.

";

/// What came of one point.
struct Line {
    mode: String,
    number: u64,
    kind: String,
    class: String,
    outcome: String,
    reason: String,
}

/// What was found out about a service.
#[derive(Default)]
struct Found {
    lines: Vec<Line>,
    /// Points of a life without a fault, and how many of them take room.
    life: (u64, u64),
    /// Modes that were gone through to the end of every life.
    ended: BTreeSet<String>,
}

impl Found {
    fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("{} cannot be read", file.display()))?;
        let mut found = Self::default();
        for line in text.lines() {
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["life", points, roomy] => {
                    found.life = found.life.max((points.parse()?, roomy.parse()?));
                }
                ["end", mode] => drop(found.ended.insert(mode.to_owned())),
                [mode, number, kind, class, outcome, reason, _milliseconds] => {
                    found.lines.push(Line {
                        mode: mode.to_owned(),
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

    fn of(&self, mode: &str) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.mode == mode)
    }

    /// Points gone through in a mode, and how many there are.
    fn share(&self, mode: &str) -> (u64, u64) {
        let numbers: BTreeSet<u64> = self.of(mode).map(|line| line.number).collect();
        let last = numbers.last().copied().unwrap_or_default();
        let (points, roomy) = self.life;
        let whole = if mode == "full" { roomy } else { points };
        let all = if self.ended.contains(mode) {
            last
        } else {
            last.max(whole)
        };
        (numbers.len() as u64, all)
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
    let mut all = BTreeMap::new();
    let (mut done, mut there) = (0, 0);
    for service in SERVICES {
        let found = Found::read(&results.join(format!("{service}.tsv")))?;
        for mode in MODES {
            let (gone, points) = found.share(mode);
            done += gone;
            there += points;
        }
        all.insert(service, found);
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
            let (gone, points) = found.share(mode);
            format!("{gone} of {points}: {}", counts(found.of(mode)))
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

fn by_call(text: &mut String, found: &Found) {
    head(text, &["call", "on"]);
    let calls: BTreeSet<(&str, &str)> = found
        .lines
        .iter()
        .map(|line| (&*line.kind, &*line.class))
        .collect();
    for (kind, class) in calls {
        let mut cells = vec![kind.to_owned(), format!("`{class}`")];
        cells.extend(MODES.map(|mode| {
            let here = |line: &&Line| line.kind == kind && line.class == class;
            counts(found.of(mode).filter(here))
        }));
        row(text, &cells);
    }
    let reasons: BTreeSet<&str> = found
        .lines
        .iter()
        .flat_map(|line| line.reason.split(' '))
        .filter(|reason| !reason.is_empty())
        .collect();
    let reasons: Vec<String> = reasons.iter().map(|reason| format!("`{reason}`")).collect();
    if !reasons.is_empty() {
        let _ = writeln!(text, "\nReasons that were given: {}.", reasons.join(", "));
    }
}
