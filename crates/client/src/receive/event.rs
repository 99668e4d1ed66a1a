//! What happens to a device, as its application sees it.

use greffe_envelope::pb;
use greffe_types::{ConversationId, DeviceId, Digest, Millis};

use crate::conversation::MemberInfo;

/// Something that was taken in; it is in the database before it is seen here.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A message, verified in every respect and opened.
    Message(Box<Received>),
    /// A message of this device came back with its number.
    Own {
        /// The conversation.
        conversation: ConversationId,
        /// Its number.
        sequence: u64,
        /// Envelope digest.
        envelope: Digest,
    },
    /// This device was invited and has joined; show the notice and acknowledge it next.
    Invited {
        /// The conversation.
        conversation: ConversationId,
        /// Who can read it.
        mode: pb::Mode,
        /// Number of the commit that added the device.
        sequence: u64,
    },
    /// A commit took effect.
    Changed {
        /// The conversation.
        conversation: ConversationId,
        /// Its number.
        sequence: u64,
        /// The new epoch.
        epoch: u64,
        /// Who made it.
        by: MemberInfo,
        /// Who came.
        added: Vec<MemberInfo>,
        /// Who left.
        removed: Vec<MemberInfo>,
        /// The disclosure is another one: its notice has to be acknowledged anew.
        disclosure: Option<Digest>,
    },
    /// This device was removed.
    Removed {
        /// The conversation.
        conversation: ConversationId,
        /// Number of the commit.
        sequence: u64,
    },
    /// A number was taken by something that the archive refused.
    Void {
        /// The conversation.
        conversation: ConversationId,
        /// The number.
        sequence: u64,
        /// What was refused.
        refused: Digest,
        /// Stable reason.
        reason: String,
    },
    /// A message was not shown, because something about it is false.
    Withheld {
        /// The conversation.
        conversation: ConversationId,
        /// Its number.
        sequence: u64,
        /// Envelope digest.
        envelope: Digest,
        /// Who sent it, as its header says.
        sender: String,
        /// Stable reason.
        reason: &'static str,
        /// It was reported, with what evidence there is.
        reported: bool,
    },
    /// A Welcome or commit was refused; after a commit the conversation is broken for this device.
    Refused {
        /// The conversation, when it is known.
        conversation: Option<ConversationId>,
        /// Its number.
        sequence: u64,
        /// Stable reason.
        reason: String,
    },
    /// The relay left out or reordered something; the mailbox was read anew from what was last taken in.
    Resynchronised {
        /// The conversation.
        conversation: ConversationId,
        /// The number that was next.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// Something made before could not be sent.
    NotSent {
        /// The conversation.
        conversation: ConversationId,
        /// Envelope digest of the last attempt.
        envelope: Digest,
        /// Stable reason.
        reason: String,
    },
    /// Nothing more waits at the moment.
    CaughtUp,
}

/// A message that was received.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// The conversation.
    pub conversation: ConversationId,
    /// Its number.
    pub sequence: u64,
    /// Envelope digest.
    pub envelope: Digest,
    /// The user who sent it.
    pub sender: String,
    /// The sending device.
    pub device: DeviceId,
    /// The sender's clock.
    pub sent_at: Millis,
    /// The archive's clock.
    pub archived_at: Millis,
    /// The mode, as the header says and the conversation's disclosure confirms.
    pub mode: pb::Mode,
    /// Record class.
    pub record_class: String,
    /// What it says; [`greffe_envelope::content::Kind`] says what that is: a text, a mail, or something about one. Attachments are
    /// fetched with [`crate::Device::attachment`].
    pub content: pb::Content,
    /// How many wraps were recomputed and found equal.
    pub wraps_recomputed: usize,
}

/// Reasons of withheld messages, beside those of [`greffe_envelope::recompute`].
pub(crate) mod reason {
    /// The receipt's signature, or what it is of.
    pub(crate) const RECEIPT: &str = "receipt-invalid";
    /// The envelope's form or signature.
    pub(crate) const ENVELOPE: &str = "envelope-invalid";
    /// The sender's certificate.
    pub(crate) const CERTIFICATE: &str = "certificate-invalid";
    /// MLS.
    pub(crate) const MLS: &str = "mls-refused";
    /// Header and MLS say different things.
    pub(crate) const HEADER: &str = "header-mismatch";
    /// The envelope is not the one that MLS authenticated.
    pub(crate) const SPLICED: &str = "envelope-spliced";
    /// The sender saw another chain: the relay has forked the conversation.
    pub(crate) const FORKED: &str = "seen-head-mismatch";
    /// The wraps carried are not those signed: the carrier's fault.
    pub(crate) const CARRIER: &str = "wraps-not-those-signed";
    /// The content does not open.
    pub(crate) const CONTENT: &str = "content-does-not-open";
    /// In this device's name, but not made here.
    pub(crate) const NOT_OURS: &str = "own-message-unknown";
}
