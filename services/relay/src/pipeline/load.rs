//! How much is under way, and where it ends: bytes in memory, items that wait for the archive.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greffe_types::{Digest, Millis};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::lock;
use crate::error::RelayError;

/// KiB of messages that may be between check and sequencing.
const MEMORY_KIB: usize = 128 * 1024;
/// How long a message waits for room before its sender is told to come back.
const PATIENCE: Duration = Duration::from_secs(5);

/// Counters and limits.
pub(super) struct Load {
    memory: Arc<Semaphore>,
    items: AtomicU64,
    bytes: AtomicU64,
    limit_items: u64,
    limit_bytes: u64,
    patience: Duration,
    /// Since when each item waits, and, for those of before the start, since the start.
    waiting: Mutex<HashMap<Digest, Millis>>,
    before: (u64, Millis),
}

/// Room for one message until it has its number.
#[derive(Debug)]
pub(super) struct Room(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Load {
    pub(super) fn new(limit: (u64, u64), waiting: (u64, u64), now: Millis) -> Self {
        Self {
            memory: Arc::new(Semaphore::new(MEMORY_KIB)),
            items: AtomicU64::new(waiting.0),
            bytes: AtomicU64::new(waiting.1),
            limit_items: limit.0,
            limit_bytes: limit.1,
            patience: PATIENCE,
            waiting: Mutex::default(),
            before: (waiting.0, now),
        }
    }

    /// This item waits from now on.
    pub(super) fn waits(&self, item: Digest, now: Millis) {
        lock(&self.waiting).insert(item, now);
    }

    /// This item has its receipt.
    pub(super) fn answered(&self, item: &Digest) {
        lock(&self.waiting).remove(item);
    }

    /// Since when the oldest item waits.
    pub(super) fn oldest(&self) -> Option<Millis> {
        let waiting = lock(&self.waiting);
        let known = waiting.len() as u64;
        let before = self.items.load(Ordering::Relaxed) > known && self.before.0 > 0;
        let before = before.then_some(self.before.1);
        waiting.values().copied().chain(before).min()
    }

    /// Waits a little for room; refuses at once while the archive is too far behind.
    pub(super) async fn room(&self, size: usize) -> Result<Room, RelayError> {
        let (items, bytes) = self.backlog();
        if items >= self.limit_items || bytes >= self.limit_bytes {
            return Err(RelayError::Busy("too much waits for the archive"));
        }
        let kib = u32::try_from(size / 1024 + 1).unwrap_or(u32::MAX);
        let permit = self.memory.clone().acquire_many_owned(kib);
        match tokio::time::timeout(self.patience, permit).await {
            Ok(Ok(permit)) => Ok(Room(permit)),
            Ok(Err(_)) => Err(RelayError::Stopping),
            Err(_) => Err(RelayError::Busy("too many messages are being checked")),
        }
    }

    /// An item waits for the archive.
    pub(super) fn sequenced(&self, size: u64) {
        self.items.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
    }

    /// An item has its receipt.
    pub(super) fn released(&self, size: u64) {
        let less = |by: u64| move |value: u64| Some(value.saturating_sub(by));
        // The closures never give None.
        let _ = self
            .items
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less(1));
        let _ = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less(size));
    }

    /// Items and bytes that wait.
    pub(super) fn backlog(&self) -> (u64, u64) {
        (
            self.items.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn attack_18_beyond_the_backlog_nothing_more_is_taken() {
        let load = Load::new((2, 1000), (1, 100), Millis::new(5));
        load.room(10).await.unwrap();
        load.sequenced(10);
        assert_eq!(load.backlog(), (2, 110));
        assert!(matches!(load.room(10).await, Err(RelayError::Busy(_))));
        load.released(10);
        load.room(10).await.unwrap();
        load.sequenced(900);
        load.released(10);
        assert_eq!(load.backlog(), (1, 990));
        load.sequenced(10);
        load.released(0);
        assert!(
            matches!(load.room(10).await, Err(RelayError::Busy(_))),
            "bytes"
        );
    }

    #[test]
    fn the_oldest_is_the_one_that_waits_longest() {
        let load = Load::new((9, 1000), (1, 100), Millis::new(5));
        let (a, b) = (Digest::new([1; 32]), Digest::new([2; 32]));
        assert_eq!(load.oldest(), Some(Millis::new(5)));
        load.released(100);
        assert_eq!(load.oldest(), None);
        for (item, at) in [(a, 7), (b, 9)] {
            load.sequenced(1);
            load.waits(item, Millis::new(at));
        }
        assert_eq!(load.oldest(), Some(Millis::new(7)));
        load.released(1);
        load.answered(&a);
        assert_eq!(load.oldest(), Some(Millis::new(9)));
    }

    #[tokio::test]
    async fn attack_18_memory_is_bounded_and_given_back() {
        let mut load = Load::new((2, 1000), (0, 0), Millis::new(5));
        load.patience = Duration::from_millis(20);
        let room = load.room((MEMORY_KIB - 1) * 1024).await.unwrap();
        assert!(matches!(load.room(1).await, Err(RelayError::Busy(_))));
        drop(room);
        load.room(1).await.unwrap();
    }
}
