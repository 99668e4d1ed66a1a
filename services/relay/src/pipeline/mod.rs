//! The hot path: cheap checks, proof of knowledge, a number, the archive's receipt, release.
//!
//! ```text
//! check     reads only: encoding, session, membership, notice, disclosure, signature, chain, attachments
//! proofs    a lane for each conversation's hash: batches of proofs of knowledge on the blocking pool, order kept
//! sequence  ONE transaction for what waits: number, item, payload (the outbox to the archive), member's counter
//! archive   one Ingest stream, in the order of the numbers, taken up again from items without a receipt
//! release   receipts verified, stored in one transaction; then senders are answered and mailboxes woken
//! ```
//!
//! Every replica checks, proves and sequences: the database lets one transaction in after the other, so each decides on what
//! all of them have done. The leader alone carries to the archive and releases; the others read what it released in the
//! order of release, woken or now and then.
//!
//! What survives a power cut: everything from `sequence` on. A sender without an answer sends the same envelope again and
//! gets the stored receipt, or waits for it. A commit is a barrier: until it is archived nothing else of its conversation
//! gets a number, so a commit that the archive refuses can be undone.

mod archive;
mod batch;
mod check;
mod commit;
mod fair;
mod feed;
mod load;
mod proofs;
mod refusal;
mod release;
mod sequence;
mod waiters;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use greffe_api::relay as api;
use greffe_envelope::pb;
use greffe_service_kit::boot::SharedTrust;
use greffe_service_kit::clock::SharedClock;
use greffe_service_kit::db::lease::Lease;
use greffe_service_kit::db::{Connection, Database};
use greffe_service_kit::telemetry::trace;
use greffe_service_kit::tls::Channel;
use greffe_types::{ConversationId, Digest, Millis};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::Span;

pub use commit::{AddedMember, Commit};
pub use fair::DeviceLimits;
pub use feed::Feed;
pub use refusal::MessageRefusal;
pub(crate) use refusal::void_reason;

use crate::devices::Devices;
use crate::error::RelayError;
use crate::mailbox::Mailbox;
use crate::replicas::{self, TOPIC};
use crate::session::Session;
use crate::store::{Scope, conversations, items};
use load::Load;
use proofs::Lanes;
use sequence::Job;
use waiters::Waiters;

/// Jobs that may wait between two stages.
const QUEUE: usize = 1024;

/// What the pipeline works with.
pub struct Deps {
    /// The relay's database.
    pub db: Database,
    /// Whose rows.
    pub scope: Scope,
    /// The time.
    pub clock: SharedClock,
    /// The tenant's trust, kept current by the log's follower.
    pub trust: SharedTrust,
    /// Registered certificates.
    pub devices: Arc<Devices>,
    /// The archive.
    pub archive: Channel,
    /// Whom to wake.
    pub mailbox: Arc<Mailbox>,
    /// Takes refusals to the log.
    pub record: Recorder,
    /// Items that may wait for the archive.
    pub backlog_items: u64,
    /// Bytes of them.
    pub backlog_bytes: u64,
    /// What of it all one device may have.
    pub device: DeviceLimits,
}

/// Takes a refusal to the log without waiting: operation, caller, stable reason, subject.
pub type Recorder = Arc<dyn Fn(&'static str, String, &'static str, Option<Digest>) + Send + Sync>;

/// How a sequenced item ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// Its number.
    pub sequence: u64,
    /// The archive's receipt.
    pub receipt: pb::SignedStatement,
    /// The void, when the archive refused.
    pub void: Option<pb::SignedStatement>,
}

/// How a job ends: settled, or refused without a number.
pub(crate) type Answer = Result<Arc<Settled>, RelayError>;

/// What the stages share.
pub(crate) struct Core {
    pub(crate) db: Database,
    pub(crate) scope: Scope,
    clock: SharedClock,
    trust: SharedTrust,
    mailbox: Arc<Mailbox>,
    record: Recorder,
    devices: Arc<Devices>,
    load: Arc<Load>,
    waiters: Waiters,
    /// Something was sequenced.
    sequenced: Notify,
    /// Answers were lost on our side: ask the archive again.
    resume: Notify,
    /// Conversations whose archive and relay contradict each other, as the leader found out since it leads. The database
    /// tells the others.
    stalled: Mutex<HashMap<ConversationId, Stall>>,
}

/// Why a conversation is stopped.
#[derive(Clone, Copy)]
struct Stall {
    why: &'static str,
    /// Whether the database has it.
    told: bool,
}

/// The hot path; dropping it does not stop it, [`Pipeline::stop`] does.
pub struct Pipeline {
    core: Arc<Core>,
    lanes: Lanes,
    archive: Channel,
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pipeline")
    }
}

impl Pipeline {
    /// Starts the stages that every replica has.
    ///
    /// # Errors
    /// [`RelayError::Database`].
    pub async fn start(deps: Deps) -> Result<Self, RelayError> {
        let waiting = items::backlog(deps.db.read(), &deps.scope).await?;
        let core = Arc::new(Core {
            devices: deps.devices,
            load: Arc::new(Load::new(
                (deps.backlog_items, deps.backlog_bytes),
                deps.device,
                waiting,
                deps.clock.now(),
            )),
            waiters: Waiters::default(),
            sequenced: Notify::new(),
            resume: Notify::new(),
            stalled: Mutex::default(),
            db: deps.db,
            scope: deps.scope,
            clock: deps.clock,
            trust: deps.trust,
            mailbox: deps.mailbox,
            record: deps.record,
        });
        let mut tasks = JoinSet::new();
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let lanes = Lanes::start(&core, jobs, &mut tasks);
        tasks.spawn(sequence::run(core.clone(), waiting));
        Ok(Self {
            core,
            lanes,
            archive: deps.archive,
            stop: watch::Sender::new(false),
            tasks: Mutex::new(tasks),
        })
    }

    /// Starts the leader's stages; what was sequenced before and has no receipt goes to the archive first.
    ///
    /// # Errors
    /// The database's.
    pub async fn lead(&self, lease: &Lease) -> Result<(), RelayError> {
        let (db, scope) = (&self.core.db, &self.core.scope);
        // Whoever led before may have been wrong: what was stopped is compared anew.
        db.run_tx("resume", async |conn: &mut Connection| {
            Ok::<_, RelayError>(conversations::resume_all(conn, scope).await?)
        })
        .await?;
        let stopped = self.stop.subscribe();
        let (answers, answered) = mpsc::channel(QUEUE);
        let (core, archive, fence) = (&self.core, self.archive.clone(), lease.fence());
        let mut tasks = lock(&self.tasks);
        tasks.spawn(release::run(core.clone(), answered));
        tasks.spawn(archive::run(core.clone(), archive, fence, answers, stopped));
        Ok(())
    }

    /// What the leader has released, from now on.
    ///
    /// # Errors
    /// The database's.
    pub async fn feed(&self) -> Result<Feed, RelayError> {
        Feed::new(self.core.clone()).await
    }

    /// Something was sequenced by another replica.
    pub fn sequenced_elsewhere(&self) {
        self.core.sequenced.notify_one();
    }

    /// A conversation was stopped by another replica.
    pub fn stalled_elsewhere(&self, conversation: &ConversationId) {
        self.core.waiters.free(conversation);
    }

    /// Counts what waits for the archive.
    ///
    /// # Errors
    /// The database's.
    pub async fn look(&self) -> Result<(), RelayError> {
        let waiting = items::backlog(self.core.db.read(), &self.core.scope).await?;
        self.core.load.looked(waiting, self.core.clock.now());
        Ok(())
    }

    /// Tells the other replicas of conversations that this one stopped while the database could not be written.
    pub async fn tell_stalled(&self) {
        let untold: Vec<_> = lock(&self.core.stalled)
            .iter()
            .filter(|(_, stall)| !stall.told)
            .map(|(conversation, stall)| (*conversation, stall.why))
            .collect();
        for (conversation, why) in untold {
            self.core.tell_stall(conversation, why).await;
        }
    }

    /// Takes one message of a device as far as the proof of knowledge; what comes back gives its answer. Messages of one
    /// device have to be handed in one after the other: their counters are dense.
    ///
    /// # Errors
    /// [`RelayError::Busy`] and failures of our own, which end the stream; refusals are answers.
    pub async fn accept(
        &self,
        session: &Session,
        request: api::SendRequest,
    ) -> Result<Pending, RelayError> {
        let digest = refusal::digest_of(&request);
        let span = trace::of(digest.as_bytes(), tracing::info_span!("relay.send"));
        let refused = match self.check_and_queue(session, request).await {
            Ok(answer) => {
                return Ok(Pending {
                    digest,
                    answer,
                    _span: span,
                });
            }
            Err(error) if refusal::ends_stream(&error) => return Err(error),
            Err(error) => error,
        };
        self.core.refused("Send", session, &refused, Some(digest));
        let (sender, answer) = oneshot::channel();
        // The receiver is at hand.
        let _ = sender.send(Err(refused));
        Ok(Pending {
            digest,
            answer,
            _span: span,
        })
    }

    async fn check_and_queue(
        &self,
        session: &Session,
        request: api::SendRequest,
    ) -> Result<oneshot::Receiver<Answer>, RelayError> {
        let (sender, answer) = oneshot::channel();
        match check::check(&self.core, session, request).await? {
            check::Outcome::Known(digest, conversation, device) => {
                self.core
                    .wait_for(digest, conversation, device, sender)
                    .await?;
            }
            check::Outcome::Checked(message) => {
                let size = message.payload.len();
                let held = self.core.load.room(session.device, size).await?;
                let job = Job::message(*message, sender, held, session.clone());
                self.lanes.push(job).await?;
            }
        }
        Ok(answer)
    }

    /// Gives a commit a number behind every earlier message of its conversation, and waits for the archive. The same commit
    /// again answers the same.
    ///
    /// # Errors
    /// [`RelayError::EpochStale`] when another commit was first, [`RelayError::CommitPending`], [`RelayError::Voided`] when
    /// the archive refused it: the conversation is then in the epoch it was in.
    pub async fn submit_commit(
        &self,
        session: &Session,
        commit: Commit,
    ) -> Result<Arc<Settled>, RelayError> {
        let (sender, answer) = oneshot::channel();
        let size = commit.commit.len();
        let held = self.core.load.room(session.device, size).await?;
        let digest = commit.digest();
        let job = Job::commit(commit, sender, held, session.clone());
        self.lanes.push(job).await?;
        let settled = answer.await.map_err(|_| RelayError::Stopping)??;
        match &settled.void {
            None => Ok(settled),
            Some(void) => Err(RelayError::Voided(void_reason(void, digest))),
        }
    }

    /// A commit that was sequenced before, with its receipt when there is one; waits for it otherwise.
    ///
    /// # Errors
    /// Failures of our own.
    pub async fn known_commit(
        &self,
        session: &Session,
        conversation: ConversationId,
        digest: Digest,
    ) -> Result<Option<Arc<Settled>>, RelayError> {
        let known = items::by_digest(self.core.db.read(), &self.core.scope, &digest).await?;
        let Some(known) = known else {
            return Ok(None);
        };
        if known.conversation != conversation || known.device != session.device {
            return Err(RelayError::Conflict);
        }
        let (sender, answer) = oneshot::channel();
        self.core
            .wait_for(digest, conversation, session.device, sender)
            .await?;
        answer.await.map_err(|_| RelayError::Stopping)?.map(Some)
    }

    /// Stops: what has no number is refused as busy, what is on its way to the archive stays in the outbox.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        self.lanes.close();
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        while tasks.join_next().await.is_some() {}
    }

    /// Since when the oldest item waits for the archive.
    pub fn oldest(&self) -> Option<Millis> {
        self.core.load.oldest()
    }

    /// How many items wait for the archive, and their bytes.
    pub fn backlog(&self) -> (u64, u64) {
        self.core.load.backlog()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// A message on its way.
#[derive(Debug)]
pub struct Pending {
    digest: Digest,
    answer: oneshot::Receiver<Answer>,
    /// From its check to its answer.
    _span: Span,
}

impl Pending {
    /// Its answer, once there is one.
    ///
    /// # Errors
    /// Failures of our own, which end the stream.
    pub async fn answer(self) -> Result<api::SendResponse, RelayError> {
        let answer = self.answer.await.map_err(|_| RelayError::Stopping)?;
        match answer {
            Ok(settled) => Ok(api::SendResponse {
                envelope: self.digest.to_vec(),
                sequence: settled.sequence,
                receipt: Some(settled.receipt.clone()),
                void: settled.void.clone(),
                reason: String::new(),
                message: String::new(),
            }),
            Err(error) if refusal::ends_stream(&error) => Err(error),
            Err(error) => Ok(api::SendResponse {
                envelope: self.digest.to_vec(),
                reason: error.reason().to_owned(),
                message: error.to_string(),
                ..Default::default()
            }),
        }
    }
}

impl Core {
    /// Answers with the stored receipt, or once there is one.
    async fn wait_for(
        &self,
        digest: Digest,
        conversation: ConversationId,
        device: greffe_types::DeviceId,
        sender: oneshot::Sender<Answer>,
    ) -> Result<(), RelayError> {
        // First wait, then look: a release in between finds the waiter.
        let wait = self.waiters.wait(digest, sender);
        let known = items::by_digest(self.db.read(), &self.scope, &digest).await?;
        let known = known.filter(|k| k.conversation == conversation && k.device == device);
        match known {
            None => wait.answer(Err(RelayError::Conflict)),
            Some(known) => match settled(&known)? {
                Some(settled) => wait.answer(Ok(Arc::new(settled))),
                None => wait.goes_on(),
            },
        }
        Ok(())
    }

    fn is_stalled(&self, conversation: &ConversationId) -> bool {
        lock(&self.stalled).contains_key(conversation)
    }

    /// Nothing of this conversation moves any more until somebody has looked at it.
    async fn stall(&self, conversation: ConversationId, why: &'static str) {
        self.stop_here(conversation, why, false);
        self.tell_stall(conversation, why).await;
    }

    async fn tell_stall(&self, conversation: ConversationId, why: &'static str) {
        let scope = &self.scope;
        let told = self
            .db
            .run_tx("stall", async |conn: &mut Connection| {
                conversations::stall(conn, scope, &conversation, why).await?;
                self.tell(conn, &replicas::stalled(&conversation)).await?;
                Ok::<_, RelayError>(())
            })
            .await;
        match told {
            Ok(()) => {
                if let Some(stall) = lock(&self.stalled).get_mut(&conversation) {
                    stall.told = true;
                }
            }
            // Here it stands still all the same.
            Err(error) => {
                tracing::error!(%conversation, %error, "other replicas are told later that it is stopped");
            }
        }
    }

    fn stop_here(&self, conversation: ConversationId, why: &'static str, told: bool) {
        tracing::error!(%conversation, why, "relay and archive contradict each other: the conversation is stopped");
        lock(&self.stalled).insert(conversation, Stall { why, told });
        self.waiters.free(&conversation);
    }

    /// Tells the other replicas with the transaction's commit.
    async fn tell(&self, conn: &mut Connection, what: &str) -> sqlx::Result<()> {
        self.db.notify(conn, TOPIC, [what.to_owned()]).await
    }

    fn refused(
        &self,
        operation: &'static str,
        session: &Session,
        error: &RelayError,
        subject: Option<Digest>,
    ) {
        if error.is_recorded() {
            let caller = format!("device:{}", session.device);
            (self.record)(operation, caller, error.reason(), subject);
        }
    }
}

/// How a sequenced item ended, if it has.
fn settled(known: &items::Sequenced) -> Result<Option<Settled>, RelayError> {
    let Some(receipt) = &known.receipt else {
        return Ok(None);
    };
    let void = known.void.as_deref().map(statement).transpose()?;
    Ok(Some(Settled {
        sequence: known.sequence,
        receipt: statement(receipt)?,
        void,
    }))
}

/// A stored statement.
pub(crate) fn statement(bytes: &[u8]) -> Result<pb::SignedStatement, RelayError> {
    prost::Message::decode(bytes).map_err(|_| RelayError::Damaged("statement"))
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
