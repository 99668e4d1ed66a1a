//! Carrying dispositions out: wraps first, then the tombstone, then the objects. Every step may be interrupted and repeated.
//!
//! ```text
//! decided → wraps destroyed, journal emptied → tombstone in the log → objects removed → gone
//! ```
//! The tombstone's entry is written only once the wraps are gone for good: the log never says so too early. Objects go last,
//! because without wraps they say nothing, and wraps without objects would still be keys.

use core::time::Duration;

use greffe_envelope::pb::Tombstone;
use greffe_envelope::pb::log_entry::Event;
use greffe_service_kit::db::Connection;
use greffe_service_kit::errors::{Causes, Reason, ServiceError};
use greffe_service_kit::telemetry::metrics;
use greffe_types::{Digest, Millis};
use prost::Message as _;
use tonic::Code;

use crate::app::{App, News};
use crate::error::ArchiveError;
use crate::store::dispositions::{self, Disposition, Step};
use crate::store::{decode, keys, months, outbox, removals, wraps};

/// How often emptying the journal is tried while readers are in the way, and how long between.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);
/// How long the one that leads is waited for, and after how long a caller may ask again.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);

/// The disposition is decided; the archive that leads has not brought it to its end yet.
pub const DISPOSITION_UNDER_WAY: Reason = Reason::new("DISPOSITION_UNDER_WAY");

/// Goes on with every disposition that was interrupted.
///
/// # Errors
/// Only when the database cannot be read: one disposition that fails does not keep the others, and is tried again.
pub async fn sweep(app: &App) -> Result<(), ArchiveError> {
    let mut conn = app.db.read().acquire().await?;
    let unfinished = dispositions::unfinished(&mut conn, &app.scope).await?;
    drop(conn);
    for record in unfinished {
        if let Err(error) = carry_out(app, record).await {
            metrics::ARCHIVE_DISPOSITION_ERRORS.add(1);
            tracing::warn!(record, causes = %Causes(&error), "a disposition was interrupted");
        }
    }
    Ok(())
}

/// Carries a decided disposition out, from wherever it stands to its end.
///
/// # Errors
/// When a step fails; what was done stays done, and a later call goes on from there.
pub async fn carry_out(app: &App, record: u64) -> Result<(), ArchiveError> {
    while step(app, record).await? {}
    Ok(())
}

/// Waits until a decided disposition is over: here, when this process leads, or by the one that does. Its objects may wait
/// longer, for months that are detached.
///
/// # Errors
/// As [`carry_out`], when this process leads; [`DISPOSITION_UNDER_WAY`] when the one that does is not done soon: what holds it up
/// only that one knows.
pub async fn finished(app: &App, record: u64) -> Result<(), ArchiveError> {
    let mut moved = app.signals.logged.subscribe();
    let patience = tokio::time::sleep(PATIENCE);
    tokio::pin!(patience);
    loop {
        if app.leads() {
            return carry_out(app, record).await;
        }
        moved.borrow_and_update();
        let mut conn = app.db.read().acquire().await?;
        let found = dispositions::get(&mut conn, &app.scope, record).await?;
        let over = match found.map(|found| found.step) {
            None | Some(Step::Live | Step::Gone) => true,
            Some(Step::Logged) => months::detached(&mut *conn, 0, 0).await?.is_some(),
            Some(Step::Decided | Step::WrapsDestroyed) => false,
        };
        drop(conn);
        if over {
            return Ok(());
        }
        tokio::select! {
            changed = moved.changed() => changed.map_err(|_| ArchiveError::Stopping)?,
            () = &mut patience => return Err(under_way().into()),
        }
    }
}

fn under_way() -> ServiceError {
    ServiceError::new(
        Code::Unavailable,
        DISPOSITION_UNDER_WAY,
        "the disposition is decided and goes on, at the archive that leads; send the same act again for its answer",
    )
    .retry_after(RETRY)
}

/// Takes the next step; false when none is left, or none can be taken now.
///
/// # Errors
/// As [`carry_out`].
pub async fn step(app: &App, record: u64) -> Result<bool, ArchiveError> {
    let mut conn = app.db.read().acquire().await?;
    let found = dispositions::get(&mut conn, &app.scope, record).await?;
    drop(conn);
    let Some(disposition) = found else {
        return Ok(false);
    };
    match disposition.step {
        Step::Live | Step::Gone => return Ok(false),
        Step::Decided => destroy_wraps(app, &disposition).await?,
        Step::WrapsDestroyed => await_tombstone(app, &disposition).await?,
        Step::Logged => return remove_objects(app, &disposition).await,
    }
    Ok(true)
}

/// Takes in from the log that a record was disposed of: a database that was restored from before goes the same way again. One
/// that knows of it is left alone.
///
/// # Errors
/// [`ArchiveError`].
pub async fn again(
    app: &App,
    conn: &mut Connection,
    tombstone: &Tombstone,
    at: u64,
) -> Result<(), ArchiveError> {
    let Ok(envelope) = Digest::try_from(tombstone.envelope.as_slice()) else {
        return Ok(());
    };
    let Some(key) = keys::by_digest(&mut *conn, &app.scope, &envelope).await? else {
        return Ok(());
    };
    let decided = dispositions::New {
        record: key.record,
        decided_at: at,
        backups_expire_at: tombstone.backups_expire_at,
        append: &outbox::append_id("tombstone", &[envelope.as_bytes()]),
        tombstone: &tombstone.encode_to_vec(),
    };
    if dispositions::decide(conn, &app.scope, &decided).await? {
        tracing::warn!(
            record = key.record,
            "the log has a record's tombstone: it is disposed of again"
        );
    }
    Ok(())
}

/// Destroys an envelope's wraps, and leaves no trace of them where the database can overwrite it.
///
/// # Errors
/// [`ArchiveError`]; again is safe.
pub async fn destroy(app: &App, envelope: &Digest) -> Result<(), ArchiveError> {
    let at = app.now();
    app.wraps
        .run_tx("destroy_wraps", async |conn| {
            wraps::destroy(conn, &app.scope, envelope, at)
                .await
                .map_err(ArchiveError::from)
        })
        .await?;
    empty_journal(app).await
}

async fn destroy_wraps(app: &App, disposition: &Disposition) -> Result<(), ArchiveError> {
    destroy(app, &name(&disposition.digest)?).await?;
    let tombstone: Tombstone = decode(&disposition.tombstone)?;
    let append = append(disposition)?;
    app.write_and_wake("disposition_wraps", &[News::Outbox], async |conn| {
        let (from, to) = (Step::Decided, Step::WrapsDestroyed);
        if dispositions::advance(conn, &app.scope, disposition.record, from, to).await? {
            let event = Event::Tombstone(tombstone);
            outbox::put(conn, &app.scope, &append, event, None).await?;
        }
        Ok(())
    })
    .await
}

/// Nothing that was destroyed may stay in the write-ahead log.
async fn empty_journal(app: &App) -> Result<(), ArchiveError> {
    for _ in 1..TRIES {
        if app.wraps.scrub_deleted().await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(app.wraps.scrub_deleted().await?)
}

async fn await_tombstone(app: &App, disposition: &Disposition) -> Result<(), ArchiveError> {
    app.logged(&append(disposition)?).await?;
    // What is left to do may wait for a month: whoever waits at another archive waits for this.
    app.write_and_wake("disposition_logged", &[News::Disposals], async |conn| {
        let (from, to) = (Step::WrapsDestroyed, Step::Logged);
        dispositions::advance(conn, &app.scope, disposition.record, from, to).await?;
        Ok(())
    })
    .await
}

/// False while a month is detached: the objects, which say nothing without wraps, wait for it.
async fn remove_objects(app: &App, disposition: &Disposition) -> Result<bool, ArchiveError> {
    let _removing = app.removing.lock().await;
    let released = app
        .write("disposition_objects", async |conn| {
            Ok(dispositions::release_objects(conn, &app.scope, disposition).await?)
        })
        .await?;
    let Some(free) = released else {
        tracing::debug!(
            disposition.record,
            "its objects wait for a month that is detached"
        );
        return Ok(false);
    };
    // The decision was made by a trusted time; every record that named the object has been decided on.
    let now = app.now().max(Millis::new(disposition.decided_at));
    for object in &free {
        app.objects.remove(*object, now).await?;
    }
    app.write_and_wake("disposition_gone", &[News::Disposals], async |conn| {
        let (from, to) = (Step::Logged, Step::Gone);
        for object in &free {
            removals::over(conn, &app.scope, object).await?;
        }
        dispositions::advance(conn, &app.scope, disposition.record, from, to).await?;
        Ok(())
    })
    .await?;
    Ok(true)
}

fn name(bytes: &[u8]) -> Result<Digest, ArchiveError> {
    Digest::try_from(bytes).map_err(|_| ArchiveError::Damaged("a digest of a disposition"))
}

fn append(disposition: &Disposition) -> Result<[u8; 16], ArchiveError> {
    let id = disposition.append.as_slice();
    id.try_into()
        .map_err(|_| ArchiveError::Damaged("a disposition's append id"))
}
