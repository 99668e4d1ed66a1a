//! Passes on to this process what the others did: by notifications, and by looking now and then, since these may be lost.

use std::sync::Arc;
use std::time::Duration;

use greffe_service_kit::db::wake::Wake;
use tokio_util::sync::CancellationToken;

use crate::app::{App, News, TOPIC};

/// How long something may stay unnoticed when its notification was lost.
const EVERY: Duration = Duration::from_secs(1);

/// Runs until the service stops.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    let mut listener = app.db.listen(TOPIC, EVERY);
    loop {
        let wake = tokio::select! {
            wake = listener.next() => wake,
            () = stop.cancelled() => return,
        };
        for news in News::ALL {
            let concerns = match &wake {
                Wake::Look => true,
                Wake::Heard(words) => words.iter().any(|word| word == news.word()),
            };
            if concerns {
                app.signals.wake(news);
            }
        }
    }
}
