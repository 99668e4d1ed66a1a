//! Every record, in the archive's order: its receipt, its place in the chain, its object, its wraps, its batch.

use std::collections::HashMap;
use std::sync::Arc;

use greffe_envelope::chain::ChainState;
use greffe_envelope::envelope::envelope_digest;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{verify_receipt, verify_void};
use greffe_service_kit::boot::Boot;
use greffe_tlog::{BatchTree, Tree, leaf_hash};
use greffe_types::{ConversationId, Digest, Millis};

use super::log::Logged;
use super::{Report, Stores, short};
use crate::error::ArchiveError;
use crate::jobs::proofs::{self, Unchecked};
use crate::objects::ObjectError;
use crate::store::records::Proof;
use crate::store::verify::{self as rows, Row};
use crate::store::{attachments, wraps};

/// Records read at a time.
const PAGE: u32 = 256;

/// What is carried from record to record.
struct Course {
    chains: HashMap<ConversationId, ChainState>,
    receipts: Tree,
    /// Receipts of the batch that is being gathered, from which record.
    batch: (u64, Vec<Vec<u8>>),
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
        batch: (1, Vec::new()),
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
            statement(boot, row, &mut course, report);
            batch(row.record, receipt, logged, &mut course, report);
            objects(stores, row, report).await?;
            unchecked.extend(wrapped(stores, row, logged, report).await?);
        }
        prove(boot, unchecked, report).await?;
    }
    report.conversations = course.chains.len() as u64;
    report.records_root = course.receipts.head().root.to_string();
    report.receipts_waiting = course.batch.1.len() as u64;
    if let Some((first, last)) = logged.batches.last_key_value()
        && first + last.count > next
    {
        report.finding(
            "the log",
            format!(
                "it has receipts up to record {}, the database ends at {}: it was restored from an older copy",
                first + last.count - 1,
                next - 1
            ),
        );
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

/// The batch that the receipt belongs to has the root that the log has.
fn batch(record: u64, receipt: Vec<u8>, logged: &Logged, course: &mut Course, report: &mut Report) {
    let (first, receipts) = &mut course.batch;
    if receipts.is_empty() {
        *first = record;
    }
    receipts.push(receipt);
    let Some(leaf) = logged.batches.get(first) else {
        return;
    };
    if (receipts.len() as u64) < leaf.count {
        return;
    }
    let tree = BatchTree::new(receipts.iter());
    if tree.root().as_bytes() == leaf.root.as_slice() {
        report.receipts_logged += leaf.count;
    } else {
        report.finding(
            format!("records {first} to {record}"),
            "their receipts are not those that the log has".to_owned(),
        );
    }
    receipts.clear();
}

/// Content and attachments are whole, and locked for as long as the record has to be kept.
async fn objects(stores: &Stores, row: &Row, report: &mut Report) -> Result<(), ArchiveError> {
    // Once a disposition is decided its objects may go at any moment.
    if row.disposal > 0 {
        report.disposed += 1;
        return Ok(());
    }
    let mut names = attachments::of_record(stores.db.read(), &stores.scope, row.record).await?;
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
        Err(ObjectError::Missing(_)) => return Ok(Err("it is not there".to_owned())),
        Err(ObjectError::Digest { .. }) => return Ok(Err("its bytes are damaged".to_owned())),
        Err(error) => return Err(error),
    };
    Ok(match stores.objects.locked_until(&name).await? {
        Some(until) if until >= retain_until => Ok(size),
        Some(until) => Err(format!(
            "its lock ends at {until}, its retention at {retain_until}"
        )),
        None => Err("it is not locked".to_owned()),
    })
}

/// A live message's wraps; what the log says was destroyed is not back.
async fn wrapped(
    stores: &Stores,
    row: &Row,
    logged: &Logged,
    report: &mut Report,
) -> Result<Option<Unchecked>, ArchiveError> {
    if row.kind != pb::EntryKind::Message as i32 {
        return Ok(None);
    }
    let found = wraps::load(stores.wraps.read(), &stores.scope, &row.digest).await?;
    let destroyed = logged.tombstones.contains(row.digest.as_bytes().as_slice());
    if destroyed && !found.is_empty() {
        report.finding(
            format!("record {}", row.record),
            "it was destroyed, and its wraps are back: an older copy of the erasable store was restored; destroy it again"
                .to_owned(),
        );
    }
    if destroyed || row.disposal > 0 {
        return Ok(None);
    }
    Ok(row.envelope.clone().map(|envelope| Unchecked {
        record: row.record,
        envelope,
        wraps: found,
    }))
}

async fn prove(
    boot: &Boot,
    unchecked: Vec<Unchecked>,
    report: &mut Report,
) -> Result<(), ArchiveError> {
    let trust = boot.trust.clone();
    let checked = tokio::task::spawn_blocking(move || proofs::check(&trust.read(), &unchecked))
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
