//! A conversation in memory: its MLS state and this device's place in it. What memory and database say is the same whenever
//! nobody holds it; after any failure memory is thrown away and the database read again.

use std::collections::{BTreeMap, HashSet};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use greffe_envelope::chain::ChainState;
use greffe_envelope::trust::VerifiedDisclosure;
use greffe_mls::{RowKey, Table};
use greffe_types::{ConversationId, Digest};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::device::Device;
use crate::error::{ClientError, Result};
use crate::store::{AckRow, ConversationRow, ConversationState, Op};

/// Where a conversation is kept; empty until somebody needs it, and again after a failure.
pub(crate) type LiveSlot = Arc<Mutex<Option<Live>>>;

/// How many chain heads are kept in memory; older ones are in the database.
const HEADS: usize = 1024;

/// A conversation in memory.
pub(crate) struct Live {
    /// None when this device is not in it any more.
    pub(crate) mls: Option<greffe_mls::Conversation>,
    pub(crate) row: ConversationRow,
    pub(crate) disclosure: Arc<VerifiedDisclosure>,
    /// Disclosures whose notice was acknowledged and logged: the device may send.
    pub(crate) acknowledged: HashSet<Digest>,
    /// Disclosures whose notice was shown and acknowledged, in the log or on the way to it: the device may open. The relay
    /// may deliver before its own answer has arrived here.
    pub(crate) shown: HashSet<Digest>,
    /// Chain heads by number.
    pub(crate) heads: BTreeMap<u64, Digest>,
    /// Memory may be ahead of the database.
    dirty: bool,
}

/// A conversation that the holder alone may change.
pub(crate) struct LiveGuard(OwnedMutexGuard<Option<Live>>);

impl LiveGuard {
    /// From here on memory may be ahead of the database: until [`LiveGuard::settled`] the next holder reads it again.
    pub(crate) fn begin(&mut self) -> &mut Live {
        let live = &mut **self;
        live.dirty = true;
        live
    }

    /// What was done is in the database.
    pub(crate) fn settled(&mut self) {
        if let Some(mls) = &mut self.mls {
            mls.persisted();
        }
        self.dirty = false;
        while self.heads.len() > HEADS {
            self.heads.pop_first();
        }
    }
}

impl Deref for LiveGuard {
    type Target = Live;

    fn deref(&self) -> &Live {
        self.0.as_ref().expect("loaded when the guard was made")
    }
}

impl DerefMut for LiveGuard {
    fn deref_mut(&mut self) -> &mut Live {
        self.0.as_mut().expect("loaded when the guard was made")
    }
}

impl Live {
    /// A conversation just created or joined; not in the database yet.
    pub(crate) fn new(
        mls: greffe_mls::Conversation,
        row: ConversationRow,
        disclosure: Arc<VerifiedDisclosure>,
    ) -> Self {
        let heads = BTreeMap::from([(row.sequence, row.head)]);
        Self {
            mls: Some(mls),
            row,
            disclosure,
            acknowledged: HashSet::new(),
            shown: HashSet::new(),
            heads,
            dirty: true,
        }
    }

    /// The chain as far as it was taken in.
    pub(crate) fn chain(&self) -> ChainState {
        ChainState {
            conversation: self.row.conversation,
            sequence: self.row.sequence,
            head: self.row.head,
        }
    }

    /// Moves the chain on.
    pub(crate) fn advance(&mut self, chain: ChainState) {
        self.row.sequence = chain.sequence;
        self.row.head = chain.head;
        self.heads.insert(chain.sequence, chain.head);
    }

    /// Whether the notice of the disclosure in force was acknowledged.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.acknowledged.contains(&self.row.disclosure)
    }

    /// Whether the notice of the disclosure in force was shown and acknowledged.
    pub(crate) fn is_shown(&self) -> bool {
        self.shown.contains(&self.row.disclosure)
    }

    /// Takes in what the database says was acknowledged.
    pub(crate) fn take_acknowledgements(&mut self, rows: Vec<AckRow>) {
        for row in rows {
            self.shown.insert(row.disclosure);
            if row.log_index.is_some() {
                self.acknowledged.insert(row.disclosure);
            }
        }
    }

    /// The MLS state, when the device takes part and nothing is wrong.
    ///
    /// # Errors
    /// [`ClientError::Refused`] saying why not.
    pub(crate) fn active(&mut self) -> Result<&mut greffe_mls::Conversation> {
        let id = self.row.conversation;
        match (self.row.state, &mut self.mls) {
            (ConversationState::Active, Some(mls)) => Ok(mls),
            (ConversationState::Creating, _) => Err(ClientError::refused(
                "CONVERSATION_NOT_CREATED",
                format!(
                    "the relay does not know conversation {id} yet: try again when it can be reached"
                ),
            )),
            (ConversationState::Broken, _) => Err(ClientError::refused(
                "CONVERSATION_BROKEN",
                format!(
                    "conversation {id} cannot go on here ({}): report it, and have a member invite you anew",
                    self.row.reason
                ),
            )),
            _ => Err(ClientError::refused(
                "NOT_A_MEMBER",
                format!("this device was removed from conversation {id}: have a member invite it"),
            )),
        }
    }

    /// The MLS state, for what arrives.
    ///
    /// # Errors
    /// When this device is not in the conversation.
    pub(crate) fn member(&mut self) -> Result<&mut greffe_mls::Conversation> {
        self.mls.as_mut().ok_or_else(|| {
            ClientError::refused(
                "NOT_A_MEMBER",
                format!(
                    "this device is not in conversation {}: have a member invite it",
                    self.row.conversation
                ),
            )
        })
    }

    /// As [`Live::active`], with the notice acknowledged.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub(crate) fn speaking(&mut self) -> Result<&mut greffe_mls::Conversation> {
        if !self.is_acknowledged() && self.row.state == ConversationState::Active {
            return Err(ClientError::refused(
                "NOTICE_NOT_ACKNOWLEDGED",
                format!(
                    "the notice of conversation {} was not acknowledged: show it and acknowledge it first",
                    self.row.conversation
                ),
            ));
        }
        self.active()
    }

    /// The disclosure that the MLS state says is in force now.
    pub(crate) fn redisclose(&mut self, disclosure: Arc<VerifiedDisclosure>) {
        self.row.disclosure = disclosure.digest();
        self.row.mode = disclosure.message().mode();
        self.disclosure = disclosure;
    }
}

impl Device {
    /// Locks a conversation, reading it from the database when memory cannot be relied on.
    ///
    /// # Errors
    /// When the device has no such conversation, or its rows do not load.
    pub(crate) async fn acquire(&self, id: &ConversationId) -> Result<LiveGuard> {
        let mut guard = self.lock(id).await;
        if guard.as_ref().is_none_or(|live| live.dirty) {
            *guard = None;
            let live = self.load(id).await?.ok_or_else(|| {
                ClientError::refused(
                    "CONVERSATION_UNKNOWN",
                    format!("this device knows no conversation {id}: it was not invited, or has not received yet"),
                )
            })?;
            *guard = Some(live);
        }
        Ok(LiveGuard(guard))
    }

    /// Locks a conversation whether it exists or not.
    pub(crate) async fn lock(&self, id: &ConversationId) -> OwnedMutexGuard<Option<Live>> {
        self.slot(id).await.lock_owned().await
    }

    /// Puts a conversation that is being created or joined into its locked place.
    pub(crate) fn place(mut guard: OwnedMutexGuard<Option<Live>>, live: Live) -> LiveGuard {
        *guard = Some(live);
        LiveGuard(guard)
    }

    async fn load(&self, id: &ConversationId) -> Result<Option<Live>> {
        let store = &self.0.client.0.store;
        let Some(row) = store.conversation(&self.0.id, id).await? else {
            return Ok(None);
        };
        let state = self.0.client.trust()?;
        let disclosure = state.disclosure(&row.disclosure).cloned().ok_or_else(|| {
            ClientError::store(format!("the disclosure of conversation {id} is not known"))
        })?;
        let present = matches!(
            row.state,
            ConversationState::Active | ConversationState::Creating
        );
        let mls = if present {
            let mut rows = store
                .mls_rows(&self.0.id, &RowKey::of_conversation(*id))
                .await?;
            rows.extend(store.mls_table(&self.0.id, Table::Disclosure).await?);
            let device = self.clone();
            let id = *id;
            Some(
                self.0
                    .client
                    .compute(move || device.0.mls.load(id, rows))
                    .await??,
            )
        } else {
            None
        };
        let acknowledged = store.acknowledgements(&self.0.id, Some(id)).await?;
        let mut heads: BTreeMap<u64, Digest> = store
            .heads(&self.0.id, id, u64::MAX, HEADS as u32)
            .await?
            .into_iter()
            .collect();
        heads.insert(row.sequence, row.head);
        let mut live = Live {
            mls,
            disclosure,
            acknowledged: HashSet::new(),
            shown: HashSet::new(),
            heads,
            row,
            dirty: false,
        };
        live.take_acknowledgements(acknowledged);
        Ok(Some(live))
    }

    /// The change that the MLS library has staged, as an operation.
    pub(crate) fn mls_op(&self, change: &greffe_mls::StateChange) -> Result<Op> {
        self.0.client.0.store.mls_change(&self.0.id, change)
    }
}
