//! The canonical bytes of a pack: its files, each behind its length.

use std::collections::BTreeMap;

use greffe_types::Digest;
use sha2::{Digest as _, Sha256};

use super::PackTexts;

const LABEL: &[u8] = b"greffe/v1/policy-pack";

pub(super) fn encode(texts: &PackTexts) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, LABEL);
    put(&mut out, texts.pack.as_bytes());
    out.extend_from_slice(&be32(texts.notices.len()));
    for (language, text) in &texts.notices {
        put(&mut out, language.as_bytes());
        put(&mut out, text.as_bytes());
    }
    out
}

pub(super) fn digest(canonical: &[u8]) -> Digest {
    Digest::new(Sha256::digest(canonical).into())
}

/// The texts; the caller compares their encoding, so order and duplicates need no check here.
pub(super) fn decode(mut bytes: &[u8]) -> Option<PackTexts> {
    if take(&mut bytes)? != LABEL {
        return None;
    }
    let pack = text(&mut bytes)?;
    let count = u32::from_be_bytes(*bytes.split_off(..4)?.first_chunk()?);
    let mut notices = BTreeMap::new();
    for _ in 0..count {
        let language = text(&mut bytes)?;
        notices.insert(language, text(&mut bytes)?);
    }
    bytes.is_empty().then_some(PackTexts { pack, notices })
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&be32(bytes.len()));
    out.extend_from_slice(bytes);
}

fn be32(length: usize) -> [u8; 4] {
    u32::try_from(length)
        .expect("texts over 64 KiB were refused before")
        .to_be_bytes()
}

fn take<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_be_bytes(*bytes.split_off(..4)?.first_chunk()?);
    bytes.split_off(..usize::try_from(length).ok()?)
}

fn text(bytes: &mut &[u8]) -> Option<String> {
    String::from_utf8(take(bytes)?.to_vec()).ok()
}
