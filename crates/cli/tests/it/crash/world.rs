//! Services with those who live over them. A life is lived while a disk fails at one point after the other, and everything has to
//! be whole in the end.

use std::collections::BTreeSet;
use std::thread;
use std::time::Instant;

use greffe_service_kit::ready::READY_FILE;
use greffe_testkit::faults::{DIED, Disk, Fault, Mode, Trace};

use super::course::Course;
use super::life::Lives;
use super::machine::{End, Machine};
use super::points::{Left, Outcome, Plan, has_to_end};

/// Lives after which another machine is set up: what has been said so far makes each longer.
const MACHINE: u32 = 80;

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

    /// Lives once over a service that is started on a disk with faults and stopped in the end, then holds everything against
    /// everything.
    async fn live(&mut self, faults: Option<(Mode, &BTreeSet<u64>)>) -> (Trace, Judged) {
        let service = self.service;
        self.lived += 1;
        // What a process does to take up is not counted: lives would be of another length with each fault.
        let mut disk = self.machine.disk(service).counting_after(READY_FILE);
        if let Some((mode, numbers)) = faults {
            disk = disk.failing(mode, numbers);
        }
        let _said = Report(&disk);
        self.machine.forget_log(service);
        self.machine.run(service, Some(&disk));
        self.machine.wait(service);
        let mut course = faults.map_or(Course::quiet(), |(mode, _)| {
            Course::failing(&self.machine, service, &disk, mode)
        });
        self.lives.live(&mut course).await;
        self.machine.wait(service);
        // Its end may fail as well.
        self.lives.look(&mut course).await;
        let refused = course.into_refused();
        let (mut ends, last) = self.machine.stop(service);
        ends.push(last);
        let log = self.machine.log(service);
        assert!(!log.contains("panicked"), "{service} panicked:\n{log}");
        self.settle().await;
        (disk.trace(), Judged { ends, refused })
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

/// Says which faults there were when something else came of them than may.
struct Report<'a>(&'a Disk);

impl Drop for Report<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            for fault in self.0.trace().faults {
                println!("there was {fault:?}");
            }
        }
    }
}

/// How a service's processes ended in a life, the one that was asked to last, and what callers were told.
#[derive(Debug)]
struct Judged {
    ends: Vec<End>,
    /// Before the first fault, since that one, since the next.
    refused: Vec<BTreeSet<String>>,
}

impl Judged {
    /// What came of each fault.
    fn outcomes(&self, mode: Mode, trace: &Trace) -> Vec<Outcome> {
        let died = self.ends.iter().filter(|end| end.code == Some(DIED));
        let failed = self.ends.iter().filter(|end| end.code != Some(0));
        if mode.is_death() {
            assert_eq!(died.count(), trace.faults.len(), "{self:?}");
            assert_eq!(failed.count(), trace.faults.len(), "{self:?}");
            return vec![Outcome::Resumed; trace.faults.len()];
        }
        let faults = (1..).zip(&trace.faults);
        let outcomes: Vec<Outcome> = faults
            .map(|(nth, fault)| self.outcome(mode, trace, nth, fault))
            .collect();
        let ended = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Outcome::Ended(_)));
        assert_eq!(
            ended.count(),
            failed.count(),
            "it did not go on with a disk that works: {self:?}"
        );
        outcomes
    }

    /// What came of the so-manieth fault, from 1.
    fn outcome(&self, mode: Mode, trace: &Trace, nth: usize, fault: &Fault) -> Outcome {
        let next = trace.faults.get(nth);
        let is_last = next.is_none_or(|next| next.process > fault.process);
        let end = &self.ends[fault.process];
        if is_last && end.code != Some(0) {
            return Outcome::Ended(reason(end));
        }
        assert!(
            !has_to_end(mode, trace, fault),
            "an fsync failed, and the process went on: {fault:?}, {self:?}"
        );
        let refused = self.refused.get(nth).filter(|refused| !refused.is_empty());
        refused.map_or(Outcome::Absorbed, |refused| {
            let reasons: Vec<&str> = refused.iter().map(String::as_str).collect();
            Outcome::Refused(reasons.join(" "))
        })
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

/// Goes through the points of a plan. Panics at the first life of which anything else came than may.
pub(super) async fn go_through(plan: &Plan) {
    let mut world = World::start(plan.service).await;
    let (trace, judged) = world.live(None).await;
    let quiet = judged.refused.is_empty() && judged.ends.len() == 1;
    assert!(quiet, "without a fault: {judged:?}");
    plan.note_life(&trace.points);
    for mode in plan.modes.iter().copied() {
        let mut left = Left::new(plan, mode, &trace.points);
        while let Some(numbers) = left.next(plan) {
            if world.lived >= MACHINE {
                world = World::start(plan.service).await;
            }
            let begun = Instant::now();
            let (trace, judged) = world.live(Some((mode, &numbers))).await;
            let outcomes = judged.outcomes(mode, &trace);
            left.lived(plan, &trace, &outcomes);
            plan.note_pace(mode, outcomes.len(), begun);
        }
    }
}
