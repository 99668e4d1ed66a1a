//! One record: sealed by a certified device, disclosed to its members, received by the archive, in the log.

use greffe_envelope::opening::check_leaf;
use greffe_envelope::pb;
use greffe_envelope::statement::decode_strict;
use greffe_envelope::trust::{VerifiedDisclosure, verify_device_cert, verify_receipt};
use greffe_tlog::{TreeHead, leaf_hash, verify_inclusion};
use greffe_types::{Digest, Millis};

use super::Report;
use super::bundles::Anchors;
use crate::evidence::{LogProof, Record};
use crate::opened::{Opened, why};

/// Verifies everything about a record that its own evidence says.
pub(super) fn verify(
    item: &str,
    record: &Record,
    opened: &Opened,
    anchors: &Anchors,
    disclosures: &[VerifiedDisclosure],
    head: Option<TreeHead>,
    report: &mut Report,
) {
    let checks = [
        sender(opened, anchors),
        receipt(opened, anchors),
        batch(record, opened),
        head.map_or_else(
            || Err("log: there is no checkpoint".to_owned()),
            |head| in_log(&record.log, head),
        ),
        disclosed(opened, disclosures),
    ];
    for problem in checks.into_iter().filter_map(Result::err) {
        report.add(item, problem);
    }
}

/// The certificate is the one the header names, was valid when the archive received the record, and its key signed.
fn sender(opened: &Opened, anchors: &Anchors) -> Result<(), String> {
    let (header, certificate) = (opened.header(), &opened.certificate);
    let named = opened.envelope.header().device_cert() == certificate.digest()
        && header.sender_user == certificate.user
        && header.sender_device == certificate.device
        && header.tenants.contains(&certificate.tenant);
    if !named {
        return Err("certificate: the header names another sender".to_owned());
    }
    if certificate.raw().signatures.len() != 1 {
        return Err("certificate: it carries other signatures than the issuer's".to_owned());
    }
    let at = Millis::new(opened.receipt.archived_at);
    let bundle = anchors
        .version(opened.receipt.bundle_version)
        .ok_or("receipt: the bundle it was judged by is not here")?;
    verify_device_cert(certificate, bundle, at).map_err(|e| why("certificate", &e))?;
    // A revocation may be signed later than the receipt and count from before it.
    if anchors.current().is_revoked(&certificate.digest(), at) {
        return Err("certificate: it was revoked when the archive received the record".to_owned());
    }
    opened
        .envelope
        .verify_signature(&certificate.envelope_key)
        .map_err(|e| why("signature", &e))
}

fn receipt(opened: &Opened, anchors: &Anchors) -> Result<(), String> {
    let bundle = anchors
        .version(opened.receipt.bundle_version)
        .ok_or("receipt: the bundle it was judged by is not here")?;
    verify_receipt(&opened.receipt, bundle)
        .map(|_| ())
        .map_err(|e| why("receipt", &e))
}

/// The receipt is a leaf of the batch that the log entry names.
fn batch(record: &Record, opened: &Opened) -> Result<(), String> {
    let entry: pb::LogEntry =
        decode_strict("log entry", &record.log.leaf).map_err(|e| why("log entry", &e))?;
    let Some(pb::log_entry::Event::Receipts(batch)) = entry.event else {
        return Err("log entry: it holds no receipts".to_owned());
    };
    if batch.count != record.batch_size
        || entry.tenant != opened.receipt.tenant
        || entry.recorded_by != "archive"
    {
        return Err("log entry: it is for another batch".to_owned());
    }
    let root = Digest::try_from(batch.root.as_slice()).map_err(|e| why("log entry", &e))?;
    let leaf = leaf_hash(opened.receipt.bytes());
    check_leaf(
        &root,
        record.batch_size,
        record.batch_index,
        leaf,
        &record.batch_path,
    )
    .map_err(|e| why("batch path", &e))
}

/// A leaf is in the log under the checkpoint.
pub(super) fn in_log(proof: &LogProof, head: TreeHead) -> Result<(), String> {
    verify_inclusion(&leaf_hash(&proof.leaf), proof.index, &head, &proof.path)
        .map_err(|e| why("log path", &e))
}

/// The header says what was disclosed to the members.
fn disclosed(opened: &Opened, disclosures: &[VerifiedDisclosure]) -> Result<(), String> {
    let header = opened.envelope.header();
    let fits = |d: &&VerifiedDisclosure| {
        let mut keys: Vec<Digest> = d.keys().iter().map(|key| *key.key_id()).collect();
        keys.sort();
        d.message().mode() == header.mode()
            && keys == header.key_ids()
            && d.message().policy_digest == header.policy_digest().as_bytes()
            && d.message().tenants == header.message().tenants
    };
    let disclosure = disclosures.iter().find(fits);
    disclosure
        .map(|_| ())
        .ok_or_else(|| "header: no disclosure here says what it says".to_owned())
}
