//! Domain separation: length prefixes, labels, the labelled SHA-256 and HKDF that every derivation goes through.
//!
//! `LP(x)` is the length of `x` as four big-endian bytes, then `x`. A label is `LP("greffe/v1/" + word)` and stands once, at
//! the start of what is hashed or expanded.

use greffe_types::Digest;
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// What every label begins with.
pub const PREFIX: &str = "greffe/v1/";

/// Salt of the extraction from a seed: raw ASCII, no length prefix.
pub const SEED_SALT: &[u8] = b"greffe/v1/seed";

/// `LP(x)`: `be32(len) || x`.
///
/// # Panics
/// When `x` is 4 GiB or longer; every structure of this crate is limited far below.
pub fn lp(x: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + x.len());
    push_lp(&mut out, x);
    out
}

/// Appends `LP(x)`.
///
/// # Panics
/// As [`lp`].
pub fn push_lp(out: &mut Vec<u8>, x: &[u8]) {
    let len = u32::try_from(x.len()).expect("lengths are limited far below 4 GiB");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(x);
}

/// `LP("greffe/v1/" + word)`.
pub fn label(word: &str) -> Vec<u8> {
    let mut text = String::with_capacity(PREFIX.len() + word.len());
    text.push_str(PREFIX);
    text.push_str(word);
    lp(text.as_bytes())
}

/// `H(word || parts)`: SHA-256 of the label and the parts, joined. A part whose length is not fixed has to come as
/// [`lp`].
pub fn hash(word: &str, parts: &[&[u8]]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(label(word));
    for part in parts {
        hasher.update(part);
    }
    Digest::new(hasher.finalize().into())
}

/// SHA-256 of bytes as they are: `H(x)` without a label.
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}

/// HKDF-SHA-256 after extraction (RFC 5869), able to expand under labels.
#[derive(Clone)]
pub struct Prk(Hkdf<Sha256>);

impl Prk {
    /// `HKDF-Extract(salt, ikm)`.
    pub fn extract(salt: &[u8], ikm: &[u8]) -> Self {
        Self(Hkdf::new(Some(salt), ikm))
    }

    /// Takes 32 bytes that are already a uniform key.
    pub fn from_key(key: &[u8; 32]) -> Self {
        Self(Hkdf::from_prk(key).expect("32 bytes are the length of a SHA-256 PRK"))
    }

    /// `Expand(prk, word || parts, N)`; `N` at most 8160.
    pub fn expand<const N: usize>(&self, word: &str, parts: &[&[u8]]) -> Zeroizing<[u8; N]> {
        let label = label(word);
        let mut info: Vec<&[u8]> = Vec::with_capacity(parts.len() + 1);
        info.push(&label);
        info.extend_from_slice(parts);
        let mut out = Zeroizing::new([0_u8; N]);
        self.0
            .expand_multi_info(&info, out.as_mut())
            .expect("outputs are shorter than 255 blocks");
        out
    }
}

impl core::fmt::Debug for Prk {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Prk(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    #[test]
    fn labels_are_length_prefixed_once() {
        assert_eq!(label("core"), b"\x00\x00\x00\x0egreffe/v1/core");
        assert_eq!(lp(b""), [0, 0, 0, 0]);
        let mut joined = label("x");
        joined.extend_from_slice(b"ab");
        assert_eq!(hash("x", &[b"a", b"b"]), sha256(&joined));
        assert_ne!(hash("x", &[&lp(b"a"), b"b"]), hash("x", &[&lp(b"ab")]));
    }

    #[test]
    fn hkdf_agrees_with_rfc_5869_case_1() {
        let prk = Hkdf::<Sha256>::new(Some(&hex!("000102030405060708090a0b0c")), &[0x0b; 22]);
        let mut okm = [0_u8; 42];
        prk.expand(&hex!("f0f1f2f3f4f5f6f7f8f9"), &mut okm).unwrap();
        assert_eq!(
            okm,
            hex!(
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
            )
        );
    }

    #[test]
    fn expanding_joins_label_and_parts() {
        let prk = Prk::extract(b"salt", b"ikm");
        let mut info = label("cek");
        info.extend_from_slice(b"core");
        let mut expected = [0_u8; 32];
        prk.0.expand(&info, &mut expected).unwrap();
        assert_eq!(*prk.expand::<32>("cek", &[b"co", b"re"]), expected);
        assert_eq!(format!("{prk:?}"), "Prk(..)");
    }
}
