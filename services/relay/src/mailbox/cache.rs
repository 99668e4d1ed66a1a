//! Recently released items, decoded once for all mailboxes that deliver them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use greffe_api::relay as api;
use greffe_api::relay::receive_response::Item as Delivered;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_types::{ConversationId, Digest};
use prost::Message as _;

use crate::error::RelayError;
use crate::pipeline::{lock, statement};
use crate::store::Scope;
use crate::store::items::{self, Kind, MailRow};

/// Bytes of items that are kept.
const MAX_BYTES: usize = 64 << 20;
/// Items of one read.
const PAGE: u32 = 64;
/// Bytes of one read, unless its first item has more.
const PAGE_BYTES: u64 = 4 << 20;

/// An item ready to be delivered.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) sequence: u64,
    /// Who has not acknowledged this one does not get the item.
    pub(super) disclosure: Digest,
    /// What its receipt is for.
    pub(super) entry: Digest,
    pub(super) response: api::ReceiveResponse,
}

#[derive(Default)]
struct Kept {
    items: HashMap<ConversationId, BTreeMap<u64, Arc<Item>>>,
    order: VecDeque<(ConversationId, u64, usize)>,
    bytes: usize,
}

/// Items by conversation and number, the earliest read dropped first.
#[derive(Default)]
pub(super) struct Cache {
    kept: Mutex<Kept>,
    /// One reader a conversation: a hundred mailboxes woken at once read a page once.
    reading: Mutex<HashMap<ConversationId, Arc<tokio::sync::Mutex<()>>>>,
}

impl Cache {
    /// Released items after a number and up to another, without a hole; empty when there is none.
    pub(super) async fn page(
        &self,
        db: &greffe_service_kit::db::Reader,
        scope: &Scope,
        conversation: &ConversationId,
        after: u64,
        until: u64,
    ) -> Result<Vec<Arc<Item>>, RelayError> {
        let kept = self.run(conversation, after, until);
        if !kept.is_empty() {
            return Ok(kept);
        }
        let turn = {
            let mut reading = lock(&self.reading);
            if reading.len() > 1024 {
                reading.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            reading.entry(*conversation).or_default().clone()
        };
        let _turn = turn.lock().await;
        let kept = self.run(conversation, after, until);
        if !kept.is_empty() {
            return Ok(kept);
        }
        let sizes = items::sizes(db, scope, conversation, after, until, PAGE).await?;
        let Some(until) = fitting(&sizes) else {
            return Ok(Vec::new());
        };
        let rows = items::mail(db, scope, conversation, after, until, PAGE).await?;
        let mut read = Vec::with_capacity(rows.len());
        for row in rows {
            let size = row.payload.as_ref().map_or(0, Vec::len) + row.receipt.len();
            let item = Arc::new(decode(conversation, row)?);
            self.keep(*conversation, &item, size);
            read.push(item);
        }
        Ok(read)
    }

    fn run(&self, conversation: &ConversationId, after: u64, until: u64) -> Vec<Arc<Item>> {
        let kept = lock(&self.kept);
        let Some(items) = kept.items.get(conversation) else {
            return Vec::new();
        };
        if after >= until {
            return Vec::new();
        }
        items
            .range(after + 1..=until)
            .zip(after + 1..)
            .take_while(|((sequence, _), next)| *sequence == next)
            .map(|((_, item), _)| item.clone())
            .take(PAGE as usize)
            .collect()
    }

    fn keep(&self, conversation: ConversationId, item: &Arc<Item>, size: usize) {
        let mut kept = lock(&self.kept);
        let items = kept.items.entry(conversation).or_default();
        if items.insert(item.sequence, item.clone()).is_none() {
            kept.order.push_back((conversation, item.sequence, size));
            kept.bytes += size;
        }
        while kept.bytes > MAX_BYTES
            && let Some((conversation, sequence, size)) = kept.order.pop_front()
        {
            kept.bytes -= size;
            if let Some(items) = kept.items.get_mut(&conversation) {
                items.remove(&sequence);
                if items.is_empty() {
                    kept.items.remove(&conversation);
                }
            }
        }
    }
}

/// The last number of a page that is not too large.
fn fitting(sizes: &[(u64, u64)]) -> Option<u64> {
    let mut bytes = 0;
    let mut last = None;
    for (sequence, size) in sizes {
        bytes += size;
        if last.is_some() && bytes > PAGE_BYTES {
            break;
        }
        last = Some(*sequence);
    }
    last
}

fn decode(conversation: &ConversationId, row: MailRow) -> Result<Item, RelayError> {
    let payload = || {
        let payload = row.payload.as_deref();
        payload.ok_or(RelayError::Damaged(
            "payload dropped before it was taken in",
        ))
    };
    let item = match row.kind {
        Kind::Message => {
            let message = api::DeliveredMessage::decode(payload()?);
            Delivered::Message(message.map_err(|_| RelayError::Damaged("payload"))?)
        }
        Kind::Handshake => Delivered::Commit(payload()?.to_vec()),
        Kind::Void => {
            let void = row.void.as_deref().ok_or(RelayError::Damaged("void"))?;
            Delivered::Void(statement(void)?)
        }
    };
    let receipt = statement(&row.receipt)?;
    Ok(Item {
        sequence: row.sequence,
        disclosure: row.disclosure,
        entry: entry(&receipt).unwrap_or(Digest::ZERO),
        response: api::ReceiveResponse {
            conversation: conversation.to_vec(),
            sequence: row.sequence,
            receipt: Some(receipt),
            item: Some(item),
        },
    })
}

fn entry(receipt: &pb::SignedStatement) -> Option<Digest> {
    let receipt = Signed::<pb::Receipt>::decode(receipt.clone()).ok()?;
    Digest::try_from(receipt.entry_digest.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: ConversationId = ConversationId::new([1; 16]);

    fn item(sequence: u64) -> Arc<Item> {
        Arc::new(Item {
            sequence,
            disclosure: Digest::ZERO,
            entry: Digest::ZERO,
            response: api::ReceiveResponse::default(),
        })
    }

    fn numbers(cache: &Cache, after: u64, until: u64) -> Vec<u64> {
        let run = cache.run(&C, after, until);
        run.iter().map(|item| item.sequence).collect()
    }

    #[test]
    fn a_run_has_no_hole() {
        let cache = Cache::default();
        for sequence in [1, 2, 4, 5] {
            cache.keep(C, &item(sequence), 1);
        }
        assert_eq!(numbers(&cache, 0, 9), [1, 2]);
        assert_eq!(numbers(&cache, 3, 4), [4]);
        assert_eq!(numbers(&cache, 2, 9), [0_u64; 0]);
        assert_eq!(numbers(&cache, 5, 5), [0_u64; 0]);
        assert_eq!(numbers(&cache, 9, u64::MAX), [0_u64; 0]);
    }

    #[test]
    fn a_page_is_bounded_and_never_empty() {
        assert_eq!(fitting(&[]), None);
        assert_eq!(fitting(&[(7, 2 * PAGE_BYTES), (8, 1)]), Some(7));
        assert_eq!(fitting(&[(7, PAGE_BYTES), (8, 1)]), Some(7));
        assert_eq!(fitting(&[(7, 5), (8, 5), (9, PAGE_BYTES)]), Some(8));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let cache = Cache::default();
        for sequence in 1..=5 {
            cache.keep(C, &item(sequence), MAX_BYTES / 2);
        }
        assert_eq!(numbers(&cache, 0, 9), [0_u64; 0]);
        assert_eq!(numbers(&cache, 3, 9), [4, 5]);
        assert_eq!(lock(&cache.kept).order.len(), 2);
    }
}
