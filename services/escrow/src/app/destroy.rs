//! Destroying shares: in the transaction that takes in what ended their use; afterwards the node says so in the log.
//!
//! The word is logged once the database has overwritten the share as far as it can, and is logged again after a crash between
//! the two: its id makes it the same entry.

use core::time::Duration;
use std::sync::Arc;

use greffe_envelope::label::hash;
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::{Signed, Statement as _};
use greffe_envelope::trust::TrustState;
use greffe_service_kit::db::Connection;
use greffe_service_kit::errors::Causes;
use greffe_types::Digest;
use prost::Message as _;

use super::{Node, log_id};
use crate::error::Refusal;
use crate::store::{destructions, shares};

/// How long it is waited before what could not be overwritten or logged is tried again, and at most: a log that does not know the
/// entry yet is asked until it is upgraded.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_AT_MOST: Duration = Duration::from_secs(60);

/// The use of a key's shares has ended, but for those of one epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The journaling key.
    pub key_id: Digest,
    /// The share epoch in force, if there is one.
    pub keep: Option<Digest>,
    /// Digest of the statement that ended the others.
    pub cause: Digest,
}

impl Ended {
    /// What a statement that the trust has taken in has ended.
    pub fn by(statement: &pb::SignedStatement, trust: &TrustState) -> Option<Self> {
        let key_id = match statement.r#type.as_str() {
            pb::ShareEpoch::TYPE => {
                let epoch = Signed::<pb::ShareEpoch>::decode(statement.clone()).ok()?;
                Digest::try_from(epoch.key_id.as_slice()).ok()?
            }
            pb::KeyRetirement::TYPE => {
                let retirement = Signed::<pb::KeyRetirement>::decode(statement.clone()).ok()?;
                Digest::try_from(retirement.key_id.as_slice()).ok()?
            }
            _ => return None,
        };
        // By what is in force, which may be something later than this statement.
        if let Some(retirement) = trust.retirement(&key_id) {
            return Some(Self {
                key_id,
                keep: None,
                cause: retirement.digest(),
            });
        }
        let in_force = trust.share_epoch(&key_id)?.digest();
        Some(Self {
            key_id,
            keep: Some(in_force),
            cause: in_force,
        })
    }
}

impl Node {
    /// Destroys the shares whose use has ended; gives how many there were.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn destroy(
        &self,
        tx: &mut Connection,
        ended: &Ended,
    ) -> Result<usize, Refusal> {
        let mut held = shares::epochs(&mut *tx, &self.scope, &ended.key_id).await?;
        held.retain(|epoch| Some(*epoch) != ended.keep);
        for share_epoch in &held {
            let word = pb::ShareDestruction {
                tenant: self.scope.tenant.as_str().to_owned(),
                node: self.keys.name().to_owned(),
                key_id: ended.key_id.to_vec(),
                share_epoch: share_epoch.to_vec(),
                cause: ended.cause.to_vec(),
                at: self.clock.now().get(),
            };
            let signer = [(self.keys.name(), self.keys.signing())];
            let word = Signed::sign(word, &signer).raw().encode_to_vec();
            let (scope, key_id) = (&self.scope, &ended.key_id);
            shares::delete(tx, scope, key_id, share_epoch).await?;
            destructions::insert(tx, scope, key_id, share_epoch, &word).await?;
        }
        Ok(held.len())
    }

    /// Shares were destroyed in a transaction that has committed.
    pub(crate) fn has_destroyed(&self) {
        self.destroyed.notify_one();
    }

    async fn log_destroyed(&self) -> Result<(), Refusal> {
        let waiting = destructions::unlogged(self.db.read(), &self.scope).await?;
        if waiting.is_empty() {
            return Ok(());
        }
        self.db.scrub_deleted().await.map_err(Refusal::internal)?;
        let scope = &self.scope;
        let mut failed = None;
        for (key_id, share_epoch, bytes) in waiting {
            let word = pb::SignedStatement::decode(bytes.as_slice()).map_err(Refusal::internal)?;
            let id = log_id(&hash("share-destruction-id", &[&bytes]));
            // One that the log does not take keeps no other waiting.
            let index = match self.log_event(id, Event::Statement(word)).await {
                Ok(index) => index,
                Err(error) => {
                    failed = Some(error);
                    continue;
                }
            };
            self.db
                .run_tx("share_destroyed", async |tx: &mut Connection| {
                    let done = destructions::logged(tx, scope, &key_id, &share_epoch, index);
                    Ok::<_, Refusal>(done.await?)
                })
                .await?;
            tracing::info!(%key_id, %share_epoch, "a share is destroyed, and the log has it");
        }
        failed.map_or(Ok(()), Err)
    }
}

/// Has the log told of every share that was destroyed, for as long as the node runs.
pub async fn run(node: Arc<Node>) {
    let mut pause = AGAIN;
    loop {
        match node.log_destroyed().await {
            Ok(()) => {
                pause = AGAIN;
                node.destroyed.notified().await;
            }
            Err(error) => {
                tracing::warn!(causes = %Causes(&error), "that a share is destroyed is not logged yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(AGAIN_AT_MOST);
            }
        }
    }
}
