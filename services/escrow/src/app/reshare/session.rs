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
            let Subject {
                key_id,
                previous,
                expiry,
                ..
            } = &session.subject;
            let goes_on = now < *expiry && in_force(key_id).as_ref() == Some(previous);
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
    use ed25519_dalek::SigningKey;
    use greffe_envelope::ceremony::{ShareHolders, key_id};
    use greffe_envelope::curve::Point;
    use greffe_envelope::opening::HybridSecretKey;
    use greffe_envelope::reshare::ResharePlan;
    use greffe_envelope::statement::Signed;

    const NOW: Millis = Millis::new(1_000);
    const EXPIRY: Millis = Millis::new(2_000);
    const POINT_AT: usize = 1184;

    /// A resharing as a node begins it that is to get its first share, and what it is of.
    fn begun() -> (Subject, Box<Resharing>) {
        let (root, mut bundle) = (SigningKey::from_bytes(&[1; 32]), pb::TrustBundle::default());
        bundle.tenant = "acme".into();
        let nodes = [1_u8, 2, 3].map(|n| NodeIdentity {
            name: format!("escrow-{n}"),
            signing_key: SigningKey::from_bytes(&[n; 32]),
            channel_key: HybridSecretKey::from_seed(&[n; 32]),
        });
        bundle.nodes = (1..)
            .zip(&nodes)
            .map(|(index, node)| pb::EscrowNode {
                index,
                name: node.name.clone(),
                signing_key: node.signing_key.verifying_key().to_bytes().to_vec(),
                channel_key: node.channel_key.public_key(),
                ..Default::default()
            })
            .collect();
        // Any key; its shares are the points of a line that ends in it.
        let public_key = HybridSecretKey::from_seed(&[9; 32]).public_key();
        let key = Point::from_uncompressed(&public_key[POINT_AT..]).unwrap();
        let one = Point::GENERATOR;
        let holders = (1..)
            .zip([one, one + one - key])
            .map(|(index, share)| pb::ShareHolder {
                index,
                node: format!("escrow-{index}"),
                verification_share: share.to_compressed().unwrap().to_vec(),
            });
        let key_id = key_id("acme", &public_key);
        let record = pb::KeyRecord {
            tenant: "acme".into(),
            key_id: key_id.to_vec(),
            public_key,
            t_min: 2,
            ..Default::default()
        };
        let epoch = pb::ShareEpoch {
            tenant: "acme".into(),
            key_id: key_id.to_vec(),
            epoch: 1,
            previous: vec![0; 32],
            threshold: 2,
            holders: holders.collect(),
        };
        let previous = ShareHolders::check(&Signed::sign(epoch, &[]), &record).unwrap();
        let descriptor = pb::ReshareDescriptor {
            tenant: "acme".into(),
            session: vec![1; 16],
            key_id: key_id.to_vec(),
            previous: previous.digest().to_vec(),
            threshold: 2,
            nodes: nodes.iter().map(|node| node.name.clone()).collect(),
            dealers: vec![1, 2],
            expiry: EXPIRY.get(),
        };
        let descriptor = Signed::sign(descriptor, &[("root", &root)]);
        let root_key = root.verifying_key().to_bytes();
        let plan =
            ResharePlan::check(&descriptor, &root_key, &record, &previous, &bundle, NOW).unwrap();
        let (resharing, first) = Resharing::start(plan, &nodes[2], None, &mut system()).unwrap();
        assert_eq!(first, None);
        let subject = Subject {
            descriptor: descriptor.digest(),
            key_id,
            previous: previous.digest(),
            expiry: EXPIRY,
        };
        (subject, Box::new(resharing))
    }

    #[test]
    fn what_is_over_is_wiped_by_time_epoch_or_retirement() {
        let (key, other) = (begun().0.previous, Digest::new([7; 32]));
        let in_force = |epoch: Option<Digest>| move |_: &Digest| epoch;
        for (now, epoch, left) in [
            (NOW, Some(key), 1),
            (EXPIRY, Some(key), 0),
            (NOW, Some(other), 0),
            (NOW, None, 0),
        ] {
            let mut sessions = Sessions::default();
            let (subject, resharing) = begun();
            let id = SessionId::try_from([1; 16].as_slice()).unwrap();
            sessions.keep(id, subject, resharing, Vec::new());
            sessions.sweep(now, in_force(epoch));
            assert_eq!(sessions.0.len(), left, "{now:?}, {epoch:?}");
            let started = sessions.started(&id, &subject.descriptor).unwrap();
            assert_eq!(started.is_some(), left == 1);
        }
    }
}
