//! The eight-leaf tree of the Certificate Transparency reference implementation: its roots and proofs.

use greffe_tlog::{
    BatchTree, HashReader as _, MemoryHashes, MissingHash, Node, ProofError, ProveError, Tree,
    TreeHead, batch_root, consistency_nodes, empty_root, inclusion_nodes, leaf_hash,
    prove_consistency, prove_inclusion, root_at, root_nodes, verify_consistency, verify_inclusion,
};
use greffe_types::Digest;

const LEAVES: [&[u8]; 8] = [
    b"",
    b"\x00",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    b"\x50\x51\x52\x53\x54\x55\x56\x57",
    b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
];

const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

/// Index, size, path.
const INCLUSION: [(u64, u64, &[&str]); 5] = [
    (0, 1, &[]),
    (
        0,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        &[
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        3,
        &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    ),
    (
        1,
        5,
        &[
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
];

/// Old size, new size, proof.
const CONSISTENCY: [(u64, u64, &[&str]); 4] = [
    (1, 1, &[]),
    (
        1,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        &[
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        &[
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
];

fn digests(texts: &[&str]) -> Vec<Digest> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn head(size: u64) -> TreeHead {
    TreeHead {
        size,
        root: ROOTS[size as usize].parse().unwrap(),
    }
}

fn reference() -> MemoryHashes {
    Tree::new().append_entries(&LEAVES).into_iter().collect()
}

#[test]
fn reference_roots() {
    assert_eq!(empty_root().to_string(), ROOTS[0]);
    let hashes = reference();
    let mut grown = Tree::new();
    for size in 0..=8 {
        assert_eq!(grown.head(), head(size));
        assert_eq!(root_at(size, &hashes).unwrap(), head(size).root);
        assert_eq!(batch_root(&LEAVES[..size as usize]), head(size).root);
        let batch = BatchTree::new(&LEAVES[..size as usize]);
        assert_eq!((batch.len(), batch.root()), (size, head(size).root));
        assert_eq!(batch.is_empty(), size == 0);
        assert_eq!(Tree::load(size, &hashes).unwrap(), grown);
        if let Some(leaf) = LEAVES.get(size as usize) {
            grown.append_entries(&[leaf]);
        }
    }
}

#[test]
fn reference_inclusion_paths() {
    let hashes = reference();
    for (index, size, path) in INCLUSION {
        let path = digests(path);
        assert_eq!(prove_inclusion(index, size, &hashes).unwrap(), path);
        let batch = BatchTree::new(&LEAVES[..size as usize]);
        assert_eq!(batch.path(index), Some(path.clone()));
        let leaf = leaf_hash(LEAVES[index as usize]);
        assert_eq!(verify_inclusion(&leaf, index, &head(size), &path), Ok(()));
    }
}

#[test]
fn reference_consistency_proofs() {
    let hashes = reference();
    for (old, new, proof) in CONSISTENCY {
        let proof = digests(proof);
        assert_eq!(prove_consistency(old, new, &hashes).unwrap(), proof);
        assert_eq!(verify_consistency(&head(old), &head(new), &proof), Ok(()));
    }
}

/// Past the reference's eight leaves: paths that turn more often.
#[test]
fn a_tree_has_its_leaves_and_continues_every_smaller_one() {
    let (mut tree, mut hashes) = (Tree::new(), MemoryHashes::default());
    let mut heads = vec![tree.head()];
    for leaf in 0..40_u8 {
        hashes.extend(tree.append_entries(&[[leaf]]));
        heads.push(tree.head());
    }
    for new in &heads {
        for index in 0..new.size {
            let path = prove_inclusion(index, new.size, &hashes).unwrap();
            let leaf = leaf_hash(&[index as u8]);
            assert_eq!(verify_inclusion(&leaf, index, new, &path), Ok(()));
        }
        for old in &heads[..=new.size as usize] {
            let proof = prove_consistency(old.size, new.size, &hashes).unwrap();
            assert_eq!(verify_consistency(old, new, &proof), Ok(()));
        }
    }
}

#[test]
fn a_tree_resumes_from_its_right_edge() {
    for size in 0..=8 {
        let mut tree = Tree::new();
        tree.append_entries(&LEAVES[..size as usize]);
        let peaks = tree.peaks().to_vec();
        assert_eq!(Tree::from_peaks(size, peaks.clone()), Some(tree));
        let longer = [peaks.clone(), vec![Digest::ZERO]].concat();
        assert_eq!(Tree::from_peaks(size, longer), None);
        if let Some((_, shorter)) = peaks.split_first() {
            assert_eq!(Tree::from_peaks(size, shorter.to_vec()), None);
        }
    }
}

/// A store that is read beforehand has to be asked for all that the answer takes, and for no more.
#[test]
fn nodes_named_beforehand_are_those_that_are_read() {
    type Answer<T> = Result<T, ProveError<MissingHash>>;
    fn suffice<T: PartialEq + core::fmt::Debug>(
        nodes: &[Node],
        ask: impl Fn(&MemoryHashes) -> Answer<T>,
    ) {
        let whole = reference();
        let read = whole.read_hashes(nodes).unwrap();
        let stored = nodes.iter().copied().zip(read);
        let only: MemoryHashes = stored.clone().collect();
        assert_eq!(ask(&only).unwrap(), ask(&whole).unwrap());
        for absent in nodes {
            let others = stored.clone().filter(|(node, _)| node != absent).collect();
            let refused = ask(&others).unwrap_err();
            assert!(matches!(refused, ProveError::Read(MissingHash(node)) if node == *absent));
        }
    }
    for size in 0..=8 {
        suffice(&root_nodes(size), |hashes| root_at(size, hashes));
        for index in 0..size {
            suffice(&inclusion_nodes(index, size).unwrap(), |hashes| {
                prove_inclusion(index, size, hashes)
            });
        }
        for old in 0..=size {
            suffice(&consistency_nodes(old, size).unwrap(), |hashes| {
                prove_consistency(old, size, hashes)
            });
        }
    }
    let (index, size) = (8, 8);
    let outside = ProofError::IndexOutOfRange { index, size };
    assert_eq!(inclusion_nodes(index, size), Err(outside));
    let reversed = ProofError::SizesReversed { old: 8, new: 7 };
    assert_eq!(consistency_nodes(8, 7), Err(reversed));
}

#[test]
fn questions_without_an_answer() {
    let hashes = reference();
    assert!(prove_inclusion(8, 8, &hashes).is_err());
    assert!(prove_consistency(8, 7, &hashes).is_err());
    assert!(root_at(9, &hashes).is_err());
    assert_eq!(BatchTree::new(LEAVES).path(8), None);
    assert_eq!(
        verify_inclusion(&Digest::ZERO, 0, &TreeHead::empty(), &[]),
        Err(ProofError::IndexOutOfRange { index: 0, size: 0 })
    );
    assert_eq!(
        verify_consistency(&head(3), &head(2), &[]),
        Err(ProofError::SizesReversed { old: 3, new: 2 })
    );
    let false_nothing = TreeHead {
        size: 0,
        root: Digest::ZERO,
    };
    assert_eq!(
        verify_consistency(&false_nothing, &head(2), &[]),
        Err(ProofError::OldRootMismatch)
    );
}

/// The proof part of attack 23: a wrong leaf, index, size, path or root never verifies.
#[test]
fn attack_23_inclusion_of_something_else() {
    for (size, index) in (1..=8).flat_map(|size| (0..size).map(move |index| (size, index))) {
        let batch = BatchTree::new(&LEAVES[..size as usize]);
        let head = batch.head();
        let path = batch.path(index).unwrap();
        for other in 0..8 {
            let leaf = leaf_hash(LEAVES[other as usize]);
            for claimed in 0..10 {
                let verdict = verify_inclusion(&leaf, claimed, &head, &path);
                assert_eq!(verdict.is_ok(), other == index && claimed == index);
            }
        }
        let leaf = leaf_hash(LEAVES[index as usize]);
        if let Some((_, shorter)) = path.split_last() {
            assert!(verify_inclusion(&leaf, index, &head, shorter).is_err());
        }
        let longer = [path.clone(), vec![Digest::ZERO]].concat();
        assert!(verify_inclusion(&leaf, index, &head, &longer).is_err());
        for step in 0..path.len() {
            for bit in 0..256 {
                let mut flipped = path.clone();
                flipped[step] = flip(&flipped[step], bit);
                assert!(verify_inclusion(&leaf, index, &head, &flipped).is_err());
            }
        }
        for bit in 0..256 {
            let root = flip(&head.root, bit);
            let forged = TreeHead { size, root };
            assert!(verify_inclusion(&leaf, index, &forged, &path).is_err());
        }
    }
    let batch = BatchTree::new(LEAVES);
    // A node hash passed off as a leaf: the prefixes keep the two apart.
    let inner: Vec<u8> = [leaf_hash(LEAVES[0]), leaf_hash(LEAVES[1])]
        .iter()
        .flat_map(Digest::to_vec)
        .collect();
    let half = TreeHead {
        size: 4,
        root: batch.root(),
    };
    let above = batch.path(0).unwrap()[1..].to_vec();
    assert!(verify_inclusion(&leaf_hash(&inner), 0, &half, &above).is_err());
}

#[test]
fn attack_23_consistency_with_another_history() {
    let hashes = reference();
    for old in 1..8 {
        for new in old + 1..=8 {
            let proof = prove_consistency(old, new, &hashes).unwrap();
            assert_eq!(verify_consistency(&head(old), &head(new), &proof), Ok(()));
            for bit in 0..256 {
                let forged = |genuine: TreeHead| TreeHead {
                    root: flip(&genuine.root, bit),
                    ..genuine
                };
                assert!(verify_consistency(&forged(head(old)), &head(new), &proof).is_err());
                assert!(verify_consistency(&head(old), &forged(head(new)), &proof).is_err());
            }
            assert!(verify_consistency(&head(old), &head(new), &proof[1..]).is_err());
            let longer = [proof, vec![Digest::ZERO]].concat();
            assert!(verify_consistency(&head(old), &head(new), &longer).is_err());
        }
        assert!(verify_consistency(&TreeHead::empty(), &head(old), &[Digest::ZERO]).is_err());
    }
}

fn flip(digest: &Digest, bit: usize) -> Digest {
    let mut bytes = *digest.as_bytes();
    bytes[bit / 8] ^= 1 << (bit % 8);
    Digest::new(bytes)
}
