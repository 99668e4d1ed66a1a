//! The log as this node has followed it: hashes of leaves, roots of any size, and whether a checkpoint agrees with them.

use core::time::Duration;

use greffe_envelope::trust::Bundle;
use greffe_service_kit::checkpoint::{UnwitnessedError, verify};
use greffe_service_kit::db::Database;
use greffe_tlog::{MemoryHashes, Node, Tree, TreeHead, root_at, root_nodes};
use greffe_types::{Digest, Millis};
use tokio::sync::watch;

use crate::error::{
    CHECKPOINT_REFUSED, CHECKPOINT_UNWITNESSED, Kind, LOG_FORKED, NOT_CAUGHT_UP, Refusal,
};
use crate::store::{Scope, followed};

/// How old the cosignatures of an order's checkpoint may be.
pub const CHECKPOINT_MAX_AGE: Duration = Duration::from_secs(5 * 60);

/// The followed log.
#[derive(Debug, Clone)]
pub struct FollowedLog {
    db: Database,
    scope: Scope,
    seen: watch::Receiver<followed::Followed>,
}

impl FollowedLog {
    /// Over a database, told of progress by the follower.
    pub const fn new(
        db: Database,
        scope: Scope,
        seen: watch::Receiver<followed::Followed>,
    ) -> Self {
        Self { db, scope, seen }
    }

    /// How far the log was followed.
    pub fn seen(&self) -> followed::Followed {
        self.seen.borrow().clone()
    }

    /// Whether everything that a recent checkpoint covers is followed.
    pub fn is_current(&self, now: Millis) -> bool {
        let seen = self.seen.borrow();
        seen.size >= seen.head && seen.witnessed_at.plus(CHECKPOINT_MAX_AGE) > now
    }

    /// Waits until this many leaves are followed.
    ///
    /// # Errors
    /// `NOT_CAUGHT_UP` when they are not in time.
    pub async fn wait_for(&self, size: u64, wait: Duration) -> Result<(), Refusal> {
        let mut seen = self.seen.clone();
        let reached = tokio::time::timeout(wait, seen.wait_for(|seen| seen.size >= size)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Refusal::state(
                NOT_CAUGHT_UP,
                format!(
                    "the node has followed {} leaves of the log, {size} are needed; ask again",
                    self.seen.borrow().size
                ),
            )),
        }
    }

    /// The hash of a leaf; none when it is not followed.
    ///
    /// # Errors
    /// The database's.
    pub async fn leaf(&self, index: u64) -> Result<Option<Digest>, Refusal> {
        let node = Node { level: 0, index };
        Ok(followed::node(self.db.read(), &self.scope, node).await?)
    }

    /// The tree's right edge at the size followed, from the hashes stored.
    ///
    /// # Errors
    /// The database's.
    pub async fn tree(&self, size: u64) -> Result<Tree, Refusal> {
        let hashes = self.hashes(&root_nodes(size)).await?;
        Tree::load(size, &hashes).map_err(Refusal::internal)
    }

    /// Refuses a checkpoint whose root is not the one that this node's own tree has at that size.
    ///
    /// # Errors
    /// `LOG_FORKED`; the database's.
    pub async fn check_root(&self, head: &TreeHead) -> Result<(), Refusal> {
        let hashes = self.hashes(&root_nodes(head.size)).await?;
        let own = root_at(head.size, &hashes).map_err(Refusal::internal)?;
        if own == head.root {
            Ok(())
        } else {
            Err(Refusal::new(
                Kind::Forked,
                LOG_FORKED,
                format!(
                    "the checkpoint of {} leaves is not of the log that this node has followed",
                    head.size
                ),
            ))
        }
    }

    async fn hashes(&self, nodes: &[Node]) -> Result<MemoryHashes, Refusal> {
        let mut hashes = Vec::with_capacity(nodes.len());
        for node in nodes {
            if let Some(hash) = followed::node(self.db.read(), &self.scope, *node).await? {
                hashes.push((*node, hash));
            }
        }
        Ok(hashes.into_iter().collect())
    }
}

/// Opens a checkpoint and demands the bundle's quorum of recent cosignatures; gives its size and root.
///
/// # Errors
/// `CHECKPOINT_REFUSED`, `CHECKPOINT_UNWITNESSED`.
pub fn check_witnessed(
    checkpoint: &[u8],
    bundle: &Bundle,
    now: Millis,
) -> Result<TreeHead, Refusal> {
    match verify(checkpoint, bundle, now, Some(CHECKPOINT_MAX_AGE)) {
        Ok((_, witnessed)) => Ok(witnessed.head()),
        Err(error @ (UnwitnessedError::Quorum(_) | UnwitnessedError::Witnesses(_))) => {
            Err(Refusal::denied(
                CHECKPOINT_UNWITNESSED,
                "the checkpoint lacks recent cosignatures",
            )
            .because(error))
        }
        Err(error) => Err(
            Refusal::denied(CHECKPOINT_REFUSED, "the checkpoint is not the log's").because(error),
        ),
    }
}
