//! Random trees against the `tlog_tiles` crate, which follows Go's sumdb/tlog.

use greffe_tlog::{
    MemoryHashes, Tree, TreeHead, prove_consistency, prove_inclusion, root_at, verify_consistency,
    verify_inclusion,
};
use greffe_types::Digest;
use proptest::prelude::*;
use tlog_tiles::{Error, Hash};

/// The other implementation's storage: hashes in its own order.
#[derive(Default)]
struct Stored(Vec<Hash>);

impl tlog_tiles::HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        Ok(indexes
            .iter()
            .map(|index| self.0[*index as usize])
            .collect())
    }
}

fn theirs(entries: &[Vec<u8>]) -> Stored {
    let mut stored = Stored::default();
    for (number, entry) in entries.iter().enumerate() {
        let hashes = tlog_tiles::stored_hashes(number as u64, entry, &stored).unwrap();
        stored.0.extend(hashes);
    }
    stored
}

fn plain(hashes: &[Hash]) -> Vec<Digest> {
    hashes.iter().map(|hash| Digest::new(hash.0)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn same_roots_and_proofs(
        entries in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..600),
        batches in proptest::collection::vec(1_usize..97, 1..8),
        picks in proptest::collection::vec((any::<u64>(), any::<u64>()), 8),
    ) {
        let mut tree = Tree::new();
        let mut ours = MemoryHashes::default();
        let mut rest = entries.as_slice();
        for batch in batches.iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(*batch));
            ours.extend(tree.append_entries(now));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        let stored = theirs(&entries);
        let size = entries.len() as u64;
        let their_root = tlog_tiles::tree_hash(size, &stored).unwrap();
        prop_assert_eq!(tree.root(), Digest::new(their_root.0));

        for (first, second) in picks {
            let index = first % size;
            let path = prove_inclusion(index, size, &ours).unwrap();
            let their_path = tlog_tiles::prove_record(size, index, &stored).unwrap();
            prop_assert_eq!(&path, &plain(&their_path));
            let leaf = greffe_tlog::leaf_hash(&entries[index as usize]);
            prop_assert!(verify_inclusion(&leaf, index, &tree.head(), &path).is_ok());

            let old = 1 + second % size;
            let proof = prove_consistency(old, size, &ours).unwrap();
            let their_proof = tlog_tiles::prove_tree(size, old, &stored).unwrap();
            prop_assert_eq!(&proof, &plain(&their_proof));
            let old_root = root_at(old, &ours).unwrap();
            let old = TreeHead { size: old, root: old_root };
            prop_assert!(verify_consistency(&old, &tree.head(), &proof).is_ok());
        }
    }

    #[test]
    fn any_proof_gets_a_verdict(
        size in any::<u64>(),
        index in any::<u64>(),
        path in proptest::collection::vec(any::<[u8; 32]>(), 0..70),
    ) {
        let path: Vec<Digest> = path.into_iter().map(Digest::new).collect();
        let head = TreeHead { size, root: Digest::ZERO };
        prop_assert!(verify_inclusion(&Digest::ZERO, index, &head, &path).is_err());
        let old = TreeHead { size: index, root: Digest::ZERO };
        prop_assert_eq!(verify_consistency(&old, &head, &path).is_ok(), size == index && size != 0 && path.is_empty());
    }
}
