//! Reads every object again in turn: compares it, its lock and its legal hold with what the rows say, and puts right what it can.
//!
//! Rows are the guide, so an object that every bucket has lost is found too. A hold that binds a record, now or by its query
//! later, gets to its objects as a legal hold of the store within one round; it comes off when the record is disposed of.

use std::sync::Arc;
use std::time::Duration;

use greffe_service_kit::errors::Causes;
use greffe_service_kit::telemetry::metrics;
use greffe_types::{Digest, Millis};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::error::ArchiveError;
use crate::jobs::disposition;
use crate::store::dispositions::Step;
use crate::store::months::MonthError;
use crate::store::reads::Record;
use crate::store::{attachments, holds, keys, reads, wraps};

/// Longest pause between two records: a small archive is read again more often than it has to be.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What a round found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Round {
    /// Objects that were read.
    pub checked: u64,
    /// Of them, with something wrong.
    pub failed: u64,
    /// Of these, put right.
    pub repaired: u64,
    /// Objects under a legal hold.
    pub held: u64,
}

/// Runs until the service stops: a round within every scrub period.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    loop {
        let last = match keys::last(app.db.read(), &app.scope).await {
            Ok(last) => last,
            Err(error) => {
                tracing::warn!(causes = %Causes(&error), "the scrub cannot read the records");
                0
            }
        };
        let steps = u32::try_from(last).unwrap_or(u32::MAX).max(1);
        let pause = (app.config.scrub_period() / steps).min(LONGEST_PAUSE);
        for record in 0..=last {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            // There is no record 0: an empty archive waits a pause as well.
            let _round = record_or_warn(&app, record).await;
        }
    }
}

/// Reads every object once, without pauses.
///
/// # Errors
/// When the rows cannot be read.
pub async fn round(app: &App) -> Result<Round, ArchiveError> {
    let last = keys::last(app.db.read(), &app.scope).await?;
    let mut whole = Round::default();
    for record in 1..=last {
        let one = record_or_warn(app, record).await;
        whole.checked += one.checked;
        whole.failed += one.failed;
        whole.repaired += one.repaired;
        whole.held += one.held;
    }
    Ok(whole)
}

async fn record_or_warn(app: &App, record: u64) -> Round {
    let mut round = Round::default();
    let scrubbed = scrub(app, record, &mut round).await;
    // A month that its owner has detached says nothing of its objects.
    let detached = matches!(scrubbed, Err(ArchiveError::Month(MonthError::Detached(_))));
    if let (Err(error), false) = (scrubbed, detached) {
        metrics::ARCHIVE_SCRUB_ERRORS.add(1);
        tracing::warn!(record, causes = %Causes(&error), "a record's objects could not be scrubbed");
    }
    round
}

async fn scrub(app: &App, record: u64, round: &mut Round) -> Result<(), ArchiveError> {
    let Some((names, until, held)) = expected(app, record).await? else {
        return stay_destroyed(app, record).await;
    };
    for name in names {
        // An object that is removed meanwhile would be put back by the repair.
        let removing = app.removing.lock().await;
        if expected(app, record).await?.is_none() {
            return Ok(());
        }
        let scrubbed = app.objects.scrub(name, until).await?;
        round.checked += 1;
        metrics::ARCHIVE_SCRUB_CHECKED.add(1);
        for (place, finding) in &scrubbed.findings {
            tracing::error!(object = %name, place, finding = finding.as_str(), lost = scrubbed.lost,
                "an object is not as it was written");
        }
        if !scrubbed.clean() {
            let repaired = u64::from(!scrubbed.lost);
            round.failed += 1;
            round.repaired += repaired;
            metrics::ARCHIVE_SCRUB_FAILED.add(1);
            metrics::ARCHIVE_SCRUB_REPAIRED.add(repaired);
        }
        if held && !scrubbed.lost {
            if let Err(error) = app.objects.hold(&name).await {
                metrics::ARCHIVE_HOLD_ERRORS.add(1);
                return Err(error.into());
            }
            round.held += 1;
        }
        drop(removing);
    }
    Ok(())
}

/// Wraps that were destroyed and are back, with an older copy of the erasable store, are destroyed again.
async fn stay_destroyed(app: &App, record: u64) -> Result<(), ArchiveError> {
    let mut conn = app.db.read().acquire().await?;
    let found = reads::by_number(&mut conn, &app.scope, record).await?;
    drop(conn);
    let destroyed = |found: &Record| found.summary.disposal >= Step::WrapsDestroyed as i64;
    let Some(found) = found.filter(destroyed) else {
        return Ok(());
    };
    let envelope = found.summary.digest;
    let back = !wraps::load(app.wraps.read(), &app.scope, &envelope)
        .await?
        .is_empty()
        || wraps::mls_message(app.wraps.read(), &app.scope, &envelope)
            .await?
            .is_some();
    if back {
        tracing::error!(
            record,
            "wraps that were destroyed are back: they are destroyed again"
        );
        disposition::destroy(app, &envelope).await?;
    }
    Ok(())
}

/// A live record's objects, until when they have to be locked, and whether a hold binds it.
async fn expected(
    app: &App,
    record: u64,
) -> Result<Option<(Vec<Digest>, Millis, bool)>, ArchiveError> {
    let mut conn = app.db.read().acquire().await?;
    let found = reads::by_number(&mut conn, &app.scope, record).await?;
    let Some(found) = found.filter(|found| found.summary.disposal == 0) else {
        return Ok(None);
    };
    let mut names = attachments::of_record(&mut *conn, &app.scope, record).await?;
    if let Some(content) = &found.content {
        names.push(crate::store::digest(content)?);
    }
    let bearing = holds::on(&mut conn, &app.scope, record).await?;
    let held = bearing.standing(app.now()).next().is_some();
    Ok(Some((names, Millis::new(found.summary.retain_until), held)))
}
