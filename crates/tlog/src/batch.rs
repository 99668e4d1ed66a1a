//! Small trees held whole: batches of receipts, and the digest list of an order.

use greffe_types::Digest;

use crate::hash::{TreeHead, leaf_hash};
use crate::prove::{MemoryHashes, prove_inclusion};
use crate::tree::Tree;

/// A tree over a list that fits in memory, able to give the path of every leaf.
#[derive(Debug, Clone)]
pub struct BatchTree {
    tree: Tree,
    hashes: MemoryHashes,
}

impl BatchTree {
    /// Over leaf data, in this order; each leaf is hashed with [`leaf_hash`].
    pub fn new<L: AsRef<[u8]>>(leaves: impl IntoIterator<Item = L>) -> Self {
        let leaves: Vec<Digest> = leaves
            .into_iter()
            .map(|leaf| leaf_hash(leaf.as_ref()))
            .collect();
        let mut tree = Tree::new();
        let hashes = tree.append(&leaves).into_iter().collect();
        Self { tree, hashes }
    }

    /// Number of leaves.
    pub fn len(&self) -> u64 {
        self.tree.size()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// RFC 6962 root.
    pub fn root(&self) -> Digest {
        self.tree.root()
    }

    /// Size and root: what [`verify_inclusion`](crate::verify_inclusion) checks a path against.
    pub fn head(&self) -> TreeHead {
        self.tree.head()
    }

    /// The path of a leaf, nearest first; none when there is no such leaf.
    pub fn path(&self, index: u64) -> Option<Vec<Digest>> {
        prove_inclusion(index, self.len(), &self.hashes).ok()
    }
}

/// The RFC 6962 root over leaf data, without keeping what paths would need.
pub fn batch_root<L: AsRef<[u8]>>(leaves: impl IntoIterator<Item = L>) -> Digest {
    let mut tree = Tree::new();
    for leaf in leaves {
        tree.append_entries(&[leaf]);
    }
    tree.root()
}
