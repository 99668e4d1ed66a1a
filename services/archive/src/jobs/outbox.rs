//! Sends the outbox to the audit log, in order, and notes where each entry stands.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use greffe_envelope::pb::log_entry::Event;
use greffe_service_kit::append::AppendError;
use greffe_service_kit::clock::CLOCK_BEHIND_LOG;
use greffe_service_kit::errors::Causes;
use tokio_util::sync::CancellationToken;

use crate::app::{App, News};
use crate::error::ArchiveError;
use crate::store::keys;
use crate::store::outbox::{self, Logged, Waiting};

/// Entries on their way at once.
const WINDOW: u32 = 256;
/// How long a failure is waited out.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs until the service stops.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    let work = async {
        loop {
            match send_waiting(&app).await {
                Ok(0) => app.signals.outbox.notified().await,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(causes = %Causes(&error), "the outbox waits");
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

/// Sends what waits; gives how many were answered. An entry that could not be sent stays for the next time.
///
/// # Errors
/// When the database failed, or nothing could be sent.
pub async fn send_waiting(app: &App) -> Result<usize, ArchiveError> {
    let waiting = outbox::waiting(app.db.read(), &app.scope, WINDOW).await?;
    if waiting.is_empty() {
        return Ok(0);
    }
    let sent = join_all(waiting.iter().map(|entry| send(app, entry))).await;
    let mut outcomes = Vec::with_capacity(sent.len());
    for (entry, sent) in waiting.iter().zip(sent) {
        // What comes after one that waits would overtake it: its outcome is noted all the same, it is in the log.
        if let Some(outcome) = sent {
            outcomes.push((entry.number, outcome));
        }
    }
    if outcomes.is_empty() {
        return Err(ArchiveError::LogUnavailable);
    }
    app.write_and_wake("outbox_answers", &[News::Logged], async |conn| {
        for (number, outcome) in &outcomes {
            outbox::answer(conn, &app.scope, *number, outcome).await?;
        }
        Ok(())
    })
    .await?;
    Ok(outcomes.len())
}

/// None when the log cannot be reached now.
async fn send(app: &App, waiting: &Waiting) -> Option<Result<Logged, String>> {
    if waiting.not_after.is_some_and(|end| end <= app.now()) {
        return Some(Err("EXPIRED".to_owned()));
    }
    let trace = trace_of(app, waiting).await;
    let sent = app
        .appender
        .append_in(trace, waiting.id, waiting.entry.clone());
    match sent.await {
        Ok(appended) => Some(Ok(Logged {
            index: appended.index,
            leaf: appended.leaf,
        })),
        // The log's own trouble; it says nothing about the entry.
        Err(AppendError::Refused { reason, .. }) if reason == CLOCK_BEHIND_LOG.as_str() => None,
        Err(AppendError::Refused { reason, .. }) => {
            tracing::error!(number = waiting.number, reason, "the log refused an entry");
            Some(Err(reason))
        }
        Err(error) => {
            tracing::debug!(causes = %Causes(&error), "an entry could not be sent");
            None
        }
    }
}

/// A batch's leaf stands in the trace of its first record.
async fn trace_of(app: &App, waiting: &Waiting) -> Vec<u8> {
    let Some(Event::Receipts(batch)) = &waiting.entry.event else {
        return Vec::new();
    };
    match keys::digest_of(app.db.read(), &app.scope, batch.first).await {
        Ok(Some(digest)) => digest.as_bytes()[..16].to_vec(),
        // Only telemetry would miss it.
        Ok(None) | Err(_) => Vec::new(),
    }
}
