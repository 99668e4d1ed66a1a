//! How far what is published lags behind what was acknowledged.

use core::time::Duration;

use greffe_service_kit::clock::SharedClock;
use greffe_service_kit::db::Database;
use greffe_service_kit::telemetry::metrics;
use greffe_types::Millis;
use tokio::sync::watch;

use crate::state::State;
use crate::store;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);

/// Looks for as long as it is polled.
pub(crate) async fn run(db: Database, clock: SharedClock, state: watch::Receiver<State>) {
    // Leaves at a look that had unpublished ones, and when that was.
    let mut oldest: Option<(u64, Millis)> = None;
    loop {
        if let Ok(count) = store::count(db.read()).await {
            let published = state.borrow().published.clone();
            let published = published.map_or(0, |published| published.head().size);
            oldest = match oldest {
                _ if published >= count => None,
                Some((mark, since)) if published < mark => Some((mark, since)),
                _ => Some((count, clock.now())),
            };
            metrics::AUDIT_UNPUBLISHED_LEAVES.set(count.saturating_sub(published));
            metrics::AUDIT_UNPUBLISHED_AGE.since(oldest.map(|(_, since)| since));
        }
        tokio::time::sleep(LOOK).await;
    }
}
