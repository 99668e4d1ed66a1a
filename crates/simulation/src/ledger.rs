//! What users and office were told: the promises of the system as they saw them made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use greffe_types::{ConversationId, Digest, MatterId, OrderId};

/// A place in a conversation, and what took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Item {
    /// The conversation.
    pub(crate) conversation: ConversationId,
    /// The number.
    pub(crate) sequence: u64,
    /// Envelope digest.
    pub(crate) envelope: Digest,
}

/// A hold as its placer knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hold {
    /// Its id.
    pub(crate) id: [u8; 16],
    /// Its matter.
    pub(crate) matter: MatterId,
    /// Somebody has asked for its end: from then on nobody outside knows whether it stands.
    pub(crate) ending: bool,
}

/// An order as the office knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    /// Its id.
    pub(crate) id: OrderId,
    /// Digest of what was signed.
    pub(crate) digest: Digest,
    /// The records asked for.
    pub(crate) records: Vec<Digest>,
    /// People who began to approve.
    pub(crate) approving: BTreeSet<&'static str>,
}

/// What was told to anybody.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Messages whose sender has the receipt, with their texts.
    pub(crate) sent: Vec<(Item, String)>,
    /// Messages that a user was shown.
    pub(crate) shown: Vec<(&'static str, Item, String)>,
    /// Every text that a user asked to have sent.
    pub(crate) wanted: BTreeMap<String, &'static str>,
    /// Holds that the archive has confirmed.
    pub(crate) holds: Vec<Hold>,
    /// Orders that were filed.
    pub(crate) orders: Vec<Order>,
    /// Records whose disposition was asked for, and whether it was confirmed.
    pub(crate) disposals: BTreeMap<Digest, bool>,
    /// Texts that a reader opened.
    pub(crate) opened: Vec<(Digest, String)>,
    /// How far a user who is a member has taken the conversation in; none for one who is not.
    pub(crate) reported: BTreeMap<&'static str, Option<u64>>,
    /// What must not happen and did.
    pub(crate) broken: Vec<String>,
}

/// Shared by all processes of a seed.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Told>);

impl Ledger {
    /// To look something up or write it down.
    pub(crate) fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
