//! One point after the other: a life is lived over a service whose disk fails there, and has to be whole in the end.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use greffe_testkit::faults::{DIED, Mode, Point, Trace};

use super::life::Lives;
use super::machine::{End, Machine};

/// Lives after which everything is held against everything else.
const SETTLE: u32 = 8;
/// Lives after which another machine is set up: what has been said so far makes each longer.
const MACHINE: u32 = 150;
/// Lives that do not get as far as a point before it is believed that there is no such point.
pub(super) const BEYOND: u32 = 3;

/// Begins the line that says how many points a life has, and how many of them take room.
const LIFE: &str = "life\t";
/// Begins the line that says of a mode that it was gone through to the end of every life.
const END: &str = "end\t";

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

/// A service and those who live over it.
struct World {
    machine: Machine,
    lives: Lives,
    service: &'static str,
    lived: u32,
}

impl World {
    async fn start(service: &'static str) -> Self {
        let mut machine = Machine::start();
        if service == "escrow-1" {
            // Two of three are enough: without this one nothing is witnessed or opened then.
            machine.stop("escrow-3");
        }
        let lives = Lives::begin(&machine.data()).await;
        machine.stop(service);
        Self {
            machine,
            lives,
            service,
            lived: 0,
        }
    }

    /// Lives once over a service that is started with a fault and stopped in the end.
    async fn live(&mut self, fault: Option<(u64, Mode)>) -> (Trace, Judged) {
        let service = self.service;
        self.lived += 1;
        self.machine.forget_log(service);
        self.machine.run(service, fault);
        self.machine.wait(service);
        let refused = self.lives.live().await;
        let (mut ends, last) = self.machine.stop(service);
        ends.push(last);
        let log = self.machine.log(service);
        assert!(!log.contains("panicked"), "{service} panicked:\n{log}");
        (self.machine.trace(service), Judged { ends, refused })
    }

    /// Fails a point; gives whether there is one.
    async fn point(&mut self, plan: &Plan, mode: Mode, number: u64) -> bool {
        if self.lived >= MACHINE {
            self.settle().await;
            *self = Self::start(self.service).await;
        }
        for _ in 0..BEYOND {
            let begun = Instant::now();
            let (trace, judged) = self.live(Some((number, mode))).await;
            let Some(fault) = &trace.fault else {
                assert_eq!(judged.ends.len(), 1, "without a fault: {judged:?}");
                continue;
            };
            let what = format!("{}\t{}", fault.kind, class(&fault.path));
            let outcome = judged.outcome(mode, &trace);
            let took = begun.elapsed().as_millis();
            note(plan, mode, number, &format!("{what}\t{outcome}\t{took}"));
            if self.lived.is_multiple_of(SETTLE) {
                self.settle().await;
            }
            return true;
        }
        false
    }

    /// Everything is as it has to be, by a service whose disk works.
    async fn settle(&mut self) {
        let service = self.service;
        self.machine.run(service, None);
        self.machine.wait(service);
        self.lives.settle().await;
        let ends = self.machine.ends(service);
        assert!(ends.is_empty(), "{service} ended: {ends:?}");
        self.machine.stop(service);
    }
}

/// How a service's processes ended in a life, the one that was asked to last, and what callers were told.
#[derive(Debug)]
struct Judged {
    ends: Vec<End>,
    refused: BTreeSet<String>,
}

impl Judged {
    fn outcome(&self, mode: Mode, trace: &Trace) -> Outcome {
        let died = self.ends.iter().filter(|end| end.code == Some(DIED));
        if mode.is_death() {
            let whole = self.ends.iter().filter(|end| end.code == Some(0));
            assert_eq!(died.count(), 1, "{self:?}");
            assert_eq!(whole.count() + 1, self.ends.len(), "{self:?}");
            return Outcome::Resumed;
        }
        let failed: Vec<&End> = self.ends.iter().filter(|end| end.code != Some(0)).collect();
        if let Some(end) = failed.first() {
            assert_eq!(
                failed.len(),
                1,
                "it did not go on with a disk that works: {self:?}"
            );
            return Outcome::Ended(reason(end));
        }
        assert!(
            mode != Mode::Broken || !trace.failed_sync() || is_done_again(trace),
            "an fsync failed, and the process went on: {:?}, {self:?}",
            trace.fault
        );
        if self.refused.is_empty() {
            return Outcome::Absorbed;
        }
        let reasons: Vec<&str> = self.refused.iter().map(String::as_str).collect();
        Outcome::Refused(reasons.join(" "))
    }
}

/// The reason that a process gave when it ended by itself.
fn reason(end: &End) -> String {
    let said = end.said.strip_prefix("greffe: ");
    let reason = said
        .and_then(|said| said.split_once(": "))
        .map(|(reason, _)| reason);
    let is_reason = |reason: &str| {
        let mut letters = reason.chars();
        !reason.is_empty() && letters.all(|letter| letter.is_ascii_uppercase() || letter == '_')
    };
    let reason = reason.filter(|reason| is_reason(reason));
    reason
        .unwrap_or_else(|| panic!("it did not say why it ended: {end:?}"))
        .to_owned()
}

/// The two kinds of fsync of SQLite's that do not have to be noticed. A checkpoint's: what it moves stays in the write-ahead log
/// until a checkpoint has succeeded, and is moved again. And that of the folder, after a new write-ahead log's own: the service
/// makes the folder durable itself when it opens the database.
pub(super) fn is_done_again(trace: &Trace) -> bool {
    let Some(fault) = &trace.fault else {
        return false;
    };
    let before = trace
        .points
        .iter()
        .rfind(|point| point.number < fault.number);
    match fault.kind.as_str() {
        "sync" => is_database(&fault.path),
        "sync-folder" => before.is_some_and(|before| before.path.ends_with("-wal")),
        _ => false,
    }
}

/// Whether it is a file of SQLite, and not its write-ahead log.
fn is_database(path: &str) -> bool {
    path.ends_with(".db") || path.ends_with(".sqlite")
}

/// A path with what differs from life to life left out.
pub(super) fn class(path: &str) -> String {
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

/// What was found out before, by mode and number.
pub(super) fn known(plan: &Plan) -> BTreeSet<(Mode, u64)> {
    let text = plan
        .results
        .as_ref()
        .and_then(|file| fs::read_to_string(file).ok());
    let mut known = BTreeSet::new();
    let text = text.unwrap_or_default();
    let is_point = |line: &&str| !line.starts_with(LIFE) && !line.starts_with(END);
    for line in text.lines().filter(is_point) {
        let mut parts = line.split('\t');
        let (mode, number) = (parts.next().unwrap(), parts.next().unwrap());
        known.insert((mode.parse().unwrap(), number.parse().unwrap()));
    }
    known
}

pub(super) fn note(plan: &Plan, mode: Mode, number: u64, rest: &str) {
    println!(
        "{} {mode} {number} {}",
        plan.service,
        rest.replace('\t', " ")
    );
    keep(plan, &format!("{mode}\t{number}\t{rest}"));
}

/// Notes how many points a life has.
pub(super) fn note_life(plan: &Plan, points: &[Point]) {
    println!("{}: {} points in a life", plan.service, points.len());
    let roomy = points.iter().filter(|point| point.takes_room()).count();
    keep(plan, &format!("{LIFE}{}\t{roomy}", points.len()));
}

/// Notes that no life has more points than were gone through.
pub(super) fn note_end(plan: &Plan, mode: Mode) {
    if matches!(plan.which, Which::Every { from: 1, step: 1 }) {
        keep(plan, &format!("{END}{mode}"));
    }
}

fn keep(plan: &Plan, line: &str) {
    let Some(file) = &plan.results else { return };
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .unwrap();
    writeln!(file, "{line}").unwrap();
}

/// Numbers of the points to go through, of those of a life without a fault.
pub(super) fn chosen(which: &Which, mode: Mode, points: &[Point]) -> Vec<u64> {
    let counted = points
        .iter()
        .filter(|point| mode != Mode::Full || point.takes_room());
    let total = counted.count() as u64;
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

/// Goes through them. Panics at the first of which anything else came than may.
pub(super) async fn go_through(plan: &Plan) {
    let known = known(plan);
    let mut world = World::start(plan.service).await;
    let (trace, judged) = world.live(None).await;
    let quiet = judged.refused.is_empty() && judged.ends.len() == 1;
    assert!(quiet, "without a fault: {judged:?}");
    note_life(plan, &trace.points);
    for mode in plan.modes.iter().copied() {
        let mut numbers = chosen(&plan.which, mode, &trace.points);
        let mut beyond = 0;
        let mut at = 0;
        while let Some(number) = numbers.get(at).copied() {
            at += 1;
            let there = known.contains(&(mode, number)) || world.point(plan, mode, number).await;
            beyond = if there { 0 } else { beyond + 1 };
            // Lives differ a little in length: it is over when several in a row do not get as far.
            if let Which::Every { step, .. } = plan.which
                && at == numbers.len()
                && beyond < BEYOND
            {
                numbers.push(number + step as u64);
            }
        }
        note_end(plan, mode);
    }
    world.settle().await;
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
