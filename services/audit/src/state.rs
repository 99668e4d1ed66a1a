//! What the log shows: the newest published checkpoint, and why nothing more is signed when that is so.

use std::sync::Arc;
use std::time::Instant;

use greffe_service_kit::errors::{Reason, ServiceError};
use greffe_tlog::{SignedCheckpoint, TreeHead};
use greffe_types::Millis;
use tokio::sync::watch;
use tonic::Code;

/// The log has fewer leaves than a checkpoint that was signed or cosigned: it was restored from an old copy.
pub const LOG_BEHIND_CHECKPOINT: Reason = Reason::new("LOG_BEHIND_CHECKPOINT");
/// A witness has cosigned another history.
pub const LOG_FORKED: Reason = Reason::new("LOG_FORKED");
/// Leaves, tiles and tree contradict one another.
pub const LOG_DAMAGED: Reason = Reason::new("LOG_DAMAGED");

/// A checkpoint that a quorum has cosigned.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    /// The note with its cosignatures.
    pub(crate) checkpoint: SignedCheckpoint,
    /// The time at which the whole quorum stood by it, by the witnesses' clocks.
    pub(crate) as_of: Millis,
    /// When the witnesses were asked; none for a checkpoint of before this process's start.
    pub(crate) asked: Option<Instant>,
}

impl Published {
    /// Size and root.
    pub(crate) fn head(&self) -> TreeHead {
        self.checkpoint.head()
    }
}

/// Why the log signs no more and takes no entry, until an operator has acted and it is started again.
#[derive(Debug, Clone)]
pub(crate) struct Halt {
    /// Stable reason.
    pub(crate) reason: Reason,
    /// What, why and what to do.
    pub(crate) message: String,
}

impl From<&Halt> for ServiceError {
    fn from(halt: &Halt) -> Self {
        Self::new(Code::FailedPrecondition, halt.reason, halt.message.clone())
    }
}

/// What every call looks at.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// Everything up to its size may be served; nothing beyond.
    pub(crate) published: Option<Arc<Published>>,
    /// Set once, never cleared.
    pub(crate) halted: Option<Arc<Halt>>,
}

impl State {
    /// Leaves that may be served.
    pub(crate) fn size(&self) -> u64 {
        self.published
            .as_ref()
            .map_or(0, |published| published.head().size)
    }
}

/// Signs no more.
pub(crate) fn halt(state: &watch::Sender<State>, reason: Reason, message: String) {
    tracing::error!(%reason, "{message}");
    state.send_modify(|state| {
        state
            .halted
            .get_or_insert_with(|| Arc::new(Halt { reason, message }));
    });
}
