//! A record as the archive hands it over, with everything that can be verified about it verified.

use greffe_api::archive as api;
use greffe_envelope::envelope::Envelope;
use greffe_envelope::opening::check_leaf;
use greffe_envelope::pb;
use greffe_envelope::statement::{Signed, decode_strict};
use greffe_envelope::trust::{TrustState, verify_device_cert, verify_receipt};
use greffe_tlog::leaf_hash;
use greffe_types::{Digest, Millis};

use crate::error::{ClientError, Result, malformed, untrusted};
use crate::log::hashes;

/// A message's record: signed by its sender, received by the archive, its receipt in a batch.
#[derive(Debug, Clone)]
pub struct Record {
    /// What it is: who wrote it, when, where and of what kind by its signed header and receipt; what these do not say (its
    /// size, who took part, the archive's own number, holds, a retention that has grown) is the archive's word.
    pub summary: api::RecordSummary,
    /// The envelope, its signature verified.
    pub envelope: Envelope,
    /// The sender's certificate, verified as of the archive's receipt.
    pub cert: Signed<pb::DeviceCert>,
    /// The receipt, verified.
    pub receipt: Signed<pb::Receipt>,
    /// The receipt's way into the log; verified up to the batch's log entry.
    pub receipt_proof: pb::ReceiptProof,
}

/// Verifies a record against the tenant's trust, and that it is the one that was asked for.
///
/// # Errors
/// [`ClientError`] naming what does not hold.
pub fn verify_record(
    state: &TrustState,
    digest: &Digest,
    record: api::GetRecordResponse,
) -> Result<Record> {
    let absent = |what| ClientError::Answer(what);
    let raw = record
        .envelope
        .ok_or_else(|| absent("a record without envelope"))?;
    let envelope = Envelope::decode(raw).map_err(|_| absent("a malformed envelope"))?;
    if envelope.digest() != *digest {
        return Err(absent("another record"));
    }
    let raw = record
        .receipt
        .ok_or_else(|| absent("a record without receipt"))?;
    let receipt = Signed::<pb::Receipt>::decode(raw).map_err(malformed("receipt"))?;
    let bundle = state
        .bundle_version(receipt.bundle_version)
        .unwrap_or_else(|| state.bundle());
    verify_receipt(&receipt, bundle).map_err(untrusted("receipt"))?;
    if receipt.entry_digest != digest.as_bytes()
        || receipt.conversation != envelope.header().conversation().as_bytes()
        || receipt.kind() != pb::EntryKind::Message
    {
        return Err(absent("a receipt of something else"));
    }
    let raw = record
        .device_cert
        .ok_or_else(|| absent("a record without certificate"))?;
    let cert = Signed::<pb::DeviceCert>::decode(raw).map_err(malformed("device certificate"))?;
    let at = Millis::new(receipt.archived_at);
    verify_device_cert(&cert, bundle, at).map_err(untrusted("device certificate"))?;
    let header = envelope.header();
    if header.device_cert() != cert.digest()
        || header.message().sender_user != cert.user
        || header.message().sender_device != cert.device
    {
        return Err(absent("a record of another device"));
    }
    envelope
        .verify_signature(&cert.envelope_key)
        .map_err(malformed("envelope"))?;
    let receipt_proof = record.receipt_proof.ok_or_else(|| {
        ClientError::refused(
            "RECEIPT_NOT_LOGGED",
            "the record's receipt is not in the log yet: try again in a moment",
        )
    })?;
    check_batch(&receipt, &receipt_proof)
        .ok_or_else(|| absent("a receipt that is not in its batch"))?;
    Ok(Record {
        summary: summary(record.summary.unwrap_or_default(), &envelope, &receipt),
        envelope,
        cert,
        receipt,
        receipt_proof,
    })
}

/// What header and receipt say in the place of what the archive says: it is read by people, beside the message.
fn summary(
    given: api::RecordSummary,
    envelope: &Envelope,
    receipt: &Signed<pb::Receipt>,
) -> api::RecordSummary {
    let header = envelope.header().message();
    api::RecordSummary {
        conversation: receipt.conversation.clone(),
        sequence: receipt.sequence,
        kind: receipt.kind,
        digest: receipt.entry_digest.clone(),
        sender: header.sender_user.clone(),
        sent_at: header.sent_at,
        archived_at: receipt.archived_at,
        // It only grows from what the receipt pinned.
        retain_until: given.retain_until.max(receipt.retain_until),
        mode: header.mode,
        record_class: header.record_class.clone(),
        ..given
    }
}

/// The receipt is in the batch that the log entry commits to.
fn check_batch(receipt: &Signed<pb::Receipt>, proof: &pb::ReceiptProof) -> Option<()> {
    let entry: pb::LogEntry = decode_strict("log entry", &proof.log_entry).ok()?;
    let Some(pb::log_entry::Event::Receipts(batch)) = entry.event else {
        return None;
    };
    if batch.count != proof.batch_size {
        return None;
    }
    let root = Digest::try_from(batch.root.as_slice()).ok()?;
    let path = hashes(&proof.batch_path)?;
    let leaf = leaf_hash(receipt.bytes());
    check_leaf(&root, proof.batch_size, proof.batch_index, leaf, &path).ok()
}
