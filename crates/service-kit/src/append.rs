//! Appending to the log: one stream for all callers of a process, pipelined, resumed after every interruption.
//!
//! An entry has an id that its caller chose. What is unanswered when the stream breaks is sent again under the same id, and
//! the log gives the same index for it.

mod stream;

use core::time::Duration;

use crate::tls::Channel;
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_types::TenantId;
use tokio::sync::{mpsc, oneshot};
use tonic::Code;

use crate::errors::{Reason, ServiceError};
use crate::telemetry;

/// The log refused an entry; its own reason is in the metadata (`audit_reason`).
pub const AUDIT_REFUSED: Reason = Reason::new("AUDIT_REFUSED");
/// Too many entries wait for the log.
pub const AUDIT_OVERLOADED: Reason = Reason::new("AUDIT_OVERLOADED");
/// The log recorded something else than was asked for.
pub const AUDIT_FORGED: Reason = Reason::new("AUDIT_FORGED");

/// Entries waiting or unanswered.
const QUEUE: usize = 8192;
/// Refusals waiting to be logged. They are made by whoever calls, so they never get in the way of other entries: beyond
/// this they are only counted.
const REFUSALS: usize = 256;

/// An entry's place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// Index of the leaf.
    pub index: u64,
    /// The leaf's exact bytes.
    pub leaf: Vec<u8>,
}

/// Why an entry is not known to be in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The log refused it.
    #[error("the log refused the entry: {reason}: {message}")]
    Refused {
        /// The log's stable reason.
        reason: String,
        /// In words.
        message: String,
    },
    /// Nothing was sent.
    #[error("too many entries wait for the log")]
    Overloaded,
    /// What the log says it recorded is another entry.
    #[error("the log recorded another entry than was asked for")]
    Forged,
    /// The appender's task ended.
    #[error("the service is stopping")]
    Stopped,
}

impl From<AppendError> for ServiceError {
    fn from(error: AppendError) -> Self {
        match &error {
            AppendError::Refused { reason, .. } => Self::new(
                Code::FailedPrecondition,
                AUDIT_REFUSED,
                "the log refused the entry",
            )
            .with("audit_reason", reason),
            AppendError::Overloaded => Self::new(
                Code::ResourceExhausted,
                AUDIT_OVERLOADED,
                "too many entries wait for the log",
            )
            .retry_after(Duration::from_secs(1)),
            AppendError::Forged => Self::new(
                Code::Internal,
                AUDIT_FORGED,
                "the log recorded another entry than was asked for",
            ),
            AppendError::Stopped => Self::new(
                Code::Unavailable,
                crate::serve::SERVICE_STOPPING,
                "the service is stopping",
            )
            .retry_after(Duration::from_secs(1)),
        }
        .because(error)
    }
}

/// An entry on its way.
struct Job {
    id: [u8; 16],
    entry: pb::LogEntry,
    trace: Vec<u8>,
    answer: oneshot::Sender<Result<Appended, AppendError>>,
}

/// Appends entries of one service. Cheap to clone; the task behind it ends with the last clone.
#[derive(Clone)]
pub struct Appender {
    jobs: mpsc::Sender<Job>,
    refusals: mpsc::Sender<pb::Refusal>,
    tenant: TenantId,
}

impl Appender {
    /// Starts the task; the first entry connects. Needs a tokio runtime.
    pub fn new(channel: Channel, tenant: &TenantId) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (refusals, refused) = mpsc::channel(REFUSALS);
        tokio::spawn(stream::run(channel, queue));
        tokio::spawn(log_refusals(jobs.clone(), tenant.clone(), refused));
        Self {
            jobs,
            refusals,
            tenant: tenant.clone(),
        }
    }

    /// Appends an entry and waits until it is durable in the log, however long the log is out of reach: the caller's own
    /// deadline decides. A caller that stops waiting does not take the entry back. The tenant is filled in.
    ///
    /// # Errors
    /// [`AppendError`].
    pub async fn append(&self, id: [u8; 16], entry: pb::LogEntry) -> Result<Appended, AppendError> {
        self.append_in(Vec::new(), id, entry).await
    }

    /// As [`Appender::append`], in the trace of an envelope: the first 16 bytes of its digest.
    ///
    /// # Errors
    /// [`AppendError`].
    pub async fn append_in(
        &self,
        trace: Vec<u8>,
        id: [u8; 16],
        mut entry: pb::LogEntry,
    ) -> Result<Appended, AppendError> {
        self.tenant.as_str().clone_into(&mut entry.tenant);
        let (answer, answered) = oneshot::channel();
        self.jobs
            .try_send(Job {
                id,
                entry,
                trace,
                answer,
            })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => {
                    telemetry::refused("append");
                    AppendError::Overloaded
                }
                mpsc::error::TrySendError::Closed(_) => AppendError::Stopped,
            })?;
        answered.await.unwrap_or(Err(AppendError::Stopped))
    }

    /// As [`Appender::append`], of an event.
    ///
    /// # Errors
    /// [`AppendError`].
    pub async fn append_event(&self, id: [u8; 16], event: Event) -> Result<Appended, AppendError> {
        let entry = pb::LogEntry {
            event: Some(event),
            ..pb::LogEntry::default()
        };
        self.append(id, entry).await
    }

    /// Has a refusal logged, soon: nothing waits for it, and when too many come at once the rest is only counted. `subject`
    /// is a digest or empty.
    pub fn append_refusal(&self, operation: &str, caller: &str, reason: &str, subject: &[u8]) {
        let refusal = pb::Refusal {
            reason: shorten(reason),
            operation: shorten(operation),
            caller: shorten(caller),
            subject: subject.get(..32).unwrap_or(subject).to_vec(),
        };
        if self.refusals.try_send(refusal).is_err() {
            telemetry::refused("append-refusal");
        }
    }
}

impl core::fmt::Debug for Appender {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Appender({})", self.tenant)
    }
}

/// One at a time: whoever makes refusals cannot crowd out what others append.
async fn log_refusals(
    jobs: mpsc::Sender<Job>,
    tenant: TenantId,
    mut refused: mpsc::Receiver<pb::Refusal>,
) {
    while let Some(refusal) = refused.recv().await {
        let mut id = [0; 16];
        if getrandom::fill(&mut id).is_err() {
            continue;
        }
        let entry = pb::LogEntry {
            tenant: tenant.as_str().to_owned(),
            event: Some(Event::Refusal(refusal)),
            ..pb::LogEntry::default()
        };
        let (answer, answered) = oneshot::channel();
        let job = Job {
            id,
            entry,
            trace: Vec::new(),
            answer,
        };
        if jobs.send(job).await.is_err() {
            return;
        }
        if let Ok(Err(error)) = answered.await {
            tracing::warn!(%error, "a refusal was not logged");
        }
    }
}

/// Callers may choose parts of these.
fn shorten(text: &str) -> String {
    text.chars().take(256).collect()
}
