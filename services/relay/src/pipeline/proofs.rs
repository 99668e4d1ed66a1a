//! The proof of knowledge, checked in batches on the blocking pool: nothing gets a number before it holds.
//!
//! A conversation always takes the same lane, so its messages and commits keep their order.

use std::sync::{Arc, Mutex};

use greffe_envelope::wrap::{ProofJob, verify_proofs};
use greffe_types::ConversationId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::sequence::Job;
use super::{Core, MessageRefusal, QUEUE, lock};
use crate::error::RelayError;

/// Most messages of one batch: it bounds how long a small one behind it waits.
const BATCH: usize = 64;
/// Most lanes, hence threads that the proofs keep busy.
const LANES: usize = 4;

pub(super) struct Lanes(Mutex<Vec<mpsc::Sender<Job>>>);

impl Lanes {
    pub(super) fn start(
        core: &Arc<Core>,
        next: mpsc::Sender<Job>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let lanes = (0..count.min(LANES)).map(|_| {
            let (sender, waiting) = mpsc::channel(QUEUE);
            tasks.spawn(run(core.clone(), waiting, next.clone()));
            sender
        });
        Self(Mutex::new(lanes.collect()))
    }

    /// Hands a job to its lane, waiting while it is full: the caller's stream is then not read on.
    pub(super) async fn push(&self, job: Job) -> Result<(), RelayError> {
        let lane = {
            let lanes = lock(&self.0);
            let at = lane_of(&job.conversation(), lanes.len());
            lanes.get(at).cloned()
        };
        let lane = lane.ok_or(RelayError::Stopping)?;
        lane.send(job).await.map_err(|_| RelayError::Stopping)
    }

    /// Takes nothing more.
    pub(super) fn close(&self) {
        lock(&self.0).clear();
    }
}

fn lane_of(conversation: &ConversationId, lanes: usize) -> usize {
    let sum: usize = conversation
        .as_bytes()
        .iter()
        .map(|b| usize::from(*b))
        .sum();
    sum % lanes.max(1)
}

async fn run(core: Arc<Core>, mut waiting: mpsc::Receiver<Job>, next: mpsc::Sender<Job>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let jobs = std::mem::take(&mut batch);
        let proven = if jobs.iter().any(Job::has_proofs) {
            match greffe_service_kit::blocking(move || verify(jobs)).await {
                Ok(proven) => proven,
                Err(error) => {
                    // The jobs are dropped with it; their senders see a stream that ends.
                    tracing::error!(%error, "checking proofs of knowledge failed");
                    continue;
                }
            }
        } else {
            jobs.into_iter().map(|job| (job, None)).collect()
        };
        for (job, refused) in proven {
            match refused {
                Some(why) => job.refuse(&core, MessageRefusal::Proof(why).into()),
                None => {
                    if next.send(job).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

type Proven = Vec<(Job, Option<greffe_envelope::wrap::ProofError>)>;

/// All proofs of a batch at once; a job is refused for the first of its own that does not hold.
fn verify(jobs: Vec<Job>) -> Proven {
    let proofs: Vec<(usize, ProofJob<'_>)> = jobs
        .iter()
        .enumerate()
        .filter_map(|(at, job)| Some((at, job.as_message()?)))
        .flat_map(|(at, message)| {
            let keys = message.disclosure.keys().iter();
            keys.zip(&message.wraps).map(move |(key, wrap)| {
                let rd = message.rd;
                (at, ProofJob { key, rd, wrap })
            })
        })
        .collect();
    let batch: Vec<ProofJob<'_>> = proofs.iter().map(|(_, job)| *job).collect();
    let mut refused = vec![None; jobs.len()];
    for ((at, _), result) in proofs.iter().zip(verify_proofs(&batch)) {
        if let (None, Err(why)) = (&refused[*at], result) {
            refused[*at] = Some(why);
        }
    }
    jobs.into_iter().zip(refused).collect()
}
