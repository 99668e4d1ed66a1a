//! The task behind an appender: what is unanswered, the stream it was sent on, and beginning again when that breaks.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::tls::Channel;
use greffe_api::audit::audit_service_client::AuditServiceClient;
use greffe_api::audit::{AppendRequest, AppendResponse};
use greffe_envelope::pb;
use greffe_envelope::statement::decode_strict;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{AppendError, Appended, Job};
use crate::backoff::Backoff;
use crate::errors::{CallError, Causes};

/// Entries sent and unanswered at once.
const WINDOW: usize = 1024;

type Answer = oneshot::Sender<Result<Appended, AppendError>>;

/// An entry that the log has not answered for.
struct Open {
    entry: pb::LogEntry,
    trace: Vec<u8>,
    answers: Vec<Answer>,
    turn: u64,
}

/// What is unanswered, in the order in which it came.
#[derive(Default)]
struct Ledger {
    open: HashMap<[u8; 16], Open>,
    turns: BTreeMap<u64, [u8; 16]>,
    next: u64,
}

impl Ledger {
    /// Takes a job in; gives its id when it has to be sent.
    fn add(&mut self, job: Job) -> Option<[u8; 16]> {
        if let Some(open) = self.open.get_mut(&job.id) {
            if open.entry == job.entry {
                open.answers.push(job.answer);
            } else {
                let _ = job.answer.send(Err(AppendError::Refused {
                    reason: "IDEMPOTENCY_CONFLICT".to_owned(),
                    message: "another entry of the same id is on its way".to_owned(),
                }));
            }
            return None;
        }
        let turn = self.next;
        self.next += 1;
        self.turns.insert(turn, job.id);
        self.open.insert(
            job.id,
            Open {
                entry: job.entry,
                trace: job.trace,
                answers: vec![job.answer],
                turn,
            },
        );
        Some(job.id)
    }

    fn request(&self, id: &[u8; 16]) -> Option<AppendRequest> {
        self.open.get(id).map(|open| AppendRequest {
            id: id.to_vec(),
            entry: Some(open.entry.clone()),
            trace: open.trace.clone(),
        })
    }

    fn answer(&mut self, response: AppendResponse) {
        let Ok(id) = <[u8; 16]>::try_from(response.id.as_slice()) else {
            return;
        };
        // Answered before: it had been sent twice.
        let Some(open) = self.open.remove(&id) else {
            return;
        };
        self.turns.remove(&open.turn);
        let outcome = match response.error {
            Some(error) => Err(AppendError::Refused {
                reason: error.reason,
                message: error.message,
            }),
            None if records(&response.leaf, &open.entry) => Ok(Appended {
                index: response.index,
                leaf: response.leaf,
            }),
            None => Err(AppendError::Forged),
        };
        for answer in open.answers {
            let _ = answer.send(outcome.clone());
        }
    }

    fn is_full(&self) -> bool {
        self.open.len() >= WINDOW
    }
}

/// Whether a leaf records what was asked for; who and when are the log's to say.
fn records(leaf: &[u8], entry: &pb::LogEntry) -> bool {
    decode_strict::<pb::LogEntry>("log-entry", leaf)
        .is_ok_and(|found| found.tenant == entry.tenant && found.event == entry.event)
}

/// Runs until every sender is gone and everything is answered.
pub(super) async fn run(channel: Channel, mut jobs: mpsc::Receiver<Job>) {
    let mut client = AuditServiceClient::new(channel);
    let mut ledger = Ledger::default();
    let mut backoff = Backoff::new();
    loop {
        if ledger.open.is_empty() {
            match jobs.recv().await {
                Some(job) => {
                    ledger.add(job);
                }
                None => return,
            }
        }
        let (requests, sent) = mpsc::channel(WINDOW);
        let outcome = match client.append(ReceiverStream::new(sent)).await {
            Ok(responses) => {
                let responses = responses.into_inner();
                pump(&mut ledger, &mut jobs, &requests, responses, &mut backoff).await
            }
            Err(status) => Err(status),
        };
        match outcome {
            Ok(()) => return,
            Err(status) => {
                let error = CallError::from(status);
                tracing::debug!(causes = %Causes(&error), unanswered = ledger.open.len(), "the log's stream broke");
                backoff.pause().await;
            }
        }
    }
}

/// Sends and receives on one stream until it breaks (an error) or there is nothing left to do (none).
async fn pump(
    ledger: &mut Ledger,
    jobs: &mut mpsc::Receiver<Job>,
    requests: &mpsc::Sender<AppendRequest>,
    mut responses: Streaming<AppendResponse>,
    backoff: &mut Backoff,
) -> Result<(), Status> {
    let mut unsent: VecDeque<[u8; 16]> = ledger.turns.values().copied().collect();
    let mut more = true;
    while more || !ledger.open.is_empty() {
        tokio::select! {
            place = requests.reserve(), if !unsent.is_empty() => {
                let place = place.map_err(|_| Status::unavailable("the stream ended"))?;
                if let Some(request) = unsent.pop_front().and_then(|id| ledger.request(&id)) {
                    place.send(request);
                }
            }
            response = responses.message() => {
                let response = response?.ok_or_else(|| Status::unavailable("the stream ended"))?;
                backoff.reset();
                ledger.answer(response);
            }
            job = jobs.recv(), if more && !ledger.is_full() => match job {
                Some(job) => unsent.extend(ledger.add(job)),
                None => more = false,
            },
        }
    }
    Ok(())
}
