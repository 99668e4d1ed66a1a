//! The outbox to the archive: one Ingest stream, items in the order of their numbers, many on their way.
//!
//! Nothing is remembered here but what is on its way: a stream that breaks, an archive that asks to try again, or a restart
//! begins anew with the items that have no receipt, and the archive answers what it knows with the receipt it gave. A
//! conversation that the archive cannot take yet is left out until the next stream, and does not hold up the others.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greffe_api::archive as api;
use greffe_api::archive::ingest_service_client::IngestServiceClient;
use greffe_api::relay::DeliveredMessage;
use greffe_service_kit::errors::{CallError, Causes};
use greffe_service_kit::tls::Channel;
use greffe_types::{ConversationId, Digest};
use prost::Message as _;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Core, lock};
use crate::error::RelayError;
use crate::store::items::{Kind, OutboxRow};
use crate::store::{commits, conversations, items, members};

/// Items of one read of the outbox.
const PAGE: u32 = 32;
/// Items on their way.
const ITEMS: usize = 256;
/// KiB of them.
const KIB: usize = 32 * 1024;
/// How long an archive that asks to try again may take to answer what else is on its way.
const DRAIN: Duration = Duration::from_secs(5);
/// How long we wait before we look again without having been woken.
const IDLE: Duration = Duration::from_secs(1);
/// First and longest pause between two streams.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// A handshake of 1 MiB and its disclosure, or a message with its certificate.
const MAX_MESSAGE: usize = 4 << 20;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the archive ended the stream")]
    Closed,
    #[error("the archive's stream failed")]
    Stream(#[from] Status),
    #[error("the archive asks to try again: {0}")]
    Retry(String),
    #[error("the outbox cannot be read")]
    Outbox(#[from] RelayError),
    #[error("answers were lost on our side")]
    Resume,
}

/// Carries items to the archive until told to stop.
pub(super) async fn run(
    core: Arc<Core>,
    archive: Channel,
    fence: u64,
    answers: mpsc::Sender<api::IngestResponse>,
    mut stop: watch::Receiver<bool>,
) {
    let mut pause = BACKOFF.0;
    loop {
        let stream = Stream {
            core: &core,
            fence,
            client: IngestServiceClient::new(archive.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            items: Arc::new(Semaphore::new(ITEMS)),
            bytes: Arc::new(Semaphore::new(KIB)),
            way: Mutex::default(),
            again: Mutex::default(),
            answered: AtomicBool::new(false),
        };
        let ended = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            ended = stream.carry(&answers, pause) => ended,
        };
        tracing::warn!(why = %Causes(&ended), "the stream to the archive begins anew");
        let worked = stream.answered.load(Ordering::Relaxed);
        match ended {
            // It has waited already.
            Ended::Retry(_) => {
                pause = (pause * 2).min(BACKOFF.1);
                continue;
            }
            _ if worked => pause = BACKOFF.0,
            _ => {}
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(BACKOFF.1);
    }
}

/// Permits of an item on its way.
type Held = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// What is on its way, and in which order it went.
#[derive(Default)]
struct Way {
    held: HashMap<(ConversationId, u64), Held>,
    order: VecDeque<(ConversationId, u64)>,
}

impl Way {
    fn sent(&mut self, place: (ConversationId, u64), held: Held) {
        self.held.insert(place, held);
        self.order.push_back(place);
    }

    fn answered(&mut self, place: (ConversationId, u64)) {
        self.held.remove(&place);
        while self
            .order
            .front()
            .is_some_and(|first| !self.held.contains_key(first))
        {
            self.order.pop_front();
        }
    }

    /// What the archive has to answer next.
    fn oldest(&self) -> Option<(ConversationId, u64)> {
        self.order.front().copied()
    }
}

/// The archive asked to try something again.
struct Again {
    reason: String,
    /// When the stream ends for it, or, once nothing more is sent, at the latest.
    deadline: Instant,
    draining: bool,
}

struct Stream<'a> {
    core: &'a Core,
    /// Epoch of our lease: the archive takes nothing of an earlier one.
    fence: u64,
    client: IngestServiceClient<Channel>,
    items: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    way: Mutex<Way>,
    /// Conversations left out of this stream from now on.
    again: Mutex<HashSet<ConversationId>>,
    answered: AtomicBool,
}

impl Stream<'_> {
    async fn carry(&self, answers: &mpsc::Sender<api::IngestResponse>, pause: Duration) -> Ended {
        let (sender, receiver) = mpsc::channel(8);
        let drain = Notify::new();
        let fill = async {
            tokio::select! {
                ended = self.fill(sender) => ended,
                () = drain.notified() => std::future::pending().await,
            }
        };
        tokio::select! {
            Err(error) = fill => Ended::Outbox(error),
            ended = self.read(ReceiverStream::new(receiver), answers, &drain, pause) => ended,
            () = self.core.resume.notified() => Ended::Resume,
        }
    }

    /// Sends what has no receipt, in the order it was sequenced in, and then what comes.
    async fn fill(&self, sender: mpsc::Sender<api::IngestRequest>) -> Result<(), RelayError> {
        let (db, scope) = (self.core.db.read(), &self.core.scope);
        let mut after = 0;
        let mut checked = HashSet::new();
        let mut present = Present::default();
        loop {
            let rows = items::outbox(db, scope, after, PAGE).await?;
            if rows.is_empty() {
                // A permit of the notification is kept, so what came since the read is not missed.
                let sequenced = self.core.sequenced.notified();
                let _ = tokio::time::timeout(IDLE, sequenced).await;
                continue;
            }
            for row in rows {
                after = row.id;
                let id = row.conversation;
                if checked.insert(id) {
                    self.compare(&id).await?;
                }
                if self.core.is_stalled(&id) || lock(&self.again).contains(&id) {
                    continue;
                }
                let kib = u32::try_from(row.payload.len() / 1024 + 1).unwrap_or(u32::MAX);
                let request = self.request(row, &mut present).await?;
                let permits = (
                    self.items.clone().acquire_owned().await,
                    self.bytes.clone().acquire_many_owned(kib).await,
                );
                let (Ok(item), Ok(bytes)) = permits else {
                    return Err(RelayError::Stopping);
                };
                lock(&self.way).sent((id, request.sequence), (item, bytes));
                if sender.send(request).await.is_err() {
                    // The reader says why.
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Hands every answer on. When the archive asks to try something again, the others go on for a pause; then nothing more
    /// is sent, and the stream ends when all is answered.
    async fn read(
        &self,
        requests: ReceiverStream<api::IngestRequest>,
        answers: &mpsc::Sender<api::IngestResponse>,
        drain: &Notify,
        pause: Duration,
    ) -> Ended {
        let mut responses = match self.client.clone().ingest(requests).await {
            Ok(response) => response.into_inner(),
            Err(status) => return self.refused(status).await,
        };
        let mut again: Option<Again> = None;
        loop {
            let next = match &mut again {
                None => responses.message().await,
                Some(again) => {
                    if again.draining && lock(&self.way).oldest().is_none() {
                        return Ended::Retry(std::mem::take(&mut again.reason));
                    }
                    match tokio::time::timeout_at(again.deadline, responses.message()).await {
                        Ok(next) => next,
                        Err(_) if again.draining => {
                            return Ended::Retry(std::mem::take(&mut again.reason));
                        }
                        Err(_) => {
                            drain.notify_one();
                            again.draining = true;
                            again.deadline = Instant::now() + DRAIN;
                            continue;
                        }
                    }
                }
            };
            let response = match next {
                Ok(Some(response)) => response,
                Ok(None) => return Ended::Closed,
                Err(status) => return self.refused(status).await,
            };
            let Ok(id) = ConversationId::try_from(response.conversation.as_slice()) else {
                return Ended::Closed;
            };
            lock(&self.way).answered((id, response.sequence));
            if !response.retry_reason.is_empty() {
                lock(&self.again).insert(id);
                again.get_or_insert_with(|| Again {
                    reason: response.retry_reason,
                    deadline: Instant::now() + pause,
                    draining: false,
                });
                continue;
            }
            self.answered.store(true, Ordering::Relaxed);
            if answers.send(response).await.is_err() {
                return Ended::Closed;
            }
        }
    }

    fn oldest(&self) -> Option<(ConversationId, u64)> {
        lock(&self.way).oldest()
    }

    /// A stream that the archive ended. When it did so because a number has another entry there, no retry helps.
    async fn refused(&self, status: Status) -> Ended {
        let reason = CallError::from(status.clone()).reason;
        if reason.as_deref() == Some("SEQUENCE_TAKEN")
            && let Some((conversation, _)) = self.oldest()
        {
            let why = "the archive holds another entry under a number";
            self.core.stall(conversation, why).await;
        }
        Ended::Stream(status)
    }

    /// Whether the archive holds of a conversation what we know it to hold: a database restored from an older copy, here
    /// or there, would otherwise give numbers twice.
    async fn compare(&self, id: &ConversationId) -> Result<(), RelayError> {
        let request = api::GetConversationStateRequest {
            conversation: id.to_vec(),
        };
        let state = match self.client.clone().get_conversation_state(request).await {
            Ok(state) => state.into_inner(),
            Err(status) => {
                tracing::warn!(%status, "the archive does not say what it holds");
                return Err(RelayError::Busy("the archive does not answer"));
            }
        };
        let row = conversations::get(self.core.db.read(), &self.core.scope, id)
            .await?
            .ok_or(RelayError::Damaged("conversation of an item"))?;
        let contradiction = if state.sequence < row.released {
            Some("the archive has lost what it gave receipts for")
        } else if state.sequence > row.sequence {
            Some("the archive holds numbers that were never given here")
        } else if state.sequence == row.released
            && row.released > 0
            && state.head != row.head.as_bytes()
        {
            Some("the archive holds another chain")
        } else {
            None
        };
        if let Some(why) = contradiction {
            self.core.stall(*id, why).await;
        }
        Ok(())
    }

    async fn request(
        &self,
        row: OutboxRow,
        present: &mut Present,
    ) -> Result<api::IngestRequest, RelayError> {
        let core = self.core;
        let participants = present.at(core, &row).await?;
        let entry = match row.kind {
            Kind::Handshake => {
                let disclosure = disclosure_after(core, &row).await?;
                let trust = core.trust.read();
                let disclosure = trust
                    .disclosure(&disclosure)
                    .ok_or(RelayError::Damaged("disclosure of a commit"))?;
                api::ingest_request::Entry::Handshake(api::IngestHandshake {
                    public_message: row.payload,
                    sender_device: row.device.to_vec(),
                    disclosure: Some(disclosure.signed().raw().clone()),
                })
            }
            Kind::Message | Kind::Void => {
                let message = DeliveredMessage::decode(row.payload.as_slice())
                    .map_err(|_| RelayError::Damaged("payload"))?;
                let cert = core
                    .devices
                    .find(&row.certificate)
                    .await?
                    .ok_or(RelayError::Damaged("certificate of an item"))?;
                api::ingest_request::Entry::Message(api::IngestMessage {
                    envelope: message.envelope,
                    wraps: message.wraps,
                    ciphertext: message.ciphertext,
                    mls_message: message.mls_message,
                    device_cert: Some(cert.raw().clone()),
                })
            }
        };
        Ok(api::IngestRequest {
            conversation: row.conversation.to_vec(),
            sequence: row.sequence,
            fence: self.fence,
            entry: Some(entry),
            participants,
        })
    }
}

/// The disclosure in force after a commit.
async fn disclosure_after(core: &Core, row: &OutboxRow) -> Result<Digest, RelayError> {
    let (db, scope, id) = (core.db.read(), &core.scope, &row.conversation);
    if let Some(next) = commits::disclosure_before_next(db, scope, id, row.sequence).await? {
        return Ok(next);
    }
    let conversation = conversations::get(db, scope, id).await?;
    let conversation = conversation.ok_or(RelayError::Damaged("conversation of an item"))?;
    Ok(conversation.disclosure)
}

/// Who takes part, read again after every commit.
#[derive(Default)]
struct Present(HashMap<ConversationId, Vec<api::Participant>>);

impl Present {
    async fn at(
        &mut self,
        core: &Core,
        row: &OutboxRow,
    ) -> Result<Vec<api::Participant>, RelayError> {
        let id = row.conversation;
        if row.kind != Kind::Handshake
            && let Some(known) = self.0.get(&id)
        {
            return Ok(known.clone());
        }
        let members = members::at(core.db.read(), &core.scope, &id, row.sequence).await?;
        let participants: Vec<_> = members
            .into_iter()
            .map(|(user, device)| api::Participant {
                user,
                device: device.to_vec(),
            })
            .collect();
        if row.kind == Kind::Handshake {
            // Who it removes takes part in it, but not in what follows.
            self.0.remove(&id);
        } else {
            self.0.insert(id, participants.clone());
        }
        Ok(participants)
    }
}
