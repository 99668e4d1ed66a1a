//! Senders that wait for the end of an item, by its digest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use greffe_types::Digest;
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
    /// The item's place among its device's, which it has until it is settled, whoever still waits.
    place: Option<Place>,
}

impl Waiters {
    /// Waits; the ticket takes the sender back.
    pub(super) fn add(
        &self,
        digest: Digest,
        sender: oneshot::Sender<Answer>,
        place: Option<Place>,
    ) -> u64 {
        let mut inner = lock(&self.0);
        inner.next += 1;
        let ticket = inner.next;
        let waiting = inner.waiting.entry(digest).or_default();
        // A retry whose caller has gone leaves nothing behind.
        waiting.senders.retain(|(_, sender)| !sender.is_closed());
        waiting.senders.push((ticket, sender));
        if waiting.place.is_none() {
            waiting.place = place;
        }
        ticket
    }

    /// Takes one back.
    pub(super) fn take(&self, digest: Digest, ticket: u64) -> Option<oneshot::Sender<Answer>> {
        let mut inner = lock(&self.0);
        let waiting = inner.waiting.get_mut(&digest)?;
        let senders = &mut waiting.senders;
        let at = senders.iter().position(|(held, _)| *held == ticket)?;
        let (_, sender) = senders.swap_remove(at);
        if senders.is_empty() {
            inner.waiting.remove(&digest);
        }
        Some(sender)
    }

    /// Whether somebody waits for an item.
    pub(super) fn wait_for(&self, digest: &Digest) -> bool {
        lock(&self.0).waiting.contains_key(digest)
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
