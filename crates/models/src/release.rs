//! The release of an order among three nodes: a coordinator who lies, a roster that changes, a node that comes back from an
//! old copy.
//!
//! Bound: one order that counts and the approvals of another one to replay, a log of at most three entries (the order, the
//! revocation of one approver, another), two of three nodes open, one of them comes back from a copy once. The policy judges the approvals that a node believes.

use greffe_policy::{ApprovalRule, ReleaseCase, Role, Signer, permit_release};
use greffe_types::{Digest, Millis, TimeRange};
use stateright::{Model, Property};

/// Nodes that have to answer.
const THRESHOLD: usize = 2;
/// Entries of the log, at most.
const LOG: usize = 3;
/// The node that may come back from a copy: it does not matter which.
const RESTORED: usize = 0;
/// Who can sign: name and role. The last one asks for the order, and is an approver of others.
const PEOPLE: [(&str, Role); 3] = [
    ("ann", Role::Compliance),
    ("bob", Role::Approver),
    ("rita", Role::Approver),
];
/// Who is revoked by the log's entry: bob.
const REVOKED: usize = 1;
const SIGNED: Millis = Millis::new(1_000);
const NOW: Millis = Millis::new(2_000);

/// The world: what may be taken away from it.
#[derive(Debug, Clone)]
pub struct Orders {
    rule: ApprovalRule,
    /// Whether nodes look for the order in the log.
    pub wants_the_log: bool,
    /// Whether nodes follow the log as far as the checkpoint that they are shown before they judge.
    pub catches_up: bool,
    /// Whether nodes refuse a checkpoint that is older than five minutes.
    pub wants_recent: bool,
    /// Whether nodes see that an approval is another order's.
    pub verifies_approvals: bool,
}

/// An entry of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entry {
    /// The order.
    Order,
    /// A bundle in which one approver is revoked.
    Revocation,
    /// Anything else.
    Other,
}

/// A node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Node {
    /// How much of the log it has followed.
    followed: u8,
    /// Whether it has answered.
    answered: bool,
}

/// Everything that changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    log: Vec<Entry>,
    /// Leaves that two of the three nodes have cosigned: signatures that are out do not come back.
    witnessed: u8,
    /// Checkpoints of fewer leaves are older than five minutes.
    recent: u8,
    /// Who has approved this order.
    approved: [bool; PEOPLE.len()],
    nodes: [Node; 3],
    /// How much of the log one node had followed when its backup was taken.
    copy: u8,
    restored: bool,
    /// What a judge who sees everything says of the answers so far.
    wrong: Option<Wrong>,
    /// Whether the node that came back from its copy gave one that is wrong.
    wrong_from_copy: bool,
}

/// What an answer should not have been given for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wrong {
    /// The order is not in what the witnesses signed.
    NotLogged,
    /// Too few of the right people approved it, or one who had been revoked for longer than five minutes.
    NotApproved,
}

/// What can happen next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// A person approves the order.
    Approve(usize),
    /// The log takes an entry: whoever asks for it, approved or not.
    Append(Entry),
    /// A node follows the log to its end, and cosigns.
    Follow(usize),
    /// A backup of the one node is taken.
    Copy,
    /// It comes back from it.
    Restore,
    /// Five minutes pass; the log publishes a new checkpoint of its size.
    Wait,
    /// The coordinator asks a node: with the approvals of some people, each of this order or replayed, and a checkpoint.
    Ask {
        /// The node.
        node: usize,
        /// Approvals of this order.
        approvals: [bool; PEOPLE.len()],
        /// Whether bob's approval of another order is among them.
        replayed: bool,
        /// Leaves under the checkpoint that is shown.
        checkpoint: u8,
    },
}

impl Orders {
    /// As it is built.
    ///
    /// # Panics
    /// Never: two approvals of which one by compliance are a rule.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the rule is a constant")]
    pub fn new() -> Self {
        Self {
            rule: ApprovalRule::new(2, &["compliance"], 100).expect("a rule"),
            wants_the_log: true,
            catches_up: true,
            wants_recent: true,
            verifies_approvals: true,
        }
    }

    /// Whether a node opens; it has followed the log to `followed` by now.
    fn opens(
        &self,
        state: &State,
        followed: u8,
        checkpoint: u8,
        approvals: &[bool; PEOPLE.len()],
        replayed: bool,
    ) -> bool {
        if self.wants_recent && checkpoint < state.recent {
            return false;
        }
        let seen = state.log.get(..usize::from(followed)).unwrap_or_default();
        let witnessed = seen.get(..usize::from(checkpoint)).unwrap_or(seen);
        if self.wants_the_log && !witnessed.contains(&Entry::Order) {
            return false;
        }
        if replayed && self.verifies_approvals {
            return false;
        }
        let mut believed = *approvals;
        if let Some(bob) = believed.get_mut(REVOKED) {
            *bob |= replayed;
        }
        let revoked = seen.contains(&Entry::Revocation);
        let signers: Vec<Signer> = PEOPLE
            .iter()
            .enumerate()
            .zip(believed)
            .filter(|(_, believed)| *believed)
            .filter_map(|((index, (person, role)), _)| {
                Some(Signer {
                    person: (*person).to_owned(),
                    roles: vec![*role],
                    valid: TimeRange::new(Millis::new(0), Millis::new(u64::MAX))?,
                    revoked: revoked && index == REVOKED,
                    at: SIGNED,
                })
            })
            .collect();
        let Some(window) = TimeRange::new(SIGNED, Millis::new(u64::MAX)) else {
            return false;
        };
        let case = ReleaseCase {
            order: Digest::new([1; 32]),
            requester: "rita",
            records: 1,
            window,
            now: NOW,
            approvals: &signers,
        };
        permit_release(&self.rule, &case).is_ok()
    }
}

impl Default for Orders {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// Two of the three nodes cosign what they have followed.
    fn cosign(&mut self) {
        let mut followed = self.nodes.map(|node| node.followed);
        followed.sort_unstable();
        let second = followed.into_iter().nth(1).unwrap_or(0);
        self.witnessed = self.witnessed.max(second);
    }

    fn answers(&self) -> usize {
        self.nodes.iter().filter(|node| node.answered).count()
    }

    /// What is wrong with an answer under this checkpoint, said without looking at any node.
    fn judge(&self, checkpoint: u8) -> Option<Wrong> {
        let logged = self.log.iter().position(|entry| *entry == Entry::Order);
        if logged.is_none_or(|index| index >= usize::from(checkpoint)) {
            return Some(Wrong::NotLogged);
        }
        let revoked_long_ago = self
            .log
            .iter()
            .take(usize::from(self.recent))
            .any(|entry| *entry == Entry::Revocation);
        // Of three people, the one who asks does not count: it takes the two others.
        let [ann, bob, _] = self.approved;
        (!ann || !bob || revoked_long_ago).then_some(Wrong::NotApproved)
    }
}

impl Model for Orders {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let node = Node {
            followed: 0,
            answered: false,
        };
        vec![State {
            log: Vec::new(),
            witnessed: 0,
            recent: 0,
            approved: [false; PEOPLE.len()],
            nodes: [node; 3],
            copy: 0,
            restored: false,
            wrong: None,
            wrong_from_copy: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend((0..PEOPLE.len()).map(Action::Approve));
        if state.log.len() < LOG {
            let once = [Entry::Order, Entry::Revocation];
            let fresh = once.into_iter().filter(|entry| !state.log.contains(entry));
            actions.extend(fresh.chain([Entry::Other]).map(Action::Append));
        }
        actions.extend([Action::Wait, Action::Copy]);
        if !state.restored {
            actions.push(Action::Restore);
        }
        for node in 0..state.nodes.len() {
            actions.push(Action::Follow(node));
            for mask in 0..1_u8 << PEOPLE.len() {
                let approvals = core::array::from_fn(|person| mask & (1 << person) != 0);
                let has = approvals
                    .iter()
                    .zip(state.approved)
                    .all(|(shown, signed)| signed || !shown);
                if !has {
                    continue;
                }
                for checkpoint in 1..=state.witnessed {
                    actions.extend([false, true].map(|replayed| Action::Ask {
                        node,
                        approvals,
                        replayed,
                        checkpoint,
                    }));
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Approve(person) => *state.approved.get_mut(person)? = true,
            Action::Append(entry) => state.log.push(entry),
            Action::Follow(node) => {
                state.nodes.get_mut(node)?.followed = u8::try_from(state.log.len()).ok()?;
                state.cosign();
            }
            Action::Copy => state.copy = state.nodes.get(RESTORED)?.followed,
            Action::Restore => {
                state.nodes.get_mut(RESTORED)?.followed = state.copy;
                state.restored = true;
            }
            Action::Wait => state.recent = state.witnessed,
            Action::Ask {
                node,
                approvals,
                replayed,
                checkpoint,
            } => {
                let asked = state.nodes.get_mut(node)?;
                if self.catches_up {
                    asked.followed = asked.followed.max(checkpoint);
                }
                let followed = asked.followed;
                if self.opens(last, followed, checkpoint, &approvals, replayed) {
                    asked.answered = true;
                    let wrong = last.judge(checkpoint);
                    state.wrong = state.wrong.or(wrong);
                    state.wrong_from_copy |= node == RESTORED && last.restored && wrong.is_some();
                }
                state.cosign();
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "every answer is to an order in the witnessed log",
                |_, state: &State| state.wrong != Some(Wrong::NotLogged),
            ),
            Property::always("every answer has its approvals", |_, state: &State| {
                state.wrong != Some(Wrong::NotApproved)
            }),
            Property::always(
                "a node that came back answers nothing that it should not",
                |_, state: &State| !state.wrong_from_copy,
            ),
            Property::sometimes("an approved, logged order is opened", |_, state: &State| {
                state.answers() >= THRESHOLD
            }),
            Property::sometimes(
                "with a node that came back from an old copy",
                |_, state: &State| state.restored && state.answers() == state.nodes.len(),
            ),
        ]
    }
}
