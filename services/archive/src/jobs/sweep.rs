//! Removes attachments that no message came to name.

use std::sync::Arc;

use greffe_objects::StoreError;
use greffe_service_kit::errors::Causes;
use greffe_service_kit::telemetry::metrics;
use greffe_types::{Digest, Millis};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::error::ArchiveError;
use crate::objects::ObjectError;
use crate::store::{attachments, removals};

/// Most attachments that are looked at in one query.
const PAGE: u32 = 256;

/// Runs until the service stops.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    loop {
        match remove_unnamed(&app).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "unnamed attachments were removed"),
            Err(error) => tracing::error!(causes = %Causes(&error), "the sweep failed"),
        }
        tokio::select! {
            () = tokio::time::sleep(app.config.sweep_interval()) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Removes complete and interrupted uploads that no record names and whose time has run out; gives how many. One that cannot be
/// removed does not keep the others, and is tried again by the next sweep.
///
/// # Errors
/// Only the database's.
pub async fn remove_unnamed(app: &App) -> Result<usize, ArchiveError> {
    let before = app.now().minus(app.config.attachment_life());
    let (mut removed, mut last) = (0, None);
    loop {
        let (db, scope) = (app.db.read(), &app.scope);
        let page = attachments::unnamed_before(db, scope, before, last.as_ref(), PAGE).await?;
        let Some(end) = page.last() else {
            return Ok(removed);
        };
        last = Some(*end);
        for name in &page {
            match remove(app, name, before).await {
                Ok(gone) => removed += usize::from(gone),
                Err(error @ ArchiveError::Objects(_)) => {
                    metrics::ARCHIVE_SWEEP_ERRORS.add(1);
                    tracing::error!(object = %name, causes = %Causes(&error), "an unnamed attachment could not be removed");
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Decides, removes, forgets; false when it is not to be removed now.
async fn remove(app: &App, name: &Digest, before: Millis) -> Result<bool, ArchiveError> {
    let _removing = app.removing.lock().await;
    let now = app.now();
    // Locked for a record that did not come to be: it stays until the lock has run out.
    match app.objects.locked_until(name).await {
        Ok(Some(until)) if now < until => return Ok(false),
        Ok(_) | Err(ObjectError::Missing(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let decided = app
        .write("sweep_decide", async |conn| {
            Ok(attachments::abandon(conn, &app.scope, name, before).await?)
        })
        .await?;
    if !decided {
        return Ok(false);
    }
    // Objects first: a row without its object is found again, an object without its row never.
    let removed = match app.objects.remove(*name, now).await {
        Ok(()) => true,
        // A hold that is not ours is no other case than a lock: nobody's decision to take it off is known here.
        Err(ObjectError::Locked { .. } | ObjectError::Buckets(StoreError::Held(_))) => false,
        Err(error) => return Err(error.into()),
    };
    app.write("sweep_forget", async |conn| {
        if removed {
            attachments::forget(conn, &app.scope, name).await?;
        }
        Ok(removals::over(conn, &app.scope, name).await?)
    })
    .await?;
    Ok(removed)
}
