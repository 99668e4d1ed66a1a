//! What is swept now and then.

use core::time::Duration;
use std::sync::Arc;

use greffe_service_kit::errors::Causes;

use crate::app::App;

/// Between two sweeps.
const PAUSE: Duration = Duration::from_secs(60);

/// Sweeps for as long as it is polled.
pub(crate) async fn run(app: Arc<App>) {
    loop {
        tokio::time::sleep(PAUSE).await;
        if let Err(error) = app.sweep_directory().await {
            tracing::warn!(causes = %Causes(&error), "a sweep failed and will be tried again");
        }
    }
}
