//! A KEM that decapsulates nothing: it hands an already combined shared secret to HPKE's unmodified key schedule.

use hpke::aead::AesGcm256;
use hpke::hybrid_array::typenum::U32;
use hpke::kdf::HkdfSha256;
use hpke::kem::{MlKem768P256, SharedSecret};
use hpke::rand_core::CryptoRng;
use hpke::{Deserializable, HpkeError, Kem, OpModeR, Serializable};
use sha3::{Digest as _, Sha3_256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, Zeroizing};

use super::hybrid::{ENCAPSULATION_SIZE, KEM_CIPHERTEXT_SIZE, KEM_KEY_SIZE, PUBLIC_KEY_SIZE};
use crate::curve::{CurveError, Point};

/// What the hybrid KEM hashes last (draft-irtf-cfrg-concrete-hybrid-kems, section 4.1): raw ASCII.
const KEM_LABEL: &[u8] = b"MLKEM768-P256";

/// MLKEM768-P256's shared secret from the parts that the nodes answered with:
/// SHA3-256(ss_mlkem ‖ x(D) ‖ E ‖ pk_P256 ‖ label).
///
/// # Errors
/// When D is the identity.
pub(crate) fn shared_secret(
    ss_mlkem: &[u8; 32],
    point: &Point,
    encapsulation: &[u8; ENCAPSULATION_SIZE],
    public_key: &[u8; PUBLIC_KEY_SIZE],
) -> Result<Zeroizing<[u8; 32]>, CurveError> {
    let x = Zeroizing::new(point.x()?);
    let hash = Sha3_256::new()
        .chain_update(ss_mlkem)
        .chain_update(x.as_ref())
        .chain_update(&encapsulation[KEM_CIPHERTEXT_SIZE..])
        .chain_update(&public_key[KEM_KEY_SIZE..])
        .chain_update(KEM_LABEL);
    Ok(Zeroizing::new(hash.finalize().into()))
}

/// Opens an HPKE message whose shared secret is already known.
///
/// # Errors
/// When the encapsulation or key is malformed, or the message does not open under this secret.
pub(crate) fn open_with_secret(
    secret: &[u8; 32],
    public_key: &[u8; PUBLIC_KEY_SIZE],
    encapsulation: &[u8; ENCAPSULATION_SIZE],
    info: &[u8],
    aad: &[u8],
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, HpkeError> {
    let key = CombinedSecret {
        secret: *secret,
        public_key: <MlKem768P256 as Kem>::PublicKey::from_bytes(public_key)?,
    };
    let encapsulation = <MlKem768P256 as Kem>::EncappedKey::from_bytes(encapsulation)?;
    hpke::setup_receiver::<AesGcm256, HkdfSha256, Combined>(
        &OpModeR::Base,
        &key,
        &encapsulation,
        info,
    )?
    .open(ciphertext, aad)
    .map(Zeroizing::new)
}

/// MLKEM768-P256 for a receiver who already has the shared secret: same id, keys and encapsulations.
struct Combined;

/// The shared secret of one encapsulation, in the place of a private key.
#[derive(Clone)]
struct CombinedSecret {
    secret: [u8; 32],
    public_key: <MlKem768P256 as Kem>::PublicKey,
}

impl Drop for CombinedSecret {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl ConstantTimeEq for CombinedSecret {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.secret.ct_eq(&other.secret)
    }
}

impl Serializable for CombinedSecret {
    type OutputSize = U32;

    fn write_exact(&self, out: &mut [u8]) {
        out.copy_from_slice(&self.secret);
    }
}

impl Deserializable for CombinedSecret {
    fn from_bytes(_: &[u8]) -> Result<Self, HpkeError> {
        // The bytes do not name the public key, so there is nothing to read them as.
        Err(HpkeError::ValidationError)
    }
}

impl Kem for Combined {
    type PublicKey = <MlKem768P256 as Kem>::PublicKey;
    type PrivateKey = CombinedSecret;
    type EncappedKey = <MlKem768P256 as Kem>::EncappedKey;
    type NSecret = U32;
    const KEM_ID: u16 = MlKem768P256::KEM_ID;

    fn sk_to_pk(key: &CombinedSecret) -> Self::PublicKey {
        key.public_key.clone()
    }

    fn derive_keypair(ikm: &[u8]) -> (CombinedSecret, Self::PublicKey) {
        // Never called: a receiver's setup derives no key. A key pair that opens nothing is the honest answer.
        let (_, public_key) = MlKem768P256::derive_keypair(ikm);
        let secret = [0; 32];
        (
            CombinedSecret {
                secret,
                public_key: public_key.clone(),
            },
            public_key,
        )
    }

    fn decap(
        key: &CombinedSecret,
        sender: Option<&Self::PublicKey>,
        _: &Self::EncappedKey,
    ) -> Result<SharedSecret<Self>, HpkeError> {
        if sender.is_some() {
            return Err(HpkeError::DecapError);
        }
        let mut shared = SharedSecret::default();
        shared.0.copy_from_slice(&key.secret);
        Ok(shared)
    }

    fn encap_with_rng(
        _: &Self::PublicKey,
        _: Option<(&CombinedSecret, &Self::PublicKey)>,
        _: &mut impl CryptoRng,
    ) -> Result<(SharedSecret<Self>, Self::EncappedKey), HpkeError> {
        // Sealing goes through MlKem768P256 itself.
        Err(HpkeError::EncapError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hpke::OpModeS;

    #[test]
    fn a_combined_secret_opens_what_the_unmodified_library_sealed() {
        let (sk, pk) = MlKem768P256::gen_keypair();
        let public_key: [u8; PUBLIC_KEY_SIZE] = pk.to_bytes().into();
        let (enc, mut context) =
            hpke::setup_sender::<AesGcm256, HkdfSha256, MlKem768P256>(&OpModeS::Base, &pk, b"info")
                .unwrap();
        let sealed = context.seal(b"key", b"aad").unwrap();
        let shared = MlKem768P256::decap(&sk, None, &enc).unwrap();
        let secret: [u8; 32] = shared.0.into();
        let enc: [u8; ENCAPSULATION_SIZE] = enc.to_bytes().into();
        let open =
            |secret, info| open_with_secret(&secret, &public_key, &enc, info, b"aad", &sealed);
        assert_eq!(open(secret, b"info").unwrap().as_slice(), b"key");
        assert_eq!(open(secret, b"else"), Err(HpkeError::OpenError));
        assert_eq!(open([1; 32], b"info"), Err(HpkeError::OpenError));
    }
}
