//! Where an item stands, and what it came to.

use greffe_envelope::content::Kind;
use greffe_envelope::pb;
use greffe_types::{ConversationId, DeviceId, Digest, Millis};

use super::batch::Finished;
use super::event::Event;
use super::verify::{Message, Seeded, Verified};
use crate::device::Device;
use crate::store::{ItemRow, Op};

/// Where an item stands.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) conversation: ConversationId,
    pub(crate) sequence: u64,
    pub(super) entry: Digest,
    head: Digest,
    pub(crate) archived_at: Millis,
}

impl Place {
    /// A row of the database, without what only some items have.
    pub(crate) fn row(&self, device: DeviceId, kind: pb::EntryKind) -> ItemRow {
        ItemRow {
            device,
            conversation: self.conversation,
            sequence: self.sequence,
            kind,
            digest: self.entry,
            head: self.head,
            archived_at: self.archived_at.get(),
            sender: String::new(),
            sent_at: 0,
            reason: String::new(),
            content: Vec::new(),
        }
    }

    /// Notes of an edit, a retraction or a reaction what it is about.
    pub(super) fn about(&self, device: DeviceId, content: &pb::Content) -> Option<Op> {
        let target = Digest::try_from(content.target.as_slice()).ok()?;
        Kind::of(content)?.is_act().then_some(Op::About {
            device,
            conversation: self.conversation,
            target,
            sequence: self.sequence,
        })
    }
}

/// What an item came to.
pub(crate) enum Outcome {
    /// Nothing is left to compute.
    Done(Box<Finished>),
    /// A message whose seed is known.
    Open(Place, Box<Seeded>),
}

impl Place {
    /// Of an item whose receipt was verified.
    pub(super) fn of(item: &Verified) -> Self {
        Self {
            conversation: item.conversation,
            sequence: item.sequence,
            entry: item.entry,
            head: item.chain.head,
            archived_at: Millis::new(item.receipt.archived_at),
        }
    }
}

/// A message that takes its number without being shown.
pub(super) fn withheld(
    device: &Device,
    place: &Place,
    message: &Message,
    stated: &'static str,
) -> Outcome {
    let fields = message.envelope.header().message();
    let mut row = place.row(device.id(), pb::EntryKind::Message);
    row.sender.clone_from(&fields.sender_user);
    row.sent_at = fields.sent_at;
    row.reason = stated.to_owned();
    Outcome::Done(Box::new(Finished {
        row: Some(row),
        ops: Vec::new(),
        event: Some(Event::Withheld {
            conversation: place.conversation,
            sequence: place.sequence,
            envelope: message.envelope.digest(),
            sender: fields.sender_user.clone(),
            reason: stated,
            reported: false,
        }),
    }))
}
