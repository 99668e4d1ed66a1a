//! Checking that a leaf is in a tree, and that one tree continues another.

use greffe_types::Digest;

use crate::hash::{TreeHead, node_hash};

/// Longest path that a tree of less than 2^64 leaves can need.
pub const MAX_PATH: usize = 64;

/// Why a proof was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The index is not in a tree of that size.
    #[error("leaf {index} is not in a tree of {size} leaves")]
    IndexOutOfRange {
        /// The index asked for.
        index: u64,
        /// Leaves in the tree.
        size: u64,
    },
    /// The older tree is larger than the newer one.
    #[error("a tree of {new} leaves cannot continue one of {old}")]
    SizesReversed {
        /// Leaves in the older tree.
        old: u64,
        /// Leaves in the newer tree.
        new: u64,
    },
    /// The proof has more or fewer hashes than trees of those sizes call for.
    #[error("the proof has the wrong number of hashes")]
    Length,
    /// The hashes do not lead to the root.
    #[error("the proof does not lead to the root")]
    RootMismatch,
    /// They do not lead to the older root.
    #[error("the proof does not lead to the older root")]
    OldRootMismatch,
}

/// Checks that the leaf with this hash stands at `index` in the tree (RFC 9162 section 2.1.3.2).
pub fn verify_inclusion(
    leaf: &Digest,
    index: u64,
    head: &TreeHead,
    path: &[Digest],
) -> Result<(), ProofError> {
    if index >= head.size {
        return Err(ProofError::IndexOutOfRange {
            index,
            size: head.size,
        });
    }
    let mut node = index;
    let mut last = head.size - 1;
    let mut root = *leaf;
    for step in path {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            root = node_hash(step, &root);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            root = node_hash(&root, step);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Length);
    }
    if root == head.root {
        Ok(())
    } else {
        Err(ProofError::RootMismatch)
    }
}

/// Checks that the newer tree has the older one as its beginning (RFC 9162 section 2.1.4.2).
///
/// From the empty tree, and between equal trees, the proof is empty.
pub fn verify_consistency(
    old: &TreeHead,
    new: &TreeHead,
    proof: &[Digest],
) -> Result<(), ProofError> {
    if old.size > new.size {
        return Err(ProofError::SizesReversed {
            old: old.size,
            new: new.size,
        });
    }
    if old.size == 0 && old.root != TreeHead::empty().root {
        return Err(ProofError::OldRootMismatch);
    }
    if old.size == new.size {
        if !proof.is_empty() {
            return Err(ProofError::Length);
        }
        return if old.root == new.root {
            Ok(())
        } else {
            Err(ProofError::RootMismatch)
        };
    }
    if old.size == 0 {
        return if proof.is_empty() {
            Ok(())
        } else {
            Err(ProofError::Length)
        };
    }
    verify_growth(old, new, proof)
}

/// The general case: 0 < old.size < new.size.
fn verify_growth(old: &TreeHead, new: &TreeHead, proof: &[Digest]) -> Result<(), ProofError> {
    let (first, steps) = if old.size.is_power_of_two() {
        (old.root, proof)
    } else {
        let (first, steps) = proof.split_first().ok_or(ProofError::Length)?;
        (*first, steps)
    };
    let mut node = old.size - 1;
    let mut last = new.size - 1;
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old_root, mut new_root) = (first, first);
    for step in steps {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            old_root = node_hash(step, &old_root);
            new_root = node_hash(step, &new_root);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_root = node_hash(&new_root, step);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Length);
    }
    if old_root != old.root {
        return Err(ProofError::OldRootMismatch);
    }
    if new_root != new.root {
        return Err(ProofError::RootMismatch);
    }
    Ok(())
}
