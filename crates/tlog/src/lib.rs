//! The audit log's arithmetic: Merkle trees, proofs, tiles, signed notes, checkpoints, cosignatures, and the rules of a witness.
//!
//! Everything is pure: no IO, no clock. Hashing and proofs follow RFC 6962 and RFC 9162; formats follow the C2SP
//! specifications signed-note, tlog-checkpoint, tlog-tiles, tlog-cosignature and tlog-witness, so that monitors and
//! witnesses written for those work with a Greffe log.

mod batch;
mod checkpoint;
mod cosignature;
mod hash;
mod key;
mod note;
mod proof;
mod prove;
mod quorum;
mod request;
mod tile;
mod tree;
mod witness;
mod witness_state;

pub use batch::{BatchTree, batch_root};
pub use checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
pub use cosignature::{Cosigner, CosignerKey};
pub use hash::{TreeHead, empty_root, leaf_hash, node_hash};
pub use key::{KeyError, NoteSigner, NoteVerifier};
pub use note::{MAX_NOTE, MAX_SIGNATURES, Note, NoteError, NoteSignature};
pub use proof::{MAX_PATH, ProofError, verify_consistency, verify_inclusion};
pub use prove::{
    HashReader, MemoryHashes, MissingHash, Node, ProveError, consistency_nodes, inclusion_nodes,
    prove_consistency, prove_inclusion, root_at, root_nodes,
};
pub use quorum::{Freshness, Quorum, QuorumConfigError, QuorumError, Witnessed};
pub use request::{AddCheckpoint, MAX_CONSISTENCY_PROOF, RequestError};
pub use tile::{
    MAX_ENTRY, TILE_WIDTH, Tile, TileError, decode_bundle, decode_hashes, encode_bundle,
    encode_hashes, new_bundles, new_tiles,
};
pub use tree::Tree;
pub use witness::{Pending, Witness, WitnessRefusal, enrol};
pub use witness_state::{Conflict, MAX_EVIDENCE, StartError};
