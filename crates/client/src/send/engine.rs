//! The sender's task: keeps a stream of messages on their way, matches the answers, and seals anew what came too late.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use greffe_api::relay as api;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::verify_void;
use greffe_types::{ConversationId, Digest};
use tokio::sync::{OwnedMutexGuard, mpsc};
use tonic::{Code, Status};

use super::flight::{Flight, Open, next};
use super::prepare::Ready;
use super::seal::Sealed;
use super::{Job, Sent};
use crate::device::{Device, Pause};
use crate::error::{ClientError, Result, call, malformed, untrusted};
use crate::membership::EPOCH_STALE;
use crate::receive::body;
use crate::store::{Op, OutboxKind, OutboxRow};

/// Messages on their way.
const WINDOW: usize = 256;
/// Messages sealed together.
const BATCH: usize = 64;
/// How often a message is sealed anew before it is given up.
const ATTEMPTS: u32 = 16;
/// Another commit is being archived: what was refused goes out again as it is.
const COMMIT_PENDING: &str = "COMMIT_PENDING";
/// An earlier message of this device was refused, so the later ones stand in a wrong place.
const FOLLOWERS: [&str; 2] = ["COUNTER_MISMATCH", "PREVIOUS_MISMATCH"];
/// How long an unused sender stays: messages one after another share its stream.
const LINGER: Duration = Duration::from_secs(5);
/// How long messages go out again for a commit that is being archived.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keeps a device's messages on their way.
pub(super) struct Engine {
    device: Device,
    jobs: mpsc::Receiver<Job>,
    inflight: VecDeque<Flight>,
    /// Refused without a number, by conversation, with the reasons, until all of the conversation are answered.
    refused: HashMap<ConversationId, Vec<(Flight, String)>>,
    stream: Option<Open>,
    /// Verified receipts that the database does not know of yet; at worst these go out once more.
    answered: Vec<Digest>,
    /// Number and head of the last own receipt of each conversation.
    chain: HashMap<ConversationId, (u64, Digest)>,
    pause: Pause,
    owed: Owed,
    _turn: OwnedMutexGuard<()>,
}

/// Messages that were given up in memory and stay stored. What comes later follows them by counter, so that it cannot go
/// out before them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owed {
    /// Memory has everything that is stored.
    Nothing,
    /// The relay could not be reached: they go out again by themselves.
    Retried,
    /// Something else was wrong, and would be again at once: they go out before the next message.
    Awaited,
}

/// A message of an earlier sender or try, which nobody waits for any more.
fn recovered(row: &OutboxRow) -> Result<Flight> {
    Ok(Flight {
        sealed: Sealed::stored(row)?,
        outgoing: None,
        answer: None,
        attempts: 0,
        since: Instant::now(),
    })
}

fn is_unsent(row: &&OutboxRow) -> bool {
    row.kind == OutboxKind::Message && !row.payload.is_empty()
}

impl Engine {
    pub(super) fn new(
        device: Device,
        jobs: mpsc::Receiver<Job>,
        stored: Vec<OutboxRow>,
        turn: OwnedMutexGuard<()>,
    ) -> Result<Self> {
        let unsent = stored.iter().filter(is_unsent);
        let inflight = unsent.map(recovered).collect::<Result<_>>()?;
        Ok(Self {
            pause: device.client().pause(),
            device,
            jobs,
            inflight,
            refused: HashMap::new(),
            stream: None,
            answered: Vec::new(),
            chain: HashMap::new(),
            owed: Owed::Nothing,
            _turn: turn,
        })
    }

    /// Sends until nobody can hand anything over any more and everything is answered.
    pub(super) async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut open = true;
        while open || !self.inflight.is_empty() || !self.refused.is_empty() {
            if let Err(error) = self.settle_refused().await {
                self.give_up(&error);
            }
            if self.answered.len() >= BATCH || self.inflight.is_empty() {
                self.note_answered().await;
            }
            if !self.inflight.is_empty() && self.stream.is_none() {
                self.connect().await;
                continue;
            }
            let idle = self.inflight.is_empty() && self.refused.is_empty();
            let takes = open && self.refused.is_empty() && self.inflight.len() < WINDOW;
            tokio::select! {
                biased;
                answer = next(&mut self.stream), if !self.inflight.is_empty() => {
                    self.answered(answer).await;
                }
                count = self.jobs.recv_many(&mut batch, BATCH), if takes => {
                    open = count > 0;
                    self.seal(core::mem::take(&mut batch)).await;
                }
                () = tokio::time::sleep(LINGER), if idle => {
                    if self.is_unused().await {
                        break;
                    }
                    if self.owed == Owed::Retried && self.recover().await.is_err() {
                        self.owed = Owed::Awaited;
                    }
                }
            }
        }
        self.note_answered().await;
    }

    /// Whether nobody but the device itself holds the sender; then the next one is another.
    async fn is_unused(&self) -> bool {
        let mut current = self.device.0.sender.lock().await;
        let unused = current.as_ref().is_none_or(|jobs| jobs.strong_count() == 1);
        if unused && self.jobs.is_empty() {
            *current = None;
            return true;
        }
        false
    }

    /// Takes in again what is stored and was given up, each at its place among what is on its way. All of it goes out by
    /// another stream; the relay knows what it has.
    async fn recover(&mut self) -> Result<()> {
        self.note_answered().await;
        let store = &self.device.client().0.store;
        // Everything that can fail comes before anything is moved.
        let rows = store.outbox(&self.device.id()).await?;
        let unsent = rows.iter().filter(is_unsent);
        let stored: Vec<Flight> = unsent.map(recovered).collect::<Result<_>>()?;
        let known: HashSet<Digest> = stored.iter().map(|flight| flight.sealed.digest).collect();
        self.stream = None;
        let mut flying: HashMap<Digest, Flight> = HashMap::new();
        for flight in core::mem::take(&mut self.inflight) {
            let digest = flight.sealed.digest;
            if known.contains(&digest) {
                flying.insert(digest, flight);
            } else {
                // It came back in the mailbox before its answer: the relay answers it once more.
                self.inflight.push_back(flight);
            }
        }
        for flight in stored {
            let flight = flying.remove(&flight.sealed.digest).unwrap_or(flight);
            self.inflight.push_back(flight);
        }
        self.owed = Owed::Nothing;
        Ok(())
    }

    /// Seals what was handed over, conversation by conversation, and sends it once it is stored.
    async fn seal(&mut self, jobs: Vec<Job>) {
        if self.owed != Owed::Nothing
            && !jobs.is_empty()
            && let Err(error) = self.recover().await
        {
            for job in jobs {
                let error = ClientError::refused(
                    "STORE_FAILED",
                    format!("{error}; the message was not stored: send it again"),
                );
                drop(job.answer.send(Err(error)));
            }
            return;
        }
        let mut groups: Vec<(ConversationId, Vec<Job>)> = Vec::new();
        for job in jobs {
            let id = job.outgoing.conversation;
            match groups.iter_mut().find(|(other, _)| *other == id) {
                Some((_, group)) => group.push(job),
                None => groups.push((id, vec![job])),
            }
        }
        for (id, group) in groups {
            let (mut messages, mut waiting) = (Vec::new(), Vec::new());
            for job in group {
                match self.device.prepare(&job.outgoing).await {
                    Ok(ready) => {
                        messages.push(ready);
                        waiting.push(job);
                    }
                    Err(error) => drop(job.answer.send(Err(error))),
                }
            }
            match self.device.seal(&id, messages, None, Vec::new()).await {
                Ok(sealed) => {
                    for (sealed, job) in sealed.into_iter().zip(waiting) {
                        self.launch(Flight {
                            sealed,
                            outgoing: Some(job.outgoing),
                            answer: Some(job.answer),
                            attempts: 0,
                            since: Instant::now(),
                        })
                        .await;
                    }
                }
                // One message that cannot be sealed must not take the others with it.
                Err(error) if waiting.len() > 1 && !matches!(error, ClientError::Store(_)) => {
                    for job in waiting {
                        Box::pin(self.seal(vec![job])).await;
                    }
                }
                Err(error) => {
                    let mut error = Some(error);
                    for job in waiting {
                        let error = error.take().unwrap_or_else(|| {
                            ClientError::refused(
                                "STORE_FAILED",
                                "stored together with one that failed",
                            )
                        });
                        drop(job.answer.send(Err(error)));
                    }
                }
            }
        }
    }

    async fn launch(&mut self, flight: Flight) {
        if let Some(stream) = &self.stream
            && stream
                .requests
                .send(flight.sealed.request.clone())
                .await
                .is_err()
        {
            self.stream = None;
        }
        self.inflight.push_back(flight);
    }

    /// Opens the stream and sends everything that is not answered, byte for byte, in its order.
    async fn connect(&mut self) {
        // Room for everything, so that handing over never waits for an answer.
        let (requests, outgoing) = body(self.inflight.len() + 2 * WINDOW);
        let opened = async {
            let request = self.device.request(outgoing).await?;
            let answer = self.device.relay_client()?.send(request).await;
            answer.map_err(call("Send"))
        };
        match opened.await {
            Ok(answer) => {
                self.stream = Some(Open {
                    requests: requests.clone(),
                    responses: answer.into_inner(),
                });
                for flight in &self.inflight {
                    let _ = requests.send(flight.sealed.request.clone()).await;
                }
            }
            Err(error) => self.broken(error).await,
        }
    }

    /// The stream cannot be opened or has ended.
    async fn broken(&mut self, error: ClientError) {
        self.stream = None;
        let error = match error {
            ClientError::Call { operation, source } if source.code == Code::Unauthenticated => {
                self.device.logged_out().await;
                let status = Status::unavailable("the session has ended");
                drop(source);
                call(operation)(status)
            }
            error => error,
        };
        if let Err(error) = self.pause.after(error).await {
            self.give_up(&error);
        }
    }

    /// Says to everybody who waits that it did not work; what is stored goes out again before anything later.
    fn give_up(&mut self, error: &ClientError) {
        self.owed = if error.is_retryable() {
            Owed::Retried
        } else {
            Owed::Awaited
        };
        // What was given up may still be answered there, and is to be sent again.
        self.stream = None;
        let refused = self.refused.drain().flat_map(|(_, flights)| flights);
        let refused: Vec<Flight> = refused.map(|(flight, _)| flight).collect();
        for flight in self.inflight.drain(..).chain(refused) {
            if let Some(answer) = flight.answer {
                drop(answer.send(Err(not_sent(error))));
            }
        }
        self.pause.reset();
    }

    async fn answered(&mut self, answer: Option<Result<api::SendResponse, Status>>) {
        let response = match answer {
            Some(Ok(response)) => response,
            Some(Err(status)) => return self.broken(call("Send")(status)).await,
            None => {
                let ended = Status::unavailable("the relay ended the stream");
                return self.broken(call("Send")(ended)).await;
            }
        };
        let found = self
            .inflight
            .iter()
            .position(|flight| flight.sealed.digest.as_bytes().as_slice() == response.envelope);
        let Some(flight) = found.and_then(|place| self.inflight.remove(place)) else {
            // An answer to what was given up meanwhile, or to nothing at all.
            return;
        };
        self.pause.reset();
        let id = flight.sealed.conversation;
        if response.sequence == 0 {
            self.refused
                .entry(id)
                .or_default()
                .push((flight, response.reason));
            return;
        }
        match self.taken(&flight.sealed, response) {
            Ok(sent) => {
                self.answered.push(sent.envelope);
                if let Some(answer) = flight.answer {
                    drop(answer.send(Ok(sent)));
                }
            }
            Err(error) => flight.fail(&self.device, error),
        }
    }

    async fn note_answered(&mut self) {
        if self.answered.is_empty() {
            return;
        }
        let op = Op::OutboxAnswered {
            device: self.device.id(),
            digests: core::mem::take(&mut self.answered),
        };
        if let Err(error) = self.device.client().0.store.write(vec![op]).await {
            tracing::warn!(reason = error.reason(), "receipts were not noted");
        }
    }

    /// Verifies the answer to a message that has a number: a receipt of it, or of the void in its place.
    fn taken(&mut self, sealed: &Sealed, response: api::SendResponse) -> Result<Sent> {
        let raw = response.receipt.ok_or(ClientError::Answer("no receipt"))?;
        let id = sealed.conversation;
        let state = self.device.client().trust()?;
        let entry = match &response.void {
            None => sealed.digest,
            Some(raw) => {
                let void = Signed::<pb::Void>::decode(raw.clone()).map_err(malformed("void"))?;
                if void.refused_digest != sealed.digest.as_bytes() {
                    return Err(ClientError::Answer("a void of something else"));
                }
                verify_void(&void, state.bundle()).map_err(untrusted("void"))?
            }
        };
        let receipt = self
            .device
            .check_receipt(raw, &id, response.sequence, &entry)?;
        if let Some((sequence, head)) = self.chain.get(&id)
            && sequence + 1 == receipt.sequence
            && head.as_bytes().as_slice() != receipt.previous_head
        {
            return Err(ClientError::Answer(
                "a receipt that does not continue the chain",
            ));
        }
        if let Ok(head) = Digest::try_from(receipt.head.as_slice()) {
            self.chain.insert(id, (receipt.sequence, head));
        }
        if response.void.is_some() {
            return Err(ClientError::refused(
                "MESSAGE_VOIDED",
                "the archive refused the message after it had its number: see its reason, and send anew",
            ));
        }
        Ok(Sent {
            conversation: id,
            sequence: receipt.sequence,
            envelope: sealed.digest,
            receipt,
        })
    }

    /// What was refused unsequenced, once everything of its conversation is answered.
    async fn settle_refused(&mut self) -> Result<()> {
        let busy: HashSet<ConversationId> = self
            .inflight
            .iter()
            .map(|flight| flight.sealed.conversation)
            .collect();
        let ready: Vec<ConversationId> = self
            .refused
            .keys()
            .filter(|id| !busy.contains(id))
            .copied()
            .collect();
        for id in ready {
            let Some(flights) = self.refused.remove(&id) else {
                continue;
            };
            self.settle(id, flights).await?;
        }
        Ok(())
    }

    async fn settle(
        &mut self,
        id: ConversationId,
        mut flights: Vec<(Flight, String)>,
    ) -> Result<()> {
        let Some((first, stated)) = flights.first() else {
            return Ok(());
        };
        let (epoch, since) = (first.sealed.epoch, first.since);
        let rewind = (first.sealed.counter - 1, first.sealed.previous);
        let mut failed = Vec::new();
        match stated.as_str() {
            COMMIT_PENDING if since.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                for (flight, _) in flights {
                    self.launch(flight).await;
                }
                return Ok(());
            }
            // Another commit came first: it has to take effect here before anything is sealed anew.
            EPOCH_STALE => match self.device.wait_for_epoch(&id, epoch + 1).await {
                Ok(()) => {}
                Err(error) if error.is_retryable() => {
                    self.refused.insert(id, flights);
                    return Err(error);
                }
                // It does not here, and would not the next time: nothing else waits for this conversation.
                Err(error) => {
                    let failed = flights
                        .into_iter()
                        .map(|(flight, _)| (flight, same(&error)));
                    self.drop_refused(&id, rewind, failed.collect()).await;
                    return Ok(());
                }
            },
            stated if FOLLOWERS.contains(&stated) => {}
            _ => {
                let (flight, stated) = flights.remove(0);
                failed.push((flight, refusal(&stated)));
            }
        }
        self.seal_anew(id, flights, rewind, failed).await;
        Ok(())
    }

    /// Seals refused messages anew, with new ids and seeds, and sends them. Those that failed already are said to have
    /// failed once they are not stored any more: nothing is delivered of which somebody has heard that it was refused.
    async fn seal_anew(
        &mut self,
        id: ConversationId,
        flights: Vec<(Flight, String)>,
        rewind: (u64, Digest),
        mut failed: Vec<(Flight, ClientError)>,
    ) {
        let (mut messages, mut again) = (Vec::new(), Vec::new());
        for (mut flight, stated) in flights {
            flight.attempts += 1;
            let ready = if flight.attempts > ATTEMPTS {
                Err(refusal(&stated))
            } else {
                self.anew(&flight).await
            };
            match ready {
                Ok(ready) => {
                    messages.push(ready);
                    again.push(flight);
                }
                Err(error) => failed.push((flight, error)),
            }
        }
        if !messages.is_empty() {
            let gone = failed.iter().map(|(flight, _)| flight).chain(&again);
            let replaced = gone.map(|flight| flight.sealed.digest).collect();
            let sealed = self
                .device
                .seal(&id, messages, Some(rewind), replaced)
                .await;
            match sealed {
                Ok(sealed) => {
                    for (sealed, flight) in sealed.into_iter().zip(again) {
                        self.launch(Flight { sealed, ..flight }).await;
                    }
                    for (flight, error) in failed {
                        flight.fail(&self.device, error);
                    }
                    return;
                }
                Err(error) => {
                    failed.extend(again.into_iter().map(|flight| (flight, same(&error))));
                }
            }
        }
        self.drop_refused(&id, rewind, failed).await;
    }

    /// What a message is sealed anew from.
    async fn anew(&self, flight: &Flight) -> Result<Ready> {
        if let Some(outgoing) = &flight.outgoing {
            return self.device.prepare(outgoing).await;
        }
        let store = &self.device.client().0.store;
        let digest = &flight.sealed.digest;
        let row = store.outbox_row(&self.device.id(), digest).await?;
        let ready = row.map_or(Ok(None), |row| self.device.reread(&row))?;
        ready.ok_or_else(|| {
            ClientError::refused(
                "ATTACHMENT_GONE",
                "its attachments have to be read anew: send it again",
            )
        })
    }

    /// Says that messages which got no number were refused, once they are not stored any more and their places in this
    /// device's count are free again. As long as that cannot be written they stay, and what follows them by counter is not
    /// taken before them.
    async fn drop_refused(
        &mut self,
        id: &ConversationId,
        rewind: (u64, Digest),
        failed: Vec<(Flight, ClientError)>,
    ) {
        let digests = failed.iter().map(|(flight, _)| flight.sealed.digest);
        let written = self.device.rewind(id, rewind, digests.collect()).await;
        if written.is_err() {
            self.owed = Owed::Awaited;
        }
        for (flight, refused) in failed {
            let error = match &written {
                Ok(()) => refused,
                Err(error) => not_sent(error),
            };
            flight.fail(&self.device, error);
        }
    }
}

/// It is stored, and its time comes by itself.
fn not_sent(error: &ClientError) -> ClientError {
    ClientError::refused(
        "NOT_SENT",
        format!("{error}; the message is stored and goes out again, before any later one"),
    )
}

/// An error of several messages, for each of them.
fn same(error: &ClientError) -> ClientError {
    match error {
        ClientError::Refused { reason, message } => ClientError::refused(reason, message.clone()),
        error => refusal(error.reason()),
    }
}

/// The relay's reasons are stable words; they are kept as they are.
fn refusal(stated: &str) -> ClientError {
    ClientError::call_reason("Send", stated)
}
