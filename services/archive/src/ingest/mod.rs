//! Ingest: one task takes entries of all conversations, archives up to 512 of them at a time, and answers in order.
//!
//! It judges a batch before it opens a transaction, and holds the database only for the rows. Other archives may write records
//! too: what a batch was planned on is compared inside the transaction, and a batch that was overtaken is planned again.

pub mod entry;
mod found;
pub mod judge;
mod keep;
mod plan;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use greffe_api::archive as api;
use greffe_service_kit::clock::not_behind;
use greffe_service_kit::errors::{Causes, ServiceError};
use greffe_types::{ConversationId, Millis};
use tokio::sync::{mpsc, oneshot};

use crate::app::App;
use crate::error::ArchiveError;
use crate::jobs::months;
use crate::store::conversations::{self, Conversation};
use crate::store::months::MonthError;
use crate::store::{keys, records};

use entry::{Entry, Kind};
use found::Found;
use judge::Court;
use plan::{Looked, Outcome, Planned, Planner, retry_response};

pub use plan::SEQUENCE_TAKEN;

/// Most entries of one batch.
const MAX_BATCH: usize = 512;
/// Most bytes of ciphertext of one batch.
const MAX_BATCH_BYTES: usize = 64 << 20;
/// Most entries that wait.
const QUEUE: usize = 1024;
/// Conversations that the task remembers.
const REMEMBERED: usize = 100_000;
/// How often an entry is planned at most, when what its plan rested on was not so any more.
const TRIES: u32 = 5;
/// How far the archive's clock may be behind the newest log entry.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// What the relay is answered, or the refusal that ends its stream.
pub type Answer = Result<api::IngestResponse, ServiceError>;

struct Job {
    entry: Entry,
    answer: oneshot::Sender<Answer>,
    /// How often it was planned and could not be kept.
    tries: u32,
}

/// Hands entries to the task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ingest {
    jobs: mpsc::Sender<Job>,
}

impl Ingest {
    /// Starts the task. It ends when every handle is gone.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn start(app: Arc<App>) -> Result<Self, ArchiveError> {
        let (jobs, receiver) = mpsc::channel(QUEUE);
        let worker = Worker {
            relay_fence: conversations::relay_fence(app.db.read(), &app.scope).await?,
            next_record: keys::last(app.db.read(), &app.scope).await? + 1,
            conversations: HashMap::new(),
            app,
        };
        tokio::spawn(worker.run(receiver));
        Ok(Self { jobs })
    }

    /// Queues an entry; the answer comes when it is durable. Entries are taken in the order of these calls.
    ///
    /// # Errors
    /// [`ArchiveError::Stopping`].
    pub async fn submit(&self, entry: Entry) -> Result<oneshot::Receiver<Answer>, ArchiveError> {
        let (answer, answered) = oneshot::channel();
        self.jobs
            .send(Job {
                entry,
                answer,
                tries: 0,
            })
            .await
            .map_err(|_| ArchiveError::Stopping)?;
        Ok(answered)
    }
}

struct Worker {
    app: Arc<App>,
    relay_fence: u64,
    next_record: u64,
    conversations: HashMap<ConversationId, Conversation>,
}

/// A batch while it is planned, off the async threads.
struct Work {
    entries: Vec<(Entry, Looked)>,
    conversations: HashMap<ConversationId, Conversation>,
    relay_fence: u64,
    next_record: u64,
    at: Millis,
}

/// A batch once it is planned.
struct Done {
    outcomes: Vec<Outcome>,
    conversations: HashMap<ConversationId, Conversation>,
    relay_fence: u64,
    next_record: u64,
}

impl Worker {
    async fn run(mut self, mut receiver: mpsc::Receiver<Job>) {
        let mut waiting = VecDeque::new();
        let mut fresh = Vec::with_capacity(MAX_BATCH);
        loop {
            let room = MAX_BATCH.saturating_sub(waiting.len());
            if waiting.is_empty() {
                if receiver.recv_many(&mut fresh, room).await == 0 {
                    return;
                }
            } else {
                while fresh.len() < room
                    && let Ok(job) = receiver.try_recv()
                {
                    fresh.push(job);
                }
            }
            waiting.extend(fresh.drain(..));
            let batch = take_batch(&mut waiting);
            let deferred = self.batch(batch).await;
            for job in deferred.into_iter().rev() {
                waiting.push_front(job);
            }
        }
    }

    /// Archives a batch and answers; gives back what has to be looked at again.
    async fn batch(&mut self, batch: Vec<Job>) -> Vec<Job> {
        let places: Vec<_> = batch
            .iter()
            .map(|job| (job.entry.conversation, job.entry.sequence))
            .collect();
        // A large object is shared by both copies.
        let entries: Vec<Entry> = batch.iter().map(|job| job.entry.clone()).collect();
        let mut jobs: Vec<Option<Job>> = batch.into_iter().map(Some).collect();
        let failed = |error: &ArchiveError| {
            tracing::error!(error = %Causes(error), "nothing was archived");
            matches!(error, ArchiveError::Fenced)
        };
        let planned = match self.plan_anew(entries).await {
            Ok(planned) => planned,
            Err(error) => {
                let fenced = failed(&error);
                for (job, place) in jobs.iter_mut().zip(&places) {
                    give(job, unavailable(place, fenced, &error));
                }
                return Vec::new();
            }
        };

        self.relay_fence = planned.relay_fence;
        let (mut indices, mut store) = (Vec::new(), Vec::new());
        let slots = jobs.iter_mut().enumerate();
        for ((index, job), outcome) in slots.zip(planned.outcomes) {
            match outcome {
                Outcome::Answer(answer) => give(job, Ok(*answer)),
                Outcome::Refuse(refusal) => {
                    self.app.appender.append_refusal(
                        "IngestService.Ingest",
                        "relay",
                        refusal.error.reason().as_str(),
                        refusal.subject.as_bytes(),
                    );
                    give(job, Err(refusal.error));
                }
                // It stays among the jobs.
                Outcome::Defer => {}
                Outcome::Store(planned) => {
                    indices.push(index);
                    store.push(*planned);
                }
            }
        }
        if !store.is_empty() {
            match keep::keep(&self.app, store).await {
                Ok(kept) => {
                    self.settle(planned.conversations, planned.next_record);
                    for (index, planned) in indices.into_iter().zip(&kept) {
                        if let Some(job) = jobs.get_mut(index) {
                            give(job, Ok(Planned::answer(planned)));
                        }
                    }
                }
                Err(error) => {
                    self.conversations.clear();
                    let mended = self.mended(&error).await;
                    let fenced = matches!(error, ArchiveError::Fenced);
                    if !mended {
                        failed(&error);
                    }
                    for index in indices {
                        if let (true, Some(Some(job))) = (mended, jobs.get_mut(index))
                            && job.tries < TRIES
                        {
                            job.tries += 1;
                            continue;
                        }
                        if let (Some(place), Some(job)) = (places.get(index), jobs.get_mut(index)) {
                            give(job, unavailable(place, fenced, &error));
                        }
                    }
                }
            }
        }
        jobs.into_iter().flatten().collect()
    }

    /// Whether the same may be planned again at once, after what was in its way was put right.
    async fn mended(&self, error: &ArchiveError) -> bool {
        match error {
            ArchiveError::Overtaken => true,
            ArchiveError::Month(MonthError::Missing) => months::make(&self.app, self.app.now())
                .await
                .inspect_err(
                    |error| tracing::error!(causes = %Causes(error), "this month was not made"),
                )
                .is_ok(),
            _ => false,
        }
    }

    fn settle(&mut self, after: HashMap<ConversationId, Conversation>, next_record: u64) {
        if self.conversations.len() + after.len() > REMEMBERED {
            self.conversations.clear();
        }
        // What nothing is known of may yet be told by the log.
        self.conversations
            .extend(after.into_iter().filter(|(_, c)| c.chain.sequence > 0));
        self.next_record = next_record;
    }

    /// Forgets what is remembered when another archive has written records since, then plans.
    async fn plan_anew(&mut self, entries: Vec<Entry>) -> Result<Done, ArchiveError> {
        let (db, scope) = (self.app.db.read(), &self.app.scope);
        let next = keys::last(db, scope).await? + 1;
        if next != self.next_record {
            self.conversations.clear();
            let seen = conversations::relay_fence(db, scope).await?;
            self.relay_fence = self.relay_fence.max(seen);
            self.next_record = next;
        }
        self.plan(entries).await
    }

    async fn plan(&self, entries: Vec<Entry>) -> Result<Done, ArchiveError> {
        let at = self.app.now();
        let logged = Millis::new(self.app.logged_at.load(Ordering::Relaxed));
        if let Err(behind) = not_behind(at, logged, CLOCK_TOLERANCE) {
            return Err(ServiceError::new(
                tonic::Code::Unavailable,
                greffe_service_kit::clock::CLOCK_BEHIND_LOG,
                behind.to_string(),
            )
            .into());
        }
        let mut work = Work {
            entries: Vec::with_capacity(entries.len()),
            conversations: HashMap::new(),
            relay_fence: self.relay_fence,
            next_record: self.next_record,
            at,
        };
        self.look_up(&mut work, entries).await?;
        let app = self.app.clone();
        greffe_service_kit::blocking(move || plan_all(&app, work))
            .await
            .map_err(|_| ArchiveError::Stopping)?
    }

    /// What the database says of a batch's entries.
    async fn look_up(&self, work: &mut Work, entries: Vec<Entry>) -> Result<(), ArchiveError> {
        self.conversations_of(work, &entries).await?;
        let is_new = |entry: &Entry| {
            let known = work.conversations.get(&entry.conversation);
            known.is_none_or(|known| entry.sequence > known.chain.sequence)
        };
        let found = Found::of(&self.app, entries.iter().filter(|entry| is_new(entry))).await?;
        let mut looked = Vec::with_capacity(entries.len());
        for entry in entries {
            let known = if is_new(&entry) {
                Looked::New(found.known(&entry))
            } else {
                let (id, sequence) = (&entry.conversation, entry.sequence);
                let (db, scope) = (self.app.db.read(), &self.app.scope);
                let answered = records::answered(db, scope, id, sequence)
                    .await?
                    .ok_or(ArchiveError::Damaged("a number without its record"))?;
                Looked::Answered(Box::new(answered))
            };
            looked.push((entry, known));
        }
        work.entries = looked;
        Ok(())
    }

    /// The conversations of a batch, remembered or not.
    async fn conversations_of(
        &self,
        work: &mut Work,
        entries: &[Entry],
    ) -> Result<(), ArchiveError> {
        let mut unknown = BTreeSet::new();
        for id in entries.iter().map(|entry| entry.conversation) {
            match self.conversations.get(&id) {
                Some(known) => {
                    work.conversations.insert(id, *known);
                }
                None => {
                    unknown.insert(id);
                }
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let unknown: Vec<_> = unknown.into_iter().collect();
        let mut db = self.app.db.read().acquire().await?;
        let found = conversations::some_of(&mut db, &self.app.scope, &unknown).await?;
        let start = |id| (id, Conversation::start(id));
        work.conversations.extend(unknown.into_iter().map(start));
        work.conversations.extend(found);
        Ok(())
    }
}

/// Answers a job, which is over then.
fn give(job: &mut Option<Job>, answer: Answer) {
    if let Some(job) = job.take() {
        // A relay that has gone asks again.
        let _gone = job.answer.send(answer);
    }
}

/// Up to [`MAX_BATCH_BYTES`] of what waits, and at least one.
fn take_batch(waiting: &mut VecDeque<Job>) -> Vec<Job> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while let Some(job) = waiting.pop_front() {
        bytes += match &job.entry.kind {
            Kind::Message(message) => message.ciphertext.len(),
            Kind::Handshake(handshake) => handshake.public_message.len(),
            Kind::Malformed(_) => 0,
        };
        if bytes > MAX_BATCH_BYTES && !batch.is_empty() {
            waiting.push_front(job);
            break;
        }
        batch.push(job);
    }
    batch
}

/// Judges, chains and signs a batch. Blocks: signatures are verified here.
fn plan_all(app: &App, work: Work) -> Result<Done, ArchiveError> {
    let trust = app.trust();
    let signer = app.receipts.name(trust.bundle(), work.at)?;
    let mut planner = Planner {
        court: Court {
            trust: &trust,
            packs: &app.packs,
            at: work.at,
        },
        key: &app.receipts,
        signer,
        conversations: work.conversations,
        relay_fence: work.relay_fence,
        next_record: work.next_record,
        kem: HashSet::new(),
        subjects: HashSet::new(),
    };
    let mut outcomes = Vec::with_capacity(work.entries.len());
    for (entry, looked) in work.entries {
        outcomes.push(planner.plan(entry, looked));
    }
    Ok(Done {
        outcomes,
        conversations: planner.conversations,
        relay_fence: planner.relay_fence,
        next_record: planner.next_record,
    })
}

/// Nothing was archived: the relay tries again, unless another archive process has taken over.
fn unavailable(place: &(ConversationId, u64), fenced: bool, error: &ArchiveError) -> Answer {
    if fenced {
        return Err(ArchiveError::Fenced.into());
    }
    let reason = match error {
        ArchiveError::Refused(refused) => refused.reason().as_str(),
        ArchiveError::Month(MonthError::Missing) => crate::error::MONTH_MISSING.as_str(),
        ArchiveError::Month(MonthError::Detached(_)) => crate::error::MONTH_DETACHED.as_str(),
        _ => crate::error::STORE_UNAVAILABLE.as_str(),
    };
    Ok(retry_response(&place.0, place.1, reason))
}
