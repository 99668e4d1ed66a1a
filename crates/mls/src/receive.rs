//! What arrives in a conversation, in the relay's order: seeds, commits, and what is refused.

use core::fmt;

use greffe_types::Digest;
use mls_rs::MlsMessage;
use mls_rs::group::{CommitEffect, CommitMessageDescription, ReceivedMessage};
use zeroize::Zeroizing;

use crate::conversation::{Conversation, PLAINTEXT_VERSION};
use crate::frame::{Frame, FrameKind};
use crate::identity::Member;
use crate::shape::check_handshake;
use crate::store::{RowKey, StateChange};
use crate::trust::DisclosureInfo;
use crate::{MlsError, Refusal};

/// What a received message was.
#[derive(Debug)]
pub enum Event {
    /// A seed.
    Application(Application),
    /// A commit took effect.
    Commit(Committed),
    /// Refused; nothing changed. A member that refuses a commit which the others accept is out: it says so to its user.
    Refused(Refusal),
}

/// A decrypted application message.
///
/// The caller still demands: header epoch = this epoch, header conversation = this conversation, the header's certificate
/// = the sender's, and mode, policy, tenants and keys equal to the conversation's disclosure.
#[derive(PartialEq, Eq)]
pub struct Application {
    /// The sender, by its leaf.
    pub sender: Member,
    /// The epoch.
    pub epoch: u64,
    /// What everything in the envelope is derived from.
    pub seed: Zeroizing<[u8; 32]>,
    /// The envelope's digest, authenticated by the sender.
    pub envelope: Digest,
}

impl fmt::Debug for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Application")
            .field("sender", &self.sender)
            .field("epoch", &self.epoch)
            .field("envelope", &self.envelope)
            .finish_non_exhaustive()
    }
}

/// A commit that took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The new epoch.
    pub epoch: u64,
    /// Who made it.
    pub committer: Member,
    /// Devices that came.
    pub added: Vec<Member>,
    /// Devices that left.
    pub removed: Vec<Member>,
    /// Devices whose certificate or key changed, as they are now.
    pub renewed: Vec<Member>,
    /// The disclosure, when another took its place.
    pub disclosure: Option<DisclosureInfo>,
    /// It was ours.
    pub own: bool,
    /// A pending commit of ours lost against it: make it anew.
    pub dropped_pending: bool,
    /// This device left: its keys are deleted with the change, and the conversation is closed to it.
    pub removed_self: bool,
}

impl Conversation {
    /// Takes the next message in the relay's order. A refusal is an event, not an error: it changes nothing. Our own
    /// commit coming back applies the pending one.
    pub fn receive(&mut self, message: &[u8]) -> Result<(Event, StateChange), MlsError> {
        let event = self.receive_next(message)?;
        Ok((event, self.received()?))
    }

    /// As [`Conversation::receive`] for one of many: what application messages change is written into rows only by
    /// [`Conversation::received`], since those rows are as large as the group.
    pub fn receive_next(&mut self, message: &[u8]) -> Result<Event, MlsError> {
        let frame = match self.check(message) {
            Ok(frame) => frame,
            Err(refusal) => return Ok(Event::Refused(refusal)),
        };
        if !matches!(frame.kind, FrameKind::Handshake { .. }) {
            return match self.process(message, frame) {
                Ok(Received::Application(application)) => {
                    self.unstaged.push(message.to_vec());
                    Ok(Event::Application(application))
                }
                Ok(Received::Commit(_)) => Err(MlsError::Row("conversation")),
                Err(refusal) => {
                    // the library may have used up a key
                    self.reload()?;
                    Ok(Event::Refused(refusal))
                }
            };
        }
        drop(self.received()?);
        let had_pending = self.has_pending();
        let before = self.leaves();
        match self.process(message, frame) {
            Ok(Received::Commit(description)) => {
                let (mut committed, change) = self.committed(&description, &before, had_pending)?;
                // it stays staged: received() gives it with the rest
                drop(change);
                committed.dropped_pending = had_pending && !committed.own;
                Ok(Event::Commit(committed))
            }
            Ok(Received::Application(_)) => Err(MlsError::Row("conversation")),
            Err(refusal) => {
                // the library may have half-applied a commit
                self.reload()?;
                Ok(Event::Refused(refusal))
            }
        }
    }

    /// Everything that was received since the last change that was persisted.
    pub fn received(&mut self) -> Result<StateChange, MlsError> {
        if self.unstaged.is_empty() {
            return Ok(self.buffer.change());
        }
        self.stage(false)
    }

    /// Takes in again what was received before an operation that failed half-way.
    pub(crate) fn replay(&mut self) -> Result<(), MlsError> {
        for message in core::mem::take(&mut self.unstaged) {
            let frame = self.check(&message)?;
            self.process(&message, frame)?;
            self.unstaged.push(message);
        }
        Ok(())
    }

    /// Everything that can be refused before the library sees it.
    fn check(&self, message: &[u8]) -> Result<Frame, Refusal> {
        if self.closed {
            return Err(Refusal::Closed);
        }
        let frame = Frame::parse(message)?;
        if frame.conversation != self.id {
            return Err(Refusal::OtherConversation);
        }
        let current = self.epoch();
        if frame.epoch != current {
            return Err(Refusal::Epoch {
                current,
                found: frame.epoch,
            });
        }
        if matches!(frame.kind, FrameKind::Handshake { .. }) {
            check_handshake(message)?;
        }
        Ok(frame)
    }

    fn process(&mut self, message: &[u8], frame: Frame) -> Result<Received, Refusal> {
        let message = MlsMessage::from_bytes(message)?;
        // no time: a member who was away for long judges as the others did; the relay and the committer checked lifetimes
        match (self.group.process_incoming_message(message)?, frame.kind) {
            (ReceivedMessage::Commit(description), FrameKind::Handshake { .. }) => {
                self.group.clear_pending_commit();
                Ok(Received::Commit(Box::new(description)))
            }
            (
                ReceivedMessage::ApplicationMessage(description),
                FrameKind::Application { envelope },
            ) => {
                let seed = match description.data().split_first() {
                    Some((&PLAINTEXT_VERSION, seed)) => <[u8; 32]>::try_from(seed),
                    _ => return Err(Refusal::Plaintext),
                };
                let sender = self
                    .group
                    .member_at_index(description.sender_index)
                    .ok_or(Refusal::NotAMember)?;
                Ok(Received::Application(Application {
                    sender: Member::parse(sender.signing_identity())?,
                    epoch: frame.epoch,
                    seed: Zeroizing::new(seed.map_err(|_| Refusal::Plaintext)?),
                    envelope,
                }))
            }
            _ => Err(Refusal::Unexpected("kind of message")),
        }
    }

    /// After a commit took effect in the library: what changed, and the rows.
    pub(crate) fn committed(
        &mut self,
        description: &CommitMessageDescription,
        before: &[(u32, Member)],
        had_pending: bool,
    ) -> Result<(Committed, StateChange), MlsError> {
        let committer = before
            .iter()
            .find(|(leaf, _)| *leaf == description.committer)
            .map(|(_, member)| member.clone())
            .ok_or(Refusal::NotAMember)?;
        let own = had_pending && description.committer == self.group.current_member_index();
        if let CommitEffect::Removed { new_epoch, .. } = &description.effect {
            let me = self.me()?;
            for key in RowKey::of_conversation(self.id) {
                self.buffer.remove(key);
            }
            self.closed = true;
            let committed = Committed {
                epoch: new_epoch.epoch(),
                committer,
                added: Vec::new(),
                removed: vec![me],
                renewed: Vec::new(),
                disclosure: None,
                own,
                dropped_pending: false,
                removed_self: true,
            };
            return Ok((committed, self.buffer.change()));
        }
        let next = self.disclosures.of(self.group.context().extensions())?;
        let changed = next != self.disclosed;
        self.disclosed = next;
        let (added, removed, renewed) = differences(before, &self.leaves());
        let committed = Committed {
            epoch: self.epoch(),
            committer,
            added,
            removed,
            renewed,
            disclosure: changed.then(|| self.disclosed.info.clone()),
            own,
            dropped_pending: false,
            removed_self: false,
        };
        let change = self.stage(true)?;
        Ok((committed, change))
    }
}

enum Received {
    Application(Application),
    Commit(Box<CommitMessageDescription>),
}

/// Members added, removed and renewed between two rosters.
pub(crate) fn differences(
    before: &[(u32, Member)],
    after: &[(u32, Member)],
) -> (Vec<Member>, Vec<Member>, Vec<Member>) {
    use std::collections::BTreeMap;
    let index = |leaves: &[(u32, Member)]| -> BTreeMap<_, _> {
        leaves
            .iter()
            .map(|(_, member)| (member.device, member.clone()))
            .collect()
    };
    let (old, new) = (index(before), index(after));
    let missing = |from: &BTreeMap<_, Member>, other: &BTreeMap<_, Member>| {
        from.values()
            .filter(|member| !other.contains_key(&member.device))
            .cloned()
            .collect()
    };
    let renewed = new
        .values()
        .filter(|member| old.get(&member.device).is_some_and(|was| was != *member))
        .cloned()
        .collect();
    (missing(&new, &old), missing(&old, &new), renewed)
}
