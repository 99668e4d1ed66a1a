//! The exact set of records an order is about: sorted unique digests, their RFC 6962 root, and inclusion paths.

use greffe_types::Digest;
use sha2::{Digest as _, Sha256};

/// Most records one order may name.
pub const MAX_RECORDS: u64 = 10_000;

/// Why a list of records or a path was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    /// The list is empty or longer than [`MAX_RECORDS`].
    #[error("an order names 1 to 10000 records, this one {0}")]
    Count(u64),
    /// Two neighbours are equal or out of order.
    #[error("the records are not sorted and unique at position {0}")]
    Order(u64),
    /// The root or the count recomputed from the list is not the order's.
    #[error("the list of records does not have the root and count that the order names")]
    Root,
    /// The index is not below the count.
    #[error("index {index} is outside a list of {count} records")]
    Index {
        /// Index found.
        index: u64,
        /// Records in the list.
        count: u64,
    },
    /// The path does not lead from the record to the order's root.
    #[error("the path does not lead from the record to the order's root")]
    Path,
}

/// A list of envelope digests, sorted and unique, with the root that orders and approvals name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordList {
    digests: Vec<Digest>,
    root: Digest,
}

impl RecordList {
    /// Checks a list as received and computes its root.
    ///
    /// # Errors
    /// When it is empty, too long, unsorted, or repeats a digest.
    pub fn new(digests: Vec<Digest>) -> Result<Self, RecordsError> {
        let count = digests.len() as u64;
        if !(1..=MAX_RECORDS).contains(&count) {
            return Err(RecordsError::Count(count));
        }
        if let Some(at) = digests.windows(2).position(|pair| pair[0] >= pair[1]) {
            return Err(RecordsError::Order(at as u64 + 1));
        }
        let root = merkle_root(&digests);
        Ok(Self { digests, root })
    }

    /// The check an approver's client makes before signing: the list it fetched is the one the order names.
    ///
    /// # Errors
    /// When root or count differ.
    pub fn check(&self, root: &Digest, count: u64) -> Result<(), RecordsError> {
        if self.root == *root && self.count() == count {
            Ok(())
        } else {
            Err(RecordsError::Root)
        }
    }

    /// The digests.
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }

    /// RFC 6962 root; leaf data are the 32 bytes of each digest.
    pub fn root(&self) -> Digest {
        self.root
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.digests.len() as u64
    }

    /// Index of a digest and its inclusion path, lowest neighbour first; none when it is not in the list.
    pub fn path(&self, digest: &Digest) -> Option<(u64, Vec<Digest>)> {
        let index = self.digests.binary_search(digest).ok()?;
        let mut path = Vec::new();
        collect_path(&self.digests, index, &mut path);
        Some((index as u64, path))
    }
}

/// Checks that `digest` is the record at `index` of the list with this root and count (RFC 9162, section 2.1.3.2).
///
/// # Errors
/// When the index is outside the list or the path leads elsewhere.
pub fn check_path(
    root: &Digest,
    count: u64,
    index: u64,
    digest: &Digest,
    path: &[Digest],
) -> Result<(), RecordsError> {
    check_leaf(root, count, index, leaf_hash(digest.as_bytes()), path)
}

/// As [`check_path`] for any leaf data.
///
/// # Errors
/// As [`check_path`].
pub fn check_leaf(
    root: &Digest,
    count: u64,
    index: u64,
    leaf: Digest,
    path: &[Digest],
) -> Result<(), RecordsError> {
    if index >= count {
        return Err(RecordsError::Index { index, count });
    }
    let (mut node, mut last, mut hash) = (index, count - 1, leaf);
    for neighbour in path {
        if last == 0 {
            return Err(RecordsError::Path);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(neighbour, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, neighbour);
        }
        node >>= 1;
        last >>= 1;
    }
    if last == 0 && hash == *root {
        Ok(())
    } else {
        Err(RecordsError::Path)
    }
}

/// RFC 6962 leaf hash: SHA-256 of 0x00 and the data.
pub fn leaf_hash(data: &[u8]) -> Digest {
    let hash = Sha256::new().chain_update([0]).chain_update(data);
    Digest::new(hash.finalize().into())
}

fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let hash = Sha256::new()
        .chain_update([1])
        .chain_update(left.as_bytes())
        .chain_update(right.as_bytes());
    Digest::new(hash.finalize().into())
}

fn merkle_root(digests: &[Digest]) -> Digest {
    match digests {
        [] => Digest::new(Sha256::digest([]).into()),
        [one] => leaf_hash(one.as_bytes()),
        _ => {
            let (left, right) = digests.split_at(split(digests.len()));
            node_hash(&merkle_root(left), &merkle_root(right))
        }
    }
}

fn collect_path(digests: &[Digest], index: usize, path: &mut Vec<Digest>) {
    if digests.len() < 2 {
        return;
    }
    let at = split(digests.len());
    let (left, right) = digests.split_at(at);
    if index < at {
        collect_path(left, index, path);
        path.push(merkle_root(right));
    } else {
        collect_path(right, index - at, path);
        path.push(merkle_root(left));
    }
}

/// The largest power of two below `length`, which is at least 2.
fn split(length: usize) -> usize {
    1 << (length - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(count: u8) -> RecordList {
        RecordList::new((0..count).map(|i| Digest::new([i; 32])).collect()).unwrap()
    }

    #[test]
    fn every_path_of_every_small_list_leads_to_its_root_and_nowhere_else() {
        for count in 1..20 {
            let list = list(count);
            for digest in list.digests() {
                let (index, mut path) = list.path(digest).unwrap();
                let total = list.count();
                check_path(&list.root(), total, index, digest, &path).unwrap();
                for other in (0..total).filter(|other| *other != index) {
                    assert!(check_path(&list.root(), total, other, digest, &path).is_err());
                }
                assert!(
                    check_path(&list.root(), total, index, &Digest::new([99; 32]), &path).is_err()
                );
                path.push(Digest::ZERO);
                assert_eq!(
                    check_path(&list.root(), total, index, digest, &path),
                    Err(RecordsError::Path)
                );
            }
        }
    }

    #[test]
    fn lists_are_sorted_unique_and_bounded() {
        assert_eq!(RecordList::new(vec![]), Err(RecordsError::Count(0)));
        let (a, b) = (Digest::new([1; 32]), Digest::new([2; 32]));
        assert_eq!(RecordList::new(vec![a, a]), Err(RecordsError::Order(1)));
        assert_eq!(RecordList::new(vec![a, b, a]), Err(RecordsError::Order(2)));
        let many = (0..10_001_u32).map(|i| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&i.to_be_bytes());
            Digest::new(bytes)
        });
        assert_eq!(
            RecordList::new(many.collect()),
            Err(RecordsError::Count(10_001))
        );
    }
}
