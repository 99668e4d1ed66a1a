//! Rows of the client's database, as the rest of the crate speaks of them.

use greffe_envelope::pb;
use greffe_types::{ConversationId, DeviceId, Digest};
use prost::Message;
use zeroize::Zeroizing;

use super::ClientStore;
use crate::error::{ClientError, Result};

/// A device of this application.
#[derive(Clone)]
pub(crate) struct DeviceRow {
    pub(crate) device: DeviceId,
    pub(crate) user: String,
    pub(crate) certificate: Option<Digest>,
    /// Sealed.
    pub(crate) mls_key: Vec<u8>,
    /// Sealed.
    pub(crate) envelope_key: Vec<u8>,
}

/// An MLS row with its value sealed; none deletes it.
#[derive(Clone)]
pub(crate) struct SealedRow {
    pub(crate) kind: &'static str,
    pub(crate) row: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
}

/// How a device stands to a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConversationState {
    /// Made here, not yet known to the relay.
    Creating,
    /// The device takes part.
    Active,
    /// The device was removed.
    Removed,
    /// Something was refused that the others may have accepted: nothing is sent any more.
    Broken,
}

impl ConversationState {
    pub(crate) const fn number(self) -> i64 {
        match self {
            Self::Creating => 0,
            Self::Active => 1,
            Self::Removed => 2,
            Self::Broken => 3,
        }
    }

    pub(crate) fn from_number(number: i64) -> Result<Self> {
        match number {
            0 => Ok(Self::Creating),
            1 => Ok(Self::Active),
            2 => Ok(Self::Removed),
            3 => Ok(Self::Broken),
            _ => Err(damaged("conversation")),
        }
    }
}

/// A conversation of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConversationRow {
    pub(crate) device: DeviceId,
    pub(crate) conversation: ConversationId,
    pub(crate) state: ConversationState,
    pub(crate) reason: String,
    pub(crate) mode: pb::Mode,
    pub(crate) disclosure: Digest,
    pub(crate) joined: u64,
    pub(crate) sequence: u64,
    pub(crate) head: Digest,
    pub(crate) counter: u64,
    pub(crate) previous: Digest,
}

/// A statement of root or nodes that was taken in.
#[derive(Debug, Clone)]
pub(crate) struct TrustRow {
    pub(crate) statement: pb::SignedStatement,
    pub(crate) log_index: u64,
    /// The log was seen to have it there; not so of bundles that an earlier version took in.
    pub(crate) in_log: bool,
}

/// A notice acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct AckRow {
    pub(crate) device: DeviceId,
    pub(crate) conversation: ConversationId,
    pub(crate) disclosure: Digest,
    pub(crate) statement: pb::SignedStatement,
    pub(crate) log_index: Option<u64>,
}

/// What waits in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutboxKind {
    Message,
    Commit,
    Creation,
}

impl OutboxKind {
    pub(crate) const fn number(self) -> i64 {
        match self {
            Self::Message => 1,
            Self::Commit => 2,
            Self::Creation => 3,
        }
    }
}

/// Exact bytes to send.
#[derive(Clone)]
pub(crate) struct OutboxRow {
    pub(crate) device: DeviceId,
    pub(crate) conversation: ConversationId,
    pub(crate) kind: OutboxKind,
    pub(crate) digest: Digest,
    pub(crate) payload: Vec<u8>,
    /// Sealed.
    pub(crate) content: Vec<u8>,
}

/// What took a number.
#[derive(Debug, Clone)]
pub(crate) struct ItemRow {
    pub(crate) device: DeviceId,
    pub(crate) conversation: ConversationId,
    pub(crate) sequence: u64,
    pub(crate) kind: pb::EntryKind,
    pub(crate) digest: Digest,
    pub(crate) head: Digest,
    pub(crate) archived_at: u64,
    pub(crate) sender: String,
    pub(crate) sent_at: u64,
    pub(crate) reason: String,
    /// Sealed.
    pub(crate) content: Vec<u8>,
}

/// A report of a cheat.
#[derive(Debug, Clone)]
pub(crate) struct ReportRow {
    pub(crate) device: DeviceId,
    pub(crate) conversation: ConversationId,
    pub(crate) sequence: u64,
    pub(crate) reason: String,
    pub(crate) statement: pb::SignedStatement,
}

/// What a message says and what its attachments open with; sealed at rest.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredContent {
    /// The content.
    #[prost(message, optional, tag = "1")]
    pub(crate) content: Option<pb::Content>,
    /// Content key: empty when there are no attachments.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) cek: Vec<u8>,
    /// Core that attachment keys are derived with.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) core: Vec<u8>,
    /// The header's attachments.
    #[prost(message, repeated, tag = "4")]
    pub(crate) attachments: Vec<pb::AttachmentRef>,
    /// The content's bytes when its kind was not known, for a version that knows it.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) unread: Vec<u8>,
}

impl StoredContent {
    /// The content, as this version reads it.
    pub(crate) fn read(self) -> Option<pb::Content> {
        if self.unread.is_empty() {
            return self.content;
        }
        greffe_envelope::content::decode(&self.unread)
            .ok()
            .or(self.content)
    }
}

impl ClientStore {
    /// Seals what an item says. The place is named by the entry's digest, so a row can move from outbox to items.
    pub(crate) fn seal_content(
        &self,
        device: &DeviceId,
        digest: &Digest,
        content: &StoredContent,
    ) -> Result<Vec<u8>> {
        let plain = Zeroizing::new(content.encode_to_vec());
        self.seal("item", &content_row(device, digest), "content", &plain)
    }

    /// Opens it.
    pub(crate) fn open_content(
        &self,
        device: &DeviceId,
        digest: &Digest,
        sealed: &[u8],
    ) -> Result<StoredContent> {
        let plain = self.unseal("item", &content_row(device, digest), "content", sealed)?;
        StoredContent::decode(plain.as_slice()).map_err(|_| damaged("item"))
    }
}

fn content_row(device: &DeviceId, digest: &Digest) -> Vec<u8> {
    [device.as_bytes().as_slice(), digest.as_bytes()].concat()
}

/// A row that this program did not write.
pub(crate) fn damaged(table: &'static str) -> ClientError {
    ClientError::store(format!("a row of the table {table} is damaged"))
}
