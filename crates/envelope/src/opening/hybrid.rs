//! HPKE base mode over MLKEM768-P256, HKDF-SHA256 and AES-256-GCM for the private messages of nodes and readers.

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::MlKem768P256;
use hpke::{Deserializable, HpkeError, Kem, OpModeR, OpModeS, Serializable};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// Bytes of an MLKEM768-P256 encapsulation: ML-KEM-768 ciphertext (1088) ‖ uncompressed P-256 point (65).
pub const ENCAPSULATION_SIZE: usize = 1153;

/// Bytes of an MLKEM768-P256 public key: ML-KEM-768 encapsulation key (1184) ‖ uncompressed P-256 point (65).
pub const PUBLIC_KEY_SIZE: usize = 1249;

/// Bytes of an ML-KEM-768 encapsulation key or, in an encapsulation, of its ciphertext.
pub(crate) const KEM_KEY_SIZE: usize = 1184;
pub(crate) const KEM_CIPHERTEXT_SIZE: usize = 1088;

/// Why a private message could not be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HybridError {
    /// The recipient's public key is malformed.
    #[error("the recipient's public key is malformed")]
    PublicKey(#[source] HpkeError),
    /// The message could not be sealed.
    #[error("the message could not be sealed")]
    Seal(#[source] HpkeError),
    /// The message is too short or its encapsulation malformed.
    #[error("the sealed message is malformed")]
    Malformed,
    /// Decryption failed: another recipient, context or message.
    #[error("the sealed message does not open")]
    Open(#[source] HpkeError),
}

/// A private key for messages: a node's channel key or a reader's key. Its public half is in the trust bundle.
#[derive(Clone)]
pub struct HybridSecretKey(<MlKem768P256 as Kem>::PrivateKey);

impl HybridSecretKey {
    /// A fresh key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut());
        Self::from_seed(&seed)
    }

    /// The key of a 32-byte seed, which is also the form it is stored in.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let key = <MlKem768P256 as Kem>::PrivateKey::from_bytes(seed);
        Self(key.expect("a seed of 32 bytes gives a key"))
    }

    /// The 32-byte seed.
    pub fn to_seed(&self) -> Zeroizing<[u8; 32]> {
        let mut seed = Zeroizing::new([0; 32]);
        self.0.write_exact(seed.as_mut());
        seed
    }

    /// The public key, as the trust bundle carries it: 1249 bytes.
    pub fn public_key(&self) -> Vec<u8> {
        MlKem768P256::sk_to_pk(&self.0).to_bytes().to_vec()
    }

    /// Opens what [`seal`] made for this key.
    ///
    /// # Errors
    /// When it was made for another key, info or associated data, or altered.
    pub fn open(
        &self,
        info: &[u8],
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, HybridError> {
        let (encapsulation, ciphertext) = sealed
            .split_at_checked(ENCAPSULATION_SIZE)
            .ok_or(HybridError::Malformed)?;
        let encapsulation = <MlKem768P256 as Kem>::EncappedKey::from_bytes(encapsulation)
            .map_err(|_| HybridError::Malformed)?;
        let mut context = hpke::setup_receiver::<AesGcm256, HkdfSha256, MlKem768P256>(
            &OpModeR::Base,
            &self.0,
            &encapsulation,
            info,
        )
        .map_err(HybridError::Open)?;
        context
            .open(ciphertext, aad)
            .map(Zeroizing::new)
            .map_err(HybridError::Open)
    }
}

impl core::fmt::Debug for HybridSecretKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HybridSecretKey(..)")
    }
}

/// Seals a message to a public key of 1249 bytes: encapsulation ‖ ciphertext.
///
/// # Errors
/// When the public key is malformed.
pub fn seal(
    public_key: &[u8],
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, HybridError> {
    let public_key =
        <MlKem768P256 as Kem>::PublicKey::from_bytes(public_key).map_err(HybridError::PublicKey)?;
    let (encapsulation, mut context) = hpke::setup_sender_with_rng::<
        AesGcm256,
        HkdfSha256,
        MlKem768P256,
    >(&OpModeS::Base, &public_key, info, rng)
    .map_err(HybridError::Seal)?;
    let mut sealed = encapsulation.to_bytes().to_vec();
    sealed.extend_from_slice(&context.seal(plaintext, aad).map_err(HybridError::Seal)?);
    Ok(sealed)
}
