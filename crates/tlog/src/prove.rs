//! Making roots and proofs from stored hashes of complete subtrees.
//!
//! Each question first says which hashes it needs (`*_nodes`), then folds them: a store that can only be read
//! asynchronously fetches the list beforehand, any other implements [`HashReader`].

use std::collections::BTreeMap;

use greffe_types::Digest;

use crate::hash::{empty_root, node_hash};
use crate::proof::ProofError;

/// The hash over the leaves from `index << level` to `(index + 1) << level`, excluded: a subtree that will not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// Height above the leaves, 0 to 63.
    pub level: u8,
    /// Number within the level, from 0.
    pub index: u64,
}

/// A store of the hashes of complete subtrees.
pub trait HashReader {
    /// Why a read failed.
    type Error;

    /// Reads the hashes of the nodes, in their order.
    fn read_hashes(&self, nodes: &[Node]) -> Result<Vec<Digest>, Self::Error>;
}

/// Why a proof could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ProveError<E> {
    /// The question makes no sense for these sizes.
    #[error(transparent)]
    Question(ProofError),
    /// The store answered with another number of hashes than it was asked for.
    #[error("the store answered {found} hashes to {asked} nodes")]
    Count {
        /// Nodes asked for.
        asked: usize,
        /// Hashes answered.
        found: usize,
    },
    /// The store failed.
    #[error("reading stored hashes")]
    Read(#[source] E),
}

/// Hashes in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryHashes(BTreeMap<Node, Digest>);

/// A node that memory does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no hash at level {} index {}", .0.level, .0.index)]
pub struct MissingHash(pub Node);

impl Extend<(Node, Digest)> for MemoryHashes {
    fn extend<T: IntoIterator<Item = (Node, Digest)>>(&mut self, iter: T) {
        self.0.extend(iter);
    }
}

impl FromIterator<(Node, Digest)> for MemoryHashes {
    fn from_iter<T: IntoIterator<Item = (Node, Digest)>>(iter: T) -> Self {
        Self(iter.into_iter().collect())
    }
}

impl HashReader for MemoryHashes {
    type Error = MissingHash;

    fn read_hashes(&self, nodes: &[Node]) -> Result<Vec<Digest>, MissingHash> {
        nodes
            .iter()
            .map(|node| self.0.get(node).copied().ok_or(MissingHash(*node)))
            .collect()
    }
}

/// The root over the first `size` leaves.
pub fn root_at<R: HashReader>(size: u64, reader: &R) -> Result<Digest, ProveError<R::Error>> {
    if size == 0 {
        return Ok(empty_root());
    }
    let roots = fold(&[Segment { from: 0, to: size }], reader)?;
    Ok(roots[0])
}

/// The path of leaf `index` in the tree of `size` leaves, nearest first (RFC 6962 section 2.1.1).
pub fn prove_inclusion<R: HashReader>(
    index: u64,
    size: u64,
    reader: &R,
) -> Result<Vec<Digest>, ProveError<R::Error>> {
    let segments = inclusion_segments(index, size).map_err(ProveError::Question)?;
    fold(&segments, reader)
}

/// The proof that the tree of `new` leaves continues that of `old` (RFC 6962 section 2.1.2); empty when `old` is 0 or
/// equal to `new`.
pub fn prove_consistency<R: HashReader>(
    old: u64,
    new: u64,
    reader: &R,
) -> Result<Vec<Digest>, ProveError<R::Error>> {
    let segments = consistency_segments(old, new).map_err(ProveError::Question)?;
    fold(&segments, reader)
}

/// What [`root_at`] reads: the peaks of the tree, largest first.
pub fn root_nodes(size: u64) -> Vec<Node> {
    Segment { from: 0, to: size }.nodes().collect()
}

/// What [`prove_inclusion`] reads.
pub fn inclusion_nodes(index: u64, size: u64) -> Result<Vec<Node>, ProofError> {
    Ok(nodes_of(&inclusion_segments(index, size)?))
}

/// What [`prove_consistency`] reads.
pub fn consistency_nodes(old: u64, new: u64) -> Result<Vec<Node>, ProofError> {
    Ok(nodes_of(&consistency_segments(old, new)?))
}

/// Leaves from `from` to `to`, excluded, that are one subtree of an RFC 6962 tree.
#[derive(Debug, Clone, Copy)]
struct Segment {
    from: u64,
    to: u64,
}

impl Segment {
    /// The complete subtrees it consists of, largest first.
    fn nodes(self) -> impl Iterator<Item = Node> {
        let mut from = self.from;
        core::iter::from_fn(move || {
            let level = (self.to - from).checked_ilog2()?;
            let node = Node {
                level: level as u8,
                index: from >> level,
            };
            from += 1 << level;
            Some(node)
        })
    }
}

/// The largest power of two below `count`, for counts of at least 2: where RFC 6962 splits.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

fn inclusion_segments(index: u64, size: u64) -> Result<Vec<Segment>, ProofError> {
    if index >= size {
        return Err(ProofError::IndexOutOfRange { index, size });
    }
    let mut segments = Vec::new();
    let (mut from, mut to) = (0, size);
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            segments.push(Segment { from: middle, to });
            to = middle;
        } else {
            segments.push(Segment { from, to: middle });
            from = middle;
        }
    }
    segments.reverse();
    Ok(segments)
}

fn consistency_segments(old: u64, new: u64) -> Result<Vec<Segment>, ProofError> {
    if old > new {
        return Err(ProofError::SizesReversed { old, new });
    }
    let mut segments = Vec::new();
    if old == 0 {
        return Ok(segments);
    }
    let (mut from, mut to) = (0, new);
    while to != old {
        let middle = from + split(to - from);
        if old <= middle {
            segments.push(Segment { from: middle, to });
            to = middle;
        } else {
            segments.push(Segment { from, to: middle });
            from = middle;
        }
    }
    // A verifier knows the older root; where the older tree is its whole left side, that root is where the proof starts.
    if from != 0 {
        segments.push(Segment { from, to });
    }
    segments.reverse();
    Ok(segments)
}

fn nodes_of(segments: &[Segment]) -> Vec<Node> {
    segments
        .iter()
        .flat_map(|segment| segment.nodes())
        .collect()
}

/// One hash for each segment, with a single read.
fn fold<R: HashReader>(
    segments: &[Segment],
    reader: &R,
) -> Result<Vec<Digest>, ProveError<R::Error>> {
    let nodes = nodes_of(segments);
    let hashes = reader.read_hashes(&nodes).map_err(ProveError::Read)?;
    if hashes.len() != nodes.len() {
        return Err(ProveError::Count {
            asked: nodes.len(),
            found: hashes.len(),
        });
    }
    let mut rest = hashes.as_slice();
    let folded = segments.iter().map(|segment| {
        let (these, others) = rest.split_at(segment.nodes().count());
        rest = others;
        fold_peaks(these)
    });
    Ok(folded.collect())
}

/// The root over complete subtrees that stand side by side, largest first.
pub(crate) fn fold_peaks(peaks: &[Digest]) -> Digest {
    peaks
        .iter()
        .rev()
        .copied()
        .reduce(|right, left| node_hash(&left, &right))
        .unwrap_or_else(empty_root)
}
