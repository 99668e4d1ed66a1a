//! Giving entries their place: one transaction a batch, on disk before anybody is told an index.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;

use greffe_service_kit::clock::{SharedClock, not_behind};
use greffe_service_kit::db::Connection;
use greffe_service_kit::db::group::Batch;
use greffe_tlog::MAX_ENTRY;
use greffe_types::Millis;
use prost::Message as _;

use crate::checkpointer::Wakers;
use crate::entry::{EntryRefused, Proposed};
use crate::store::{self, Known, NewLeaf};

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
        let ids = requests.iter().map(|asked| (&*asked.caller, &asked.id));
        let known = store::known(&mut *tx, &ids.collect()).await?;
        let (next, at) = store::end(&mut *tx).await?;
        let mut places = Places {
            known,
            new: Vec::new(),
            places: HashMap::new(),
            next,
            at,
            now: self.clock.now(),
            tolerance: self.tolerance,
        };
        let given = requests.into_iter().map(|asked| places.give(asked));
        let responses = given.collect();
        store::insert(tx, &places.new).await?;
        Ok(responses)
    }

    fn settled(&mut self, committed: bool) {
        if committed {
            self.wakers.grown.notify_one();
        }
    }
}

/// The end of the log, as a batch makes it longer.
struct Places {
    /// What the batch asks for and the log has.
    known: HashMap<(String, [u8; 16]), Known>,
    new: Vec<NewLeaf>,
    /// Where the new ones are, by caller and id.
    places: HashMap<(String, [u8; 16]), usize>,
    /// Index of the next leaf.
    next: u64,
    /// Time of the last one.
    at: Millis,
    now: Millis,
    tolerance: Duration,
}

impl Places {
    fn give(&mut self, proposed: Proposed) -> Result<Appended, EntryRefused> {
        let Proposed {
            caller,
            id,
            event,
            mut entry,
        } = proposed;
        let name = (caller, id);
        let same = |known: &[u8], index, leaf: &Vec<u8>| {
            if known == event.as_bytes() {
                let leaf = leaf.clone();
                Ok(Appended { index, leaf })
            } else {
                Err(EntryRefused::Conflict)
            }
        };
        if let Some(known) = self.known.get(&name) {
            return same(&known.event, known.index, &known.bytes);
        }
        if let Some(new) = self.places.get(&name).map(|place| &self.new[*place]) {
            return same(new.event.as_bytes(), new.index, &new.bytes);
        }
        if not_behind(self.now, self.at, self.tolerance).is_err() {
            return Err(EntryRefused::Clock);
        }
        // Within the tolerance time stands still: it never goes back.
        let at = self.now.max(self.at);
        entry.at = at.get();
        entry.recorded_by.clone_from(&name.0);
        let leaf = entry.encode_to_vec();
        if leaf.len() > MAX_ENTRY {
            return Err(EntryRefused::TooLarge(leaf.len()));
        }
        let index = self.next;
        self.new.push(NewLeaf {
            index,
            caller: name.0.clone(),
            id,
            event,
            at,
            bytes: leaf.clone(),
        });
        self.places.insert(name, self.new.len() - 1);
        self.next += 1;
        self.at = at;
        Ok(Appended { index, leaf })
    }
}
