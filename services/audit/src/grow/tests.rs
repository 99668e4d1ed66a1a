//! No flipped bit is ever signed: leaves, tiles, bundles, the tree in memory and the text before signing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;

fn leaves(from: u64, to: u64) -> Vec<Leaf> {
    (from..to)
        .map(|index| {
            let bytes = format!("leaf {index}").into_bytes();
            let hash = leaf_hash(&bytes);
            Leaf { index, bytes, hash }
        })
        .collect()
}

/// A log over `size` signed leaves.
fn log(folder: &Path, size: u64) -> Log {
    let signer = NoteSigner::new("log.acme", &[3; 32]).unwrap();
    let mut log = Log::new(Tiles::open(folder).unwrap(), signer, Tree::new());
    let draft = log.draft(&leaves(0, size)).unwrap();
    log.sign(draft).unwrap();
    log
}

/// Calls `check` with each chosen bit of a file flipped, and leaves the file as it was.
fn flip_file(path: &Path, step: usize, mut check: impl FnMut(usize)) {
    let good = fs::read(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    for bit in (0..good.len() * 8).step_by(step) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(path, &bad).unwrap();
        check(bit);
    }
    fs::write(path, &good).unwrap();
}

fn files(log: &Log, old: u64, new: u64) -> Vec<std::path::PathBuf> {
    new_tiles(old, new)
        .into_iter()
        .chain(new_bundles(old, new))
        .map(|tile| log.tiles.path(&tile))
        .collect()
}

#[test]
fn attack_36_a_flipped_bit_of_a_leaf_is_not_signed() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(folder.path(), 3);
    let good = leaves(0, 5);
    for index in 0..good.len() {
        for bit in 0..good[index].bytes.len() * 8 {
            let mut bad = good.clone();
            bad[index].bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(log.draft(&bad).is_err(), "leaf {index} bit {bit}");
        }
        for bit in 0..256 {
            let mut bad = good.clone();
            let mut hash = *bad[index].hash.as_bytes();
            hash[bit / 8] ^= 1 << (bit % 8);
            bad[index].hash = Digest::new(hash);
            assert!(log.draft(&bad).is_err(), "hash {index} bit {bit}");
        }
    }
    // A leaf that was signed before, now with another content and its right hash.
    let mut bad = good;
    bad[1].bytes[0] ^= 1;
    bad[1].hash = leaf_hash(&bad[1].bytes);
    let draft = log.draft(&bad);
    assert!(draft.is_err() || log.verify(&draft.unwrap()).is_err());
    // Leaves out of place.
    assert!(log.draft(&leaves(1, 5)).is_err());
}

#[test]
fn attack_36_a_flipped_bit_of_a_tile_or_bundle_is_not_signed() {
    for (old, new, step) in [(0, 5, 1), (3, 5, 1), (250, 520, 997)] {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log(folder.path(), old);
        let draft = log.draft(&leaves(log.tail(), new)).unwrap();
        for file in files(&log, old, new) {
            flip_file(&file, step, |bit| {
                let refused = log.sign(draft.clone());
                assert!(refused.is_err(), "{} bit {bit}", file.display());
                assert!(!refused.unwrap_err().is_temporary());
            });
        }
        assert_eq!(log.sign(draft).unwrap().head().size, new);
    }
}

#[test]
fn attack_36_a_flipped_bit_before_signing_is_not_signed() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = log(folder.path(), 2);
    let draft = log.draft(&leaves(0, 7)).unwrap();
    for bit in 0..draft.text.len() * 8 {
        let mut text = draft.text.clone().into_bytes();
        text[bit / 8] ^= 1 << (bit % 8);
        // What is no UTF-8 cannot be a note's text at all.
        if let Ok(text) = String::from_utf8(text) {
            let bad = Draft {
                text,
                ..draft.clone()
            };
            assert!(matches!(log.sign(bad), Err(GrowError::Text)), "text {bit}");
        }
    }
    let peaks = draft.tree.peaks();
    for bit in 0..peaks.len() * 256 {
        let mut bad = peaks.to_vec();
        let mut hash = *bad[bit / 256].as_bytes();
        hash[bit % 256 / 8] ^= 1 << (bit % 8);
        bad[bit / 256] = Digest::new(hash);
        let bad = Draft {
            tree: Tree::from_peaks(7, bad).unwrap(),
            ..draft.clone()
        };
        assert!(log.sign(bad).is_err(), "peak {bit}");
    }
    // What was signed before is held to as well.
    let kept = log.tree.clone();
    let mut peaks = kept.peaks().to_vec();
    peaks[0] = Digest::ZERO;
    log.tree = Tree::from_peaks(2, peaks).unwrap();
    assert!(matches!(
        log.sign(draft.clone()),
        Err(GrowError::Inconsistent(_))
    ));
    log.tree = kept;
    let signed = log.sign(draft).unwrap();
    assert_eq!(signed.head().size, 7);
}

#[test]
fn growing_by_any_steps_gives_the_tree_of_all_leaves() {
    let all = leaves(0, 700);
    let mut whole = Tree::new();
    whole.append(&all.iter().map(|leaf| leaf.hash).collect::<Vec<_>>());
    for step in [1, 37, 255, 256, 257, 700] {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log(folder.path(), 0);
        let mut size = 0;
        // One by one near a tile's edge only: each step writes and reads files.
        if step == 1 {
            size = 510;
            let draft = log.draft(&all[..510]).unwrap();
            log.sign(draft).unwrap();
        }
        while size < if step == 1 { 520 } else { 700 } {
            size = (size + step).min(700);
            let tail = log.tail();
            let draft = log.draft(&all[tail as usize..size as usize]).unwrap();
            let signed = log.sign(draft).unwrap();
            assert_eq!(signed.head().size, size);
        }
        if size == 700 {
            assert_eq!(log.tree.head(), whole.head());
        }
    }
}
