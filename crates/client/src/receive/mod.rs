//! Receiving: the mailbox's stream, taken in batch by batch. A batch is verified on every core, applied to the conversations
//! in the relay's order, stored in one transaction, and only then acknowledged.

mod apply;
mod batch;
mod event;
mod place;
mod report;
mod verify;
mod welcome;

use core::time::Duration;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _};
use greffe_api::relay as api;
use greffe_types::ConversationId;
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

pub use event::{Event, Received};

use crate::device::{Device, Pause};
use crate::error::{ClientError, Result, call};

/// Most items taken in with one transaction.
const BATCH: usize = 512;
/// Deliveries that may be on their way unless the application says otherwise.
const WINDOW: u32 = 1024;
/// How long the relay may take to end the stream.
const CLOSING: Duration = Duration::from_secs(5);
/// How often the mailbox is read anew for one gap before the conversation is left alone.
const RESTARTS: u32 = 3;

/// A device's mailbox, open. A device has one; opening another waits until this one is dropped.
#[derive(Debug)]
pub struct Receiver {
    device: Device,
    window: u32,
    stream: Option<Mailbox>,
    /// Conversations of which nothing more is taken in from this stream; a new stream brings it again.
    stalled: HashSet<ConversationId>,
    /// How often a gap at a number made the mailbox be read anew.
    restarts: HashMap<(ConversationId, u64), u32>,
    pause: Pause,
    /// A batch that is being taken in, with whether it was the last one that waited. It goes on when the caller's future
    /// is dropped, since database and memory have to say the same, and what it came to is for the next call.
    taking: Option<(bool, oneshot::Receiver<Result<Taken>>)>,
    turn: Arc<OwnedMutexGuard<()>>,
}

#[derive(Debug)]
struct Mailbox {
    requests: mpsc::UnboundedSender<api::ReceiveRequest>,
    responses: Streaming<api::ReceiveResponse>,
}

/// What a batch came to.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) events: Vec<Event>,
    /// Everything of a conversation up to a number is in the database.
    pub(crate) acks: HashMap<ConversationId, u64>,
    pub(crate) stalled: HashSet<ConversationId>,
    /// Conversations whose next number is missing: number expected, number found.
    pub(crate) gaps: Vec<(ConversationId, u64, u64)>,
}

impl Device {
    /// Opens the mailbox; at most `window` deliveries are on their way unacknowledged (0 for the usual number).
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn receiver(&self, window: u32) -> Result<Receiver> {
        let turn = self.0.receiving.clone().lock_owned().await;
        self.client().freshen().await?;
        self.try_resume().await?;
        Ok(Receiver::new(self.clone(), window, turn))
    }

    /// Takes in everything that waits, and gives what happened.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn catch_up(&self) -> Result<Vec<Event>> {
        let mut receiver = self.receiver(0).await?;
        receiver.until_caught_up().await?;
        Ok(self.take_events())
    }

    /// As [`Device::catch_up`] when nobody else reads the mailbox, which it says; events are kept for whoever reads next.
    pub(crate) async fn read_mailbox(&self) -> Result<bool> {
        let Ok(turn) = self.0.receiving.clone().try_lock_owned() else {
            return Ok(false);
        };
        let mut receiver = Receiver::new(self.clone(), 0, turn);
        receiver.until_caught_up().await?;
        Ok(true)
    }
}

impl Receiver {
    fn new(device: Device, window: u32, turn: OwnedMutexGuard<()>) -> Self {
        let pause = device.client().pause();
        Self {
            device,
            window: if window == 0 { WINDOW } else { window },
            stream: None,
            stalled: HashSet::new(),
            restarts: HashMap::new(),
            pause,
            taking: None,
            turn: Arc::new(turn),
        }
    }

    /// Waits for the next deliveries, takes them in and says what they were. May be cancelled: what was not taken in
    /// comes again.
    ///
    /// # Errors
    /// When the relay cannot be reached for a minute, or the database fails: then nothing was acknowledged.
    pub async fn next_batch(&mut self) -> Result<Vec<Event>> {
        loop {
            let kept = self.device.take_events();
            if !kept.is_empty() {
                return Ok(kept);
            }
            let events = self.read().await?;
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }

    /// Until nothing more waits. What happened is kept for whoever reads events next, even when this is cancelled.
    async fn until_caught_up(&mut self) -> Result<()> {
        loop {
            let mut events = self.read().await?;
            let ends = events.last() == Some(&Event::CaughtUp);
            events.retain(|event| *event != Event::CaughtUp);
            self.device.keep_events(events);
            // Without a stream it is about to be read anew.
            if ends && self.stream.is_some() {
                self.close().await;
                return Ok(());
            }
        }
    }

    /// Says that nothing more is wanted and waits until the relay has heard it, acknowledgements included.
    pub async fn close(&mut self) {
        let Some(Mailbox {
            requests,
            mut responses,
        }) = self.stream.take()
        else {
            return;
        };
        drop(requests);
        let drained = async { while let Some(Ok(_)) = responses.next().await {} };
        // What was not heard comes again, and is known.
        let _ = tokio::time::timeout(CLOSING, drained).await;
    }

    /// One round: what is ready, or nothing when the stream had to be opened anew.
    async fn read(&mut self) -> Result<Vec<Event>> {
        if self.taking.is_some() {
            return self.taken().await;
        }
        if self.stream.is_none() {
            match self.open().await {
                Ok(stream) => self.stream = Some(stream),
                Err(error) => return self.pause.after(error).await.map(|()| Vec::new()),
            }
        }
        let Some(mailbox) = &mut self.stream else {
            return Ok(Vec::new());
        };
        let first = match mailbox.responses.next().await {
            Some(Ok(response)) => response,
            Some(Err(status)) => {
                self.stream = None;
                if status.code() == Code::Unauthenticated {
                    self.device.logged_out().await;
                    return Ok(Vec::new());
                }
                // The relay ends streams when it stops, and with the session: both are no reason to give up.
                let error = call("Receive")(status);
                return self.pause.after(error).await.map(|()| Vec::new());
            }
            None => {
                self.stream = None;
                let ended =
                    call("Receive")(tonic::Status::unavailable("the relay ended the stream"));
                return self.pause.after(ended).await.map(|()| Vec::new());
            }
        };
        let mut batch = vec![first];
        while batch.len() < BATCH {
            match mailbox.responses.next().now_or_never() {
                Some(Some(Ok(response))) => batch.push(response),
                // An end or error shows again with the next read.
                _ => break,
            }
        }
        self.pause.reset();
        self.take(batch).await
    }

    async fn take(&mut self, batch: Vec<api::ReceiveResponse>) -> Result<Vec<Event>> {
        let caught_up = |response: &api::ReceiveResponse| {
            matches!(
                response.item,
                Some(api::receive_response::Item::CaughtUp(_))
            )
        };
        // Only when nothing came after it.
        let ends = batch.last().is_some_and(caught_up);
        let items: Vec<_> = batch
            .into_iter()
            .filter(|response| !caught_up(response))
            .filter(|response| {
                ConversationId::try_from(response.conversation.as_slice())
                    .is_ok_and(|id| !self.stalled.contains(&id))
            })
            .collect();
        let (outcome, taking) = oneshot::channel();
        self.taking = Some((ends, taking));
        let (device, turn) = (self.device.clone(), self.turn.clone());
        tokio::spawn(async move {
            let taken = device.take_in(items).await;
            device.flush_reports().await;
            if let Err(Ok(taken)) = outcome.send(taken) {
                // The receiver is gone: whoever reads next is told.
                device.keep_events(taken.events);
            }
            drop(turn);
        });
        self.taken().await
    }

    /// Waits for the batch that is being taken in; from then on nothing waits, so that nothing can be lost.
    async fn taken(&mut self) -> Result<Vec<Event>> {
        let Some((ends, outcome)) = &mut self.taking else {
            return Ok(Vec::new());
        };
        let (ends, outcome) = (*ends, outcome.await);
        self.taking = None;
        let taken = outcome.unwrap_or(Err(ClientError::Answer("a batch that nobody took in")));
        let taken = match taken {
            Ok(taken) => taken,
            Err(error) => {
                // Nothing was acknowledged: a new stream brings it again.
                self.stream = None;
                return Err(error);
            }
        };
        self.acknowledge(&taken.acks);
        self.stalled.extend(taken.stalled);
        let mut events = taken.events;
        for (conversation, expected, found) in taken.gaps {
            self.stalled.insert(conversation);
            let restarts = self.restarts.entry((conversation, expected)).or_default();
            *restarts += 1;
            if *restarts <= RESTARTS {
                self.stream = None;
                events.push(Event::Resynchronised {
                    conversation,
                    expected,
                    found,
                });
            } else {
                events.push(Event::Refused {
                    conversation: Some(conversation),
                    sequence: found,
                    reason: "SEQUENCE_GAP".to_owned(),
                });
            }
        }
        if self.stream.is_none() {
            self.stalled.clear();
        }
        if ends && self.stream.is_some() {
            events.push(Event::CaughtUp);
        }
        Ok(events)
    }

    fn acknowledge(&self, acks: &HashMap<ConversationId, u64>) {
        let Some(mailbox) = &self.stream else { return };
        for (conversation, sequence) in acks {
            let ack = api::ReceiveAck {
                conversation: conversation.to_vec(),
                sequence: *sequence,
            };
            // A stream that has ended acknowledges with the next one: what comes again is known.
            let _ = mailbox.requests.send(api::ReceiveRequest {
                part: Some(api::receive_request::Part::Ack(ack)),
            });
        }
    }

    async fn open(&self) -> Result<Mailbox> {
        // Unbounded, because its contents are bounded by the window that the relay keeps to.
        let (requests, outgoing) = mpsc::unbounded_channel();
        let window = api::receive_request::Part::Window(self.window);
        let first = api::ReceiveRequest { part: Some(window) };
        requests
            .send(first)
            .map_err(|_| ClientError::Answer("a stream that ended at once"))?;
        let outgoing = tokio_stream::wrappers::UnboundedReceiverStream::new(outgoing);
        let request = self.device.request(outgoing).await?;
        let answer = self.device.relay_client()?.receive(request).await;
        match answer {
            Ok(answer) => Ok(Mailbox {
                requests,
                responses: answer.into_inner(),
            }),
            Err(status) => {
                if status.code() == Code::Unauthenticated {
                    self.device.logged_out().await;
                    return Err(call("Receive")(tonic::Status::unavailable(
                        "the session has ended",
                    )));
                }
                Err(call("Receive")(status))
            }
        }
    }
}

/// A channel's receiving end as the body of a streaming call.
pub(crate) fn body<T>(capacity: usize) -> (mpsc::Sender<T>, ReceiverStream<T>) {
    let (sender, receiver) = mpsc::channel(capacity);
    (sender, ReceiverStream::new(receiver))
}
