//! What the log says was opened under an order: each entry proved, those under a seal recognised by the order's salt.

use std::collections::{BTreeSet, HashMap};

use futures::{StreamExt as _, TryStreamExt as _};
use greffe_envelope::opening::{RecordList, opened_event, sealed_order};
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::{Signed, Statement as _};
use greffe_envelope::trust::TrustState;
use greffe_types::{Digest, Millis, OrderId};

use super::People;
use super::open::check_order_leaf;
use super::orders::{OrderInfo, OrderState};
use crate::error::{ClientError, Result};

/// Proofs asked for at the same time.
const AT_ONCE: usize = 16;
/// Nodes answer to the end of an order's window; how much later by the log's clock their entries may come.
const LATE: core::time::Duration = core::time::Duration::from_secs(3600);

/// An opening as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedOpening {
    /// Index of the entry.
    pub index: u64,
    /// When it was logged.
    pub at: Millis,
    /// The node.
    pub node: String,
    /// Whether the log shows a commitment only.
    pub sealed: bool,
    /// The record, which is one of the order's; none for an opening of something that the order does not cover.
    pub envelope: Option<Digest>,
}

/// Every opening under an order, and how far the log was read for it.
#[derive(Debug)]
pub struct LoggedOpenings {
    /// The order.
    pub info: OrderInfo,
    /// The records it is about.
    pub list: RecordList,
    /// The openings, in the order of the log.
    pub openings: Vec<LoggedOpening>,
    /// Entries of the log from the order's own to here were read and proved.
    pub log_size: u64,
}

impl People {
    /// Reads what the log says was opened under a released order. Every entry from the order's own on is proved, so that the
    /// log cannot leave one out.
    ///
    /// # Errors
    /// When the order is not released, or the log does not bear it out.
    pub async fn openings(&self, id: &OrderId) -> Result<LoggedOpenings> {
        let (info, list) = self.order(id).await?;
        let released = matches!(info.state, OrderState::Released | OrderState::Expired);
        if !released || info.log_index == 0 {
            return Err(ClientError::refused(
                "ORDER_NOT_RELEASED",
                format!("order {id} was not released: nothing can have been opened under it"),
            ));
        }
        self.client.refresh_trust().await?;
        let state = self.client.trust()?;
        let log = self.client.log();
        let needed = info.log_index.saturating_add(1);
        let checkpoint = log.checkpoint(state.bundle(), needed).await?;
        let order = pb::ReleasedOrder {
            order: Some(info.order.raw().clone()),
            approvals: info.approvals.clone(),
            salt: info.salt.clone(),
        };
        let leaf = log.included("order", &checkpoint, info.log_index).await?;
        check_order_leaf(&leaf.entry, &order)?;
        let end = Millis::new(info.order.expiry).plus(LATE);
        let mut proofs = futures::stream::iter(needed..checkpoint.head.size)
            .map(|index| log.included("opening", &checkpoint, index))
            .buffered(AT_ONCE);
        let (mut entries, mut log_size) = (Vec::new(), needed);
        while let Some(one) = proofs.try_next().await? {
            if Millis::new(one.entry.at) > end {
                break;
            }
            log_size = one.index + 1;
            if matters(&one.entry) {
                entries.push((one.index, one.entry));
            }
        }
        drop(proofs);
        let openings = of_order(&state, &info, &list, &order, &entries);
        Ok(LoggedOpenings {
            info,
            list,
            openings,
            log_size,
        })
    }
}

/// Openings, and the share epochs that they may be by.
fn matters(entry: &pb::LogEntry) -> bool {
    match &entry.event {
        Some(Event::Opened(_) | Event::SealedOpened(_)) => true,
        Some(Event::Statement(statement)) => statement.r#type == pb::ShareEpoch::TYPE,
        _ => false,
    }
}

fn of_order(
    state: &TrustState,
    info: &OrderInfo,
    list: &RecordList,
    order: &pb::ReleasedOrder,
    entries: &[(u64, pb::LogEntry)],
) -> Vec<LoggedOpening> {
    let digest = info.order.digest();
    let commitment = (!order.salt.is_empty()).then(|| sealed_order(order));
    let epochs = epochs(state, entries);
    // By node, what each of its openings of the order's records would be logged as.
    let mut expected: HashMap<String, HashMap<Vec<u8>, Digest>> = HashMap::new();
    let mut recognised = |node: &str, opened: &[u8]| -> Option<Digest> {
        let known = expected.entry(node.to_owned()).or_insert_with(|| {
            let mut known = HashMap::new();
            for envelope in list.digests() {
                for (key_id, share_epoch) in &epochs {
                    let opened = pb::Opened {
                        order: digest.to_vec(),
                        envelope: envelope.to_vec(),
                        key_id: key_id.clone(),
                        share_epoch: share_epoch.clone(),
                        node: node.to_owned(),
                    };
                    if let Event::SealedOpened(sealed) = opened_event(order, opened) {
                        known.insert(sealed.opened, *envelope);
                    }
                }
            }
            known
        });
        known.get(opened).copied()
    };
    let mut found = Vec::new();
    for (index, entry) in entries {
        let node = &entry.recorded_by;
        let (sealed, envelope) = match &entry.event {
            Some(Event::Opened(opened)) if opened.order == digest.as_bytes() => {
                let envelope = Digest::try_from(opened.envelope.as_slice()).ok();
                // In clear under a sealed order, or in another node's name, it is none that a node of ours makes.
                let ours = commitment.is_none() && opened.node == *node;
                let covered = |envelope: &Digest| ours && list.path(envelope).is_some();
                (false, envelope.filter(covered))
            }
            Some(Event::SealedOpened(opened))
                if commitment.is_some_and(|ours| opened.sealed_order == ours.as_bytes()) =>
            {
                (true, recognised(node, &opened.opened))
            }
            _ => continue,
        };
        found.push(LoggedOpening {
            index: *index,
            at: Millis::new(entry.at),
            node: node.clone(),
            sealed,
            envelope,
        });
    }
    found
}

/// Every key with the share epochs that may have answered: those in force now, those that came meanwhile, and those that these
/// took the place of.
fn epochs(state: &TrustState, entries: &[(u64, pb::LogEntry)]) -> BTreeSet<(Vec<u8>, Vec<u8>)> {
    let mut epochs = BTreeSet::new();
    for key_id in state.key_ids() {
        if let Some(epoch) = state.share_epoch(key_id) {
            epochs.insert((key_id.to_vec(), epoch.digest().to_vec()));
            epochs.insert((key_id.to_vec(), epoch.message().previous.clone()));
        }
    }
    for (_, entry) in entries {
        if let Some(Event::Statement(statement)) = &entry.event
            && let Ok(epoch) = Signed::<pb::ShareEpoch>::decode(statement.clone())
        {
            epochs.insert((epoch.key_id.clone(), epoch.digest().to_vec()));
            epochs.insert((epoch.key_id.clone(), epoch.previous.clone()));
        }
    }
    epochs
}
