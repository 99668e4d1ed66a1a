//! One seed: its steps, and after each the promises; then everything is mended, and what was begun has to end well.

use core::time::Duration;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Once;

use anyhow::Result;

use crate::check::Checker;
use crate::clock;
use crate::origin::Origin;
use crate::steps::{Op, Step, seconds};
use crate::world::World;
use crate::{office, user};

/// Before the first step, everybody starts.
const WARM: Duration = Duration::from_millis(1500);
/// How long the system has, once everything is mended, to come to rest.
const REST: Duration = Duration::from_secs(240);
/// How often it is asked meanwhile.
const ASK: Duration = Duration::from_secs(3);

/// What came of a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The promise that was broken, and after which step.
    pub broken: Option<(usize, String)>,
    /// What happened.
    pub trace: Vec<String>,
    /// How much was done.
    pub done: Done,
}

/// How much was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Done {
    /// Messages with a receipt.
    pub sent: u64,
    /// Messages shown, to each who was.
    pub shown: u64,
    /// Records opened.
    pub opened: u64,
    /// Dispositions confirmed.
    pub disposed: u64,
}

impl core::ops::AddAssign for Done {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.shown += other.shown;
        self.opened += other.opened;
        self.disposed += other.disposed;
    }
}

thread_local! {
    static PANICS: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A panic in a task of a service ends that task and nothing else: here it is a finding.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let simulated = std::thread::current()
                .name()
                .is_some_and(|name| name.starts_with("sim-"));
            if simulated {
                PANICS.with_borrow_mut(|panics| {
                    let _ = writeln!(panics, "{info}");
                });
            } else {
                before(info);
            }
        }));
    });
}

/// Runs steps over a copy of the origin.
///
/// # Errors
/// When the simulation itself fails.
pub fn run(origin: &Origin, seed: u64, steps: &[Step]) -> Result<Outcome> {
    note_panics();
    let folder = origin.copy()?;
    let number = u32::try_from(seed % u64::from(u32::MAX)).unwrap_or_default();
    clock::on_thread(number, || {
        clock::pass(origin.took);
        let mut seed = Seed::new(origin, folder.path(), seed)?;
        seed.live(steps)
    })
}

struct Seed<'a> {
    origin: &'a Origin,
    world: World,
    checker: Checker,
    texts: u64,
}

impl<'a> Seed<'a> {
    fn new(origin: &'a Origin, base: &Path, seed: u64) -> Result<Self> {
        Ok(Self {
            origin,
            world: World::new(base, seed),
            checker: Checker::open(base)?,
            texts: 0,
        })
    }

    fn live(&mut self, steps: &[Step]) -> Result<Outcome> {
        self.world.start_all();
        self.world.run(WARM);
        for (number, step) in steps.iter().enumerate() {
            self.world.trace.note("step", format_args!("{step}"));
            self.act(step.op)?;
            self.world.run(step.then);
            if let Some(broken) = self.check()? {
                return Ok(self.outcome(Some((number, broken))));
            }
        }
        let broken = self.rest()?;
        Ok(self.outcome(broken.map(|broken| (steps.len(), broken))))
    }

    fn outcome(&self, broken: Option<(usize, String)>) -> Outcome {
        let told = self.world.ledger.told();
        let disposed = told.disposals.values().filter(|confirmed| **confirmed);
        Outcome {
            broken,
            trace: self.world.trace.lines(),
            done: Done {
                sent: told.sent.len() as u64,
                shown: told.shown.len() as u64,
                opened: told.opened.len() as u64,
                disposed: disposed.count() as u64,
            },
        }
    }

    fn check(&mut self) -> Result<Option<String>> {
        let panics = PANICS.with_borrow(Clone::clone);
        if !panics.is_empty() {
            return Ok(Some(panics));
        }
        let told = self.world.ledger.told();
        self.checker.at_any_time(&told)
    }

    fn act(&mut self, op: Op) -> Result<()> {
        let id = self.origin.conversation;
        match op {
            Op::Send(who) => {
                self.texts += 1;
                let text = format!("text {}", self.texts);
                self.world.ledger.told().wanted.insert(text.clone(), who);
                self.world.tell(who, user::Command::Send(id, text));
            }
            Op::Invite(who) => self.world.tell(who, user::Command::Invite(id, "carol")),
            Op::Remove(who) => self.world.tell(who, user::Command::Remove(id, "carol")),
            Op::Update(who) => self.world.tell(who, user::Command::Update(id)),
            Op::Hold => self.world.ask(office::Command::Hold),
            Op::Release(which) => {
                let hold = pick(&self.world.ledger.told().holds, which).cloned();
                if let Some(hold) = hold {
                    self.world
                        .ask(office::Command::Release(hold.id, hold.matter));
                }
            }
            Op::Order(which) => {
                let mut records = self.checker.messages()?;
                let kept = usize::try_from(1 + which % 3).unwrap_or(1);
                records.reverse();
                records.truncate(kept);
                if !records.is_empty() {
                    self.world.ask(office::Command::Order(records));
                }
            }
            Op::Approve(which, who) => {
                let order = pick(&self.world.ledger.told().orders, which).map(|o| o.id);
                if let Some(order) = order {
                    self.world.ask(office::Command::Approve(order, who));
                }
            }
            Op::Open(which) => {
                let order = pick(&self.world.ledger.told().orders, which).map(|o| o.id);
                if let Some(order) = order {
                    self.world.ask(office::Command::Open(order));
                }
            }
            Op::Dispose(which) => {
                let record = pick(&self.checker.messages()?, which).copied();
                if let Some(record) = record {
                    self.world.ask(office::Command::Dispose(record));
                }
            }
            Op::Reshare => self.world.ask(office::Command::Reshare),
            Op::Days(days) => clock::jump(seconds(days)),
            Op::Crash(who, away) => self.world.crash(who, Duration::from_millis(away)),
            Op::DieIn(who, acts) => {
                if let Some(disk) = self.world.disk(who) {
                    disk.die_in(acts);
                }
            }
            Op::Cut(one, other) => self.world.net.cut(one, other, true),
            Op::Weather(weather) => self.world.net.set(weather),
            Op::Mend => self.world.net.heal(),
            Op::Disk(who, trouble) => {
                if let Some(disk) = self.world.disk(who) {
                    disk.set(trouble);
                }
            }
            Op::Wait => {}
        }
        Ok(())
    }

    /// Everything is mended: nothing that was accepted may stay undone.
    fn rest(&mut self) -> Result<Option<String>> {
        self.world.trace.note("step", format_args!("all is mended"));
        self.world.heal();
        let mut left = None;
        let mut waited = Duration::ZERO;
        while waited < REST {
            for name in crate::steps::USERS {
                self.world
                    .tell(name, user::Command::Report(self.origin.conversation));
            }
            self.world.run(ASK);
            waited += ASK;
            if let Some(broken) = self.check()? {
                return Ok(Some(broken));
            }
            left = self.left()?;
            if left.is_none() {
                return Ok(None);
            }
        }
        Ok(left)
    }

    /// What is not at rest yet.
    fn left(&self) -> Result<Option<String>> {
        if let Some(left) = self.checker.at_the_end()? {
            return Ok(Some(left));
        }
        let head = self.checker.head(&self.origin.conversation);
        let told = self.world.ledger.told();
        for name in crate::steps::USERS {
            match told.reported.get(name) {
                None => return Ok(Some(format!("{name} does not come back"))),
                Some(Some(taken)) if *taken != head => {
                    return Ok(Some(format!("{name} has {taken} of {head}")));
                }
                Some(Some(_)) => {
                    let unsent = self.checker.unsent(name)?;
                    if unsent > 0 {
                        return Ok(Some(format!("P6: {name} has {unsent} messages unsent")));
                    }
                }
                Some(None) => {}
            }
        }
        Ok(None)
    }
}

fn pick<T>(from: &[T], which: u64) -> Option<&T> {
    let place = which.checked_rem(from.len() as u64)?;
    from.get(usize::try_from(place).ok()?)
}
