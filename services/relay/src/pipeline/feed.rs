//! What the leader has released, as the other replicas learn it: read in the order of release, nothing twice, nothing left out.
//!
//! The leader, which has answered already, reads the same once more as it looks now and then: it cannot know here that it was
//! the one that released.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Core, settled};
use crate::error::RelayError;
use crate::store::{items, members};

/// Items of one read.
const PAGE: u32 = 256;

/// A place in the order of release.
pub struct Feed {
    core: Arc<Core>,
    last: u64,
}

impl core::fmt::Debug for Feed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Feed({})", self.last)
    }
}

impl Feed {
    /// From what is released now.
    pub(super) async fn new(core: Arc<Core>) -> Result<Self, RelayError> {
        let last = items::last_released(core.db.read(), &core.scope).await?;
        Ok(Self { core, last })
    }

    /// Answers who waits here for what was released since, and wakes mailboxes. Places are given by one writer after the
    /// other, so what is committed has no hole.
    ///
    /// # Errors
    /// The database's; the same comes again at the next call.
    pub async fn advance(&mut self) -> Result<(), RelayError> {
        loop {
            let core = &self.core;
            let (db, scope) = (core.db.read(), &core.scope);
            let page = items::released_after(db, scope, self.last, PAGE).await?;
            let mut latest = HashMap::new();
            let mut moved = HashSet::new();
            for released in &page {
                let (id, sequence) = (released.item.conversation, released.item.sequence);
                latest.insert(id, sequence);
                if released.commit {
                    let members = members::at(db, scope, &id, sequence).await?;
                    moved.extend(members.into_iter().map(|(_, device)| device));
                }
                if core.waiters.wait_for(&released.digest)
                    && let Some(settled) = settled(&released.item)?
                {
                    core.waiters.settle(released.digest, &Arc::new(settled));
                }
            }
            core.mailbox.released(&latest);
            core.mailbox.wake(&moved);
            let Some(last) = page.last() else {
                return Ok(());
            };
            self.last = last.place;
        }
    }
}
