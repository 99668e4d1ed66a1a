//! Pauses between attempts, each twice the last, up to a limit.

use core::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// How long to wait before the next attempt.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self(FIRST)
    }

    /// Something worked: the next failure is a first one.
    pub(crate) fn reset(&mut self) {
        self.0 = FIRST;
    }

    /// Waits.
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(LONGEST);
    }
}
