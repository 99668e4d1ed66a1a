//! Wakes open mailboxes: by conversation when something was released, by device when something else changed.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use greffe_types::{ConversationId, DeviceId};
use tokio::sync::Notify;

use crate::pipeline::lock;

/// What happened to an open mailbox since it last looked.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Conversations with something new.
    pub(super) released: HashSet<ConversationId>,
    /// Stays and acknowledgements have to be read again.
    pub(super) changed: bool,
}

/// An open mailbox, as its wakers see it.
#[derive(Debug, Default)]
pub(super) struct Subscriber {
    news: Mutex<News>,
    notify: Notify,
}

impl Subscriber {
    /// Takes what happened.
    pub(super) fn take(&self) -> News {
        std::mem::take(&mut *lock(&self.news))
    }

    /// Waits until something has.
    pub(super) async fn woken(&self) {
        self.notify.notified().await;
    }
}

#[derive(Default)]
struct Inner {
    devices: HashMap<DeviceId, Vec<Weak<Subscriber>>>,
    conversations: HashMap<ConversationId, Vec<Weak<Subscriber>>>,
    /// Highest number with a receipt, of conversations that moved since the start.
    released: HashMap<ConversationId, u64>,
}

/// Who waits for what.
#[derive(Default)]
pub(super) struct Hub {
    inner: Mutex<Inner>,
    closed: AtomicBool,
}

impl Hub {
    /// Opens a mailbox. Read the database after it: nothing is missed in between.
    pub(super) fn subscribe(&self, device: DeviceId) -> Arc<Subscriber> {
        let subscriber = Arc::new(Subscriber::default());
        let mut inner = lock(&self.inner);
        let open = inner.devices.entry(device).or_default();
        open.retain(|open| open.strong_count() > 0);
        open.push(Arc::downgrade(&subscriber));
        subscriber
    }

    /// Wakes a mailbox for a conversation from now on.
    pub(super) fn watch(&self, subscriber: &Arc<Subscriber>, conversation: ConversationId) {
        let mut inner = lock(&self.inner);
        let open = inner.conversations.entry(conversation).or_default();
        open.retain(|open| open.strong_count() > 0);
        if !open
            .iter()
            .any(|open| open.as_ptr() == Arc::as_ptr(subscriber))
        {
            open.push(Arc::downgrade(subscriber));
        }
    }

    /// Highest number with a receipt, when the conversation moved since the start.
    pub(super) fn latest(&self, conversation: &ConversationId) -> Option<u64> {
        lock(&self.inner).released.get(conversation).copied()
    }

    pub(super) fn released(&self, latest: &HashMap<ConversationId, u64>) {
        let mut inner = lock(&self.inner);
        for (conversation, sequence) in latest {
            let released = inner.released.entry(*conversation).or_default();
            // What the leader did itself it also reads.
            *released = (*released).max(*sequence);
            for subscriber in inner.conversations.get(conversation).into_iter().flatten() {
                if let Some(subscriber) = subscriber.upgrade() {
                    lock(&subscriber.news).released.insert(*conversation);
                    subscriber.notify.notify_one();
                }
            }
        }
    }

    pub(super) fn wake<'a>(&self, devices: impl IntoIterator<Item = &'a DeviceId>) {
        let inner = lock(&self.inner);
        for device in devices {
            for subscriber in inner.devices.get(device).into_iter().flatten() {
                if let Some(subscriber) = subscriber.upgrade() {
                    lock(&subscriber.news).changed = true;
                    subscriber.notify.notify_one();
                }
            }
        }
    }

    /// Ends every open mailbox.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let inner = lock(&self.inner);
        for subscriber in inner.devices.values().flatten() {
            if let Some(subscriber) = subscriber.upgrade() {
                subscriber.notify.notify_one();
            }
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wake_between_subscribing_and_waiting_is_not_missed() {
        let hub = Hub::default();
        let (one, two) = (DeviceId::new([1; 16]), DeviceId::new([2; 16]));
        let conversation = ConversationId::new([3; 16]);
        let (mine, other) = (hub.subscribe(one), hub.subscribe(two));
        hub.watch(&mine, conversation);
        hub.watch(&mine, conversation);
        hub.released(&HashMap::from([(conversation, 5)]));
        mine.woken().await;
        assert!(mine.take().released.contains(&conversation));
        assert_eq!(hub.latest(&conversation), Some(5));
        hub.wake([&two]);
        other.woken().await;
        assert!(other.take().changed);
        assert!(!mine.take().changed);
        assert_eq!(lock(&hub.inner).conversations[&conversation].len(), 1);
    }
}
