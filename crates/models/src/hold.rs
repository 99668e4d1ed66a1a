//! A hold against a disposition: two archives on one database, clocks that pass the end of retention, a carrying out that may come late.
//!
//! Bound: one record, two holds of two matters, four instants (archived, retention over, one and two cooling-off periods
//! later), one disposition. The policy decides with a real pack; who signed when is part of the state.

use core::time::Duration;

use greffe_policy::{
    Disposition, DispositionCase, Events, HoldLedger, HoldRelease, Pack, Role, Signer, TrustedNow,
    decide, release_hold,
};
use greffe_types::{ActId, Digest, MatterId, Millis, TimeRange};
use stateright::{Model, Property};

/// Class of the record.
const CLASS: &str = "communication";
/// When the record was archived.
const ARCHIVED: u64 = 1_800_000_000_000;
const DAY: Duration = Duration::from_secs(86_400);
/// Instants that decide; the last one stays.
const INSTANTS: u8 = 4;

/// The world: what may be taken away from it.
#[derive(Debug, Clone)]
pub struct Holds {
    pack: &'static Pack,
    instants: [Millis; INSTANTS as usize],
    /// Whether holds are read in the transaction that decides; without it, an archive decides by what it read before.
    pub reads_in_transaction: bool,
    /// Whether a hold on a record whose disposition was decided is refused.
    pub refuses_late_holds: bool,
    /// Whether clocks are those that witnesses agree with; without it, the archive's and the signers' are years ahead.
    pub has_the_time: bool,
}

/// What became of a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hold {
    /// Not placed.
    None,
    /// Stands since an instant.
    Placed(u8),
    /// Placed and released at these instants.
    Released(u8, u8),
}

/// How far the disposition has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// The record lives.
    Live,
    /// Two people and the policy have decided.
    Decided,
    /// Wraps, then objects are gone.
    Gone,
}

/// Everything that changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    now: u8,
    holds: [Hold; 2],
    /// When each of the pack's roles signed the disposition.
    signed: [Option<u8>; 2],
    /// What each of two archives read before its transaction.
    read: [Option<[Hold; 2]>; 2],
    step: Step,
    /// Whether a hold stood when the disposition was decided.
    held_when_decided: bool,
}

/// What can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Time passes to the next instant.
    Tick,
    /// A hold is placed.
    Place(usize),
    /// A hold is released, signed now by the pack's people.
    Release(usize),
    /// One of the roles signs the disposition.
    Sign(usize),
    /// An archive reads the record and its holds.
    Read(usize),
    /// An archive decides.
    Decide(usize),
    /// Either archive carries the decision out; it may have crashed and come back in between.
    CarryOut,
}

impl Holds {
    /// As it is built.
    ///
    /// # Panics
    /// When the embedded pack is gone or its dates overflow.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "an embedded pack is a fact of the build"
    )]
    pub fn new() -> Self {
        let pack = Pack::embedded("us-broker-dealer").expect("an embedded pack");
        let archived = Millis::new(ARCHIVED);
        let over = pack
            .retain_until(CLASS, archived)
            .expect("a class of the pack")
            .plus(DAY);
        let pause = pack.hold_release().cooling_off() + DAY;
        Self {
            pack,
            instants: [archived, over, over.plus(pause), over.plus(pause * 2)],
            reads_in_transaction: true,
            refuses_late_holds: true,
            has_the_time: true,
        }
    }

    /// What clocks say at an instant.
    const fn clock(&self, now: u8) -> u8 {
        if self.has_the_time { now } else { INSTANTS - 1 }
    }

    fn at(&self, instant: u8) -> Millis {
        self.instants
            .get(usize::from(instant))
            .copied()
            .unwrap_or_default()
    }

    /// The pack's people, each with the role that they sign for.
    fn signers(&self, roles: &[Role], at: impl Fn(usize) -> Option<u8>) -> Vec<Signer> {
        let everything = TimeRange::new(Millis::new(0), Millis::new(u64::MAX));
        roles
            .iter()
            .enumerate()
            .filter_map(|(index, role)| {
                Some(Signer {
                    person: format!("person {index}"),
                    roles: vec![*role],
                    valid: everything?,
                    revoked: false,
                    at: self.at(at(index)?),
                })
            })
            .collect()
    }

    /// The policy's own ledger in the state that these holds are in.
    fn ledger(&self, holds: &[Hold; 2]) -> HoldLedger {
        let mut ledger = HoldLedger::default();
        for (index, hold) in (0u8..).zip(holds) {
            let id = ActId::new([index; 16]);
            let (placed, released) = match hold {
                Hold::None => continue,
                Hold::Placed(at) => (*at, None),
                Hold::Released(at, released) => (*at, Some(*released)),
            };
            let known = ledger.place(id, MatterId::new([index; 16]), [RECORD]);
            debug_assert!(known.is_ok(), "a new ledger takes every hold");
            if let Some(released) = released {
                let roles = self.pack.hold_release().roles();
                let permit = release_hold(&HoldRelease {
                    pack: self.pack,
                    hold: id,
                    placed_at: self.at(placed),
                    now: self.at(released),
                    signers: &self.signers(roles, |_| Some(released)),
                });
                let done = permit.map(|permit| ledger.release(permit));
                debug_assert!(matches!(done, Ok(Ok(()))), "the pack's people signed");
            }
        }
        ledger
    }

    /// Whether a hold stands at an instant.
    fn stands(&self, holds: &[Hold; 2], now: u8) -> bool {
        let set = self.ledger(holds).on(&RECORD);
        set.standing(self.at(now)).next().is_some()
    }

    /// The policy's decision by these holds.
    fn disposes(&self, state: &State, holds: &[Hold; 2]) -> bool {
        let own = self.at(self.clock(state.now));
        let witnesses = [("witness".to_owned(), own)].into();
        let Ok(now) = TrustedNow::agree(own, &witnesses, 1) else {
            return false;
        };
        let archived_at = self.at(0);
        let Ok(retain_until) = self.pack.retain_until(CLASS, archived_at) else {
            return false;
        };
        let case = DispositionCase {
            pack: self.pack,
            record: RECORD,
            class: CLASS,
            archived_at,
            retain_until,
            events: &Events::none(),
            holds: &self.ledger(holds).on(&RECORD),
            requester: "rita",
            approvals: &self.signers(self.pack.disposition_roles(), |role| {
                state.signed.get(role).copied().flatten()
            }),
        };
        matches!(decide(&case, now), Ok(Disposition::Dispose(_)))
    }
}

impl Default for Holds {
    fn default() -> Self {
        Self::new()
    }
}

/// The record.
const RECORD: Digest = Digest::new([7; 32]);

impl Model for Holds {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            now: 0,
            holds: [Hold::None; 2],
            signed: [None; 2],
            read: [None; 2],
            step: Step::Live,
            held_when_decided: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.now + 1 < INSTANTS {
            actions.push(Action::Tick);
        }
        for index in 0..2 {
            actions.extend([
                Action::Place(index),
                Action::Release(index),
                Action::Sign(index),
                Action::Decide(index),
            ]);
            if !self.reads_in_transaction {
                actions.push(Action::Read(index));
            }
        }
        actions.push(Action::CarryOut);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Tick => state.now += 1,
            Action::Place(index) => {
                if self.refuses_late_holds && state.step != Step::Live {
                    return None;
                }
                let hold = state.holds.get_mut(index)?;
                if *hold != Hold::None {
                    return None;
                }
                *hold = Hold::Placed(state.now);
            }
            Action::Release(index) => {
                let hold = state.holds.get_mut(index)?;
                let Hold::Placed(placed) = *hold else {
                    return None;
                };
                *hold = Hold::Released(placed, state.now);
            }
            Action::Sign(role) => *state.signed.get_mut(role)? = Some(self.clock(state.now)),
            Action::Read(archive) => *state.read.get_mut(archive)? = Some(state.holds),
            Action::Decide(archive) => {
                let holds = if self.reads_in_transaction {
                    state.holds
                } else {
                    state.read.get_mut(archive)?.take()?
                };
                if state.step != Step::Live || !self.disposes(&state, &holds) {
                    return None;
                }
                state.held_when_decided = self.stands(&state.holds, state.now);
                state.step = Step::Decided;
            }
            Action::CarryOut => {
                state.step = match state.step {
                    Step::Live | Step::Gone => return None,
                    Step::Decided => Step::Gone,
                };
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "no hold stood when a disposition was decided",
                |_, state: &State| !state.held_when_decided,
            ),
            Property::always(
                "a hold that was accepted finds its record alive",
                |model: &Self, state: &State| {
                    state.step == Step::Live || !model.stands(&state.holds, state.now)
                },
            ),
            Property::always(
                "nothing is destroyed before its time",
                |_, state: &State| state.step == Step::Live || state.now > 0,
            ),
            Property::sometimes(
                "a record that nothing keeps is disposed of",
                |_, state: &State| state.step == Step::Gone,
            ),
            Property::sometimes(
                "a held record is disposed of after its release",
                |_, state: &State| state.step == Step::Gone && state.holds != [Hold::None; 2],
            ),
            Property::sometimes(
                "a hold outlives the signatures of a disposition",
                |model: &Self, state: &State| {
                    state.signed.iter().all(Option::is_some)
                        && state.now > 0
                        && model.stands(&state.holds, state.now)
                },
            ),
        ]
    }
}
