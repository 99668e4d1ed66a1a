//! HPKE with MLKEM768-P256 in the pieces that this system takes apart.
//!
//! A wrap is made from a secret exponent through fixed-base tables, and opened from a P-256 half that several nodes
//! computed together; an HPKE library offers neither. Here are the combiner of the KEM and HPKE's base-mode key schedule;
//! tests hold them against the unmodified `hpke` crate byte for byte, in both directions.
//!
//! Sources: draft-irtf-cfrg-concrete-hybrid-kems-03 section 4.1, draft-ietf-hpke-pq-04 (KEM 0x0050), RFC 9180 5.1 and 5.2
//! (KDF 0x0001 HKDF-SHA256, AEAD 0x0002 AES-256-GCM).

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use greffe_types::Digest;
use hkdf::Hkdf;
use sha2::Sha256;
use sha3::{Digest as _, Sha3_256};
use zeroize::{Zeroize as _, Zeroizing};

use crate::curve::{CurveError, Point, UNCOMPRESSED};
use crate::label::{label, lp};

/// HPKE KEM id of MLKEM768-P256.
pub const KEM_ID: u16 = 0x0050;
/// The KEM's own label: raw ASCII.
const KEM_LABEL: &[u8] = b"MLKEM768-P256";
/// `"HPKE" || KEM 0x0050 || KDF 0x0001 || AEAD 0x0002`.
const SUITE: &[u8] = b"HPKE\x00\x50\x00\x01\x00\x02";

/// A KEM's shared secret: 32 bytes.
pub type SharedSecret = Zeroizing<[u8; 32]>;

/// What is sealed does not open, or cannot be sealed (more than 64 GiB).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed bytes do not open under this secret")]
pub struct HybridError;

/// `SHA3-256(ss_mlkem || x(D) || E || pk_P256 || "MLKEM768-P256")`: the shared secret from both halves; `e` and `pk`
/// uncompressed.
pub fn combine(mlkem: &[u8; 32], x: &[u8; 32], e: &[u8; 65], pk: &[u8; 65]) -> SharedSecret {
    let mut hash = Sha3_256::new();
    for part in [mlkem.as_slice(), x, e, pk, KEM_LABEL] {
        hash.update(part);
    }
    Zeroizing::new(hash.finalize().into())
}

/// The secret of an ML-KEM library, whose own type does not wipe itself: what it was in is wiped here.
///
/// # Panics
/// When it has not 32 bytes.
pub(crate) fn take_secret(theirs: &mut [u8]) -> SharedSecret {
    let mut ours = Zeroizing::new([0; 32]);
    ours.copy_from_slice(theirs);
    theirs.zeroize();
    ours
}

/// `E` as it travels and the shared secret, from the points `E = rG` and `D = rPK`: one inversion encodes both.
///
/// # Errors
/// [`CurveError::Identity`] when either is the identity.
pub(crate) fn combine_points(
    mlkem: &[u8; 32],
    e: Point,
    d: Point,
    pk: &[u8; UNCOMPRESSED],
) -> Result<([u8; UNCOMPRESSED], SharedSecret), CurveError> {
    let encoded = Zeroizing::new(Point::batch_uncompressed(&[e, d])?);
    let [e, d] = &*encoded;
    let x = d[1..]
        .first_chunk()
        .expect("65 bytes have 32 behind the first");
    Ok((*e, combine(mlkem, x, e, pk)))
}

/// What HPKE's `info` is for a wrap: `"wrap" || LP tenant || key_id`.
pub fn wrap_info(tenant: &str, key_id: &Digest) -> Vec<u8> {
    let mut info = label("wrap");
    info.extend_from_slice(&lp(tenant.as_bytes()));
    info.extend_from_slice(key_id.as_bytes());
    info
}

/// HPKE base mode, first message of the context, from the KEM's shared secret.
///
/// # Errors
/// [`HybridError`] when the plaintext is too long for AES-GCM.
pub fn seal(
    secret: &SharedSecret,
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, HybridError> {
    let (cipher, nonce) = schedule(secret, info);
    let payload = Payload {
        msg: plaintext,
        aad,
    };
    cipher
        .encrypt(&nonce.into(), payload)
        .map_err(|_| HybridError)
}

/// Opens what [`seal`] or any HPKE sender made.
///
/// # Errors
/// [`HybridError`].
pub fn open(
    secret: &SharedSecret,
    info: &[u8],
    aad: &[u8],
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, HybridError> {
    let (cipher, nonce) = schedule(secret, info);
    let payload = Payload {
        msg: ciphertext,
        aad,
    };
    cipher
        .decrypt(&nonce.into(), payload)
        .map(Zeroizing::new)
        .map_err(|_| HybridError)
}

/// RFC 9180 5.1, mode 0x00, no PSK; the nonce of sequence number 0 is the base nonce.
fn schedule(secret: &SharedSecret, info: &[u8]) -> (Aes256Gcm, [u8; 12]) {
    let mut context = vec![0x00];
    context.extend_from_slice(&extract(b"", b"psk_id_hash", b"").0);
    context.extend_from_slice(&extract(b"", b"info_hash", info).0);
    let (_, prk) = extract(secret.as_slice(), b"secret", b"");
    let mut key = Zeroizing::new([0_u8; 32]);
    let mut nonce = [0_u8; 12];
    expand(&prk, b"key", &context, key.as_mut());
    expand(&prk, b"base_nonce", &context, &mut nonce);
    (Aes256Gcm::new((&*key).into()), nonce)
}

/// LabeledExtract of RFC 9180 4.
fn extract(salt: &[u8], label: &[u8], ikm: &[u8]) -> ([u8; 32], Hkdf<Sha256>) {
    let mut extract = hkdf::HkdfExtract::<Sha256>::new(Some(salt));
    for part in [b"HPKE-v1", SUITE, label, ikm] {
        extract.input_ikm(part);
    }
    let (prk, hkdf) = extract.finalize();
    (prk.into(), hkdf)
}

/// LabeledExpand of RFC 9180 4.
fn expand(prk: &Hkdf<Sha256>, label: &[u8], info: &[u8], out: &mut [u8]) {
    let len = (out.len() as u16).to_be_bytes();
    prk.expand_multi_info(&[&len, b"HPKE-v1", SUITE, label, info], out)
        .expect("32 and 12 bytes are below 255 blocks");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_taken_over_is_wiped_where_it_was() {
        let mut theirs = [7; 32];
        assert_eq!(*take_secret(&mut theirs), [7; 32]);
        assert_eq!(theirs, [0; 32]);
    }
}
