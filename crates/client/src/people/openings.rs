//! What the log says was opened under an order: each entry proved, those under a seal recognised by the order's nonce.

use std::collections::{BTreeSet, HashMap};

use futures::{StreamExt as _, TryStreamExt as _};
use greffe_envelope::opening::{RecordList, sealed_opened, sealed_order};
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::{Signed, Statement as _};
use greffe_envelope::trust::TrustState;
use greffe_policy::CLOCK_TOLERANCE;
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
    /// The sealed leaf that it stands under, when that is not the one that the archive has named for the order.
    pub foreign: Option<Digest>,
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
    /// Entries of the log from here on were read and proved,
    pub log_start: u64,
    /// to here.
    pub log_size: u64,
}

impl People {
    /// Reads what the log says was opened under a released order. Every entry from the beginning of the order's window on is
    /// proved, so that the log cannot leave one out; which of them is the order's own leaf is the archive's word, and decides
    /// nothing: it may have had the order logged before.
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
        // Nodes answer from here on by their clocks, and the log tells its own time.
        let begin = Millis::new(info.order.not_before).minus(CLOCK_TOLERANCE);
        let log_start = first_since(begin, needed, async |index| {
            let one = log.included("opening", &checkpoint, index).await?;
            Ok(Millis::new(one.entry.at))
        });
        let log_start = log_start.await?;
        let end = Millis::new(info.order.expiry).plus(LATE);
        let mut proofs = futures::stream::iter(log_start..checkpoint.head.size)
            .map(|index| log.included("opening", &checkpoint, index))
            .buffered(AT_ONCE);
        let (mut entries, mut log_size) = (Vec::new(), log_start);
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
        let epochs = epochs(&state, &entries);
        let openings = of_order(&info.order, &list, &order, &epochs, &entries);
        Ok(LoggedOpenings {
            info,
            list,
            openings,
            log_start,
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

/// The first entry before `end` that is not older than `begin`, or `end`. The log's time never goes back.
async fn first_since(
    begin: Millis,
    end: u64,
    at: impl AsyncFn(u64) -> Result<Millis>,
) -> Result<u64> {
    let (mut older, mut since) = (0, end);
    while older < since {
        let middle = older + (since - older) / 2;
        if at(middle).await? < begin {
            older = middle + 1;
        } else {
            since = middle;
        }
    }
    Ok(since)
}

/// A sealed opening is recognised by what its requester has signed alone: whichever leaf it names, it is this order's.
fn of_order(
    order: &Signed<pb::Order>,
    list: &RecordList,
    released: &pb::ReleasedOrder,
    epochs: &BTreeSet<(Vec<u8>, Vec<u8>)>,
    entries: &[(u64, pb::LogEntry)],
) -> Vec<LoggedOpening> {
    let digest = order.digest();
    let commitment = (!released.salt.is_empty()).then(|| sealed_order(released));
    // By node, what each of its openings of the order's records would be logged as.
    let mut expected: HashMap<String, HashMap<Digest, Digest>> = HashMap::new();
    let mut recognised = |node: &str, opened: &[u8]| -> Option<Digest> {
        let opened = Digest::try_from(opened).ok()?;
        let known = expected.entry(node.to_owned()).or_insert_with(|| {
            let mut known = HashMap::new();
            for envelope in list.digests() {
                for (key_id, share_epoch) in epochs {
                    let opened = pb::Opened {
                        order: digest.to_vec(),
                        envelope: envelope.to_vec(),
                        key_id: key_id.clone(),
                        share_epoch: share_epoch.clone(),
                        node: node.to_owned(),
                    };
                    known.insert(sealed_opened(&order.nonce, &opened), *envelope);
                }
            }
            known
        });
        known.get(&opened).copied()
    };
    let mut found = Vec::new();
    for (index, entry) in entries {
        let node = &entry.recorded_by;
        let (sealed, envelope, foreign) = match &entry.event {
            Some(Event::Opened(opened)) if opened.order == digest.as_bytes() => {
                let envelope = Digest::try_from(opened.envelope.as_slice()).ok();
                // In clear under a sealed order, or in another node's name, it is none that a node of ours makes.
                let ours = commitment.is_none() && opened.node == *node;
                let covered = |envelope: &Digest| ours && list.path(envelope).is_some();
                (false, envelope.filter(covered), None)
            }
            Some(Event::SealedOpened(opened)) => {
                let envelope = recognised(node, &opened.opened);
                let leaf = Digest::try_from(opened.sealed_order.as_slice()).ok();
                let foreign = leaf.filter(|leaf| commitment != Some(*leaf));
                // What is neither of this order nor under its leaf is another order's.
                if envelope.is_none() && (commitment.is_none() || leaf != commitment) {
                    continue;
                }
                (true, envelope, foreign)
            }
            _ => continue,
        };
        found.push(LoggedOpening {
            index: *index,
            at: Millis::new(entry.at),
            node: node.clone(),
            sealed,
            envelope,
            foreign,
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

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use greffe_envelope::opening::{opened_event, order_event};

    fn sealed(nonce: u8, seal_until: u64) -> Signed<pb::Order> {
        let order = pb::Order {
            nonce: vec![nonce; 32],
            seal_until,
            ..Default::default()
        };
        Signed::sign(order, &[("rex", &SigningKey::from_bytes(&[7; 32]))])
    }

    fn released(order: &Signed<pb::Order>, salt: &[u8]) -> pb::ReleasedOrder {
        pb::ReleasedOrder {
            order: Some(order.raw().clone()),
            approvals: Vec::new(),
            salt: salt.to_vec(),
        }
    }

    fn entry(index: u64, by: &str, event: Event) -> (u64, pb::LogEntry) {
        let entry = pb::LogEntry {
            tenant: "acme".into(),
            recorded_by: by.into(),
            at: index,
            event: Some(event),
        };
        (index, entry)
    }

    fn opening(
        order: &Signed<pb::Order>,
        released: &pb::ReleasedOrder,
        envelope: u8,
        node: &str,
    ) -> Event {
        let opened = pb::Opened {
            order: order.digest().to_vec(),
            envelope: vec![envelope; 32],
            key_id: vec![4; 32],
            share_epoch: vec![5; 32],
            node: node.into(),
        };
        opened_event(released, order.message(), opened)
    }

    /// Index, record and foreign leaf of what is found under `named`.
    fn found(
        order: &Signed<pb::Order>,
        named: &pb::ReleasedOrder,
        entries: &[(u64, pb::LogEntry)],
    ) -> Vec<(u64, Option<Digest>, Option<Digest>)> {
        let list = RecordList::new(vec![Digest::new([1; 32]), Digest::new([2; 32])]).unwrap();
        let epochs = BTreeSet::from([(vec![4; 32], vec![5; 32])]);
        of_order(order, &list, named, &epochs, entries)
            .into_iter()
            .map(|one| (one.index, one.envelope, one.foreign))
            .collect()
    }

    #[test]
    fn openings_under_another_leaf_of_the_order_are_found_and_told_apart() {
        let order = sealed(9, 1);
        // One approved order that the archive has logged twice: its reader opened all under the first leaf, and the auditor is
        // shown the second.
        let (used, shown) = (released(&order, &[1; 32]), released(&order, &[2; 32]));
        let other = sealed(8, 1);
        let others = released(&other, &[3; 32]);
        let entries = [
            entry(0, "archive", order_event(&used)),
            entry(1, "escrow-1", opening(&order, &used, 1, "escrow-1")),
            entry(2, "escrow-2", opening(&order, &used, 2, "escrow-2")),
            entry(3, "archive", order_event(&shown)),
            entry(4, "escrow-1", opening(&order, &shown, 2, "escrow-1")),
            // Of no record of the order: under its leaf it counts, under another it is another order's.
            entry(5, "escrow-1", opening(&order, &shown, 3, "escrow-1")),
            entry(6, "escrow-1", opening(&other, &others, 1, "escrow-1")),
            // In another node's name.
            entry(7, "escrow-3", opening(&order, &shown, 1, "escrow-1")),
        ];
        let digest = |n: u8| Some(Digest::new([n; 32]));
        let leaf = Some(sealed_order(&used));
        assert_eq!(
            found(&order, &shown, &entries),
            [
                (1, digest(1), leaf),
                (2, digest(2), leaf),
                (4, digest(2), None),
                (5, None, None),
                (7, None, None),
            ]
        );
        assert_eq!(found(&other, &others, &entries), [(6, digest(1), None)]);
    }

    #[test]
    fn openings_in_clear_are_found_whichever_leaf_the_archive_names() {
        let order = sealed(9, 0);
        let clear = released(&order, &[]);
        let entries = [
            entry(1, "escrow-1", opening(&order, &clear, 1, "escrow-1")),
            entry(2, "escrow-1", opening(&order, &clear, 3, "escrow-1")),
            // A commitment under an order that is not sealed.
            entry(
                3,
                "escrow-2",
                opening(&order, &released(&order, &[6; 32]), 2, "escrow-2"),
            ),
        ];
        let foreign = sealed_order(&released(&order, &[6; 32]));
        assert_eq!(
            found(&order, &clear, &entries),
            [
                (1, Some(Digest::new([1; 32])), None),
                (2, None, None),
                (3, Some(Digest::new([2; 32])), Some(foreign)),
            ]
        );
    }

    #[tokio::test]
    async fn the_log_is_read_from_the_first_entry_of_the_orders_time() {
        let times = [5, 5, 7, 7, 7, 9];
        for (begin, end, first) in [
            (0, 6, 0),
            (6, 6, 2),
            (7, 6, 2),
            (8, 6, 5),
            (10, 6, 6),
            (8, 4, 4),
        ] {
            let found = first_since(Millis::new(begin), end, async |index| {
                assert!(index < end, "{index}");
                Ok(Millis::new(times[index as usize]))
            });
            assert_eq!(found.await.unwrap(), first, "{begin} {end}");
        }
    }
}
