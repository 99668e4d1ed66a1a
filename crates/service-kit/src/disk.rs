//! A disk that did not keep what it was given: the process writes nothing more and ends, and the next one goes on from what is
//! there.
//!
//! After a failed fsync the system may have forgotten which bytes are missing: another fsync of the same file succeeds and they
//! are not there. So it is never tried again, and nothing is answered that would rest on it.

use core::fmt;
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use crate::errors::Reason;

/// Something could not be made durable: the process ends.
pub const NOT_DURABLE: Reason = Reason::new("NOT_DURABLE");

/// Why nothing more is written.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "NOT_DURABLE: an fsync of {0} failed, so nothing more is written and this process ends; look at the disk and start it again: it \
     goes on from what is there"
)]
pub struct NotDurable(String);

/// Whether everything that was to be durable is. Cheap to clone: a service's databases and those who write files beside them
/// share one.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    what: OnceLock<String>,
    lost: CancellationToken,
}

impl Disk {
    /// An fsync has failed: whoever shares this writes nothing more.
    pub fn failed(&self, what: impl fmt::Display) {
        let what = self.0.what.get_or_init(|| what.to_string());
        tracing::error!(reason = %NOT_DURABLE, what, "an fsync failed: the process ends");
        self.0.lost.cancel();
    }

    /// Refuses once an fsync has failed.
    ///
    /// # Errors
    /// [`NotDurable`].
    pub fn check(&self) -> Result<(), NotDurable> {
        match self.0.what.get() {
            None => Ok(()),
            Some(what) => Err(NotDurable(what.clone())),
        }
    }

    /// Comes back once an fsync has failed.
    pub async fn lost(&self) {
        self.0.lost.cancelled().await;
    }
}

impl From<NotDurable> for sqlx::Error {
    fn from(error: NotDurable) -> Self {
        Self::Io(std::io::Error::other(error))
    }
}
