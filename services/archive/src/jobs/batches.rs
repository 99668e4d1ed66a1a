//! Batches of receipts: each becomes one leaf of the log once the proofs of knowledge of its records were checked.

use std::sync::Arc;
use std::time::Duration;

use greffe_envelope::pb::{self, log_entry::Event};
use greffe_service_kit::errors::Causes;
use greffe_service_kit::telemetry::trace;
use greffe_tlog::BatchTree;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::proofs::{self, Checked, Unchecked};
use crate::app::{App, News};
use crate::error::ArchiveError;
use crate::store::batches::{self, Unbatched};
use crate::store::records::{self, Proof};
use crate::store::{outbox, wraps};

/// Most receipts of one batch.
const MAX_BATCH: u32 = 2048;
/// How long a failure is waited out.
const PAUSE: Duration = Duration::from_millis(500);
/// Reason of the incident that a false proof is.
pub const PROOF_INVALID: &str = "PROOF_INVALID";

/// Runs until the service stops. Receipts wait for others a moment, so that one leaf stands for many.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    let work = async {
        loop {
            match make_batch(&app).await {
                Ok(0) => {
                    app.signals.records.notified().await;
                    tokio::time::sleep(app.config.batch_delay()).await;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(causes = %Causes(&error), "no batch of receipts was made");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

/// Makes a batch of the receipts that are in none; gives how many.
///
/// # Errors
/// [`ArchiveError`]; nothing is changed then.
pub async fn make_batch(app: &Arc<App>) -> Result<usize, ArchiveError> {
    let (db, scope) = (app.db.read(), &app.scope);
    let first = batches::next(db, scope).await?;
    let receipts = batches::unbatched(db, scope, first, MAX_BATCH).await?;
    if receipts.is_empty() {
        return Ok(0);
    }
    let _span = span(&receipts);
    let dense = receipts.iter().zip(first..).all(|(r, n)| r.record == n);
    if !dense {
        return Err(ArchiveError::Damaged("record numbers have a gap"));
    }
    let checked = check_proofs(app, &receipts).await?;
    let failed: Vec<&Checked> = checked
        .iter()
        .filter(|c| c.proof == Proof::Failed)
        .collect();
    let before = receipts.iter().filter(|r| r.proof == Proof::Failed).count();
    let count = receipts.len() as u64;
    let tree = BatchTree::new(receipts.iter().map(|r| &r.receipt));
    let leaf = pb::ReceiptBatch {
        root: tree.root().to_vec(),
        count,
        first,
        proofs_verified: count - (failed.len() + before) as u64,
    };
    let id = outbox::append_id("receipts", &[&first.to_be_bytes()]);
    let paths = (0..).zip(&receipts).map(|(index, receipt)| {
        let path = tree.path(index);
        let path = path.ok_or(ArchiveError::Damaged("a leaf outside of its batch"))?;
        Ok((receipt.record, path))
    });
    let paths = paths.collect::<Result<Vec<_>, ArchiveError>>()?;
    app.write_and_wake("batch", &[News::Outbox], async |conn| {
        for proof in [Proof::Verified, Proof::Failed] {
            let of = checked.iter().filter(|c| c.proof == proof);
            let numbers: Vec<u64> = of.map(|c| c.record).collect();
            records::set_proof(conn, scope, &numbers, archived(&receipts), proof).await?;
        }
        batches::insert(conn, scope, first, count, &id).await?;
        batches::keep_paths(conn, scope, first, &paths).await?;
        for c in &failed {
            let id = outbox::append_id("proof", &[c.envelope.as_bytes()]);
            outbox::put(conn, scope, &id, incident(c), None).await?;
        }
        outbox::put(conn, scope, &id, Event::Receipts(leaf), None).await?;
        Ok(())
    })
    .await?;
    Ok(receipts.len())
}

/// When the first of them was archived, and the last.
fn archived(receipts: &[Unbatched]) -> (u64, u64) {
    let at = || receipts.iter().map(|receipt| receipt.archived_at);
    (at().min().unwrap_or(0), at().max().unwrap_or(0))
}

/// The batch's work stands in the trace of its first record; the others are linked.
fn span(receipts: &[Unbatched]) -> Span {
    let Some((first, others)) = receipts.split_first() else {
        return Span::none();
    };
    let span = trace::of(
        first.digest.as_bytes(),
        tracing::info_span!("archive.batch"),
    );
    for other in others {
        trace::also(other.digest.as_bytes(), &span);
    }
    span
}

async fn check_proofs(
    app: &Arc<App>,
    receipts: &[Unbatched],
) -> Result<Vec<Checked>, ArchiveError> {
    let unchecked = || receipts.iter().filter(|r| r.proof == Proof::Unchecked);
    let envelopes: Vec<_> = unchecked().map(|receipt| receipt.digest).collect();
    let mut found = wraps::load_all(app.wraps.read(), &app.scope, &envelopes).await?;
    let unchecked: Vec<Unchecked> = unchecked()
        .map(|receipt| Unchecked {
            record: receipt.record,
            envelope: receipt.envelope.clone().unwrap_or_default(),
            wraps: found.remove(&receipt.digest).unwrap_or_default(),
        })
        .collect();
    if unchecked.is_empty() {
        return Ok(Vec::new());
    }
    let app = app.clone();
    greffe_service_kit::blocking(move || proofs::check(&app.trust(), &unchecked))
        .await
        .map_err(|_| ArchiveError::Stopping)
}

/// A proof that does not hold: the receipt stands, nodes will refuse to open the record, and everybody can see it.
fn incident(checked: &Checked) -> Event {
    tracing::error!(envelope = %checked.envelope, "a proof of knowledge does not hold");
    Event::Refusal(pb::Refusal {
        reason: PROOF_INVALID.to_owned(),
        operation: "archive.proofs".to_owned(),
        caller: checked.device.clone(),
        subject: checked.envelope.to_vec(),
    })
}
