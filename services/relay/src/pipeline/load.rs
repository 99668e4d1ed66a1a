//! How much is under way, and where it ends: bytes in memory, items that wait for the archive.
//!
//! What waits for the archive is counted by the database now and then, whichever replica sequenced it, and by this replica in
//! between: the limits are passed by no more than what the others sequence until the next look.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greffe_types::{DeviceId, Millis};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::fair::{DeviceLimits, DeviceRoom, Fair, Place};
use super::lock;
use crate::error::RelayError;
use crate::store::items::Backlog;

/// KiB of messages that may be between check and sequencing.
const MEMORY_KIB: usize = 128 * 1024;
/// Of these, of one device.
pub(super) const DEVICE_KIB: u32 = 16 * 1024;
/// How long a message waits for room before its sender is told to come back.
const PATIENCE: Duration = Duration::from_secs(5);

/// Counters and limits.
pub(super) struct Load {
    memory: Arc<Semaphore>,
    fair: Fair,
    items: AtomicU64,
    bytes: AtomicU64,
    limit_items: u64,
    limit_bytes: u64,
    patience: Duration,
    /// The last item that waited at a look, in the relay's own order, and when that was; earlier ones first. Whatever
    /// waits of what comes before it has waited since then at least.
    looks: Mutex<VecDeque<(u64, Millis)>>,
}

/// Room for one message until it has its number.
#[derive(Debug)]
pub(super) struct Room(
    #[expect(dead_code, reason = "held, not read")] (OwnedSemaphorePermit, DeviceRoom),
);

impl Load {
    pub(super) fn new(
        limit: (u64, u64),
        device: DeviceLimits,
        waiting: Backlog,
        now: Millis,
    ) -> Self {
        let load = Self {
            memory: Arc::new(Semaphore::new(MEMORY_KIB)),
            fair: Fair::new(device),
            items: AtomicU64::default(),
            bytes: AtomicU64::default(),
            limit_items: limit.0,
            limit_bytes: limit.1,
            patience: PATIENCE,
            looks: Mutex::default(),
        };
        load.looked(waiting, now);
        load
    }

    /// What the database says waits now.
    pub(super) fn looked(&self, waiting: Backlog, now: Millis) {
        self.items.store(waiting.items, Ordering::Relaxed);
        self.bytes.store(waiting.bytes, Ordering::Relaxed);
        let mut looks = lock(&self.looks);
        if waiting.items == 0 {
            looks.clear();
            return;
        }
        let (first, last) = waiting.ids;
        if looks.back().is_none_or(|(seen, _)| *seen < last) {
            looks.push_back((last, now));
        }
        while looks.front().is_some_and(|(seen, _)| *seen < first) {
            looks.pop_front();
        }
    }

    /// Since when the oldest item waits, as far as somebody has looked.
    pub(super) fn oldest(&self) -> Option<Millis> {
        lock(&self.looks).front().map(|(_, at)| *at)
    }

    /// Waits a little for room, and for the device to have less under way; refuses at once while the archive is too far
    /// behind.
    pub(super) async fn room(
        &self,
        device: DeviceId,
        size: usize,
    ) -> Result<(Room, Place), RelayError> {
        let (items, bytes) = self.backlog();
        if items >= self.limit_items || bytes >= self.limit_bytes {
            return Err(RelayError::Busy("too much waits for the archive"));
        }
        let kib = u32::try_from(size / 1024 + 1).unwrap_or(u32::MAX);
        let until = Instant::now() + self.patience;
        let granted = self.fair.place(device, kib, until).await?;
        let permit = self.memory.clone().acquire_many_owned(kib);
        match timeout_at(until, permit).await {
            Ok(Ok(permit)) => {
                let (own, place) = granted.used();
                Ok((Room((permit, own)), place))
            }
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

    const ALICE: DeviceId = DeviceId::new([0xa1; 16]);

    fn limits() -> DeviceLimits {
        DeviceLimits::new(1024, 64 << 20, 0)
    }

    fn waiting(items: u64, bytes: u64, ids: (u64, u64)) -> Backlog {
        Backlog { items, bytes, ids }
    }

    #[tokio::test]
    async fn attack_18_beyond_the_backlog_nothing_more_is_taken() {
        let load = Load::new((2, 1000), limits(), waiting(1, 100, (1, 1)), Millis::new(5));
        drop(load.room(ALICE, 10).await.unwrap());
        load.sequenced(10);
        assert_eq!(load.backlog(), (2, 110));
        assert!(matches!(
            load.room(ALICE, 10).await,
            Err(RelayError::Busy(_))
        ));
        load.released(10);
        drop(load.room(ALICE, 10).await.unwrap());
        load.sequenced(900);
        load.released(10);
        assert_eq!(load.backlog(), (1, 990));
        load.sequenced(10);
        load.released(0);
        assert!(
            matches!(load.room(ALICE, 10).await, Err(RelayError::Busy(_))),
            "bytes"
        );
        // What other replicas have sequenced counts too.
        load.looked(waiting(0, 0, (0, 0)), Millis::new(6));
        drop(load.room(ALICE, 10).await.unwrap());
        load.looked(waiting(2, 20, (8, 9)), Millis::new(7));
        assert!(matches!(
            load.room(ALICE, 10).await,
            Err(RelayError::Busy(_))
        ));
    }

    #[test]
    fn the_oldest_is_the_one_that_waits_longest() {
        let load = Load::new((9, 1000), limits(), waiting(1, 100, (3, 3)), Millis::new(5));
        assert_eq!(load.oldest(), Some(Millis::new(5)));
        load.looked(waiting(2, 2, (3, 4)), Millis::new(7));
        assert_eq!(load.oldest(), Some(Millis::new(5)));
        load.looked(waiting(2, 2, (4, 6)), Millis::new(9));
        assert_eq!(load.oldest(), Some(Millis::new(7)));
        load.looked(waiting(1, 1, (6, 6)), Millis::new(11));
        assert_eq!(load.oldest(), Some(Millis::new(9)));
        load.looked(waiting(0, 0, (0, 0)), Millis::new(12));
        assert_eq!(load.oldest(), None);
    }

    #[tokio::test]
    async fn attack_18_memory_is_bounded_and_given_back() {
        let mut load = Load::new((2, 1000), limits(), Backlog::default(), Millis::new(5));
        load.patience = Duration::from_millis(20);
        // Of each device no more than its share, and all of them together take no more than there is.
        let share = DEVICE_KIB as usize * 1024 - 1024;
        let mut held = Vec::new();
        for n in 0..8 {
            let device = DeviceId::new([n; 16]);
            held.push(load.room(device, share).await.unwrap());
            let more = load.room(device, share).await;
            assert!(matches!(more, Err(RelayError::DeviceBusy(_))), "{more:?}");
        }
        assert!(matches!(
            load.room(ALICE, 8 * 1024).await,
            Err(RelayError::Busy(_))
        ));
        drop(held);
        drop(load.room(ALICE, 8 * 1024).await.unwrap());
    }
}
