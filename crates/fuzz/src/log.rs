//! Decoders of the log: notes, checkpoints, requests to witnesses, tiles, bundles, proofs, entries.

use greffe_envelope::pb;
use greffe_envelope::statement::decode_strict;
use greffe_tlog::{
    AddCheckpoint, Checkpoint, MAX_NOTE, Note, TreeHead, decode_bundle, decode_hashes,
    encode_bundle, encode_hashes, verify_consistency, verify_inclusion,
};
use greffe_types::Digest;
use prost::Message as _;

/// A note, the checkpoint in it, and the request that carries one.
pub(super) fn note(bytes: &[u8]) {
    if let Ok(note) = Note::parse(bytes) {
        assert!(bytes.len() <= MAX_NOTE);
        assert_eq!(note.encode(), bytes);
        if let Ok(checkpoint) = Checkpoint::parse_body(note.text()) {
            assert_eq!(checkpoint.body(), note.text());
        }
    }
    if let Ok(text) = core::str::from_utf8(bytes)
        && let Ok(checkpoint) = Checkpoint::parse_body(text)
    {
        assert_eq!(checkpoint.body(), text);
    }
    if let Ok(request) = AddCheckpoint::parse(bytes) {
        assert_eq!(request.encode(), bytes);
    }
}

/// A tile or a bundle: its width is in the first two bytes.
pub(super) fn tile(bytes: &[u8]) {
    let Some((width, rest)) = bytes.split_first_chunk() else {
        return;
    };
    let width = u16::from_be_bytes(*width);
    if let Ok(hashes) = decode_hashes(rest, width) {
        assert_eq!(encode_hashes(&hashes), rest);
    }
    if let Ok(entries) = decode_bundle(rest, width) {
        assert_eq!(entries.len(), usize::from(width));
        assert_eq!(encode_bundle(&entries).ok().as_deref(), Some(rest));
    }
}

/// A proof for a leaf or between two trees: sizes first, hashes after. None of it was made by a log, so none holds, but for
/// the tree of that one leaf and a tree and itself.
pub(super) fn proof(bytes: &[u8]) {
    let Some((index, rest)) = bytes.split_first_chunk() else {
        return;
    };
    let Some((size, rest)) = rest.split_first_chunk() else {
        return;
    };
    let (index, size) = (u64::from_be_bytes(*index), u64::from_be_bytes(*size));
    let hashes: Vec<Digest> = rest
        .as_chunks::<32>()
        .0
        .iter()
        .copied()
        .map(Digest::new)
        .collect();
    let Some((leaf, path)) = hashes.split_first() else {
        return;
    };
    let head = TreeHead {
        size,
        root: Digest::new([7; 32]),
    };
    let alone = index == 0 && size == 1 && path.is_empty() && *leaf == head.root;
    assert_eq!(verify_inclusion(leaf, index, &head, path).is_ok(), alone);
    let old = TreeHead {
        size: index,
        root: *leaf,
    };
    if verify_consistency(&old, &head, path).is_ok() {
        assert!(
            old == head || old == TreeHead::empty(),
            "two trees were held to be one"
        );
    }
}

/// An entry of the log.
pub(super) fn entry(bytes: &[u8]) {
    if let Ok(entry) = decode_strict::<pb::LogEntry>("log-entry", bytes) {
        assert_eq!(entry.encode_to_vec(), bytes);
    }
}
