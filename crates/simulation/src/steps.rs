//! What happens in a seed: steps drawn from it, each an act of somebody or something that goes wrong, and then some time.

use core::fmt;
use core::time::Duration;

use crate::disk::Trouble;
use crate::net::Weather;
use crate::rng::Rng;
use crate::tenant::{APPS, SERVICES};

/// Users who write.
pub(crate) const USERS: [&str; 3] = ["alice", "bob", "carol"];
/// People who approve.
const APPROVERS: [&str; 6] = [
    "principal",
    "compliance",
    "principal",
    "compliance",
    "second",
    "auditor",
];
const DAY: u64 = 86_400;

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A user sends a text.
    Send(&'static str),
    /// A member invites carol.
    Invite(&'static str),
    /// A member removes carol.
    Remove(&'static str),
    /// A member replaces their keys.
    Update(&'static str),
    /// The office holds everything.
    Hold,
    /// The office releases one of its holds.
    Release(u64),
    /// The office asks for a few of the records.
    Order(u64),
    /// A person approves one of the orders.
    Approve(u64, &'static str),
    /// The reader opens one of the orders.
    Open(u64),
    /// The office disposes of one of the records.
    Dispose(u64),
    /// The nodes deal the journaling key out to new shares.
    Reshare,
    /// The calendar goes on by days.
    Days(u64),
    /// A process is killed, and away for so many milliseconds.
    Crash(&'static str, u64),
    /// A process dies at one of its next acts on a disk.
    DieIn(&'static str, u64),
    /// Two processes do not reach one another.
    Cut(&'static str, &'static str),
    /// The network gets worse.
    Weather(Weather),
    /// The network is sound again.
    Mend,
    /// A disk fails, or is sound again.
    Disk(&'static str, Option<Trouble>),
    /// Nothing.
    Wait,
}

/// What happens, and the time after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What happens.
    pub op: Op,
    /// Time that passes.
    pub then: Duration,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, then {} ms", self.op, self.then.as_millis())
    }
}

/// The steps of a seed.
pub fn draw(seed: u64) -> Vec<Step> {
    let mut rng = Rng::new(seed, 100);
    let count = 6 + rng.below(16);
    let mut steps: Vec<Step> = (0..count)
        .map(|_| Step {
            op: op(&mut rng),
            then: Duration::from_millis(match rng.below(10) {
                0..3 => 0,
                3..7 => 20 + rng.below(400),
                7..9 => 500 + rng.below(2_500),
                _ => 3_000 + rng.below(12_000),
            }),
        })
        .collect();
    if rng.happens(450) {
        let send = Op::Send(rng.one(&USERS[..2]));
        let shared_anew = rng.happens(400).then_some(Op::Reshare);
        let opening = [
            Op::Order(rng.word()),
            Op::Approve(0, "principal"),
            Op::Approve(0, "compliance"),
            Op::Open(0),
        ];
        let before = [send].into_iter().chain(shared_anew);
        let opening: Vec<Op> = before.chain(opening).collect();
        weave(&mut rng, &mut steps, &opening);
    }
    if rng.happens(150) {
        let send = Op::Send(rng.one(&USERS[..2]));
        let end = [Op::Days(3 * 366), Op::Dispose(0)];
        let held = rng.happens(500).then_some(Op::Hold);
        let story: Vec<Op> = [send].into_iter().chain(held).chain(end).collect();
        weave(&mut rng, &mut steps, &story);
    }
    steps
}

/// Puts acts that come to something only one after the other, each with time to be done, in among the rest.
fn weave(rng: &mut Rng, steps: &mut Vec<Step>, story: &[Op]) {
    let mut place = 0;
    for op in story {
        // Now and then something else comes between.
        while place < steps.len() && rng.happens(350) {
            place += 1;
        }
        let then = Duration::from_millis(300 + rng.below(3_000));
        steps.insert(place, Step { op: *op, then });
        place += 1;
    }
}

fn op(rng: &mut Rng) -> Op {
    let process = |rng: &mut Rng| {
        let all: Vec<&'static str> = SERVICES.into_iter().chain(APPS).collect();
        rng.one(&all)
    };
    match rng.below(100) {
        0..28 => Op::Send(rng.one(&USERS)),
        28..31 => Op::Invite(rng.one(&["alice", "bob"])),
        31..34 => Op::Remove(rng.one(&["alice", "bob"])),
        34..37 => Op::Update(rng.one(&USERS)),
        37..40 => Op::Hold,
        40..42 => Op::Release(rng.word()),
        42..47 => Op::Order(rng.word()),
        47..57 => Op::Approve(rng.word(), rng.one(&APPROVERS)),
        57..62 => Op::Open(rng.word()),
        62..66 => Op::Dispose(rng.word()),
        66..69 => Op::Days(rng.one(&[1, 40, 3 * 366, 3 * 366])),
        69..77 => Op::Crash(process(rng), 50 + rng.below(6_000)),
        77..85 => Op::DieIn(process(rng), rng.below(40)),
        85..89 => Op::Cut(process(rng), process(rng)),
        89..93 => Op::Weather(Weather {
            lost: rng.below(150),
            unanswered: rng.below(150),
            doubled: rng.below(200),
            late: rng.below(200),
        }),
        93..96 => Op::Mend,
        96..98 => {
            let trouble = rng.one(&[Trouble::Full, Trouble::Faulty]);
            Op::Disk(process(rng), Some(trouble))
        }
        98 => rng.one(&[Op::Disk("archive", None), Op::Reshare, Op::Reshare]),
        _ => Op::Wait,
    }
}

/// Days as the calendar counts them.
pub(crate) const fn seconds(days: u64) -> u64 {
    days * DAY
}
