//! What devices have taken in: cursors stored in batches, and then what nobody will ask for again is dropped.

use greffe_service_kit::db::Connection;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use greffe_service_kit::clock::SharedClock;
use greffe_service_kit::db::Database;
use greffe_types::{ConversationId, DeviceId};
use tokio::sync::mpsc;

use crate::attachments::Staging;
use crate::error::RelayError;
use crate::store::{Scope, commits, items, members};

/// Acknowledgements that may wait.
pub(super) const QUEUE: usize = 4096;
/// Most of one transaction.
const BATCH: usize = 2048;
/// How often payloads are dropped.
const SWEEP: Duration = Duration::from_secs(1);
/// How often staged attachments are looked at, in sweeps.
const STAGING_EVERY: u32 = 30;

/// A device has taken everything in up to here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ack {
    pub(super) conversation: ConversationId,
    pub(super) device: DeviceId,
    pub(super) cursor: u64,
}

/// Stores cursors and drops payloads.
pub(super) struct Acks {
    db: Database,
    scope: Scope,
    clock: SharedClock,
    staging: Staging,
    /// Conversations whose cursors have moved since the last sweep.
    moved: HashSet<ConversationId>,
}

impl Acks {
    pub(super) fn new(db: Database, scope: Scope, clock: SharedClock, staging: Staging) -> Self {
        Self {
            db,
            scope,
            clock,
            staging,
            moved: HashSet::new(),
        }
    }

    /// Until no mailbox can acknowledge any more.
    pub(super) async fn run(mut self, mut waiting: mpsc::Receiver<Ack>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut sweeps = 0_u32;
        loop {
            tokio::select! {
                taken = waiting.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        break;
                    }
                    if let Err(error) = self.store(&batch).await {
                        // The devices get those items again.
                        tracing::error!(%error, "storing acknowledgements failed");
                    }
                    batch.clear();
                }
                _ = sweep.tick() => {
                    self.sweep().await;
                    if sweeps.is_multiple_of(STAGING_EVERY) {
                        self.sweep_staging().await;
                    }
                    sweeps = sweeps.wrapping_add(1);
                }
            }
        }
        self.sweep().await;
    }

    async fn store(&mut self, batch: &[Ack]) -> Result<(), RelayError> {
        let mut highest: HashMap<(ConversationId, DeviceId), u64> = HashMap::new();
        for ack in batch {
            let cursor = highest.entry((ack.conversation, ack.device)).or_default();
            *cursor = (*cursor).max(ack.cursor);
        }
        let scope = &self.scope;
        self.db
            .run_tx("acknowledge", async |conn: &mut Connection| {
                for ((conversation, device), cursor) in &highest {
                    members::set_cursor(conn, scope, conversation, device, *cursor).await?;
                }
                Ok::<_, RelayError>(())
            })
            .await?;
        self.moved.extend(highest.keys().map(|(id, _)| *id));
        Ok(())
    }

    async fn sweep(&mut self) {
        let moved = std::mem::take(&mut self.moved);
        if moved.is_empty() {
            return;
        }
        let scope = &self.scope;
        let done = self
            .db
            .run_tx("drop_payloads", async |conn: &mut Connection| {
                for id in &moved {
                    let least = members::taken_in_by_all(&mut *conn, scope, id).await?;
                    items::drop_payloads(conn, scope, id, least.unwrap_or(u64::MAX)).await?;
                    commits::drop_welcomes(conn, scope, id).await?;
                }
                Ok::<_, RelayError>(())
            })
            .await;
        if let Err(error) = done {
            tracing::error!(%error, "dropping payloads failed");
            self.moved.extend(moved);
        }
    }

    async fn sweep_staging(&self) {
        let now = self.clock.now();
        if let Err(error) = self.staging.sweep(&self.db, &self.scope, now).await {
            tracing::error!(%error, "dropping staged attachments failed");
        }
        if self.db.is_shared()
            && let Err(error) = self.staging.sweep_copies(&self.db, &self.scope).await
        {
            tracing::error!(%error, "dropping copies of attachments failed");
        }
    }
}
