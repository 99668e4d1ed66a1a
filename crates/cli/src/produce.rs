//! From an opened order to a production: everything proved under one checkpoint, written, and verified before it is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use greffe_client::{OpenedRecord, Opening, People};
use greffe_envelope::limits::MAX_RANGE;
use greffe_envelope::pb;
use greffe_envelope::trust::TrustState;
use greffe_production::{LogProof, Producer, Production, Record};
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_types::{ConversationId, Digest};

use crate::fail::{Failure, Result, chain};

/// Where a production goes.
#[derive(Debug)]
pub(crate) enum Out {
    /// A folder of files.
    Folder(PathBuf),
    /// One zip file of the same.
    Zip(PathBuf),
}

impl Out {
    /// The folder or file.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Zip(path) => path,
        }
    }
}

/// Writes a production of an order's opened records; `key` is the reader's signing key.
pub(crate) async fn produce(
    people: &People,
    opening: &Opening,
    opened: &[OpenedRecord],
    key: &SigningKey,
    out: &Out,
) -> Result<()> {
    let state = people.client().trust()?;
    let proofs = proofs(people, opening, opened, &state).await?;
    let mut records = Vec::with_capacity(opened.len());
    for one in opened {
        records.push(record(opening, one, &proofs).await?);
    }
    let checkpoint = proofs.checkpoint;
    let production = Production {
        bundles: bundles(&state),
        disclosures: disclosures(&state, opened),
        order: opening.released.clone(),
        order_proof: proofs.order,
        checkpoint,
        ranges: ranges(people, opened).await?,
        records,
    };
    let producer = Producer {
        name: people.person().name(),
        key,
        at: SystemClock.now(),
    };
    let written = match out {
        Out::Folder(path) => greffe_production::write(path, production, producer),
        Out::Zip(path) => greffe_production::write_zip(path, production, producer),
    };
    written.map_err(|error| Failure::failed(error.reason(), chain(&error)))
}

/// Leaves under one checkpoint.
struct Proofs {
    checkpoint: Vec<u8>,
    order: LogProof,
    batches: BTreeMap<u64, LogProof>,
}

async fn proofs(
    people: &People,
    opening: &Opening,
    opened: &[OpenedRecord],
    state: &TrustState,
) -> Result<Proofs> {
    let batches: BTreeSet<u64> = opened
        .iter()
        .map(|one| one.record.receipt_proof.log_index)
        .collect();
    let order = opening.info.log_index;
    let newest = batches.iter().copied().max().unwrap_or(0).max(order);
    let log = people.client().log();
    let checkpoint = log.checkpoint(state.bundle(), newest + 1).await?;
    let included = |index: u64| {
        let checkpoint = &checkpoint;
        async move {
            let leaf = log.included("leaf", checkpoint, index).await?;
            Ok::<_, Failure>(LogProof {
                index,
                leaf: leaf.leaf,
                path: leaf.path,
            })
        }
    };
    let mut proved = BTreeMap::new();
    for index in batches {
        proved.insert(index, included(index).await?);
    }
    Ok(Proofs {
        order: included(order).await?,
        batches: proved,
        checkpoint: checkpoint.bytes.clone(),
    })
}

async fn record(opening: &Opening, one: &OpenedRecord, proofs: &Proofs) -> Result<Record> {
    let proof = &one.record.receipt_proof;
    let mut attachments = Vec::with_capacity(one.content.attachments.len());
    for index in (0_u32..).take(one.content.attachments.len()) {
        let mut bytes = Vec::new();
        opening.attachment(one, index, &mut bytes).await?;
        attachments.push(bytes);
    }
    let batch_path = proof
        .batch_path
        .iter()
        .map(|hash| Digest::try_from(hash.as_slice()))
        .collect::<core::result::Result<_, _>>()
        .map_err(|error| Failure::because("ANSWER_INVALID", "a receipt's path", &error))?;
    let log = proofs.batches.get(&proof.log_index).cloned();
    Ok(Record {
        envelope: one.record.envelope.raw().clone(),
        certificate: one.record.cert.raw().clone(),
        receipt: one.record.receipt.raw().clone(),
        batch_index: proof.batch_index,
        batch_size: proof.batch_size,
        batch_path,
        log: log.unwrap_or_default(),
        ciphertext: one.ciphertext.clone(),
        key: (*one.key().as_bytes()).into(),
        attachments,
    })
}

/// Every bundle there was: receipts name some, and nodes that made a key may stand only in one that none names, since a key
/// outlives its nodes.
fn bundles(state: &TrustState) -> Vec<pb::SignedStatement> {
    state
        .older_bundles()
        .chain([state.bundle()])
        .map(|bundle| bundle.signed().raw().clone())
        .collect()
}

/// Every disclosure that a record's header agrees with.
fn disclosures(state: &TrustState, opened: &[OpenedRecord]) -> Vec<pb::SignedStatement> {
    let mut found = BTreeMap::new();
    for disclosure in state.disclosures() {
        let message = disclosure.message();
        let mut keys: Vec<Digest> = disclosure.keys().iter().map(|k| *k.key_id()).collect();
        keys.sort();
        let fits = opened.iter().any(|one| {
            let header = one.record.envelope.header();
            header.mode() == message.mode()
                && header.key_ids() == keys
                && header.policy_digest().as_bytes() == message.policy_digest.as_slice()
        });
        if fits {
            found.insert(disclosure.digest(), disclosure.signed().raw().clone());
        }
    }
    found.into_values().collect()
}

/// The archive's word on every number of the records' conversations.
async fn ranges(people: &People, opened: &[OpenedRecord]) -> Result<Vec<pb::SignedStatement>> {
    let conversations: BTreeSet<ConversationId> = opened
        .iter()
        .map(|one| one.record.envelope.header().conversation())
        .collect();
    let mut ranges = Vec::new();
    for conversation in conversations {
        let mut first = 1;
        loop {
            // The last number of a whole piece is asked for only where there is more: beyond the end it would be refused.
            let newest = people.range(&conversation, first, 0).await;
            let range = match newest {
                Ok(range) => range,
                Err(error) if error.reason() == "RANGE_TOO_LARGE" => {
                    let last = first + MAX_RANGE as u64 - 1;
                    people.range(&conversation, first, last).await?
                }
                Err(error) => return Err(error.into()),
            };
            first = range.last + 1;
            let complete = range.complete;
            ranges.push(range.into_raw());
            if complete {
                break;
            }
        }
    }
    Ok(ranges)
}
