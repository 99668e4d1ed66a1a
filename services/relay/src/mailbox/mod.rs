//! Mailboxes: what each device has not taken in yet, read by cursor over its conversations' items.
//!
//! A message is stored once, whoever gets it. A cursor moves when the device says that it has durably taken the item in; what
//! it has not acknowledged comes again on its next call. Payloads are dropped when the last cursor has passed them.

mod acks;
mod cache;
mod delivery;
mod hub;
mod place;

use core::pin::Pin;
use core::task::{Context, Poll};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use greffe_api::relay as api;
use greffe_service_kit::boot::SharedTrust;
use greffe_service_kit::clock::SharedClock;
use greffe_service_kit::db::Database;
use greffe_types::{ConversationId, DeviceId, Millis};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::attachments::Staging;
use crate::error::RelayError;
use crate::pipeline::lock;
use crate::session::Session;
use crate::store::Scope;
use acks::{Ack, Acks};
use cache::Cache;
use hub::Hub;

/// Deliveries between a mailbox and its connection.
const OUTGOING: usize = 64;
/// Largest window of unacknowledged deliveries.
const MAX_WINDOW: u32 = 4096;

/// The mailboxes of a relay.
pub struct Mailbox {
    db: Database,
    scope: Scope,
    clock: SharedClock,
    trust: SharedTrust,
    hub: Hub,
    cache: Cache,
    acks: Mutex<Option<mpsc::Sender<Ack>>>,
    tasks: Mutex<tokio::task::JoinSet<()>>,
    /// Since when each open mailbox has something that its device has not taken in.
    standing: Mutex<HashMap<u64, Millis>>,
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mailbox")
    }
}

/// What goes to a connection: items are shared by all mailboxes until they are written.
enum Outgoing {
    Item(Arc<cache::Item>),
    Own(Box<api::ReceiveResponse>),
    Ended(Box<Status>),
}

/// What a Receive call answers.
pub struct Deliveries(mpsc::Receiver<Outgoing>);

impl std::fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deliveries")
    }
}

impl tokio_stream::Stream for Deliveries {
    type Item = Result<api::ReceiveResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|next| {
            next.map(|outgoing| match outgoing {
                Outgoing::Item(item) => Ok(item.response.clone()),
                Outgoing::Own(response) => Ok(*response),
                Outgoing::Ended(status) => Err(*status),
            })
        })
    }
}

impl Mailbox {
    /// Opens them; acknowledgements are stored, and payloads and staged attachments that nobody waits for any more are
    /// dropped, until [`Mailbox::stop`].
    pub fn start(
        db: Database,
        scope: Scope,
        clock: SharedClock,
        trust: SharedTrust,
        staging: Staging,
    ) -> Arc<Self> {
        let (sender, waiting) = mpsc::channel(acks::QUEUE);
        let mut tasks = tokio::task::JoinSet::new();
        let keeper = Acks::new(db.clone(), scope.clone(), clock.clone(), staging);
        tasks.spawn(keeper.run(waiting));
        Arc::new(Self {
            db,
            scope,
            clock,
            trust,
            hub: Hub::default(),
            cache: Cache::default(),
            acks: Mutex::new(Some(sender)),
            tasks: Mutex::new(tasks),
            standing: Mutex::default(),
        })
    }

    /// Opens a device's mailbox: the first request has to name a window.
    ///
    /// # Errors
    /// [`RelayError::Field`] without a window of 1 to 4096.
    pub async fn receive(
        self: &Arc<Self>,
        session: Session,
        mut requests: Streaming<api::ReceiveRequest>,
    ) -> Result<Deliveries, RelayError> {
        let first = requests.message().await.ok().flatten().and_then(|r| r.part);
        let Some(api::receive_request::Part::Window(window @ 1..=MAX_WINDOW)) = first else {
            return Err(RelayError::Field("window"));
        };
        let acks = lock(&self.acks).clone().ok_or(RelayError::Stopping)?;
        let (sender, receiver) = mpsc::channel(OUTGOING);
        let delivery =
            delivery::Delivery::new(self.clone(), session, window as usize, acks, sender);
        tokio::spawn(delivery.run(requests));
        Ok(Deliveries(receiver))
    }

    /// Since when, of the devices that take in, one has not taken in anything of what it should.
    pub fn oldest(&self) -> Option<Millis> {
        lock(&self.standing).values().copied().min()
    }

    /// Conversations have items with a receipt up to these numbers.
    pub fn released(&self, latest: &HashMap<ConversationId, u64>) {
        self.hub.released(latest);
    }

    /// Something else has changed for these devices: a stay began or ended, a notice was acknowledged.
    pub fn wake<'a>(&self, devices: impl IntoIterator<Item = &'a DeviceId>) {
        self.hub.wake(devices);
    }

    /// Stores the acknowledgements that have come, and stops. Open mailboxes end.
    pub async fn stop(&self) {
        lock(&self.acks).take();
        self.hub.close();
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        while tasks.join_next().await.is_some() {}
    }
}
