//! Every record, in the archive's order: its receipt, its place in the chain, its object, its wraps, its batch.

use std::collections::HashMap;
use std::sync::Arc;

use greffe_envelope::chain::ChainState;
use greffe_envelope::envelope::{Envelope, envelope_digest};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{verify_receipt, verify_void};
use greffe_objects::StoreError;
use greffe_service_kit::boot::Boot;
use greffe_tlog::{BatchTree, Tree, leaf_hash};
use greffe_types::{ConversationId, Digest, Millis};

use super::log::Logged;
use super::{Report, Stores, short};
use crate::error::ArchiveError;
use crate::jobs::proofs::{self, Unchecked};
use crate::objects::{FolderError, ObjectError};
use crate::store::records::Proof;
use crate::store::verify::{self as rows, Row};
use crate::store::{attachments, wraps};

/// Records read at a time.
const PAGE: u32 = 256;

/// Disposal: wraps destroyed, and tombstone in the log. Objects go only afterwards.
const WRAPS_DESTROYED: i64 = 2;
const LOGGED: i64 = 3;

/// What is carried from record to record.
struct Course {
    chains: HashMap<ConversationId, ChainState>,
    receipts: Tree,
    /// Which of the log's batches comes next, and what of it was gathered.
    leaf: usize,
    gathered: Vec<Vec<u8>>,
}

/// Looks through all records.
pub(super) async fn check(
    boot: &Boot,
    stores: &Arc<Stores>,
    logged: &Logged,
    report: &mut Report,
) -> Result<(), ArchiveError> {
    let mut course = Course {
        chains: HashMap::new(),
        receipts: Tree::new(),
        leaf: 0,
        gathered: Vec::new(),
    };
    let mut next = 1;
    loop {
        let page = rows::after(stores.db.read(), &stores.scope, next - 1, PAGE).await?;
        if page.is_empty() {
            break;
        }
        let mut unchecked = Vec::new();
        for row in &page {
            if row.record != next {
                report.finding(
                    format!("record {next}"),
                    format!("it is missing; the next one there is {}", row.record),
                );
            }
            next = row.record + 1;
            report.records += 1;
            let receipt = row.receipt.statement.clone();
            course.receipts.append(&[leaf_hash(&receipt)]);
            let destroyed = logged.tombstones.contains(row.digest.as_bytes().as_slice());
            statement(boot, row, &mut course, report);
            batch(row.record, receipt, logged, &mut course, report);
            disposal(row, destroyed, report);
            objects(stores, row, report).await?;
            unchecked.extend(wrapped(stores, row, destroyed, report).await?);
        }
        prove(boot, unchecked, report).await?;
    }
    report.conversations = course.chains.len() as u64;
    report.records_root = course.receipts.head().root.to_string();
    if let Some(leaf) = logged
        .batches
        .get(course.leaf..)
        .and_then(|left| left.last())
    {
        report.finding(
            "the log",
            format!(
                "it has receipts up to record {}, the database ends at {}: it was restored from an older copy",
                leaf.first.saturating_add(leaf.count).saturating_sub(1),
                next - 1
            ),
        );
    }
    for envelope in &logged.tombstones {
        let Ok(envelope) = Digest::try_from(envelope.as_slice()) else {
            continue;
        };
        let back = wraps::load(stores.wraps.read(), &stores.scope, &envelope).await?;
        if !back.is_empty() {
            report.finding(
                format!("wraps of {}", short(&envelope)),
                "they were destroyed and are back: an older copy of the erasable store was restored; destroy them again",
            );
        }
    }
    Ok(())
}

/// The receipt is the archive's and continues the chain; the entry has the digest that it names.
fn statement(boot: &Boot, row: &Row, course: &mut Course, report: &mut Report) {
    if let Err(problem) = try_statement(boot, row, course) {
        report.finding(format!("record {}", row.record), problem);
    }
}

fn try_statement(boot: &Boot, row: &Row, course: &mut Course) -> Result<(), String> {
    let receipt: Signed<pb::Receipt> = Signed::decode(row.receipt.clone())
        .map_err(|error| format!("its receipt cannot be read: {error}"))?;
    let trust = boot.trust.read();
    let bundle = trust
        .bundle_version(receipt.bundle_version)
        .ok_or_else(|| format!("no trust bundle of version {}", receipt.bundle_version))?;
    verify_receipt(&receipt, bundle).map_err(|error| format!("its receipt: {error}"))?;
    let chain = course
        .chains
        .entry(row.conversation)
        .or_insert_with(|| ChainState::start(row.conversation));
    *chain = chain
        .accept(&receipt)
        .map_err(|error| format!("its chain: {error}"))?;
    if receipt.entry_digest != row.digest.as_bytes() {
        return Err("its receipt is for something else".to_owned());
    }
    if receipt.kind != row.kind {
        return Err("its kind is not the one of its receipt".to_owned());
    }
    if !row.named {
        return Err("its key in record_keys names something else".to_owned());
    }
    if row.retain_until.get() < receipt.retain_until {
        return Err("its retention is shorter than its receipt says".to_owned());
    }
    if row.void.is_some() != (row.kind == pb::EntryKind::Void as i32) {
        return Err("a void is missing, or stands where none belongs".to_owned());
    }
    if let Some(void) = &row.void {
        let void = Signed::decode(void.clone())
            .map_err(|error| format!("its void cannot be read: {error}"))?;
        let digest = verify_void(&void, bundle).map_err(|error| format!("its void: {error}"))?;
        if digest != row.digest {
            return Err("its void is for something else".to_owned());
        }
    }
    if let Some(envelope) = &row.envelope
        && envelope_digest(&envelope.body) != row.digest
    {
        return Err("its envelope is not the one that was received".to_owned());
    }
    Ok(())
}

/// Every receipt is in the batch that is due in the log, and every batch has the root that the log has.
fn batch(record: u64, receipt: Vec<u8>, logged: &Logged, course: &mut Course, report: &mut Report) {
    // A new batch: what the log has twice, or for records that are not there, belongs to another history.
    while course.gathered.is_empty()
        && let Some(leaf) = logged.batches.get(course.leaf)
        && (leaf.first < record || leaf.count == 0)
    {
        report.finding(
            "the log",
            format!(
                "its batch of {} from record {} on overlaps another",
                leaf.count, leaf.first
            ),
        );
        course.leaf += 1;
    }
    let Some(leaf) = logged.batches.get(course.leaf) else {
        report.receipts_waiting += 1;
        return;
    };
    if course.gathered.is_empty() && leaf.first > record {
        report.finding(
            format!("record {record}"),
            "the log has no receipt of it, and those of later records",
        );
        return;
    }
    course.gathered.push(receipt);
    if (course.gathered.len() as u64) < leaf.count {
        return;
    }
    let tree = BatchTree::new(course.gathered.iter());
    if tree.root().as_bytes() == leaf.root.as_slice() {
        report.receipts_logged += leaf.count;
    } else {
        report.finding(
            format!("records {} to {record}", leaf.first),
            "their receipts are not those that the log has",
        );
    }
    course.gathered.clear();
    course.leaf += 1;
}

/// What the row says of its end is what the log says.
fn disposal(row: &Row, destroyed: bool, report: &mut Report) {
    if destroyed && row.disposal < WRAPS_DESTROYED {
        report.finding(
            format!("record {}", row.record),
            "it was destroyed and its row is live: an older copy of the database was restored",
        );
    }
    if !destroyed && row.disposal >= LOGGED {
        report.finding(
            format!("record {}", row.record),
            "its row says that it was disposed of, and the log has no tombstone of it",
        );
    }
}

/// Content and attachments are whole, and locked for as long as the record has to be kept.
async fn objects(stores: &Stores, row: &Row, report: &mut Report) -> Result<(), ArchiveError> {
    if row.disposal > 0 {
        report.disposed += 1;
    }
    if row.disposal >= LOGGED {
        return Ok(());
    }
    let mut names = attachments::of_record(stores.db.read(), &stores.scope, row.record).await?;
    if let Err(problem) = named(row, &names) {
        report.finding(format!("record {}", row.record), problem);
    }
    names.extend(row.content);
    for name in names {
        match object(stores, name, row.retain_until).await {
            Ok(Ok(size)) => {
                report.objects += 1;
                report.object_bytes += size;
            }
            Ok(Err(problem)) => report.finding(
                format!("object {} of record {}", short(&name), row.record),
                problem,
            ),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The objects that the rows name are those of the signed envelope.
fn named(row: &Row, attachments: &[Digest]) -> Result<(), String> {
    let Some(raw) = &row.envelope else {
        return Ok(());
    };
    let envelope = Envelope::decode(raw.clone())
        .map_err(|error| format!("its envelope cannot be read: {error}"))?;
    if row.content != Some(envelope.ciphertext_digest()) {
        return Err("its content is not the one that its envelope names".to_owned());
    }
    let header = envelope.header();
    let signed = header.message().attachments.iter();
    if signed
        .map(|a| a.digest.as_slice())
        .ne(attachments.iter().map(|a| a.as_bytes().as_slice()))
    {
        return Err("its attachments are not those that its envelope names".to_owned());
    }
    Ok(())
}

async fn object(
    stores: &Stores,
    name: Digest,
    retain_until: Millis,
) -> Result<Result<u64, String>, ObjectError> {
    let read = async {
        let mut pieces = stores.objects.reader(name).await?;
        let mut size = 0;
        while let Some(piece) = pieces.next().await? {
            size += piece.len() as u64;
        }
        Ok(size)
    };
    let size = match read.await {
        Ok(size) => size,
        Err(error) => return problem(error).map(Err),
    };
    let until = match stores.objects.locked_until(&name).await {
        Ok(until) => until,
        Err(error) => return problem(error).map(Err),
    };
    Ok(match until {
        Some(until) if until >= retain_until => Ok(size),
        Some(until) => Err(format!(
            "its lock ends at {until}, its retention at {retain_until}"
        )),
        None => Err("it is not locked".to_owned()),
    })
}

/// What is wrong with the object; an error when the store did not answer.
fn problem(error: ObjectError) -> Result<String, ObjectError> {
    Ok(match error {
        ObjectError::Missing(_) => "it is not there, or not in both buckets".to_owned(),
        ObjectError::Digest { .. } | ObjectError::Buckets(StoreError::Rotted { .. }) => {
            "its bytes are damaged".to_owned()
        }
        ObjectError::Folder(FolderError::Lock(_)) => "its lock cannot be read".to_owned(),
        error => return Err(error),
    })
}

/// A live message's envelope and wraps.
async fn wrapped(
    stores: &Stores,
    row: &Row,
    destroyed: bool,
    report: &mut Report,
) -> Result<Option<Unchecked>, ArchiveError> {
    if row.kind != pb::EntryKind::Message as i32 || destroyed || row.disposal >= WRAPS_DESTROYED {
        return Ok(None);
    }
    let Some(envelope) = row.envelope.clone() else {
        report.finding(
            format!("record {}", row.record),
            "it is live, and its envelope is not there",
        );
        return Ok(None);
    };
    Ok(Some(Unchecked {
        record: row.record,
        envelope,
        wraps: wraps::load(stores.wraps.read(), &stores.scope, &row.digest).await?,
    }))
}

async fn prove(
    boot: &Boot,
    unchecked: Vec<Unchecked>,
    report: &mut Report,
) -> Result<(), ArchiveError> {
    let trust = boot.trust.clone();
    let checked = greffe_service_kit::blocking(move || proofs::check(&trust.read(), &unchecked))
        .await
        .map_err(|_| ArchiveError::Stopping)?;
    for one in checked {
        if one.proof == Proof::Verified {
            report.wraps += 1;
        } else {
            report.finding(
                format!("record {}", one.record),
                "its wraps are missing, or do not prove what they hold".to_owned(),
            );
        }
    }
    Ok(())
}
