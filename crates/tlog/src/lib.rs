//! The audit log's arithmetic: Merkle trees, proofs, tiles, signed notes, checkpoints, cosignatures, and the rules of a witness.
//!
//! Everything is pure: no IO, no clock. Hashing and proofs follow RFC 6962 and RFC 9162; formats follow the C2SP
//! specifications signed-note, tlog-checkpoint, tlog-tiles, tlog-cosignature and tlog-witness, so that monitors and
//! witnesses written for those work with a Greffe log.

mod batch;
mod hash;
mod proof;
mod prove;
mod tree;

pub use batch::{BatchTree, batch_root};
pub use hash::{TreeHead, empty_root, leaf_hash, node_hash};
pub use proof::{MAX_PATH, ProofError, verify_consistency, verify_inclusion};
pub use prove::{
    HashReader, MemoryHashes, MissingHash, Node, ProveError, consistency_nodes, inclusion_nodes,
    prove_consistency, prove_inclusion, root_at, root_nodes,
};
pub use tree::Tree;
