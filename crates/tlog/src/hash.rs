//! The hashes of RFC 6962 section 2.1: leaves and inner nodes under different prefixes.

use greffe_types::Digest;
use sha2::Digest as _;
use sha2::Sha256;

/// The root of a tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Digest {
    Digest::new(Sha256::digest([]).into())
}

/// SHA-256(0x00 ‖ data). The prefix keeps a leaf from being passed off as an inner node.
pub fn leaf_hash(data: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update([0x00]);
    hasher.update(data);
    Digest::new(hasher.finalize().into())
}

/// SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update([0x01]);
    hasher.update(left.as_bytes());
    hasher.update(right.as_bytes());
    Digest::new(hasher.finalize().into())
}

/// A tree of one size and its root: all that a checkpoint says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    /// Number of leaves.
    pub size: u64,
    /// RFC 6962 Merkle tree hash over them.
    pub root: Digest,
}

impl TreeHead {
    /// The tree without leaves.
    pub fn empty() -> Self {
        Self {
            size: 0,
            root: empty_root(),
        }
    }
}
