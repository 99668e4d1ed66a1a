//! The node as a witness of the log: its state is on disk before a cosignature leaves.

use greffe_api::escrow::{AddCheckpointRequest, AddCheckpointResponse};
use greffe_service_kit::append::Appender;
use greffe_service_kit::boot::{Boot, StartError};
use greffe_service_kit::checkpoint::log_verifier;
use greffe_service_kit::clock::SharedClock;
use greffe_service_kit::db::Connection;
use greffe_service_kit::db::Database;
use greffe_service_kit::secrets::{Secrets, SecretsError};
use greffe_tlog::{AddCheckpoint, Cosigner, MAX_CONSISTENCY_PROOF, Witness, WitnessRefusal, enrol};
use tokio::sync::Mutex;

use super::Node;
use super::record::digests;
use crate::error::{
    CHECKPOINT_REFUSED, Kind, LOG_FORKED, MALFORMED, Refusal, WITNESS_STATE_LOST,
    WITNESS_STATE_UNUSABLE,
};
use crate::store::{Scope, witness};

/// The secret that says that this witness was enrolled: it lies apart from the database, so that a lost database is seen.
const ENROLLED: &str = "witness_enrolled";

/// Where the log brings its checkpoints.
pub struct WitnessDesk {
    witness: Mutex<Witness>,
    db: Database,
    scope: Scope,
    clock: SharedClock,
    appender: Appender,
}

impl WitnessDesk {
    /// Resumes from the stored state; enrols once, and never again.
    ///
    /// # Errors
    /// `WITNESS_STATE_LOST` when the node was enrolled and has no state, `WITNESS_STATE_UNUSABLE` when it is damaged or of
    /// another log.
    pub async fn open(boot: &Boot, secrets: &Secrets, node: &Node) -> Result<Self, StartError> {
        let lost = |refusal| StartError::service("the witness cannot start", refusal);
        let bundle = boot.trust.read().bundle().clone();
        let log = log_verifier(&bundle).map_err(|error| {
            lost(
                Refusal::state(WITNESS_STATE_UNUSABLE, "the log's key is not usable")
                    .because(error),
            )
        })?;
        let cosigner = Cosigner::new(boot.name(), &*secrets.seed("witness_key")?)
            .map_err(|error| StartError::service("the witness key is not usable", error))?;
        let (db, scope) = (node.db.clone(), node.scope.clone());
        let stored = witness::get(db.read(), &scope)
            .await
            .map_err(|error| lost(error.into()))?;
        let enrolled = match secrets.get(ENROLLED) {
            Ok(_) => true,
            Err(SecretsError::Missing { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        let state = match stored {
            Some(state) => state,
            None if enrolled => {
                return Err(lost(Refusal::state(
                    WITNESS_STATE_LOST,
                    "WITNESS_STATE_LOST: this witness has cosigned before and its state is gone; restore the node's \
                     database, or enrol a new witness under a new key",
                )));
            }
            None => {
                let first = enrol(&log);
                store(&db, &scope, &first).await.map_err(lost)?;
                first
            }
        };
        if !enrolled {
            secrets.put(ENROLLED, &[1])?;
        }
        let witness = Witness::start(log, cosigner, Some(&state)).map_err(|error| {
            lost(
                Refusal::state(
                    WITNESS_STATE_UNUSABLE,
                    "WITNESS_STATE_UNUSABLE: the witness's state is damaged or of another log",
                )
                .because(error),
            )
        })?;
        Ok(Self {
            witness: Mutex::new(witness),
            clock: boot.clock.clone(),
            appender: node.appender.clone(),
            db,
            scope,
        })
    }

    /// Cosigns a checkpoint that continues the last one.
    ///
    /// # Errors
    /// As tlog-witness refuses; `LOG_FORKED` with the evidence kept.
    pub async fn add_checkpoint(
        &self,
        request: AddCheckpointRequest,
    ) -> Result<AddCheckpointResponse, Refusal> {
        if request.proof.len() > MAX_CONSISTENCY_PROOF {
            return Err(Refusal::malformed(MALFORMED, "the proof is too long"));
        }
        let proof = digests(&request.proof)
            .ok_or_else(|| Refusal::malformed(MALFORMED, "a hash of the proof is malformed"))?;
        let request = AddCheckpoint {
            old_size: request.old_size,
            proof,
            checkpoint: request.checkpoint,
        };
        let now = self.clock.now();
        // Held until the state is on disk: no second request is judged by the old one.
        let mut witness = self.witness.lock().await;
        let refusal = match witness.add_checkpoint(&request, now) {
            Ok(pending) => {
                store(&self.db, &self.scope, &pending.state()).await?;
                let cosignature = format!("{}\n", pending.stored());
                return Ok(AddCheckpointResponse {
                    cosignature: cosignature.into_bytes(),
                    ..Default::default()
                });
            }
            Err(refusal) => refusal,
        };
        match refusal {
            WitnessRefusal::OldSizeMismatch { latest, .. }
            | WitnessRefusal::Rollback { latest, .. } => Ok(AddCheckpointResponse {
                known_size: latest,
                conflict: true,
                ..Default::default()
            }),
            WitnessRefusal::Conflict { size } => {
                store(&self.db, &self.scope, &witness.state()).await?;
                tracing::error!(
                    size,
                    "the log has signed two histories; the evidence is kept"
                );
                let subject = &[];
                self.appender.append_refusal(
                    "AddCheckpoint",
                    "audit",
                    LOG_FORKED.as_str(),
                    subject,
                );
                Err(
                    Refusal::new(Kind::Forked, LOG_FORKED, "two roots for one size")
                        .because(refusal),
                )
            }
            refusal @ (WitnessRefusal::Malformed(_) | WitnessRefusal::OldSizeTooLarge { .. }) => {
                Err(
                    Refusal::malformed(CHECKPOINT_REFUSED, "the checkpoint is malformed")
                        .because(refusal),
                )
            }
            refusal => Err(
                Refusal::denied(CHECKPOINT_REFUSED, "the checkpoint is not cosigned")
                    .because(refusal),
            ),
        }
    }

    /// How many proofs of a fork are kept.
    pub async fn evidence(&self) -> usize {
        self.witness.lock().await.evidence().len()
    }
}

impl core::fmt::Debug for WitnessDesk {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("WitnessDesk(..)")
    }
}

async fn store(db: &Database, scope: &Scope, state: &[u8]) -> Result<(), Refusal> {
    db.run_tx("witness_state", async |tx: &mut Connection| {
        witness::set(tx, scope, state).await?;
        Ok(())
    })
    .await
}
