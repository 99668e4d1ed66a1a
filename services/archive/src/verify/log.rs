//! The whole log, followed from its first leaf: what it says of this archive.

use std::collections::BTreeSet;

use greffe_envelope::pb::log_entry::Event;
use greffe_service_kit::boot::{Boot, StartError};
use greffe_service_kit::follow::{FollowState, Follower};
use greffe_tlog::{NoteVerifier, SignedCheckpoint, Tree};
use greffe_types::Digest;

/// A batch of receipts, as its leaf says.
pub(super) struct Batch {
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) root: Vec<u8>,
}

/// What the log says.
pub(super) struct Logged {
    pub(super) size: u64,
    pub(super) root: Digest,
    /// In the log's order.
    pub(super) batches: Vec<Batch>,
    /// Envelopes of records that were disposed of.
    pub(super) tombstones: BTreeSet<Vec<u8>>,
}

/// Follows the log to its newest checkpoint; statements come into force in `boot`'s trust on the way.
pub(super) async fn read(boot: &Boot) -> Result<Logged, StartError> {
    let failed = |error| StartError::service("the log cannot be followed", error);
    let mut follower = Follower::new(
        boot.channel("audit")?,
        boot.trust.clone(),
        boot.clock.clone(),
        FollowState::default(),
    )
    .map_err(failed)?;
    let mut logged = Logged {
        size: 0,
        root: Tree::new().head().root,
        batches: Vec::new(),
        tombstones: BTreeSet::new(),
    };
    loop {
        let followed = follower.next().await.map_err(failed)?;
        for (index, (_, entry)) in (followed.start..).zip(&followed.leaves) {
            match &entry.event {
                Some(Event::Statement(statement)) => {
                    // What is not validly signed has no force, here as in every service.
                    let _applied = boot.trust.write().apply(statement, index);
                }
                Some(Event::Receipts(batch)) if entry.recorded_by == boot.name() => {
                    logged.batches.push(Batch {
                        first: batch.first,
                        count: batch.count,
                        root: batch.root.clone(),
                    });
                }
                Some(Event::Tombstone(tombstone)) if entry.recorded_by == boot.name() => {
                    logged.tombstones.insert(tombstone.envelope.clone());
                }
                _ => {}
            }
        }
        if followed.state.size == followed.size {
            let key = boot.trust.read().bundle().log().clone();
            let bytes = key.key.as_slice().try_into();
            let bytes = bytes.map_err(|error| StartError::service("the log's key", error))?;
            let verifier = NoteVerifier::new(&key.origin, bytes)
                .map_err(|error| StartError::service("the log's key", error))?;
            let checkpoint = SignedCheckpoint::open(&followed.checkpoint, &verifier)
                .map_err(|error| StartError::service("the log's checkpoint", error))?;
            logged.size = checkpoint.head().size;
            logged.root = checkpoint.head().root;
            return Ok(logged);
        }
    }
}
