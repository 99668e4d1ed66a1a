//! The move of a journaling key from one committee to another: crashes at every step, a second attempt after a first one that
//! was half done, a node that comes back from an old copy.
//!
//! Bound: the committee {0, 1, 2} gives the key to {1, 2, 3}, two of three open, two attempts, one node restored once. A
//! node's disk changes in one step; what it has in memory is gone when it crashes. Whether shares are right is not asked here:
//! the proofs of `greffe_envelope::reshare` say so, and a share that is not right is not taken.

use stateright::{Model, Property};

const NODES: usize = 4;
/// Who holds shares before, by node.
const OLD: [bool; NODES] = [true, true, true, false];
/// Who holds them after.
const NEW: [bool; NODES] = [false, true, true, true];
/// Who deals: as many as the threshold.
const DEALERS: [bool; NODES] = [false, true, true, false];
/// Shares that open.
const THRESHOLD: usize = 2;
/// Attempts, at most.
const ATTEMPTS: u8 = 2;

/// The world: what may be taken away from it.
#[derive(Debug, Clone)]
pub struct Resharing {
    /// Whether a node has its new share on disk before it signs the new share epoch.
    pub stores_before_it_signs: bool,
    /// Whether a node keeps its old share until it has seen the new epoch in the log.
    pub keeps_old_until_logged: bool,
    /// Whether a node that signed an attempt keeps that attempt's share when another begins.
    pub keeps_every_signed_attempt: bool,
    /// Whether a node follows the log before it answers.
    pub follows_before_it_answers: bool,
}

/// What a node has in memory of an attempt: gone when it crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Memory {
    /// Nothing.
    None,
    /// A session of this attempt; its messages are out.
    Began(u8),
    /// Everybody has the same result.
    Agreed(u8),
}

/// What a node has on its disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Disk {
    /// The share of the old epoch.
    old: bool,
    /// Shares of attempts, a bit each.
    new: u8,
    /// Whether it has seen the new epoch in the log.
    moved: bool,
}

/// A node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Node {
    memory: Memory,
    disk: Disk,
    /// Attempts that it has signed: signatures that are out do not come back.
    signed: u8,
}

/// Everything that changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    nodes: [Node; NODES],
    /// Attempts begun.
    attempts: u8,
    /// The attempt whose share epoch the log has: the first one that everybody had signed.
    logged: Option<u8>,
    restored: bool,
    /// A node answered by the old epoch after it could have known of the new one.
    answered_stale: bool,
}

/// What can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The coordinator begins an attempt anew, with everybody.
    Begin,
    /// A node has every message of its attempt.
    Agree(usize),
    /// A node stores its new share.
    Store(usize),
    /// A node signs the new share epoch.
    Sign(usize),
    /// The coordinator has every signature of an attempt and has it logged.
    Publish(u8),
    /// A node sees the new epoch in the log: it moves, and destroys what is of no use any more.
    Move(usize),
    /// A node crashes.
    Crash(usize),
    /// A node comes back from the copy that was taken before everything.
    Restore(usize),
    /// A node is asked to open a record.
    Answer(usize),
}

impl Resharing {
    /// As it is specified.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            stores_before_it_signs: true,
            keeps_old_until_logged: true,
            keeps_every_signed_attempt: true,
            follows_before_it_answers: true,
        }
    }
}

impl Default for Resharing {
    fn default() -> Self {
        Self::new()
    }
}

const fn bit(attempt: u8) -> u8 {
    1 << attempt
}

impl State {
    /// Nodes that can open by the epoch that is in force.
    fn usable(&self) -> usize {
        let holds = |node: &&Node| match self.logged {
            None => node.disk.old,
            Some(attempt) => node.disk.new & bit(attempt) != 0,
        };
        self.nodes.iter().filter(holds).count()
    }

    fn all(&self, who: [bool; NODES], what: impl Fn(&Node) -> bool) -> bool {
        self.nodes
            .iter()
            .zip(who)
            .all(|(node, takes_part)| !takes_part || what(node))
    }
}

impl Model for Resharing {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let node = |old| Node {
            memory: Memory::None,
            disk: Disk {
                old,
                ..Disk::default()
            },
            signed: 0,
        };
        vec![State {
            nodes: OLD.map(node),
            attempts: 0,
            logged: None,
            restored: false,
            answered_stale: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.push(Action::Begin);
        actions.extend((0..ATTEMPTS).map(Action::Publish));
        for node in 0..NODES {
            actions.extend([
                Action::Agree(node),
                Action::Store(node),
                Action::Sign(node),
                Action::Move(node),
                Action::Crash(node),
                Action::Answer(node),
            ]);
            if !state.restored {
                actions.push(Action::Restore(node));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Begin => {
                let attempt = state.attempts;
                if attempt == ATTEMPTS || state.logged.is_some() {
                    return None;
                }
                // A dealer without its old share cannot.
                if !state.all(DEALERS, |node| node.disk.old) {
                    return None;
                }
                state.attempts += 1;
                for ((node, dealer), receiver) in state.nodes.iter_mut().zip(DEALERS).zip(NEW) {
                    if dealer || receiver {
                        node.memory = Memory::Began(attempt);
                        if !self.keeps_every_signed_attempt {
                            node.disk.new = 0;
                        }
                    }
                }
            }
            Action::Agree(at) => {
                let Memory::Began(attempt) = state.nodes.get(at)?.memory else {
                    return None;
                };
                // The messages of everybody are needed, and were given when the attempt began.
                state.nodes.get_mut(at)?.memory = Memory::Agreed(attempt);
            }
            Action::Store(at) => {
                let node = state.nodes.get_mut(at)?;
                let Memory::Agreed(attempt) = node.memory else {
                    return None;
                };
                if !*NEW.get(at)? {
                    return None;
                }
                node.disk.new |= bit(attempt);
                if !self.keeps_old_until_logged {
                    node.disk.old = false;
                }
            }
            Action::Sign(at) => {
                let node = state.nodes.get_mut(at)?;
                let Memory::Agreed(attempt) = node.memory else {
                    return None;
                };
                let stored = node.disk.new & bit(attempt) != 0 || !*NEW.get(at)?;
                if self.stores_before_it_signs && !stored {
                    return None;
                }
                node.signed |= bit(attempt);
            }
            Action::Publish(attempt) => {
                let signed = |node: &Node| node.signed & bit(attempt) != 0;
                if state.logged.is_some() || !state.all(NEW, signed) || !state.all(DEALERS, signed)
                {
                    return None;
                }
                state.logged = Some(attempt);
            }
            Action::Move(at) => {
                let attempt = state.logged?;
                let node = state.nodes.get_mut(at)?;
                node.disk.moved = true;
                node.disk.old = false;
                node.disk.new &= bit(attempt);
                node.memory = Memory::None;
            }
            Action::Crash(at) => state.nodes.get_mut(at)?.memory = Memory::None,
            Action::Restore(at) => {
                let node = state.nodes.get_mut(at)?;
                node.memory = Memory::None;
                node.disk = Disk {
                    old: *OLD.get(at)?,
                    ..Disk::default()
                };
                state.restored = true;
            }
            Action::Answer(at) => {
                if self.follows_before_it_answers && state.logged.is_some() {
                    return self.next_state(last, Action::Move(at));
                }
                let node = state.nodes.get(at)?;
                state.answered_stale |= state.logged.is_some() && node.disk.old && !node.disk.moved;
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "the old committee or the new one can open",
                |_, state: &State| state.usable() >= THRESHOLD,
            ),
            Property::always(
                "nobody answers by an epoch that was left",
                |_, state: &State| !state.answered_stale,
            ),
            Property::sometimes("the key moves", |_, state: &State| {
                state.all(NEW, |node| node.disk.moved && node.disk.new != 0)
                    && state.nodes.iter().all(|node| !node.disk.old)
            }),
            Property::sometimes("at a second attempt", |_, state: &State| {
                state.logged == Some(1) && state.all(NEW, |node| node.disk.moved)
            }),
        ]
    }
}
