//! Group commit: many requests, one transaction, one fsync.
//!
//! A task takes everything that is waiting, applies it in one transaction and answers each caller once that is durable.
//! While it commits, the next batch gathers: under load batches grow and the fsync's cost is shared, without load a
//! request waits for nobody.

use core::time::Duration;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tonic::Code;

use super::{Connection, Database, store_error};
use crate::errors::{Causes, Reason, ServiceError};
use crate::telemetry;

/// The queue is full: nothing of the request was done.
pub const QUEUE_FULL: Reason = Reason::new("QUEUE_FULL");

/// What is done with a batch of requests.
pub trait Batch: Send + 'static {
    /// One caller's request.
    type Request: Send + 'static;
    /// One caller's answer; what refuses a single request belongs in it.
    type Response: Send + 'static;

    /// Applies the requests in order and gives as many answers, in the same order. An error rolls all of them back.
    fn apply(
        &mut self,
        tx: &mut Connection,
        requests: Vec<Self::Request>,
    ) -> impl Future<Output = Result<Vec<Self::Response>, sqlx::Error>> + Send;

    /// The transaction of the last [`Batch::apply`] is over: what it prepared in memory becomes valid, or is forgotten.
    /// Runs before anybody is answered.
    fn settled(&mut self, committed: bool) {
        let _ = committed;
    }
}

/// How much is taken at once, and how much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupLimits {
    /// Most requests of one transaction.
    pub max_batch: usize,
    /// Most requests waiting.
    pub queue: usize,
}

impl Default for GroupLimits {
    fn default() -> Self {
        Self {
            max_batch: 512,
            queue: 4096,
        }
    }
}

/// Why a request was not answered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GroupError {
    /// The queue is full; nothing was done.
    #[error("too many requests wait for the database")]
    Overloaded,
    /// The transaction failed: all of its requests did.
    #[error("the transaction failed")]
    Failed(#[source] Arc<sqlx::Error>),
    /// The task ended before it came to the request, or while it did: whether it was done is not known.
    #[error("the service is stopping")]
    Stopped,
}

impl From<GroupError> for ServiceError {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::Overloaded => Self::new(
                Code::ResourceExhausted,
                QUEUE_FULL,
                "too many requests wait for the database",
            )
            .retry_after(Duration::from_millis(500)),
            GroupError::Failed(source) => store_error(&source).because(source),
            GroupError::Stopped => Self::new(
                Code::Unavailable,
                crate::serve::SERVICE_STOPPING,
                "the service is stopping",
            )
            .retry_after(Duration::from_secs(1)),
        }
    }
}

struct Waiting<B: Batch> {
    request: B::Request,
    answer: oneshot::Sender<Result<B::Response, GroupError>>,
}

/// Starts groups.
#[derive(Debug, Clone, Copy)]
pub struct GroupCommit;

impl GroupCommit {
    /// Starts the task. It ends when every handle is gone and everything submitted is answered.
    pub fn spawn<B: Batch>(
        name: &'static str,
        db: Database,
        batch: B,
        limits: GroupLimits,
    ) -> GroupHandle<B> {
        let (sender, receiver) = mpsc::channel(limits.queue.max(1));
        tokio::spawn(work(name, db, batch, limits.max_batch.max(1), receiver));
        GroupHandle { name, sender }
    }
}

/// Submits requests. Cheap to clone.
pub struct GroupHandle<B: Batch> {
    name: &'static str,
    sender: mpsc::Sender<Waiting<B>>,
}

impl<B: Batch> Clone for GroupHandle<B> {
    fn clone(&self) -> Self {
        Self {
            name: self.name,
            sender: self.sender.clone(),
        }
    }
}

impl<B: Batch> core::fmt::Debug for GroupHandle<B> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "GroupHandle({})", self.name)
    }
}

impl<B: Batch> GroupHandle<B> {
    /// Submits a request and waits until it is durable. A caller that stops waiting does not undo it.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn submit(&self, request: B::Request) -> Result<B::Response, GroupError> {
        let (answer, answered) = oneshot::channel();
        self.sender
            .try_send(Waiting { request, answer })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => {
                    telemetry::refused(self.name);
                    GroupError::Overloaded
                }
                mpsc::error::TrySendError::Closed(_) => GroupError::Stopped,
            })?;
        answered.await.unwrap_or(Err(GroupError::Stopped))
    }
}

async fn work<B: Batch>(
    name: &'static str,
    db: Database,
    mut batch: B,
    most: usize,
    mut receiver: mpsc::Receiver<Waiting<B>>,
) {
    let mut waiting = Vec::with_capacity(most);
    while receiver.recv_many(&mut waiting, most).await > 0 {
        telemetry::batch(name, waiting.len());
        let (requests, answers): (Vec<_>, Vec<_>) =
            waiting.drain(..).map(|w| (w.request, w.answer)).unzip();
        let count = requests.len();
        let outcome = db
            .run_tx(name, async |tx: &mut Connection| {
                let responses = batch.apply(tx, requests).await?;
                if responses.len() == count {
                    Ok(responses)
                } else {
                    // Committing would leave somebody without an answer or with another's.
                    Err(sqlx::Error::Protocol(format!(
                        "{count} requests had {} answers",
                        responses.len()
                    )))
                }
            })
            .await;
        batch.settled(outcome.is_ok());
        match outcome {
            Ok(responses) => {
                for (answer, response) in answers.into_iter().zip(responses) {
                    let _ = answer.send(Ok(response));
                }
            }
            Err(error) => {
                tracing::error!(group = name, requests = count, causes = %Causes(&error), "a batch failed");
                let error = Arc::new(error);
                for answer in answers {
                    let _ = answer.send(Err(GroupError::Failed(error.clone())));
                }
            }
        }
    }
}
