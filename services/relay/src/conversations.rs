//! Conversations in memory: the observer and the members of each, behind a lock of its own.
//!
//! Whatever is validated against a conversation's state, and whatever changes it, happens under its lock, so messages and
//! commits of one conversation are judged one after the other and against what the ones before them have made of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use greffe_mls::{Observer, Trust};
use greffe_service_kit::db::Database;
use greffe_types::{ConversationId, DeviceId, Digest};
use tokio::sync::{OwnedMappedMutexGuard, OwnedMutexGuard};

use crate::error::RelayError;
use crate::store::members::MemberRow;
use crate::store::{Scope, acknowledgements, conversations, items, members};

/// A conversation's state, held by whoever locked it.
pub type Locked = OwnedMappedMutexGuard<Option<State>, State>;

/// What is known of a conversation.
///
/// Set `stale` before the first await of a change and clear it when the change is both in the database and in here: a task
/// that dies in between leaves a state that is read again.
#[derive(Debug)]
pub struct State {
    /// The conversation.
    pub id: ConversationId,
    /// Its public group state at the present epoch; encoded in the `conversation` row.
    pub observer: Observer,
    /// Mode, as the proto numbers it.
    pub mode: i32,
    /// Digest of the disclosure in force.
    pub disclosure: Digest,
    /// Highest number given.
    pub sequence: u64,
    /// Highest number with a receipt, when the state was read or since told.
    pub released: u64,
    /// Chain head at `released`.
    pub head: Digest,
    /// Who is in, with counters and previous digests as last sequenced.
    pub members: BTreeMap<DeviceId, MemberRow>,
    /// Devices whose acknowledgement of the disclosure in force is in the log.
    pub acknowledged: HashSet<DeviceId>,
    /// Number of a commit that has no receipt yet: until then nothing else is sequenced, so that nothing has to be
    /// unmade when the archive refuses it.
    pub pending_commit: Option<u64>,
    /// Read everything again before the next use.
    pub stale: bool,
}

impl State {
    async fn load(
        trust: &Trust,
        db: &Database,
        scope: &Scope,
        id: &ConversationId,
    ) -> Result<Self, RelayError> {
        // one connection, one snapshot: the lock keeps writers of this conversation out, except the release of items
        let mut conn = db.read().acquire().await?;
        let row = conversations::get(&mut *conn, scope, id)
            .await?
            .ok_or(RelayError::NoConversation)?;
        let (_, snapshot) = conversations::observer(&mut *conn, scope, id)
            .await?
            .ok_or(RelayError::NoConversation)?;
        let present = members::present(&mut *conn, scope, id).await?;
        let acknowledged =
            acknowledgements::devices(&mut *conn, scope, id, &row.disclosure).await?;
        Ok(Self {
            id: *id,
            observer: Observer::decode(trust.clone(), &snapshot)?,
            mode: row.mode,
            disclosure: row.disclosure,
            sequence: row.sequence,
            released: row.released,
            head: row.head,
            members: present.into_iter().map(|row| (row.device, row)).collect(),
            acknowledged: acknowledged.into_iter().collect(),
            pending_commit: items::pending_commit(&mut *conn, scope, id).await?,
            stale: false,
        })
    }
}

/// The conversations in memory.
#[derive(Debug)]
pub struct Conversations {
    trust: Trust,
    limit: usize,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    slots: HashMap<ConversationId, Entry>,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    slot: Arc<tokio::sync::Mutex<Option<State>>>,
    used: u64,
}

impl Conversations {
    /// Keeps about `limit` of them.
    pub fn new(trust: Trust, limit: usize) -> Self {
        Self {
            trust,
            limit: limit.max(1),
            cache: Mutex::default(),
        }
    }

    /// What observers and key packages are judged by.
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Locks a conversation, reading it first when it is not in memory.
    ///
    /// # Errors
    /// [`RelayError::NoConversation`].
    pub async fn lock(
        &self,
        db: &Database,
        scope: &Scope,
        id: &ConversationId,
    ) -> Result<Locked, RelayError> {
        let mut slot = self.slot(id).lock_owned().await;
        if slot.as_ref().is_none_or(|state| state.stale) {
            // an error below leaves the slot empty, not half known
            *slot = None;
            match State::load(&self.trust, db, scope, id).await {
                Ok(state) => *slot = Some(state),
                Err(error) => {
                    self.forget(id);
                    return Err(error);
                }
            }
        }
        OwnedMutexGuard::try_map(slot, Option::as_mut)
            .map_err(|_| RelayError::Damaged("conversation"))
    }

    /// Marks a conversation to be read again, once nobody holds it.
    pub async fn invalidate(&self, id: &ConversationId) {
        if let Some(state) = self.slot(id).lock_owned().await.as_mut() {
            state.stale = true;
        }
    }

    fn slot(&self, id: &ConversationId) -> Arc<tokio::sync::Mutex<Option<State>>> {
        let mut cache = self.cache();
        cache.clock += 1;
        let used = cache.clock;
        if !cache.slots.contains_key(id) && cache.slots.len() >= self.limit {
            cache.evict();
        }
        let entry = cache.slots.entry(*id).or_insert_with(|| Entry {
            slot: Arc::default(),
            used,
        });
        entry.used = used;
        entry.slot.clone()
    }

    fn forget(&self, id: &ConversationId) {
        let mut cache = self.cache();
        // whoever waits for the same slot keeps it: two slots of one conversation must not exist
        if cache
            .slots
            .get(id)
            .is_some_and(|entry| Arc::strong_count(&entry.slot) <= 2)
        {
            cache.slots.remove(id);
        }
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// Drops the least recently used quarter of what nobody holds.
    fn evict(&mut self) {
        let mut idle: Vec<(u64, ConversationId)> = self
            .slots
            .iter()
            .filter(|(_, entry)| Arc::strong_count(&entry.slot) == 1)
            .map(|(id, entry)| (entry.used, *id))
            .collect();
        idle.sort_unstable();
        for (_, id) in idle.iter().take(self.slots.len() / 4 + 1) {
            self.slots.remove(id);
        }
    }
}
