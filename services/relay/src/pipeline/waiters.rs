//! Senders that wait for the end of an item, by its digest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use greffe_types::{ConversationId, Digest};
use tokio::sync::oneshot;

use super::fair::Place;
use super::{Answer, Settled, lock};

/// Who waits; a retry waits beside the first.
#[derive(Default)]
pub(super) struct Waiters(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    next: u64,
    waiting: HashMap<Digest, Waiting>,
}

#[derive(Default)]
struct Waiting {
    senders: Vec<(u64, oneshot::Sender<Answer>)>,
    held: Option<Held>,
}

/// The item's place among its device's, which it has until it is settled or its conversation stops, whoever still waits.
struct Held {
    /// Of the job that brought it: when that gets no number, the place is free.
    ticket: u64,
    conversation: ConversationId,
    _place: Place,
}

/// A wait that ends where it is dropped, unless it is to go on.
pub(super) struct Wait<'a> {
    waiters: &'a Waiters,
    digest: Digest,
    ticket: Option<u64>,
}

impl Wait<'_> {
    /// The item settles it.
    pub(super) fn goes_on(mut self) {
        self.ticket = None;
    }

    /// Nobody but we give the answer.
    pub(super) fn answer(mut self, answer: Answer) {
        let ticket = self.ticket.take();
        let sender = ticket.and_then(|ticket| self.waiters.take(self.digest, ticket));
        if let Some(sender) = sender {
            // One who has gone asks again.
            let _ = sender.send(answer);
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            drop(self.waiters.take(self.digest, ticket));
        }
    }
}

impl Waiters {
    /// Waits for what has a number already.
    pub(super) fn wait(&self, digest: Digest, sender: oneshot::Sender<Answer>) -> Wait<'_> {
        Wait {
            waiters: self,
            digest,
            ticket: Some(self.add(digest, sender, None)),
        }
    }

    /// Waits; the ticket takes the sender back, and the place.
    pub(super) fn add(
        &self,
        digest: Digest,
        sender: oneshot::Sender<Answer>,
        place: Option<(ConversationId, Place)>,
    ) -> u64 {
        let mut inner = lock(&self.0);
        inner.next += 1;
        let ticket = inner.next;
        let waiting = inner.waiting.entry(digest).or_default();
        // A retry whose caller has gone leaves nothing behind.
        waiting.senders.retain(|(_, sender)| !sender.is_closed());
        waiting.senders.push((ticket, sender));
        if waiting.held.is_none() {
            waiting.held = place.map(|(conversation, place)| Held {
                ticket,
                conversation,
                _place: place,
            });
        }
        ticket
    }

    /// Takes one back.
    pub(super) fn take(&self, digest: Digest, ticket: u64) -> Option<oneshot::Sender<Answer>> {
        let mut inner = lock(&self.0);
        let waiting = inner.waiting.get_mut(&digest)?;
        waiting.held.take_if(|held| held.ticket == ticket);
        let senders = &mut waiting.senders;
        let at = senders.iter().position(|(held, _)| *held == ticket);
        let taken = at.map(|at| senders.swap_remove(at).1);
        if senders.is_empty() && waiting.held.is_none() {
            inner.waiting.remove(&digest);
        }
        taken
    }

    /// Whether somebody waits for an item.
    pub(super) fn wait_for(&self, digest: &Digest) -> bool {
        lock(&self.0).waiting.contains_key(digest)
    }

    /// What a stopped conversation has without a receipt is no longer counted against its devices: they have other
    /// conversations, and nobody knows when this one goes on. Who waits goes on waiting.
    pub(super) fn free(&self, conversation: &ConversationId) {
        for waiting in lock(&self.0).waiting.values_mut() {
            waiting
                .held
                .take_if(|held| held.conversation == *conversation);
        }
    }

    /// Answers everybody who waits for an item.
    pub(super) fn settle(&self, digest: Digest, settled: &Arc<Settled>) {
        let waiting = lock(&self.0).waiting.remove(&digest).unwrap_or_default();
        for (_, sender) in waiting.senders {
            // One who has gone asks again.
            let _ = sender.send(Ok(settled.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use greffe_types::DeviceId;
    use tokio::time::{Duration, Instant};

    use super::super::fair::{DeviceLimits, Fair};
    use super::*;

    const DEVICE: DeviceId = DeviceId::new([7; 16]);
    const HERE: ConversationId = ConversationId::new([1; 16]);
    const ITEM: Digest = Digest::new([2; 32]);

    async fn place(fair: &Fair) -> Option<Place> {
        let until = Instant::now() + Duration::from_millis(20);
        let (_, place) = fair.place(DEVICE, 1, until).await.ok()?.used();
        Some(place)
    }

    #[tokio::test]
    async fn attack_18_what_a_stopped_conversation_has_under_way_is_not_counted_against_its_devices()
     {
        let fair = Fair::new(DeviceLimits::new(1, 1 << 20, 0));
        let waiters = Waiters::default();
        let (sender, mut answer) = oneshot::channel();
        let held = place(&fair).await.unwrap();
        waiters.add(ITEM, sender, Some((HERE, held)));
        waiters.free(&ConversationId::new([9; 16]));
        assert!(place(&fair).await.is_none(), "it still has its place");
        waiters.free(&HERE);
        assert!(place(&fair).await.is_some());
        assert!(answer.try_recv().is_err() && waiters.wait_for(&ITEM));
    }

    #[tokio::test]
    async fn a_retry_that_ends_takes_nothing_of_the_first_with_it_and_leaves_nothing_behind() {
        let fair = Fair::new(DeviceLimits::new(1, 1 << 20, 0));
        let waiters = Waiters::default();
        let (sender, answer) = oneshot::channel();
        let held = place(&fair).await.unwrap();
        let first = waiters.add(ITEM, sender, Some((HERE, held)));
        // Its caller has gone; somebody else asks, and is refused.
        drop(answer);
        let (sender, _answer) = oneshot::channel();
        drop(waiters.wait(ITEM, sender));
        assert!(place(&fair).await.is_none(), "it still has its place");
        // It gets no number: its place is free though nobody waits any more.
        assert!(waiters.take(ITEM, first).is_none());
        assert!(!waiters.wait_for(&ITEM));
        assert!(place(&fair).await.is_some());
        // Whoever gives up while it looks leaves no ticket.
        let (sender, _answer) = oneshot::channel();
        drop(waiters.wait(ITEM, sender));
        assert!(!waiters.wait_for(&ITEM));
        let (sender, _answer) = oneshot::channel();
        waiters.wait(ITEM, sender).goes_on();
        assert!(waiters.wait_for(&ITEM));
    }
}
