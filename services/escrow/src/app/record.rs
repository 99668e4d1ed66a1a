//! One record under an order, checked by this node alone: everything but what has to be looked up and changed in one
//! transaction.

use std::collections::HashMap;

use greffe_envelope::envelope::Envelope;
use greffe_envelope::opening::{AnswerContext, ENCAPSULATION_SIZE, check_path};
use greffe_envelope::pb;
use greffe_envelope::statement::{Signed, decode_strict};
use greffe_envelope::trust::{Bundle, TrustState, verify_device_cert, verify_receipt};
use greffe_envelope::wrap::{ProofJob, WrapView, verify_proofs};
use greffe_policy::ServiceKind;
use greffe_tlog::{TreeHead, leaf_hash, verify_inclusion};
use greffe_types::{Digest, Millis};

use super::order::CheckedOrder;
use crate::error::{
    CERTIFICATE_REFUSED, ENVELOPE_REFUSED, NO_SHARE, NOT_CAUGHT_UP, PROOF_REFUSED,
    RECEIPT_NOT_IN_LOG, RECEIPT_REFUSED, RECORD_NOT_IN_ORDER, RECORD_TENANT, Refusal, WRAP_REFUSED,
};

/// A record whose every check has passed, its proof of knowledge included.
#[derive(Debug)]
pub struct CheckedRecord {
    /// What the answer is bound to.
    pub context: AnswerContext,
    /// SHA-256 of the wrap's ML-KEM ciphertext.
    pub ciphertext: Digest,
}

/// As [`CheckedRecord`], the proof still to be verified.
struct Candidate {
    envelope: Envelope,
    key_id: Digest,
    wrap: WrapView,
}

/// Checks records against an order: one result a record, in order. `leaves` has the hashes of the log's leaves, as this
/// node has followed them, that the records' receipts refer to.
pub fn check_records(
    records: Vec<pb::OpeningRecord>,
    order: &CheckedOrder,
    trust: &TrustState,
    leaves: &HashMap<u64, Digest>,
) -> Vec<Result<CheckedRecord, Refusal>> {
    let candidates: Vec<Result<Candidate, Refusal>> = records
        .into_iter()
        .map(|record| candidate(record, order, trust, leaves))
        .collect();
    let jobs: Vec<ProofJob<'_>> = candidates
        .iter()
        .flatten()
        .filter_map(|found| {
            Some(ProofJob {
                key: trust.key(&found.key_id)?,
                rd: found.envelope.record_digest(),
                wrap: &found.wrap,
            })
        })
        .collect();
    let mut proofs = verify_proofs(&jobs).into_iter();
    let tenant = trust.root().tenant().as_str();
    candidates
        .into_iter()
        .map(|found| {
            let found = found?;
            // A candidate's key is known, so there is one proof for each.
            let proof = proofs.next().ok_or_else(|| no_key(&found.key_id))?;
            proof.map_err(|error| {
                Refusal::denied(
                    PROOF_REFUSED,
                    "the sender has not proved to know what was sealed",
                )
                .because(error)
            })?;
            finish(&found, order, tenant)
        })
        .collect()
}

fn finish(found: &Candidate, order: &CheckedOrder, tenant: &str) -> Result<CheckedRecord, Refusal> {
    let encapsulation: [u8; ENCAPSULATION_SIZE] = found
        .wrap
        .enc()
        .try_into()
        .map_err(|_| Refusal::malformed(WRAP_REFUSED, "the encapsulation is malformed"))?;
    Ok(CheckedRecord {
        ciphertext: found.wrap.mlkem_digest(),
        context: AnswerContext {
            tenant: tenant.to_owned(),
            order: order.digest(),
            envelope: found.envelope.digest(),
            key_id: found.key_id,
            encapsulation,
        },
    })
}

fn candidate(
    record: pb::OpeningRecord,
    order: &CheckedOrder,
    trust: &TrustState,
    leaves: &HashMap<u64, Digest>,
) -> Result<Candidate, Refusal> {
    let refused = |message: &'static str| Refusal::malformed(ENVELOPE_REFUSED, message);
    let raw = record
        .envelope
        .ok_or_else(|| refused("there is no envelope"))?;
    let envelope = Envelope::decode(raw)
        .map_err(|error| refused("the envelope is malformed").because(error))?;
    check_in_order(&envelope, record.index, &record.path, order)?;
    let tenant = trust.root().tenant().as_str();
    if !envelope
        .header()
        .message()
        .tenants
        .iter()
        .any(|t| t == tenant)
    {
        return Err(Refusal::denied(
            RECORD_TENANT,
            "the record is not of this tenant",
        ));
    }
    let (receipt, bundle) = check_receipt(record.receipt, &envelope, trust)?;
    let archived_at = Millis::new(receipt.archived_at);
    let cert = record.device_cert;
    let cert = check_certificate(cert, &envelope, bundle, archived_at)?;
    // A revocation made since, with effect before the receipt, counts.
    if trust.bundle().is_revoked(&cert, archived_at) {
        return Err(Refusal::denied(
            CERTIFICATE_REFUSED,
            "the device certificate was revoked",
        ));
    }
    check_logged(record.receipt_proof, &receipt, leaves, tenant)?;
    let (key_id, wrap) = check_wrap(record.wrap, &envelope, tenant)?;
    if trust.key(&key_id).is_none() {
        return Err(no_key(&key_id));
    }
    Ok(Candidate {
        envelope,
        key_id,
        wrap,
    })
}

fn no_key(key_id: &Digest) -> Refusal {
    Refusal::state(NO_SHARE, format!("the key {key_id} is not in force here"))
}

fn check_in_order(
    envelope: &Envelope,
    index: u64,
    path: &[Vec<u8>],
    order: &CheckedOrder,
) -> Result<(), Refusal> {
    let outside = || {
        Refusal::denied(
            RECORD_NOT_IN_ORDER,
            "the record is not in the order's list at this index",
        )
    };
    let path = digests(path).ok_or_else(outside)?;
    let (root, count) = (order.records_root(), order.records_count());
    check_path(&root, count, index, &envelope.digest(), &path)
        .map_err(|error| outside().because(error))
}

/// Signed by the archive with a key that was valid then, and about this very envelope.
fn check_receipt<'t>(
    raw: Option<pb::SignedStatement>,
    envelope: &Envelope,
    trust: &'t TrustState,
) -> Result<(Signed<pb::Receipt>, &'t Bundle), Refusal> {
    let refused = |message: &'static str| Refusal::denied(RECEIPT_REFUSED, message);
    let raw = raw.ok_or_else(|| refused("there is no receipt"))?;
    let receipt = Signed::<pb::Receipt>::decode(raw)
        .map_err(|error| refused("the receipt does not decode").because(error))?;
    let bundle = trust
        .bundle_version(receipt.bundle_version)
        .ok_or_else(|| refused("the receipt names a bundle that the log has not shown"))?;
    verify_receipt(&receipt, bundle)
        .map_err(|error| refused("the receipt is not the archive's").because(error))?;
    if receipt.kind() != pb::EntryKind::Message
        || receipt.entry_digest != envelope.digest().as_bytes()
        || receipt.conversation != envelope.header().conversation().as_bytes()
    {
        return Err(refused("the receipt is of something else"));
    }
    Ok((receipt, bundle))
}

/// The chain from the issuer to the envelope, by the bundle of the receipt: the directory cannot put another device in the
/// sender's place. Gives the certificate's digest.
fn check_certificate(
    raw: Option<pb::SignedStatement>,
    envelope: &Envelope,
    bundle: &Bundle,
    archived_at: Millis,
) -> Result<Digest, Refusal> {
    let refused = |message: &'static str| Refusal::denied(CERTIFICATE_REFUSED, message);
    let raw = raw.ok_or_else(|| refused("there is no device certificate"))?;
    let cert = Signed::<pb::DeviceCert>::decode(raw)
        .map_err(|error| refused("the device certificate does not decode").because(error))?;
    let header = envelope.header();
    if cert.digest() != header.device_cert() {
        return Err(refused("the header names another device certificate"));
    }
    if cert.user != header.message().sender_user || cert.device != header.message().sender_device {
        return Err(refused("the certificate is of another device"));
    }
    verify_device_cert(&cert, bundle, archived_at)
        .map_err(|error| refused("the device's chain fails").because(error))?;
    envelope
        .verify_signature(&cert.envelope_key)
        .map_err(|error| {
            Refusal::denied(ENVELOPE_REFUSED, "the envelope is not signed by its device")
                .because(error)
        })?;
    Ok(cert.digest())
}

/// Receipt → batch → leaf, the leaf being the one that this node has followed.
fn check_logged(
    proof: Option<pb::ReceiptProof>,
    receipt: &Signed<pb::Receipt>,
    leaves: &HashMap<u64, Digest>,
    tenant: &str,
) -> Result<(), Refusal> {
    let refused = |message: &'static str| Refusal::denied(RECEIPT_NOT_IN_LOG, message);
    let proof = proof.ok_or_else(|| refused("there is no proof that the receipt is in the log"))?;
    let followed = leaves.get(&proof.log_index).ok_or_else(|| {
        Refusal::state(
            NOT_CAUGHT_UP,
            "the node has not followed the log to the receipt",
        )
    })?;
    if *followed != leaf_hash(&proof.log_entry) {
        return Err(refused("the log has another entry at this index"));
    }
    let entry: pb::LogEntry = decode_strict("log-entry", &proof.log_entry)
        .map_err(|error| refused("the log entry does not decode").because(error))?;
    let Some(pb::log_entry::Event::Receipts(batch)) = entry.event else {
        return Err(refused("the log entry is no batch of receipts"));
    };
    let by_archive = ServiceKind::of(&entry.recorded_by) == Some(ServiceKind::Archive);
    if entry.tenant != tenant || !by_archive || batch.count != proof.batch_size {
        return Err(refused("the batch is not the archive's of this tenant"));
    }
    let root = Digest::try_from(batch.root.as_slice())
        .map_err(|_| refused("the batch's root is malformed"))?;
    let path =
        digests(&proof.batch_path).ok_or_else(|| refused("the batch's path is malformed"))?;
    let head = TreeHead {
        size: proof.batch_size,
        root,
    };
    verify_inclusion(&leaf_hash(receipt.bytes()), proof.batch_index, &head, &path)
        .map_err(|error| refused("the receipt is not in the batch").because(error))
}

/// The wrap that the signed body names for this tenant's key.
fn check_wrap(
    wrap: Option<pb::Wrap>,
    envelope: &Envelope,
    tenant: &str,
) -> Result<(Digest, WrapView), Refusal> {
    let refused = |message: &'static str| Refusal::denied(WRAP_REFUSED, message);
    let wrap = wrap.ok_or_else(|| refused("there is no wrap"))?;
    let view = WrapView::parse(&wrap.sealed)
        .map_err(|error| refused("the wrap is malformed").because(error))?;
    let key_id = Digest::try_from(wrap.key_id.as_slice())
        .map_err(|_| refused("the wrap's key id is malformed"))?;
    let named = envelope.body().wraps.iter().any(|reference| {
        wrap.tenant == tenant
            && reference.tenant == tenant
            && reference.key_id == wrap.key_id
            && reference.digest == view.digest().as_bytes()
    });
    if !named {
        return Err(refused("the wrap is not one that the envelope names"));
    }
    Ok((key_id, view))
}

/// RFC 6962 hashes of a path; none when one is malformed.
pub(super) fn digests(path: &[Vec<u8>]) -> Option<Vec<Digest>> {
    path.iter()
        .map(|hash| Digest::try_from(hash.as_slice()).ok())
        .collect()
}
