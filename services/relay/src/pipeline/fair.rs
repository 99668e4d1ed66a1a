//! What one device may have under way, so that none takes what is there for all of them.
//!
//! A device waits for what is its own and holds nobody up: its stream is not read on meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greffe_types::DeviceId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::load::DEVICE_KIB;
use super::lock;
use crate::error::RelayError;

/// Devices that are remembered before those that have nothing under way are forgotten.
const REMEMBERED: usize = 1024;
/// Messages that a device may send at once after a pause: as many as in so long.
const BURST: Duration = Duration::from_secs(1);

/// What one device may have.
#[derive(Debug, Clone, Copy)]
pub struct DeviceLimits {
    /// Items without a receipt.
    pub items: u32,
    /// Bytes of them.
    pub bytes: u64,
    /// Messages in a second; 0 for as many as there come.
    pub rate: u32,
    /// KiB between check and sequencing.
    room_kib: u32,
}

/// Devices with something under way.
pub(super) struct Fair {
    limits: DeviceLimits,
    devices: Mutex<Devices>,
}

struct Devices {
    known: HashMap<DeviceId, Arc<Device>>,
    /// How many there are when it is time to forget some.
    sweep_at: usize,
}

/// What is left of a device's share.
#[derive(Debug)]
struct Device {
    items: Arc<Semaphore>,
    kib: Arc<Semaphore>,
    room: Arc<Semaphore>,
    /// When its next message would come if it sent evenly.
    next: Mutex<Instant>,
}

/// A message's place among its device's until it has its receipt.
#[derive(Debug)]
pub(super) struct Place(#[expect(dead_code, reason = "held, not read")] [OwnedSemaphorePermit; 2]);

/// Its place and its part of the device's room, for a message that is not taken yet: where it is refused all the same, its turn
/// is given back.
#[derive(Debug)]
pub(super) struct Granted {
    room: DeviceRoom,
    place: Place,
    turn: Turn,
}

impl Granted {
    /// The message is taken.
    pub(super) fn used(self) -> (DeviceRoom, Place) {
        self.turn.used();
        (self.room, self.place)
    }
}

/// When a message may go on, and how much of its device's time that takes; given back where it is dropped unused.
#[derive(Debug)]
struct Turn {
    device: Arc<Device>,
    at: Instant,
    takes: Duration,
}

impl Turn {
    fn used(mut self) {
        self.takes = Duration::ZERO;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut next = lock(&self.device.next);
        *next = next.checked_sub(self.takes).unwrap_or(*next);
    }
}

/// Its part of the device's room until it has its number.
#[derive(Debug)]
pub(super) struct DeviceRoom(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Fair {
    pub(super) fn new(limits: DeviceLimits) -> Self {
        Self {
            limits,
            devices: Mutex::new(Devices {
                known: HashMap::new(),
                sweep_at: REMEMBERED,
            }),
        }
    }

    /// Waits until the device may have one message more, of so many KiB. What is larger than a share takes the whole share.
    pub(super) async fn place(
        &self,
        device: DeviceId,
        kib: u32,
        until: Instant,
    ) -> Result<Granted, RelayError> {
        let device = self.device(device);
        let turn = device.turn(self.limits.rate, until)?;
        let stopping = |_| RelayError::Stopping;
        let granted = timeout_at(until, async {
            tokio::time::sleep_until(turn.at).await;
            let items = device.items.clone().acquire_owned().await;
            let bytes = kib.min(self.limits.kib());
            let bytes = device.kib.clone().acquire_many_owned(bytes).await;
            let room = kib.min(self.limits.room_kib);
            let room = device.room.clone().acquire_many_owned(room).await;
            let place = Place([items.map_err(stopping)?, bytes.map_err(stopping)?]);
            Ok(Granted {
                room: DeviceRoom(room.map_err(stopping)?),
                place,
                turn,
            })
        });
        granted.await.unwrap_or(Err(RelayError::DeviceBusy(
            "as many of its messages as it may have are without a receipt",
        )))
    }

    fn device(&self, id: DeviceId) -> Arc<Device> {
        let mut devices = lock(&self.devices);
        if devices.known.len() >= devices.sweep_at && !devices.known.contains_key(&id) {
            let limits = self.limits;
            devices.known.retain(|_, device| !device.is_idle(&limits));
            devices.sweep_at = (2 * devices.known.len()).max(REMEMBERED);
        }
        let new = || Arc::new(Device::new(&self.limits));
        devices.known.entry(id).or_insert_with(new).clone()
    }
}

impl DeviceLimits {
    /// So many items without a receipt, bytes of them, and messages in a second.
    pub const fn new(items: u32, bytes: u64, rate: u32) -> Self {
        Self {
            items,
            bytes,
            rate,
            room_kib: DEVICE_KIB,
        }
    }

    fn kib(&self) -> u32 {
        u32::try_from(self.bytes / 1024).unwrap_or(u32::MAX).max(1)
    }
}

impl Device {
    fn new(limits: &DeviceLimits) -> Self {
        let permits = |count: u32| {
            let count = usize::try_from(count).unwrap_or(Semaphore::MAX_PERMITS);
            Arc::new(Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS)))
        };
        Self {
            items: permits(limits.items),
            kib: permits(limits.kib()),
            room: permits(limits.room_kib),
            next: Mutex::new(Instant::now()),
        }
    }

    /// When its next message may go on; none of its time is used up when that is too late.
    fn turn(self: &Arc<Self>, rate: u32, until: Instant) -> Result<Turn, RelayError> {
        let now = Instant::now();
        let takes = BURST.checked_div(rate).unwrap_or_default();
        let turn = |at| Turn {
            device: self.clone(),
            at,
            takes,
        };
        if rate == 0 {
            return Ok(turn(now));
        }
        let mut next = lock(&self.next);
        let mine = (*next).max(now);
        let at = mine.checked_sub(BURST).unwrap_or(now).max(now);
        if at > until {
            return Err(RelayError::DeviceBusy(
                "it sends more messages in a second than it may",
            ));
        }
        *next = mine + takes;
        Ok(turn(at))
    }

    /// Nothing is under way, nobody waits, and a new one would be no other.
    fn is_idle(self: &Arc<Self>, limits: &DeviceLimits) -> bool {
        let all = |semaphore: &Semaphore, count: u32| {
            semaphore.available_permits() >= usize::try_from(count.max(1)).unwrap_or(usize::MAX)
        };
        Arc::strong_count(self) == 1
            && all(&self.items, limits.items)
            && all(&self.kib, limits.kib())
            && all(&self.room, limits.room_kib)
            && *lock(&self.next) <= Instant::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: DeviceLimits = DeviceLimits {
        items: 2,
        bytes: 10 << 10,
        rate: 0,
        room_kib: 8,
    };

    fn device(n: u16) -> DeviceId {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&n.to_be_bytes());
        DeviceId::new(id)
    }

    async fn try_place(fair: &Fair, n: u16, kib: u32) -> Option<(DeviceRoom, Place)> {
        let until = Instant::now() + Duration::from_millis(100);
        match fair.place(device(n), kib, until).await {
            Ok(granted) => Some(granted.used()),
            Err(RelayError::DeviceBusy(_)) => None,
            Err(error) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn attack_18_a_device_has_its_share_and_takes_nothing_of_others() {
        let fair = Fair::new(LIMITS);
        let one = try_place(&fair, 1, 1).await.unwrap();
        let (room, two) = try_place(&fair, 1, 1).await.unwrap();
        drop(room);
        assert!(try_place(&fair, 1, 1).await.is_none(), "items");
        let other = try_place(&fair, 2, 6).await.unwrap();
        assert!(try_place(&fair, 2, 6).await.is_none(), "bytes");
        drop((one, other));
        let again = try_place(&fair, 1, 8).await;
        assert!(again.is_some(), "room of the first is free");
        drop((two, again));
        // Larger than a share: as much as there is, alone.
        let large = try_place(&fair, 1, 1000).await.unwrap();
        assert!(try_place(&fair, 1, 1).await.is_none());
        drop(large);
        assert!(try_place(&fair, 1, 1).await.is_some());
    }

    #[tokio::test]
    async fn attack_18_a_device_sends_at_its_rate_after_a_burst() {
        let fair = Fair::new(DeviceLimits {
            items: 1000,
            bytes: 1 << 30,
            rate: 1000,
            room_kib: 1000,
        });
        let begun = Instant::now();
        let until = begun + Duration::from_secs(3600);
        // A second's worth at once, and then one a millisecond.
        for _ in 0..1500 {
            fair.place(device(1), 1, until).await.unwrap().used();
        }
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(450), "{took:?}");
        // Too far ahead: refused, and its turn is as it was.
        let at = fair.device(device(1));
        *lock(&at.next) = Instant::now() + Duration::from_secs(60);
        let until = Instant::now() + Duration::from_secs(5);
        assert!(fair.place(device(1), 1, until).await.is_err());
        assert!(fair.place(device(2), 1, until).await.is_ok());
    }

    #[tokio::test]
    async fn attack_18_what_was_refused_takes_nothing_of_a_devices_rate() {
        let fair = Fair::new(DeviceLimits {
            items: 1,
            bytes: 1 << 30,
            rate: 10,
            room_kib: 1000,
        });
        let soon = || Instant::now() + Duration::from_millis(1);
        let held = fair.place(device(1), 1, soon()).await.unwrap().used();
        for _ in 0..30 {
            assert!(fair.place(device(1), 1, soon()).await.is_err(), "items");
        }
        drop(held);
        // Granted, and then refused for want of memory.
        for _ in 0..30 {
            drop(fair.place(device(1), 1, soon()).await.unwrap());
        }
        assert!(fair.place(device(1), 1, soon()).await.is_ok());
    }

    #[tokio::test]
    async fn devices_without_anything_under_way_are_forgotten() {
        let fair = Fair::new(LIMITS);
        let kept = try_place(&fair, 0, 1).await.unwrap();
        for n in 1..5000 {
            drop(try_place(&fair, n, 1).await.unwrap());
        }
        let count = lock(&fair.devices).known.len();
        assert!(count <= REMEMBERED, "{count}");
        assert!(lock(&fair.devices).known.contains_key(&device(0)));
        drop(kept);
    }
}
