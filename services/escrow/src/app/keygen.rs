//! Key generation: the node's own part of a ceremony that the root has asked for. Nobody but the node sees its share.
//!
//! A session lives in memory only: one that is not ended leaves nothing behind. The finished share is sealed into the
//! database, and is of no use before the log shows its key record and share epoch.

use std::collections::HashMap;

use greffe_api::escrow::{AdvanceKeygenRequest, AdvanceKeygenResponse};
use greffe_envelope::ceremony::{
    CeremonyError, Conclusion, KeyGeneration, NodeIdentity, NodeShare, Plan,
};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::Bundle;
use greffe_types::{Digest, Millis, SessionId};

use crate::error::{
    KEYGEN_DESCRIPTOR, KEYGEN_MESSAGE, KEYGEN_SESSION, Kind, NODE_KEYS_DIFFER, Refusal,
};
use crate::rng::system;

/// Ceremonies at once: the root asks for one a period.
const MAX_SESSIONS: usize = 8;

/// What the node holds of a ceremony.
struct Session {
    /// At a place of its own, so that a map that grows leaves no copy of its secrets behind.
    generation: Box<KeyGeneration>,
    descriptor: Digest,
    notices: Vec<pb::NoticeRef>,
    expiry: Millis,
    /// The node's messages by round: a repeated step gets the same ones.
    sent: [Vec<pb::SignedStatement>; 3],
}

/// A ceremony that has ended well: nothing secret, for whoever has lost the answer.
struct Done {
    descriptor: Digest,
    expiry: Millis,
    response: AdvanceKeygenResponse,
}

/// The ceremonies under way, and those just over.
#[derive(Default)]
pub struct Sessions {
    live: HashMap<SessionId, Session>,
    done: HashMap<SessionId, Done>,
}

/// What a step gave.
pub enum Step {
    /// To be given as it is.
    Answer(AdvanceKeygenResponse),
    /// Everybody has agreed: the share is to be sealed and stored before the statements leave.
    Finished(Box<Finished>),
}

/// The end of a ceremony.
pub struct Finished {
    /// The session that ended.
    pub session: SessionId,
    /// The node's share.
    pub share: NodeShare,
    /// The key record and share epoch, signed by this node alone.
    pub response: AdvanceKeygenResponse,
}

impl Sessions {
    /// One step of a ceremony.
    ///
    /// # Errors
    /// When the descriptor is not the root's, is over, or does not name this node in its place; when a message is refused.
    pub fn advance(
        &mut self,
        request: AdvanceKeygenRequest,
        node: &NodeIdentity,
        bundle: &Bundle,
        root_key: &[u8],
        now: Millis,
    ) -> Result<Step, Refusal> {
        self.sweep(now);
        let (plan, descriptor) = check_descriptor(request.descriptor, bundle, root_key, now)?;
        check_node(&plan, node, bundle)?;
        let id = plan.session();
        if let Some(done) = self.done.get(&id)
            && done.descriptor == descriptor.digest()
            && request.round == 3
        {
            return Ok(Step::Answer(done.response.clone()));
        }
        let messages = |messages| {
            Step::Answer(AdvanceKeygenResponse {
                messages,
                ..Default::default()
            })
        };
        if request.round == 0 {
            return self.start(plan, &descriptor, node).map(messages);
        }
        let unknown = || {
            Refusal::state(
                KEYGEN_SESSION,
                "the session is not under way here: it was given up, or the node was restarted since it began; draft a new ceremony",
            )
        };
        let session = self.live.get_mut(&id).ok_or_else(unknown)?;
        if session.descriptor != descriptor.digest() {
            return Err(Refusal::denied(
                KEYGEN_SESSION,
                "the session has another descriptor",
            ));
        }
        let stepped = session.step(request.round, request.messages, node);
        if let Err(error) = &stepped
            && ends(error)
        {
            self.live.remove(&id);
        }
        let sent = stepped.map_err(refused)?;
        if request.round < 3 {
            return Ok(messages(sent));
        }
        let session = self.live.get(&id).ok_or_else(unknown)?;
        let finished = session.finish(node)?;
        Ok(Step::Finished(Box::new(finished)))
    }

    /// Gives up what is over, and wipes what was held of it.
    pub fn sweep(&mut self, now: Millis) {
        self.live.retain(|_, session| now < session.expiry);
        self.done.retain(|_, done| now < done.expiry);
    }

    /// The share of a session is stored: its secrets are wiped, its answer stays until the descriptor expires.
    pub fn forget(&mut self, finished: &Finished) {
        if let Some(session) = self.live.remove(&finished.session) {
            let done = Done {
                descriptor: session.descriptor,
                expiry: session.expiry,
                response: finished.response.clone(),
            };
            self.done.insert(finished.session, done);
        }
    }

    fn start(
        &mut self,
        plan: Plan,
        descriptor: &Signed<pb::KeygenDescriptor>,
        node: &NodeIdentity,
    ) -> Result<Vec<pb::SignedStatement>, Refusal> {
        let id = plan.session();
        if let Some(session) = self.live.get(&id) {
            return if session.descriptor == descriptor.digest() {
                Ok(session.sent[0].clone())
            } else {
                Err(Refusal::denied(
                    KEYGEN_SESSION,
                    "the session has another descriptor",
                ))
            };
        }
        if self.live.len() >= MAX_SESSIONS {
            return Err(Refusal::new(
                Kind::Exhausted,
                KEYGEN_SESSION,
                "too many key generations are under way",
            ));
        }
        let (generation, message) =
            KeyGeneration::start(plan, node, &mut system()).map_err(refused)?;
        let sent = [vec![message], Vec::new(), Vec::new()];
        self.live.insert(
            id,
            Session {
                generation: Box::new(generation),
                descriptor: descriptor.digest(),
                notices: descriptor.notices.clone(),
                expiry: Millis::new(descriptor.expiry),
                sent: sent.clone(),
            },
        );
        let [first, _, _] = sent;
        Ok(first)
    }
}

impl Session {
    /// Takes all messages of a round in; gives the node's messages of the next.
    fn step(
        &mut self,
        round: u32,
        messages: Vec<pb::SignedStatement>,
        node: &NodeIdentity,
    ) -> Result<Vec<pb::SignedStatement>, CeremonyError> {
        let next = round as usize;
        for message in messages {
            let out = self.generation.receive(node, message, &mut system())?;
            // Kept at once: a later message that is refused must not lose what an earlier one brought about.
            if let Some(sent) = self.sent.get_mut(next) {
                sent.extend(out);
            }
        }
        Ok(self.sent.get(next).cloned().unwrap_or_default())
    }

    fn finish(&self, node: &NodeIdentity) -> Result<Finished, Refusal> {
        let (share, conclusion) = self.generation.agreed().ok_or_else(|| {
            Refusal::state(KEYGEN_SESSION, "messages of some nodes are still missing")
        })?;
        let (key_record, share_epoch) = self.statements(conclusion, node);
        Ok(Finished {
            session: self.generation.plan().session(),
            share: share.clone(),
            response: AdvanceKeygenResponse {
                messages: Vec::new(),
                key_record: Some(key_record),
                share_epoch: Some(share_epoch),
            },
        })
    }

    fn statements(
        &self,
        conclusion: &Conclusion,
        node: &NodeIdentity,
    ) -> (pb::SignedStatement, pb::SignedStatement) {
        let plan = self.generation.plan();
        let signer = [(node.name.as_str(), &node.signing_key)];
        let record = conclusion.key_record(plan, self.notices.clone());
        let epoch = conclusion.share_epoch(plan);
        (
            Signed::sign(record, &signer).into_raw(),
            Signed::sign(epoch, &signer).into_raw(),
        )
    }
}

fn check_descriptor(
    raw: Option<pb::SignedStatement>,
    bundle: &Bundle,
    root_key: &[u8],
    now: Millis,
) -> Result<(Plan, Signed<pb::KeygenDescriptor>), Refusal> {
    let raw = raw.ok_or_else(|| Refusal::malformed(KEYGEN_DESCRIPTOR, "there is no descriptor"))?;
    let descriptor = Signed::<pb::KeygenDescriptor>::decode(raw).map_err(|error| {
        Refusal::malformed(KEYGEN_DESCRIPTOR, "the descriptor does not decode").because(error)
    })?;
    let plan = Plan::check(&descriptor, root_key, bundle.message(), now).map_err(|error| {
        Refusal::denied(KEYGEN_DESCRIPTOR, "the descriptor is refused").because(error)
    })?;
    if descriptor.notices.is_empty() {
        return Err(Refusal::malformed(
            KEYGEN_DESCRIPTOR,
            "no notice discloses the key: the descriptor names at least one",
        ));
    }
    Ok((plan, descriptor))
}

/// The ceremony has this node where the bundle has it, under the keys that it really holds.
fn check_node(plan: &Plan, node: &NodeIdentity, bundle: &Bundle) -> Result<(), Refusal> {
    let known = bundle.node(&node.name).map_err(|error| {
        Refusal::denied(KEYGEN_DESCRIPTOR, "the bundle does not have this node").because(error)
    })?;
    if plan.members().index_of(&node.name).map(u32::from) != Some(known.index) {
        return Err(Refusal::denied(
            KEYGEN_DESCRIPTOR,
            "the descriptor does not name this node at its index",
        ));
    }
    check_keys(known, node)
}

/// The bundle has the keys that the node really holds.
pub(super) fn check_keys(known: &pb::EscrowNode, node: &NodeIdentity) -> Result<(), Refusal> {
    if known.signing_key != node.signing_key.verifying_key().as_bytes()
        || known.channel_key != node.channel_key.public_key()
    {
        return Err(Refusal::state(
            NODE_KEYS_DIFFER,
            "the bundle has other keys for this node than it holds",
        ));
    }
    Ok(())
}

/// Whether a session cannot go on after this.
pub(super) const fn ends(error: &CeremonyError) -> bool {
    !matches!(
        error,
        CeremonyError::NotAuthentic(_) | CeremonyError::NotOurs
    )
}

fn refused(error: CeremonyError) -> Refusal {
    if ends(&error) {
        tracing::warn!(%error, culprit = error.culprit(), "a key generation was given up");
    }
    Refusal::denied(KEYGEN_MESSAGE, "the key generation refuses this").because(error)
}
