//! The growing tree: its right edge in memory, every finished hash handed to the store.

use greffe_types::Digest;

use crate::hash::{TreeHead, leaf_hash, node_hash};
use crate::prove::{HashReader, Node, ProveError, fold_peaks, root_nodes};

/// A tree that grows at its right edge. It keeps one hash for each bit set in its size, at most 64.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    size: u64,
    peaks: Vec<Digest>,
}

impl Tree {
    /// Without leaves.
    pub fn new() -> Self {
        Self::default()
    }

    /// As stored, with `size` leaves. The caller compares [`Self::head`] with what it last signed.
    pub fn load<R: HashReader>(size: u64, reader: &R) -> Result<Self, ProveError<R::Error>> {
        let nodes = root_nodes(size);
        let peaks = reader.read_hashes(&nodes).map_err(ProveError::Read)?;
        if peaks.len() != nodes.len() {
            return Err(ProveError::Count {
                asked: nodes.len(),
                found: peaks.len(),
            });
        }
        Ok(Self { size, peaks })
    }

    /// From a right edge as [`Self::peaks`] gave it; none unless it has one hash for each bit set in the size.
    pub fn from_peaks(size: u64, peaks: Vec<Digest>) -> Option<Self> {
        (peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    /// Adds a batch of leaf hashes; gives every hash that is now final, children before parents.
    pub fn append(&mut self, leaves: &[Digest]) -> Vec<(Node, Digest)> {
        let mut finished = Vec::with_capacity(leaves.len() * 2);
        for leaf in leaves {
            self.append_one(*leaf, &mut finished);
        }
        finished
    }

    /// Adds a batch of entries: [`leaf_hash`] of each.
    pub fn append_entries<E: AsRef<[u8]>>(&mut self, entries: &[E]) -> Vec<(Node, Digest)> {
        let mut finished = Vec::with_capacity(entries.len() * 2);
        for entry in entries {
            self.append_one(leaf_hash(entry.as_ref()), &mut finished);
        }
        finished
    }

    fn append_one(&mut self, leaf: Digest, finished: &mut Vec<(Node, Digest)>) {
        let mut node = Node {
            level: 0,
            index: self.size,
        };
        let mut hash = leaf;
        finished.push((node, hash));
        // A set bit of the size is a peak of that level, waiting for this right-hand neighbour.
        while node.index & 1 == 1
            && let Some(left) = self.peaks.pop()
        {
            hash = node_hash(&left, &hash);
            node = Node {
                level: node.level + 1,
                index: node.index >> 1,
            };
            finished.push((node, hash));
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The right edge: roots of the perfect subtrees, largest first. With the size it is all that growing needs.
    pub fn peaks(&self) -> &[Digest] {
        &self.peaks
    }

    /// RFC 6962 root.
    pub fn root(&self) -> Digest {
        fold_peaks(&self.peaks)
    }

    /// Size and root.
    pub fn head(&self) -> TreeHead {
        TreeHead {
            size: self.size,
            root: self.root(),
        }
    }
}
