//! Wakes mailboxes: a device's open Receive looks at the database again when something of its conversations was released.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use greffe_types::DeviceId;
use tokio::sync::watch;

/// Who waits for what.
#[derive(Debug, Default)]
pub struct Notifier(Mutex<HashMap<DeviceId, watch::Sender<()>>>);

impl Notifier {
    /// Nobody waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for a device's mailbox. Subscribe first and read the database then: nothing is missed in between.
    pub fn subscribe(&self, device: DeviceId) -> watch::Receiver<()> {
        let mut waiting = self.lock();
        waiting.retain(|_, sender| !sender.is_closed());
        waiting
            .entry(device)
            .or_insert_with(|| watch::channel(()).0)
            .subscribe()
    }

    /// Something may have come for these devices.
    pub fn wake<'a>(&self, devices: impl IntoIterator<Item = &'a DeviceId>) {
        let waiting = self.lock();
        if waiting.is_empty() {
            return;
        }
        for device in devices {
            if let Some(sender) = waiting.get(device) {
                sender.send_replace(());
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<DeviceId, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wake_between_subscribing_and_waiting_is_not_missed() {
        let notifier = Notifier::new();
        let (one, two) = (DeviceId::new([1; 16]), DeviceId::new([2; 16]));
        let mut mine = notifier.subscribe(one);
        let other = notifier.subscribe(two);
        notifier.wake([&one]);
        mine.changed().await.unwrap();
        assert!(!other.has_changed().unwrap());
    }
}
