//! What a monitor keeps of the entries it has read, to judge the later ones by.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use greffe_envelope::label::sha256;
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::{Signed, Statement as _};
use greffe_envelope::trust::{Applied, Bundle, RootKey, TrustError, TrustState};
use greffe_production::approved;
use greffe_types::{Digest, Millis};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::alarm::{self, Alarm};
use crate::fail::chain;

/// Who alone has orders logged.
const ARCHIVE: &str = "archive";
const NOT_THE_ARCHIVES: &str = "it was not the archive that had it logged";

/// What has been read, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// Statements that the tenant's trust was made from, in the order of the log.
    trust: Vec<Logged>,
    /// Digests of released orders with the approvals they need.
    orders: BTreeSet<Digest>,
    /// Commitments to sealed orders, those that were shown later included: what was opened under them names no other.
    sealed: BTreeSet<Digest>,
    /// The newest share epoch of each journaling key.
    epochs: BTreeMap<String, u64>,
    /// Descriptors of resharings: every node that takes part has the one descriptor logged.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    reshares: BTreeSet<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Logged {
    index: u64,
    /// Base64 of the signed statement.
    statement: String,
}

/// What has been read, and the trust that follows from it.
#[derive(Debug, Clone)]
pub(super) struct Book {
    root: RootKey,
    trust: Option<TrustState>,
    kept: Kept,
}

impl Book {
    /// From the tenant's root and what was stored.
    ///
    /// # Errors
    /// When what was stored is not what the root has vouched for.
    pub(super) fn new(root: RootKey, kept: Kept) -> Result<Self, String> {
        let mut book = Self {
            root,
            trust: None,
            kept: Kept::default(),
        };
        for Logged { index, statement } in &kept.trust {
            let bytes = STANDARD.decode(statement).map_err(|e| e.to_string())?;
            let statement = pb::SignedStatement::decode(&*bytes).map_err(|e| e.to_string())?;
            book.trusted(*index, &statement).map_err(|e| chain(&e))?;
        }
        book.kept = kept;
        Ok(book)
    }

    pub(super) const fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The bundle in force at the last entry read; none before the first.
    pub(super) fn bundle(&self) -> Option<&Bundle> {
        self.trust.as_ref().map(|trust| &**trust.bundle())
    }

    /// Takes in an entry's statement as far as the tenant's trust follows from it, and nothing else of it.
    pub(super) fn look_ahead(&mut self, index: u64, entry: &pb::LogEntry) {
        if let Some(Event::Statement(statement)) = &entry.event {
            // One that is refused is alarmed about when the entry is taken in.
            let _refused = self.trusted(index, statement);
        }
    }

    /// Reads an entry that is proved to be in the log.
    pub(super) fn read(&mut self, index: u64, entry: &pb::LogEntry) -> Option<Alarm> {
        match entry.event.as_ref()? {
            Event::Statement(statement) => self.statement(index, statement),
            Event::ReleasedOrder(released) => self.order(index, entry, released),
            Event::SealedOrder(commitment) => self.sealed_order(index, entry, commitment),
            Event::Opened(opened) => self.opened(index, opened),
            Event::SealedOpened(opened) => self.sealed_opened(index, entry, opened),
            _ => None,
        }
    }

    fn statement(&mut self, index: u64, statement: &pb::SignedStatement) -> Option<Alarm> {
        let refused = self.trusted(index, statement).err();
        match statement.r#type.as_str() {
            pb::TrustBundle::TYPE => refused.map(|error| {
                let message = format_args!(
                    "the log has a trust bundle that is not the root's, or does not follow the one before: {}; ask the operators what it is, and trust no service that goes by it",
                    chain(&error)
                );
                Alarm::entry(alarm::BUNDLE, index, message)
            }),
            pb::ShareEpoch::TYPE => self.shares(index, statement),
            pb::ReshareDescriptor::TYPE => {
                let first = self.kept.reshares.insert(sha256(&statement.statement));
                let message = "the nodes have begun to share a journaling key anew; ask the operators whether that is meant";
                first.then(|| Alarm::entry(alarm::SHARES, index, message))
            }
            pb::KeyRetirement::TYPE if refused.is_none() => Some(Alarm::entry(
                alarm::SHARES,
                index,
                "a journaling key is retired, and every share of it is destroyed; ask the operators whether that is meant",
            )),
            _ => None,
        }
    }

    fn trusted(&mut self, index: u64, statement: &pb::SignedStatement) -> Result<(), TrustError> {
        let applied = match &mut self.trust {
            Some(trust) => trust.apply(statement, index)?,
            none if statement.r#type == pb::TrustBundle::TYPE => {
                *none = Some(TrustState::new(self.root.clone(), statement.clone())?);
                Applied::New
            }
            None => Applied::Other,
        };
        if applied == Applied::New {
            self.kept.trust.push(Logged {
                index,
                statement: STANDARD.encode(statement.encode_to_vec()),
            });
        }
        Ok(())
    }

    /// The first epoch of a key comes with the key; any later one says that other shares open it.
    fn shares(&mut self, index: u64, statement: &pb::SignedStatement) -> Option<Alarm> {
        let epoch = Signed::<pb::ShareEpoch>::decode(statement.clone()).ok()?;
        let key = Digest::try_from(epoch.key_id.as_slice()).ok()?.to_string();
        let before = self.kept.epochs.insert(key.clone(), epoch.epoch);
        if before == Some(epoch.epoch) || (before.is_none() && epoch.epoch == 1) {
            return None;
        }
        let holders: Vec<&str> = epoch.holders.iter().map(|h| h.node.as_str()).collect();
        Some(Alarm::entry(
            alarm::SHARES,
            index,
            format_args!(
                "the shares of journaling key {key} are those of epoch {} now, held by {}, of whom {} open a record; ask the operators whether that is meant",
                epoch.epoch,
                holders.join(", "),
                epoch.threshold
            ),
        ))
    }

    fn order(
        &mut self,
        index: u64,
        entry: &pb::LogEntry,
        released: &pb::ReleasedOrder,
    ) -> Option<Alarm> {
        if entry.recorded_by != ARCHIVE {
            return Some(unapproved(index, NOT_THE_ARCHIVES));
        }
        match self.approved(entry, released) {
            Err(problem) => Some(unapproved(index, &problem)),
            Ok(order) => {
                self.kept.orders.insert(order);
                None
            }
        }
    }

    /// Nobody sees who approved it; that the archive had it logged is all that there is to see, and nodes want no less.
    fn sealed_order(
        &mut self,
        index: u64,
        entry: &pb::LogEntry,
        commitment: &[u8],
    ) -> Option<Alarm> {
        if entry.recorded_by != ARCHIVE {
            return Some(unapproved(index, NOT_THE_ARCHIVES));
        }
        self.kept.sealed.extend(Digest::try_from(commitment));
        None
    }

    /// By the bundle in force, or the one before it: the archive follows the log, and may be a moment behind.
    fn approved(
        &self,
        entry: &pb::LogEntry,
        released: &pb::ReleasedOrder,
    ) -> Result<Digest, String> {
        let trust = self.trust.as_ref().ok_or("no trust bundle is before it")?;
        let bundle = trust.bundle();
        let at = Millis::new(entry.at);
        approved(released, bundle, at).or_else(|problem| {
            let before = bundle.version().checked_sub(1);
            let before = before.and_then(|version| trust.bundle_version(version));
            before
                .and_then(|before| approved(released, before, at).ok())
                .ok_or(problem)
        })
    }

    fn opened(&self, index: u64, opened: &pb::Opened) -> Option<Alarm> {
        let order = Digest::try_from(opened.order.as_slice());
        if order
            .as_ref()
            .is_ok_and(|order| self.kept.orders.contains(order))
        {
            return None;
        }
        let order = order.map_or_else(|_| "of no digest".to_owned(), |order| order.to_string());
        let message = format_args!(
            "{} has opened a record under order {order}, and no such order with its approvals is in the log before; stop that node and ask how it came to answer",
            opened.node
        );
        Some(Alarm::entry(alarm::NO_ORDER, index, message))
    }

    fn sealed_opened(
        &self,
        index: u64,
        entry: &pb::LogEntry,
        opened: &pb::SealedOpened,
    ) -> Option<Alarm> {
        let order = Digest::try_from(opened.sealed_order.as_slice());
        if order.is_ok_and(|order| self.kept.sealed.contains(&order)) {
            return None;
        }
        let message = format_args!(
            "{} has opened a record under a sealed order that is not in the log before; stop that node and ask how it came to answer",
            entry.recorded_by
        );
        Some(Alarm::entry(alarm::NO_ORDER, index, message))
    }
}

fn unapproved(index: u64, problem: &str) -> Alarm {
    let message = format_args!(
        "an order was released that is not approved: {problem}; have no record opened under it, and ask the archive's operators how it got there"
    );
    Alarm::entry(alarm::UNAPPROVED, index, message)
}
