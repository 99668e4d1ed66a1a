//! The months of records on PostgreSQL: made ahead, so that no record waits for its partition.

use std::sync::Arc;
use std::time::Duration;

use greffe_service_kit::errors::Causes;
use greffe_service_kit::health::Condition;
use greffe_service_kit::telemetry::metrics;
use greffe_types::Millis;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::error::ArchiveError;
use crate::store::months;

/// This month and the three after it.
pub const AHEAD: u32 = 4;
/// How often it is looked whether there are enough.
const EVERY: Duration = Duration::from_secs(60);

/// Keeps months ahead, in the process that leads and from when it does, and says whether this one is there, until the service
/// stops.
pub async fn run(app: Arc<App>, condition: Condition, stop: CancellationToken) {
    loop {
        let found = match app.leads() {
            true => ahead(&app, app.now()).await,
            false => there(&app, app.now()).await,
        };
        match found {
            Ok(0) => condition.fail("this month's records have no partition"),
            Ok(_) => condition.hold_for(3 * EVERY),
            Err(error) => {
                tracing::error!(causes = %Causes(&error), "months of records were not made ahead");
                condition.fail("the months of records cannot be made or read");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = app.signals.months.notified() => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Makes what is missing, and gives how many months from an instant's on are there.
///
/// # Errors
/// [`ArchiveError::Database`]: the database refuses them, or fails. Months that are there stay.
pub async fn ahead(app: &App, at: Millis) -> Result<u64, ArchiveError> {
    let mut found = there(app, at).await?;
    if found < u64::from(AHEAD) {
        let made = make(app, at).await;
        found = there(app, at).await?;
        made?;
    }
    Ok(found)
}

/// How many months from an instant's on are there.
async fn there(app: &App, at: Millis) -> Result<u64, ArchiveError> {
    if !app.db.is_shared() {
        return Ok(u64::from(AHEAD));
    }
    let found = months::ahead(&months::all(app.db.read()).await?, at);
    metrics::ARCHIVE_MONTHS_AHEAD.set(found);
    Ok(found)
}

/// Makes what is missing from an instant's month on.
///
/// # Errors
/// As [`ahead`].
pub async fn make(app: &App, at: Millis) -> Result<(), ArchiveError> {
    let made = app
        .write("months", async |conn| {
            Ok(months::ensure(conn, at, AHEAD).await?)
        })
        .await?;
    if made > 0 {
        tracing::info!(made, "months of records were made ahead");
    }
    Ok(())
}
