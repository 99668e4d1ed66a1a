//! One open mailbox: sends what waits, within its window, until its caller ends the call.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greffe_api::relay as api;
use greffe_api::relay::receive_response::Item as Delivered;
use greffe_service_kit::telemetry::trace;
use greffe_types::ConversationId;
use tokio::sync::{Notify, mpsc};
use tonic::Streaming;

use super::acks::Ack;
use super::hub::Subscriber;
use super::place::{Next, Place};
use super::{Mailbox, Outgoing, lock};
use crate::error::RelayError;
use crate::pipeline::statement;
use crate::session::{Session, SessionError};
use crate::store::{acknowledgements, commits, items, members};

/// How long an open mailbox that nobody wakes waits before it looks by itself.
const IDLE: Duration = Duration::from_secs(5);

/// Conversations whose acknowledgements may wait to be looked at.
const MAX_INCOMING: usize = 1 << 16;

/// Acknowledgements that came and were not looked at yet; only the highest of a conversation counts.
#[derive(Default)]
struct Incoming {
    highest: Mutex<(BTreeMap<ConversationId, u64>, Option<End>)>,
    notify: Notify,
}

/// How a call ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Its caller has no more to say.
    Closed,
    /// Its caller says what is not understood.
    Malformed,
}

pub(super) struct Delivery {
    mailbox: Arc<Mailbox>,
    session: Session,
    window: usize,
    acks: mpsc::Sender<Ack>,
    sender: mpsc::Sender<Outgoing>,
    subscriber: Arc<Subscriber>,
    places: HashMap<ConversationId, Place>,
    /// Sent and not acknowledged.
    open: usize,
    standing: Standing,
}

/// Says while something is to be taken in, for as long as the mailbox is open.
struct Standing {
    mailbox: Arc<Mailbox>,
    number: u64,
}

impl Standing {
    fn new(mailbox: Arc<Mailbox>) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self { mailbox, number }
    }

    /// Nothing, something still, or, after an acknowledgement, something from now on.
    fn note(&self, something: bool, progress: bool) {
        let mut standing = lock(&self.mailbox.standing);
        if !something || progress {
            standing.remove(&self.number);
        }
        if something {
            let now = || self.mailbox.clock.now();
            standing.entry(self.number).or_insert_with(now);
        }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.note(false, false);
    }
}

impl Delivery {
    pub(super) fn new(
        mailbox: Arc<Mailbox>,
        session: Session,
        window: usize,
        acks: mpsc::Sender<Ack>,
        sender: mpsc::Sender<Outgoing>,
    ) -> Self {
        let subscriber = mailbox.hub.subscribe(session.device);
        Self {
            standing: Standing::new(mailbox.clone()),
            mailbox,
            session,
            window,
            acks,
            sender,
            subscriber,
            places: HashMap::new(),
            open: 0,
        }
    }

    /// Delivers until the call ends.
    pub(super) async fn run(mut self, requests: Streaming<api::ReceiveRequest>) {
        let incoming = Arc::new(Incoming::default());
        let reader = tokio::spawn(read(requests, incoming.clone()));
        let ended = self.deliver(&incoming).await;
        reader.abort();
        if let Err(error) = ended {
            // A caller who has gone hears nothing.
            let ended = Outgoing::Ended(Box::new(error.into()));
            let _ = self.sender.send(ended).await;
        }
    }

    async fn deliver(&mut self, incoming: &Incoming) -> Result<(), RelayError> {
        let mut waiting: HashSet<ConversationId> = self.reload().await?;
        let mut caught_up = false;
        loop {
            let open = self.open;
            let end = self.take_acks(incoming).await?;
            let progress = self.open < open;
            if end.is_some() || self.sender.is_closed() {
                return match end {
                    Some(End::Malformed) => Err(RelayError::Field("ack")),
                    _ => Ok(()),
                };
            }
            if self.mailbox.hub.is_closed() {
                return Err(RelayError::Stopping);
            }
            self.check_device()?;
            let news = self.subscriber.take();
            if news.changed {
                waiting.extend(self.reload().await?);
            }
            waiting.extend(news.released);
            // One page of each conversation a round, so that a long one does not hold up the others.
            let round: Vec<_> = waiting.iter().copied().collect();
            let mut sent = false;
            for conversation in round {
                if self.open >= self.window {
                    break;
                }
                match self.send_some(&conversation).await? {
                    0 => _ = waiting.remove(&conversation),
                    _ => sent = true,
                }
            }
            self.standing
                .note(self.open > 0 || !waiting.is_empty(), progress);
            if sent {
                caught_up = false;
                continue;
            }
            if waiting.is_empty() && !caught_up {
                caught_up = true;
                let caught_up = api::ReceiveResponse {
                    item: Some(Delivered::CaughtUp(api::CaughtUp {})),
                    ..Default::default()
                };
                self.send(Outgoing::Own(Box::new(caught_up))).await;
            }
            tokio::select! {
                () = self.subscriber.woken() => {}
                () = incoming.notify.notified() => {}
                () = self.sender.closed() => return Ok(()),
                () = tokio::time::sleep(IDLE) => {
                    if self.mailbox.db.is_shared() {
                        // What another replica did for the device may not have been told.
                        waiting.extend(self.reload().await?);
                    } else {
                        waiting.extend(self.places.keys().copied());
                    }
                }
            }
        }
    }

    /// A device that was revoked meanwhile, or whose session has ended, gets nothing more.
    fn check_device(&self) -> Result<(), RelayError> {
        let now = self.mailbox.clock.now();
        if now >= self.session.expiry {
            return Err(SessionError::Expired.into());
        }
        let trust = self.mailbox.trust.read();
        if trust.bundle().is_revoked(&self.session.certificate, now) {
            return Err(RelayError::CertificateInvalid(
                greffe_envelope::trust::TrustError::Revoked,
            ));
        }
        Ok(())
    }

    /// Reads stays and acknowledgements; gives the conversations that may have something.
    async fn reload(&mut self) -> Result<HashSet<ConversationId>, RelayError> {
        let (db, scope) = (self.mailbox.db.read(), &self.mailbox.scope);
        let device = &self.session.device;
        let mut stays: HashMap<ConversationId, Vec<members::MemberRow>> = HashMap::new();
        let known: HashSet<_> = self.places.keys().copied().collect();
        // Watched before they are read: nothing is missed in between.
        for id in members::conversations_with(db, scope, device).await? {
            if !known.contains(&id) {
                self.mailbox.hub.watch(&self.subscriber, id);
            }
        }
        for stay in members::stays(db, scope, device, None).await? {
            stays.entry(stay.conversation).or_default().push(stay);
        }
        self.places.retain(|id, place| {
            let kept = stays.contains_key(id);
            if !kept {
                self.open -= place.open();
            }
            kept
        });
        for (id, stays) in &stays {
            let acknowledged = acknowledgements::disclosures(db, scope, id, device).await?;
            let place = self.places.entry(*id).or_default();
            place.update(stays, acknowledged.into_iter().collect());
        }
        Ok(stays.into_keys().collect())
    }

    /// Sends some of what waits in a conversation; gives how many.
    async fn send_some(&mut self, conversation: &ConversationId) -> Result<usize, RelayError> {
        let Some(place) = self.places.get(conversation) else {
            return Ok(0);
        };
        match place.next() {
            Next::Nothing => Ok(0),
            Next::Welcome(sequence) => {
                let Some(welcome) = self.welcome(conversation, sequence).await? else {
                    return Ok(0);
                };
                let welcome = Outgoing::Own(Box::new(welcome));
                self.deliver_one(conversation, sequence, welcome).await;
                Ok(1)
            }
            Next::Items(after, until) => {
                let mailbox = self.mailbox.clone();
                let latest = mailbox.hub.latest(conversation);
                if latest.is_some_and(|latest| latest <= after) {
                    return Ok(0);
                }
                let (db, scope) = (mailbox.db.read(), &mailbox.scope);
                let page = mailbox
                    .cache
                    .page(db, scope, conversation, after, until)
                    .await?;
                let mut sent = 0;
                for item in page {
                    let may = |place: &Place| place.may_have(&item.disclosure);
                    let blocked = !self.places.get(conversation).is_some_and(may);
                    if blocked || self.open >= self.window {
                        break;
                    }
                    let span = tracing::info_span!("relay.deliver");
                    let _span = trace::of(item.entry.as_bytes(), span);
                    self.deliver_one(conversation, item.sequence, Outgoing::Item(item))
                        .await;
                    sent += 1;
                }
                Ok(sent)
            }
        }
    }

    /// The Welcome of a released commit.
    async fn welcome(
        &self,
        conversation: &ConversationId,
        sequence: u64,
    ) -> Result<Option<api::ReceiveResponse>, RelayError> {
        let (db, scope) = (self.mailbox.db.read(), &self.mailbox.scope);
        let Some(receipt) = items::receipt(db, scope, conversation, sequence).await? else {
            return Ok(None);
        };
        let extra = commits::get(db, scope, conversation, sequence).await?;
        let extra = extra.ok_or(RelayError::Damaged("Welcome"))?;
        Ok(Some(api::ReceiveResponse {
            conversation: conversation.to_vec(),
            sequence,
            receipt: Some(statement(&receipt)?),
            item: Some(Delivered::Welcome(api::DeliveredWelcome {
                welcome: extra.welcome,
                ratchet_tree: extra.ratchet_tree,
            })),
        }))
    }

    async fn deliver_one(
        &mut self,
        conversation: &ConversationId,
        sequence: u64,
        response: Outgoing,
    ) {
        if let Some(place) = self.places.get_mut(conversation) {
            place.sent(sequence);
            self.open += 1;
        }
        self.send(response).await;
    }

    /// A caller who has gone is noticed at the next round.
    async fn send(&self, response: Outgoing) {
        let _ = self.sender.send(response).await;
    }

    async fn take_acks(&mut self, incoming: &Incoming) -> Result<Option<End>, RelayError> {
        let (highest, end) = {
            let mut waiting = lock(&incoming.highest);
            (std::mem::take(&mut waiting.0), waiting.1)
        };
        for (conversation, sequence) in highest {
            let Some(place) = self.places.get_mut(&conversation) else {
                continue;
            };
            if let Some((closed, cursor)) = place.acknowledge(sequence) {
                self.open -= closed;
                let ack = Ack {
                    conversation,
                    device: self.session.device,
                    cursor,
                };
                self.acks
                    .send(ack)
                    .await
                    .map_err(|_| RelayError::Stopping)?;
            }
        }
        Ok(end)
    }
}

/// Reads acknowledgements beside the delivery: a caller who acknowledges while it does not read is not held up.
async fn read(mut requests: Streaming<api::ReceiveRequest>, incoming: Arc<Incoming>) {
    let end = loop {
        let part = match requests.message().await {
            Ok(Some(request)) => request.part,
            // A connection that broke is noticed where we send.
            Ok(None) | Err(_) => break End::Closed,
        };
        let Some(api::receive_request::Part::Ack(ack)) = part else {
            break End::Malformed;
        };
        let Ok(conversation) = ConversationId::try_from(ack.conversation.as_slice()) else {
            break End::Malformed;
        };
        {
            let mut waiting = lock(&incoming.highest);
            if waiting.0.len() >= MAX_INCOMING {
                break End::Malformed;
            }
            let highest = waiting.0.entry(conversation).or_default();
            *highest = (*highest).max(ack.sequence);
        }
        incoming.notify.notify_one();
    };
    lock(&incoming.highest).1 = Some(end);
    incoming.notify.notify_one();
}
