//! Removes attachments that no message came to name.

use std::sync::Arc;

use greffe_service_kit::errors::Causes;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::error::ArchiveError;
use crate::objects::ObjectError;
use crate::store::attachments;

/// Most attachments of one round.
const ROUND: u32 = 256;

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

/// Removes complete and interrupted uploads that no record names and whose time has run out.
///
/// # Errors
/// [`ArchiveError`].
pub async fn remove_unnamed(app: &App) -> Result<usize, ArchiveError> {
    let before = app.now().minus(app.config.attachment_life());
    let _removing = app.removing.lock().await;
    // No record may come to name one of them meanwhile.
    let _naming = app.naming.lock().await;
    let unnamed = attachments::unnamed_before(app.db.read(), &app.scope, before, ROUND).await?;
    if unnamed.is_empty() {
        return Ok(0);
    }
    let now = app.now();
    // Objects first: a row without its object is found again, an object without its row never.
    let mut removed = Vec::new();
    for name in unnamed {
        match app.objects.remove(name, now).await {
            Ok(()) => removed.push(name),
            // Locked for a record that did not come to be: it stays until the lock has run out.
            Err(ObjectError::Locked { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    app.write("sweep_attachments", async |conn| {
        for name in &removed {
            attachments::forget(conn, &app.scope, name).await?;
        }
        Ok(())
    })
    .await?;
    Ok(removed.len())
}
