//! The client's view of the log: checkpoints with the log's signature and the witnesses', each continuing the last one seen,
//! and what is proved to be under them.

use core::time::Duration;

use greffe_api::audit as api;
use greffe_api::audit::log_service_client::LogServiceClient;
use greffe_envelope::pb;
use greffe_envelope::statement::decode_strict;
use greffe_envelope::trust::Bundle;
use greffe_service_kit::clock::SharedClock;
use greffe_service_kit::tls::Channel;
use greffe_tlog::{
    CheckpointError, CosignerKey, Freshness, KeyError, NoteVerifier, ProofError, Quorum,
    QuorumConfigError, QuorumError, SignedCheckpoint, TreeHead, leaf_hash, verify_consistency,
    verify_inclusion,
};
use greffe_types::{Digest, Millis};
use tokio::sync::Mutex;

use crate::error::{ClientError, Result, call};
use crate::store::{ClientStore, Op};

/// How old cosignatures may be: what escrow nodes want too.
pub const MAX_AGE: Duration = Duration::from_secs(5 * 60);
/// How far witnesses' clocks may be ahead of ours.
const MAX_AHEAD: Duration = Duration::from_secs(60);

/// Why the log is not believed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The bundle's log or witness keys cannot be used.
    #[error("the bundle's key of the log or of a witness is unusable")]
    Key(#[from] KeyError),
    /// The bundle asks for no, or for an impossible, quorum of witnesses.
    #[error("the bundle's witnesses make no quorum")]
    Witnesses(#[from] QuorumConfigError),
    /// Not a checkpoint that the log signed.
    #[error("the checkpoint is refused")]
    Checkpoint(#[from] CheckpointError),
    /// Not enough witnesses stand behind it, recently enough.
    #[error("the checkpoint is not witnessed")]
    Quorum(#[from] QuorumError),
    /// The log was shown to this client in another form before.
    #[error(
        "the checkpoint of {new} leaves does not continue the one of {old} seen before: the log has been forked or cut"
    )]
    Inconsistent {
        /// Leaves seen before.
        old: u64,
        /// Leaves now.
        new: u64,
        /// Why.
        #[source]
        source: ProofError,
    },
    /// A proof of inclusion.
    #[error("the proof of inclusion is refused")]
    Inclusion(#[from] ProofError),
    /// Hashes of another length than 32 bytes.
    #[error("the proof is malformed")]
    Malformed,
    /// The leaf is not the entry that was to be found.
    #[error("the leaf says something else")]
    Leaf,
    /// The log is smaller than what was said to be in it.
    #[error("the checkpoint covers {found} leaves, {needed} were needed")]
    Short {
        /// Leaves needed.
        needed: u64,
        /// Leaves covered.
        found: u64,
    },
}

/// A checkpoint that was verified: signed by the log, witnessed, and continuing what this client saw before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCheckpoint {
    /// The signed note, with its cosignatures.
    pub bytes: Vec<u8>,
    /// Size and root.
    pub head: TreeHead,
    /// The latest time at which the whole quorum stood by it.
    pub as_of: Millis,
}

/// A leaf that was verified to be in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Included {
    /// Its index.
    pub index: u64,
    /// Its exact bytes.
    pub leaf: Vec<u8>,
    /// Its path under the checkpoint.
    pub path: Vec<Digest>,
    /// What it says.
    pub entry: pb::LogEntry,
    /// The checkpoint.
    pub checkpoint: VerifiedCheckpoint,
}

/// Reads the log, and remembers the last checkpoint so that the log cannot show another past.
#[derive(Debug)]
pub struct LogView {
    api: LogServiceClient<Channel>,
    store: ClientStore,
    clock: SharedClock,
    last: Mutex<Option<TreeHead>>,
}

impl LogView {
    pub(crate) async fn open(
        api: LogServiceClient<Channel>,
        store: ClientStore,
        clock: SharedClock,
    ) -> Result<Self> {
        let last = store.log_head().await?;
        Ok(Self {
            api,
            store,
            clock,
            last: Mutex::new(last),
        })
    }

    /// The newest checkpoint, covering at least `minimum_size` leaves (the log is waited for).
    ///
    /// # Errors
    /// [`ClientError::Log`] when it is not what the bundle's log and witnesses vouch for, or does not continue the last
    /// one; then it is not remembered.
    pub async fn checkpoint(
        &self,
        bundle: &Bundle,
        minimum_size: u64,
    ) -> Result<VerifiedCheckpoint> {
        let wrong = |source| ClientError::Log {
            what: "checkpoint",
            source,
        };
        // Held over the call: two callers must not be shown two futures.
        let mut last = self.last.lock().await;
        let request = api::GetCheckpointRequest {
            minimum_size,
            // Fresh enough to still be so when an escrow node looks at it.
            maximum_age_ms: MAX_AGE.as_millis() as u64 / 2,
        };
        let answer = self.api.clone().get_checkpoint(request).await;
        let bytes = answer
            .map_err(call("GetCheckpoint"))?
            .into_inner()
            .checkpoint;
        let checkpoint = verify_checkpoint(&bytes, bundle, self.clock.now()).map_err(wrong)?;
        let head = checkpoint.head;
        if head.size < minimum_size {
            return Err(wrong(LogError::Short {
                needed: minimum_size,
                found: head.size,
            }));
        }
        if let Some(old) = *last
            && old != head
        {
            let proof = self.consistency(old.size, head.size).await?;
            verify_consistency(&old, &head, &proof).map_err(|source| {
                wrong(LogError::Inconsistent {
                    old: old.size,
                    new: head.size,
                    source,
                })
            })?;
        }
        if *last != Some(head) {
            self.store
                .write(vec![Op::LogHead {
                    head,
                    checkpoint: bytes,
                }])
                .await?;
            *last = Some(head);
        }
        Ok(checkpoint)
    }

    async fn consistency(&self, old_size: u64, new_size: u64) -> Result<Vec<Digest>> {
        // Between equal or from empty trees there is nothing to ask for; a smaller tree is refused by the check.
        if old_size == 0 || old_size >= new_size {
            return Ok(Vec::new());
        }
        let request = api::GetConsistencyProofRequest { old_size, new_size };
        let answer = self.api.clone().get_consistency_proof(request).await;
        let answer = answer.map_err(call("GetConsistencyProof"))?.into_inner();
        hashes(&answer.path).ok_or(ClientError::Log {
            what: "checkpoint",
            source: LogError::Malformed,
        })
    }

    /// The leaf at an index, proved under a checkpoint.
    ///
    /// # Errors
    /// [`ClientError::Log`].
    pub async fn included(
        &self,
        what: &'static str,
        checkpoint: &VerifiedCheckpoint,
        index: u64,
    ) -> Result<Included> {
        let request = api::GetInclusionProofRequest {
            leaf: Some(api::get_inclusion_proof_request::Leaf::Index(index)),
            size: checkpoint.head.size,
        };
        let answer = self.api.clone().get_inclusion_proof(request).await;
        let answer = answer.map_err(call("GetInclusionProof"))?.into_inner();
        check_inclusion(answer, index, checkpoint)
            .map_err(|source| ClientError::Log { what, source })
    }

    /// Demands that a statement stands at an index, exactly as given.
    ///
    /// # Errors
    /// [`ClientError::Log`].
    pub async fn statement(
        &self,
        what: &'static str,
        checkpoint: &VerifiedCheckpoint,
        index: u64,
        statement: &pb::SignedStatement,
    ) -> Result<Included> {
        let included = self.included(what, checkpoint, index).await?;
        let found = included.entry.event.as_ref();
        if !matches!(found, Some(pb::log_entry::Event::Statement(found)) if found == statement) {
            return Err(ClientError::Log {
                what,
                source: LogError::Leaf,
            });
        }
        Ok(included)
    }

    /// Leaves from an index on, at most `count`; not proved by themselves.
    ///
    /// # Errors
    /// [`ClientError::Call`].
    pub async fn entries(&self, start: u64, count: u32) -> Result<Vec<Vec<u8>>> {
        let request = api::ListEntriesRequest { start, count };
        let answer = self.api.clone().list_entries(request).await;
        Ok(answer.map_err(call("ListEntries"))?.into_inner().leaves)
    }
}

/// Verifies a checkpoint by the bundle's log key and witnesses at an instant.
///
/// # Errors
/// [`LogError`].
pub fn verify_checkpoint(
    bytes: &[u8],
    bundle: &Bundle,
    now: Millis,
) -> Result<VerifiedCheckpoint, LogError> {
    let log = bundle.log();
    let key = <&[u8; 32]>::try_from(log.key.as_slice()).map_err(|_| KeyError::Point)?;
    let signed = SignedCheckpoint::open(bytes, &NoteVerifier::new(&log.origin, key)?)?;
    let message = bundle.message();
    let witnesses = message
        .witnesses
        .iter()
        .map(|witness| {
            let key = <&[u8; 32]>::try_from(witness.key.as_slice()).map_err(|_| KeyError::Point)?;
            CosignerKey::new(&witness.name, key)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let quorum = Quorum::new(witnesses, message.cosigner_quorum as usize)?;
    let witnessed = quorum.check(
        &signed,
        &Freshness {
            now,
            max_age: MAX_AGE,
            max_ahead: MAX_AHEAD,
        },
    )?;
    Ok(VerifiedCheckpoint {
        bytes: bytes.to_vec(),
        head: witnessed.head(),
        as_of: witnessed.as_of(),
    })
}

fn check_inclusion(
    answer: api::GetInclusionProofResponse,
    index: u64,
    checkpoint: &VerifiedCheckpoint,
) -> Result<Included, LogError> {
    let path = hashes(&answer.path).ok_or(LogError::Malformed)?;
    verify_inclusion(&leaf_hash(&answer.leaf), index, &checkpoint.head, &path)?;
    let entry: pb::LogEntry =
        decode_strict("log entry", &answer.leaf).map_err(|_| LogError::Leaf)?;
    Ok(Included {
        index,
        leaf: answer.leaf,
        path,
        entry,
        checkpoint: checkpoint.clone(),
    })
}

pub(crate) fn hashes(path: &[Vec<u8>]) -> Option<Vec<Digest>> {
    path.iter()
        .map(|hash| Digest::try_from(hash.as_slice()).ok())
        .collect()
}
