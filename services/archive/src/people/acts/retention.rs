//! Retention, which people can only make longer: first in the database, then in the locks of the objects.

use greffe_service_kit::db::Connection;
use greffe_service_kit::telemetry::metrics;
use std::collections::BTreeSet;

use greffe_api::archive as api;
use greffe_policy::{Events, Extension};
use greffe_types::{Digest, Millis};

use super::super::records::message;
use super::super::refusal::{
    self, PACK_UNKNOWN, RECORD_DISPOSED, RECORD_UNKNOWN, RETENTION_CHANGED, field, require,
};
use super::super::signers::{Acts, signers};
use super::{done, reason, retried};
use crate::app::{App, News};
use crate::error::ArchiveError;
use crate::store::attachments;
use crate::store::reads::{self, Record};

/// Records of one act.
const MAX_RECORDS: usize = 1000;
/// The first millisecond of the year 10000: dates stay below it.
const END_OF_DATES: u64 = 253_402_300_800_000;

/// Extends the retention of records, of all of them or of none.
pub(super) async fn extend(app: &App, acts: &Acts) -> Result<[u8; 16], ArchiveError> {
    let about: api::RetentionAct = acts.about()?;
    reason(&about.reason)?;
    require(about.retain_until < END_OF_DATES, "act.retain_until")?;
    let records = about
        .records
        .iter()
        .map(|digest| Digest::try_from(digest.as_slice()).map_err(|_| field("act.records")))
        .collect::<Result<BTreeSet<_>, _>>()?;
    // Named twice, a record would be found extended already.
    let unique = records.len() == about.records.len();
    require(
        (1..=MAX_RECORDS).contains(&records.len()) && unique,
        "act.records",
    )?;
    let to = Millis::new(about.retain_until);
    let append = app
        .write_and_wake("retention_extend", &[News::Outbox], async |conn| {
            if let Some(append) = retried(app, conn, acts).await? {
                return Ok(append);
            }
            for digest in &records {
                extend_one(app, conn, acts, digest, to).await?;
            }
            done(app, conn, acts).await
        })
        .await?;
    // After the transaction: a lock that has grown can never shrink again, so it follows what was permitted. A retry does
    // this again.
    for digest in &records {
        lock(app, digest, to).await?;
    }
    Ok(append)
}

async fn extend_one(
    app: &App,
    conn: &mut Connection,
    acts: &Acts,
    digest: &Digest,
    to: Millis,
) -> Result<(), ArchiveError> {
    let record = reads::by_digest(conn, &app.scope, digest)
        .await?
        .ok_or_else(|| RECORD_UNKNOWN.refuse())?;
    message(&record)?;
    let Record {
        summary,
        policy_digest,
        ..
    } = record;
    if summary.disposal != 0 {
        return Err(RECORD_DISPOSED.refuse().into());
    }
    let pack = policy_digest
        .and_then(|digest| app.packs.get(&digest))
        .ok_or_else(|| PACK_UNKNOWN.refuse())?;
    let permit = greffe_policy::extend(&Extension {
        pack,
        record: *digest,
        class: &summary.record_class,
        archived_at: Millis::new(summary.archived_at),
        events: &Events::none(),
        current: Millis::new(summary.retain_until),
        to,
        now: app.now(),
        signers: &signers(acts.all()),
    })
    .map_err(|error| refusal::extension(&error))?
    .into_inner();
    let span = (permit.from.get(), permit.to.get());
    if !reads::extend(conn, &app.scope, summary.record, span).await? {
        return Err(RETENTION_CHANGED.refuse().into());
    }
    Ok(())
}

/// Moves the locks of a record's objects to its new date.
async fn lock(app: &App, digest: &Digest, until: Millis) -> Result<(), ArchiveError> {
    let mut conn = app.db.read().acquire().await?;
    let Some(record) = reads::by_digest(&mut conn, &app.scope, digest).await? else {
        return Ok(());
    };
    let mut names = attachments::of_record(&mut *conn, &app.scope, record.summary.record).await?;
    drop(conn);
    if let Some(content) = record.content {
        names.push(crate::store::digest(&content)?);
    }
    for name in names {
        if let Err(error) = app.objects.lock(name, until).await {
            metrics::ARCHIVE_RETENTION_ERRORS.add(1);
            return Err(error.into());
        }
    }
    Ok(())
}
