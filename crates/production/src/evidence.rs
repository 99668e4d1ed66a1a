//! What a production is made of.

use greffe_envelope::pb;
use greffe_types::Digest;
use zeroize::Zeroizing;

/// Everything a production is made of.
#[derive(Debug, Clone, Default)]
pub struct Production {
    /// Trust bundles: the one in force, and those that receipts name. Any order.
    pub bundles: Vec<pb::SignedStatement>,
    /// Disclosures that were in force in the conversations of the records. Any order.
    pub disclosures: Vec<pb::SignedStatement>,
    /// The order and its approvals, with the salt when its leaf is sealed.
    pub order: pb::ReleasedOrder,
    /// Its leaf in the log.
    pub order_proof: LogProof,
    /// The checkpoint that every path leads to, with its cosignatures.
    pub checkpoint: Vec<u8>,
    /// Range statements ("range") that cover each conversation of the records. Any order.
    pub ranges: Vec<pb::SignedStatement>,
    /// Exactly the records of the order. Any order.
    pub records: Vec<Record>,
}

/// A leaf of the log and its path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogProof {
    /// Index of the leaf.
    pub index: u64,
    /// The leaf's exact bytes.
    pub leaf: Vec<u8>,
    /// RFC 6962 path under the production's checkpoint.
    pub path: Vec<Digest>,
}

/// One opened record.
#[derive(Clone, Default)]
pub struct Record {
    /// Body and signature.
    pub envelope: pb::SealedEnvelope,
    /// The sender's certificate.
    pub certificate: pb::SignedStatement,
    /// The archive's receipt.
    pub receipt: pb::SignedStatement,
    /// The receipt's way to its batch; its `log_entry` is `log.leaf`.
    pub batch_index: u64,
    /// Receipts in the batch.
    pub batch_size: u64,
    /// Path in the batch's tree.
    pub batch_path: Vec<Digest>,
    /// The batch's leaf in the log.
    pub log: LogProof,
    /// The content's ciphertext.
    pub ciphertext: Vec<u8>,
    /// The content key that the order opened.
    pub key: Zeroizing<[u8; 32]>,
    /// The attachments, opened, in the order of the header.
    pub attachments: Vec<Vec<u8>>,
}

impl core::fmt::Debug for Record {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Record")
            .field("attachments", &self.attachments.len())
            .finish_non_exhaustive()
    }
}
