//! Which points there are of a service or a client, which of them are still to be gone through, and what came of each.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use greffe_testkit::faults::{Fault, Mode, Point, Trace};

/// Lives that do not get as far as a point before it is believed that there is no such point.
const BEYOND: u32 = 3;
/// So many times as long as a life without a fault may be one in which much is asked for again.
const LONGEST: u64 = 4;

/// Begins the line that says how many points a life has, and how many of them take room.
const LIFE: &str = "life";
/// Begins the line that says of a number that no life gets as far.
const NONE: &str = "none";

/// What came of a fault.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// The process died there, was started again, and what was under way was done.
    Resumed,
    /// The process refused to go on or to start, said why, was started again, and what was under way was done.
    Ended(String),
    /// Callers were told, with these reasons, and it was done when they asked again.
    Refused(String),
    /// Nobody noticed.
    Absorbed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resumed => f.write_str("resumed\t"),
            Self::Ended(why) => write!(f, "ended\t{why}"),
            Self::Refused(why) => write!(f, "refused\t{why}"),
            Self::Absorbed => f.write_str("absorbed\t"),
        }
    }
}

/// Which points, and where what came of them is kept.
pub(super) struct Plan {
    pub(super) service: &'static str,
    pub(super) modes: Vec<Mode>,
    pub(super) which: Which,
    /// A line for each point; those that are there already are not gone through again.
    pub(super) results: Option<PathBuf>,
}

/// Which points of a mode.
pub(super) enum Which {
    /// Every so-manieth from one on.
    Every { from: u64, step: usize },
    /// So many, over the whole life.
    Spread(u64),
    /// So many of those that an fsync is.
    Syncs(usize),
}

impl Plan {
    /// Notes how many points a life has, by one without a fault.
    pub(super) fn note_life(&self, points: &[Point]) {
        println!("{}: {} points in a life", self.service, points.len());
        let roomy = points.iter().filter(|point| point.takes_room()).count();
        self.keep(&format!("{LIFE}\t{}\t{roomy}", points.len()));
    }

    fn note(&self, mode: Mode, number: u64, point: &Point, outcome: &Outcome) {
        let line = format!(
            "{number}\t{}\t{}\t{outcome}",
            point.kind,
            class(&point.path)
        );
        println!("{} {mode} {}", self.service, line.replace('\t', " "));
        self.keep(&format!("{mode}\t{line}"));
    }

    /// Says how many points failed in a life, and how long that took.
    pub(super) fn note_pace(&self, mode: Mode, failed: usize, begun: Instant) {
        let took = begun.elapsed().as_millis();
        println!("{} {mode}: {failed} points in {took} ms", self.service);
    }

    fn keep(&self, line: &str) {
        let Some(file) = &self.results else { return };
        let file = OpenOptions::new().create(true).append(true).open(file);
        // In one piece: a run that is stopped leaves whole lines.
        file.unwrap()
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
    }
}

/// Points of a mode that are still to be gone through.
pub(super) struct Left {
    mode: Mode,
    /// Those of a life without a fault.
    numbers: BTreeSet<u64>,
    /// Those after them: a life is longer by what is asked for again. Gone through as far as lives get.
    further: BTreeSet<u64>,
    /// Lives in a row that did not get as far as the first.
    missed: u32,
}

impl Left {
    /// Of a life with these points, without what was found out before.
    pub(super) fn new(plan: &Plan, mode: Mode, points: &[Point]) -> Self {
        let known = Known::read(plan, mode);
        let counted = points.iter().filter(|point| counts(mode, point)).count() as u64;
        let total = counted.max(known.life);
        let further = match plan.which {
            Which::Every { from, step } => (from..=total * LONGEST)
                .step_by(step)
                .filter(|number| *number > total)
                .collect(),
            Which::Spread(_) | Which::Syncs(_) => BTreeSet::new(),
        };
        Self {
            mode,
            numbers: &chosen(&plan.which, mode, points, total) - &known.numbers,
            further: &further - &known.numbers,
            missed: 0,
        }
    }

    /// Where the next life may fail; none when everything was gone through.
    pub(super) fn next(&mut self, plan: &Plan) -> Option<BTreeSet<u64>> {
        if self.numbers.is_empty() && matches!(plan.which, Which::Every { .. }) {
            // Who goes through other numbers of the same mode may have begun with a longer life.
            let known = Known::read(plan, self.mode);
            self.numbers = &chosen(&plan.which, self.mode, &[], known.life) - &known.numbers;
        }
        (!self.numbers.is_empty()).then(|| &self.numbers | &self.further)
    }

    /// Takes in what came of each fault of a life.
    pub(super) fn lived(&mut self, plan: &Plan, trace: &Trace, outcomes: &[Outcome]) {
        assert_eq!(trace.faults.len(), outcomes.len(), "{:?}", trace.faults);
        for (fault, outcome) in trace.faults.iter().zip(outcomes) {
            let number = trace.counted(self.mode, fault.point.number);
            let chosen = self.numbers.remove(&number) | self.further.remove(&number);
            assert!(chosen, "{number} was not to fail: {fault:?}");
            plan.note(self.mode, number, &fault.point, outcome);
        }
        if !trace.faults.is_empty() {
            self.missed = 0;
            return;
        }
        // Nothing was before the first of them, so that no life but one that ends before passes it.
        let counted = trace.counted(self.mode, u64::MAX);
        let first = self.numbers.first().copied().unwrap_or(u64::MAX);
        assert!(
            first > counted,
            "{first} did not fail in a life of {counted}"
        );
        self.missed += 1;
        if self.missed == BEYOND {
            for number in core::mem::take(&mut self.numbers) {
                plan.keep(&format!("{NONE}\t{}\t{number}", self.mode));
            }
        }
    }
}

/// What was found out before about a mode.
struct Known {
    numbers: BTreeSet<u64>,
    /// Points of the longest life without a fault.
    life: u64,
}

impl Known {
    fn read(plan: &Plan, mode: Mode) -> Self {
        let file = plan.results.as_ref();
        let text = file.and_then(|file| fs::read_to_string(file).ok());
        let mut known = Self {
            numbers: BTreeSet::new(),
            life: 0,
        };
        for line in text.unwrap_or_default().lines() {
            let parts: Vec<&str> = line.split('\t').collect();
            match parts[..] {
                [LIFE, points, roomy] => {
                    let life = if mode == Mode::Full { roomy } else { points };
                    known.life = known.life.max(life.parse().unwrap());
                }
                [NONE, of, number] | [of, number, ..] if of == mode.as_str() => {
                    known.numbers.insert(number.parse().unwrap());
                }
                _ => {}
            }
        }
        known
    }
}

fn counts(mode: Mode, point: &Point) -> bool {
    mode != Mode::Full || point.takes_room()
}

/// Whether a process has to end at this fault: it dies there, or what it wrote may never become durable.
pub(super) fn has_to_end(mode: Mode, trace: &Trace, fault: &Fault) -> bool {
    let lost = fault.failed_sync() && !is_done_again(trace, &fault.point);
    mode.is_death() || (mode == Mode::Broken && lost)
}

/// The fsyncs of SQLite's that do not have to be noticed. A checkpoint's: what it moves stays in the write-ahead log until a
/// checkpoint has succeeded, and is moved again. That of the folder, after a new log's or journal's own: the service makes the folder
/// durable itself when it opens the database. And a checkpoint's of the log, where the last write to it had failed: what was under
/// way then was taken back, and what is committed was durable before.
fn is_done_again(trace: &Trace, fault: &Point) -> bool {
    let earlier = |point: &&Point| point.number < fault.number;
    let before = trace.points.iter().rfind(earlier);
    let written = trace.points.iter().rfind(|point| {
        point.number < fault.number && point.path == fault.path && point.kind == "write"
    });
    let taken_back = written.is_some_and(|written| {
        let mut failed = trace.faults.iter().map(|fault| &fault.point);
        failed.any(|failed| failed.number == written.number)
    });
    match fault.kind.as_str() {
        "sync" => is_database(&fault.path) || taken_back,
        "sync-folder" => before.is_some_and(|before| {
            before.path.ends_with("-wal") || before.path.ends_with("-journal")
        }),
        _ => false,
    }
}

/// Whether it is a file of SQLite, and not its write-ahead log.
fn is_database(path: &str) -> bool {
    path.ends_with(".db") || path.ends_with(".sqlite")
}

/// A path with what differs from life to life left out.
fn class(path: &str) -> String {
    let part = |part: &str| {
        let hex = |letter: char| letter.is_ascii_hexdigit();
        let (stem, ending) = part
            .split_once('.')
            .map_or((part, ""), |(stem, _)| (stem, &part[stem.len()..]));
        if part.ends_with(".tmp") {
            return "*.tmp".to_owned();
        }
        let named = stem.len() < 2 || !stem.chars().all(hex);
        let numbered = stem.chars().any(|letter| letter.is_ascii_digit()) && !stem.contains('-');
        if named && !numbered {
            part.to_owned()
        } else {
            format!("*{ending}")
        }
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// Numbers of the points to go through, of so many; `points` are those of a life without a fault.
fn chosen(which: &Which, mode: Mode, points: &[Point], total: u64) -> BTreeSet<u64> {
    match which {
        Which::Every { from, step } => (*from..=total).step_by(*step).collect(),
        Which::Spread(count) => {
            // Each mode somewhere else: together they are spread more closely.
            let modes = Mode::ALL.len() as u64;
            let turn = (0..).zip(Mode::ALL).find(|(_, known)| *known == mode);
            let turn = turn.map_or(0, |(turn, _)| turn);
            let nth = |nth| 1 + total * (2 * (nth * modes + turn) + 1) / (2 * count * modes);
            (0..*count).map(nth).collect()
        }
        Which::Syncs(count) => {
            let is_commit = |point: &&Point| point.kind == "sync" && !is_database(&point.path);
            let syncs: Vec<u64> = points
                .iter()
                .filter(is_commit)
                .map(|point| point.number)
                .collect();
            let step = (syncs.len() / count).max(1);
            syncs
                .into_iter()
                .skip(step / 2)
                .step_by(step)
                .take(*count)
                .collect()
        }
    }
}

#[test]
fn what_differs_from_life_to_life_is_left_out_of_a_path() {
    for (path, expected) in [
        ("relay.db-wal", "relay.db-wal"),
        ("objects/ab/0123456789abcdef.retain", "objects/*/*.retain"),
        ("objects/tmp/12", "objects/tmp/*"),
        ("log/tile/0/000.p/12", "log/tile/*/*.p/*"),
        (".ready.json.12.3.tmp", "*.tmp"),
        ("attachments/unfinished/0", "attachments/unfinished/*"),
        ("ready.json", "ready.json"),
    ] {
        assert_eq!(class(path), expected);
    }
}
