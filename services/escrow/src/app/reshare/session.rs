//! Resharings under way: what the node holds of them in memory, and nothing of it survives a restart.

use std::collections::HashMap;

use greffe_envelope::ceremony::{CeremonyError, NodeIdentity, NodeShare};
use greffe_envelope::pb;
use greffe_envelope::reshare::Resharing;
use greffe_types::{Digest, Millis, SessionId};

use super::super::keygen::ends;
use crate::error::{Kind, RESHARE_MESSAGE, RESHARE_SESSION, Refusal};
use crate::rng::system;

/// Resharings at once: one for each key that still has records, after a node was replaced.
const MAX_SESSIONS: usize = 32;

/// Which resharing a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subject {
    /// The root's descriptor.
    pub(super) descriptor: Digest,
    /// The journaling key.
    pub(super) key_id: Digest,
    /// The share epoch that it leaves: what a dealer deals out is a share of it.
    pub(super) previous: Digest,
    /// When it is given up.
    pub(super) expiry: Millis,
}

impl Subject {
    /// Whether it still can be ended, where these shares are in force: none are for a key that is retired.
    fn goes_on(&self, now: Millis, in_force: Option<Digest>) -> bool {
        now < self.expiry && in_force == Some(self.previous)
    }
}

/// What the node holds of a resharing.
struct Session {
    resharing: Box<Resharing>,
    subject: Subject,
    /// The node's messages by round: a repeated step gets the same ones.
    sent: [Vec<pb::SignedStatement>; 3],
}

/// The resharings under way. What is secret of one has a place of its own, so that a map that grows leaves no copy behind.
#[derive(Default)]
pub(in super::super) struct Sessions(HashMap<SessionId, Session>);

/// What a step gave.
pub(super) enum Step {
    /// To be given as they are.
    Messages(Vec<pb::SignedStatement>),
    /// Every new holder has the same result: the share is to be stored before the epoch is signed.
    Finished(Box<Finished>),
}

/// The end of a resharing.
pub(super) struct Finished {
    /// The new share epoch.
    pub(super) epoch: pb::ShareEpoch,
    /// The node's share of it, if it is to hold one.
    pub(super) share: Option<NodeShare>,
}

impl Sessions {
    /// Gives up what nobody will end any more, and wipes what was held of it: descriptors that are over, and shares that were
    /// destroyed or are about to be, by the share epoch that is in force for each key.
    pub(in super::super) fn sweep(
        &mut self,
        now: Millis,
        in_force: impl Fn(&Digest) -> Option<Digest>,
    ) {
        self.0.retain(|id, session| {
            let key_id = &session.subject.key_id;
            let goes_on = session.subject.goes_on(now, in_force(key_id));
            if !goes_on {
                tracing::info!(session = %id, %key_id, "a resharing is over, and what was held of it is wiped");
            }
            goes_on
        });
    }

    /// What was given at the start of a session that is under way.
    pub(super) fn started(
        &self,
        id: &SessionId,
        descriptor: &Digest,
    ) -> Result<Option<Vec<pb::SignedStatement>>, Refusal> {
        match self.0.get(id) {
            Some(session) if session.subject.descriptor == *descriptor => {
                Ok(Some(session.sent[0].clone()))
            }
            Some(_) => Err(other_descriptor()),
            None if self.0.len() >= MAX_SESSIONS => Err(Refusal::new(
                Kind::Exhausted,
                RESHARE_SESSION,
                "too many resharings are under way: end those, or wait until their descriptors expire",
            )),
            None => Ok(None),
        }
    }

    /// Keeps a session that has begun.
    pub(super) fn keep(
        &mut self,
        id: SessionId,
        subject: Subject,
        resharing: Box<Resharing>,
        first: Vec<pb::SignedStatement>,
    ) {
        let session = Session {
            resharing,
            subject,
            sent: [first, Vec::new(), Vec::new()],
        };
        self.0.insert(id, session);
    }

    /// Takes all messages of a round in; gives the node's messages of the next, or the end.
    pub(super) fn step(
        &mut self,
        id: &SessionId,
        descriptor: &Digest,
        round: u32,
        messages: Vec<pb::SignedStatement>,
        node: &NodeIdentity,
    ) -> Result<Step, Refusal> {
        let session = self.0.get_mut(id).ok_or_else(not_under_way)?;
        if session.subject.descriptor != *descriptor {
            return Err(other_descriptor());
        }
        match session.step(round, messages, node) {
            Ok(step) => Ok(step),
            Err(error) => {
                if ends(&error) {
                    tracing::warn!(%error, culprit = error.culprit(), "a resharing was given up");
                    self.0.remove(id);
                }
                Err(Refusal::denied(RESHARE_MESSAGE, "the resharing refuses this").because(error))
            }
        }
        .and_then(|step| {
            step.ok_or_else(|| {
                Refusal::state(
                    RESHARE_SESSION,
                    "messages of some nodes are still missing: give every new holder's result",
                )
            })
        })
    }

    /// The share of a session is stored: its secrets are wiped.
    pub(super) fn forget(&mut self, id: &SessionId) {
        self.0.remove(id);
    }
}

impl Session {
    /// None when the last round is not complete.
    fn step(
        &mut self,
        round: u32,
        messages: Vec<pb::SignedStatement>,
        node: &NodeIdentity,
    ) -> Result<Option<Step>, CeremonyError> {
        let next = round as usize;
        for message in messages {
            let out = self.resharing.receive(node, message, &mut system())?;
            // Kept at once: a later message that is refused must not lose what an earlier one brought about.
            if let Some(sent) = self.sent.get_mut(next) {
                sent.extend(out);
            }
        }
        if let Some(sent) = self.sent.get(next) {
            return Ok(Some(Step::Messages(sent.clone())));
        }
        Ok(self.resharing.agreed().map(|(epoch, share)| {
            Step::Finished(Box::new(Finished {
                epoch,
                share: share.cloned(),
            }))
        }))
    }
}

/// What was in memory is gone, or never was.
pub(super) fn not_under_way() -> Refusal {
    Refusal::state(
        RESHARE_SESSION,
        "the session is not under way here: it was given up, or the node was restarted since it began; draft a new resharing, the shares in force are as they were",
    )
}

/// One session is one descriptor's.
pub(super) fn other_descriptor() -> Refusal {
    Refusal::denied(RESHARE_SESSION, "the session has another descriptor")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resharing_is_over_by_time_epoch_or_retirement() {
        let [descriptor, key_id, previous, other] = [1, 2, 3, 4].map(|n| Digest::new([n; 32]));
        let expiry = Millis::new(2_000);
        let subject = Subject {
            descriptor,
            key_id,
            previous,
            expiry,
        };
        let before = Millis::new(1_999);
        assert!(subject.goes_on(before, Some(previous)));
        assert!(!subject.goes_on(expiry, Some(previous)), "its time is up");
        assert!(!subject.goes_on(before, Some(other)), "other shares");
        assert!(!subject.goes_on(before, None), "the key is retired");
    }
}
