//! Giving entries their place: one transaction a batch, on disk before anybody is told an index.

use core::time::Duration;
use greffe_service_kit::db::Connection;
use std::sync::Arc;

use greffe_service_kit::clock::{SharedClock, not_behind};
use greffe_service_kit::db::group::Batch;
use greffe_tlog::MAX_ENTRY;
use greffe_types::Millis;
use prost::Message as _;

use crate::checkpointer::Wakers;
use crate::entry::{EntryRefused, Proposed};
use crate::store::{self, NewLeaf};

/// An entry that is sequenced and durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Appended {
    /// Index of the leaf.
    pub(crate) index: u64,
    /// The leaf's exact bytes.
    pub(crate) leaf: Vec<u8>,
}

/// Applies batches of entries, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Sequencer {
    pub(crate) clock: SharedClock,
    pub(crate) tolerance: Duration,
    pub(crate) wakers: Arc<Wakers>,
}

impl Batch for Sequencer {
    type Request = Proposed;
    type Response = Result<Appended, EntryRefused>;

    async fn apply(
        &mut self,
        tx: &mut Connection,
        requests: Vec<Proposed>,
    ) -> Result<Vec<Self::Response>, sqlx::Error> {
        let (mut next, mut at) = store::end(&mut *tx).await?;
        let now = self.clock.now();
        let mut responses = Vec::with_capacity(requests.len());
        for proposed in requests {
            let response = self.one(&mut *tx, proposed, now, next, at).await?;
            if let Ok(appended) = &response
                && appended.index == next
            {
                next += 1;
                at = at.max(now);
            }
            responses.push(response);
        }
        Ok(responses)
    }

    fn settled(&mut self, committed: bool) {
        if committed {
            self.wakers.grown.notify_one();
        }
    }
}

impl Sequencer {
    async fn one(
        &self,
        tx: &mut Connection,
        proposed: Proposed,
        now: Millis,
        index: u64,
        latest: Millis,
    ) -> Result<Result<Appended, EntryRefused>, sqlx::Error> {
        let Proposed {
            caller,
            id,
            event,
            mut entry,
        } = proposed;
        if let Some(known) = store::find(&mut *tx, &caller, &id).await? {
            return Ok(if known.event == event.as_bytes() {
                Ok(Appended {
                    index: known.index,
                    leaf: known.bytes,
                })
            } else {
                Err(EntryRefused::Conflict)
            });
        }
        if not_behind(now, latest, self.tolerance).is_err() {
            return Ok(Err(EntryRefused::Clock));
        }
        // Within the tolerance time stands still: it never goes back.
        let at = now.max(latest);
        entry.at = at.get();
        entry.recorded_by.clone_from(&caller);
        let leaf = entry.encode_to_vec();
        if leaf.len() > MAX_ENTRY {
            return Ok(Err(EntryRefused::TooLarge(leaf.len())));
        }
        let row = NewLeaf {
            index,
            caller: &caller,
            id: &id,
            event: &event,
            at,
            bytes: &leaf,
        };
        store::insert(tx, &row).await?;
        Ok(Ok(Appended { index, leaf }))
    }
}
