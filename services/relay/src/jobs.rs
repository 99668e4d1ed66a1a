//! What is counted and swept now and then: counted by every replica, swept by the leader.

use core::time::Duration;
use std::sync::Arc;

use greffe_service_kit::errors::Causes;
use greffe_service_kit::telemetry::metrics;

use crate::app::App;

/// Between two sweeps.
const PAUSE: Duration = Duration::from_secs(60);

/// Between two looks at what waits.
const LOOK: Duration = Duration::from_secs(1);

/// Counts what waits, says how much it is and since when, and stores what could not be stored before, for as long as it is
/// polled.
pub(crate) async fn measure(app: Arc<App>) {
    loop {
        app.pipeline.tell_stalled().await;
        if let Err(error) = app.pipeline.look().await {
            tracing::warn!(causes = %Causes(&error), "what waits could not be counted");
        }
        let (items, bytes) = app.pipeline.backlog();
        metrics::RELAY_UNARCHIVED_ITEMS.set(items);
        metrics::RELAY_UNARCHIVED_SIZE.set(bytes);
        metrics::RELAY_UNARCHIVED_AGE.since(app.pipeline.oldest());
        metrics::RELAY_UNDELIVERED_AGE.since(app.mailbox.oldest());
        tokio::time::sleep(LOOK).await;
    }
}

/// Sweeps for as long as it is polled.
pub(crate) async fn run(app: Arc<App>) {
    loop {
        tokio::time::sleep(PAUSE).await;
        if let Err(error) = app.sweep_directory().await {
            tracing::warn!(causes = %Causes(&error), "a sweep failed and will be tried again");
        }
    }
}
