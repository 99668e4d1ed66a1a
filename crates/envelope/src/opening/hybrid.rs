//! HPKE base mode over MLKEM768-P256, HKDF-SHA256 and AES-256-GCM for the private messages of nodes and readers.

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::MlKem768P256;
use hpke::{Deserializable, HpkeError, Kem, OpModeR, Serializable};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::curve::{CurveError, FixedBase, Point, Scalar, UNCOMPRESSED};
use crate::hybrid::combine_points;
use crate::mlkem::Encapsulation;

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

/// Seals a message to a public key of 1249 bytes, as [`HybridPublicKey::seal`] does.
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
    HybridPublicKey::parse(public_key)?.seal(info, aad, plaintext, rng)
}

/// A public key for messages, parsed once for as many as are sealed to it.
#[derive(Clone)]
pub struct HybridPublicKey {
    kem: Encapsulation,
    point: Point,
    point_bytes: [u8; UNCOMPRESSED],
    table: Option<FixedBase>,
}

impl HybridPublicKey {
    /// From its 1249 bytes.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn parse(public_key: &[u8]) -> Result<Self, HybridError> {
        let bytes: &[u8; PUBLIC_KEY_SIZE] = public_key.try_into().map_err(|_| {
            let error = HpkeError::IncorrectInputLength(PUBLIC_KEY_SIZE, public_key.len());
            HybridError::PublicKey(error)
        })?;
        let (kem_key, point_bytes) = split(bytes);
        let kem = Encapsulation::parse(kem_key)
            .map_err(|_| HybridError::PublicKey(HpkeError::ValidationError))?;
        let point = Point::from_uncompressed(point_bytes).map_err(wrong)?;
        Ok(Self {
            kem,
            point,
            point_bytes: *point_bytes,
            table: None,
        })
    }

    /// With a table of the point's multiples, which pays from some tens of messages on.
    #[must_use]
    pub fn with_table(mut self) -> Self {
        self.table = Some(FixedBase::new(self.point));
        self
    }

    /// Seals a message: encapsulation ‖ ciphertext. The bytes are those of the `hpke` crate with the same randomness; they are made
    /// here because its multiplications take several times as long.
    ///
    /// # Errors
    /// When it cannot be sealed.
    pub fn seal(
        &self,
        info: &[u8],
        aad: &[u8],
        plaintext: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, HybridError> {
        let message = draw(rng);
        let r = loop {
            if let Ok(r) = Scalar::from_canonical_nonzero(draw(rng).as_slice()) {
                break Zeroizing::new(r);
            }
        };
        let (kem_ciphertext, kem_secret) = self.kem.encapsulate(&message);
        let d = match &self.table {
            Some(table) => table.mul(&r),
            None => self.point * &r,
        };
        let (e, secret) = combine_points(&kem_secret, Point::mul_base(&r), d, &self.point_bytes)
            .map_err(wrong)?;
        let mut sealed = Vec::with_capacity(ENCAPSULATION_SIZE + plaintext.len() + 16);
        sealed.extend_from_slice(&kem_ciphertext);
        sealed.extend_from_slice(&e);
        let ciphertext = crate::hybrid::seal(&secret, info, aad, plaintext)
            .map_err(|_| HybridError::Seal(HpkeError::SealError))?;
        sealed.extend_from_slice(&ciphertext);
        Ok(sealed)
    }
}

impl core::fmt::Debug for HybridPublicKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HybridPublicKey(..)")
    }
}

fn wrong(_: CurveError) -> HybridError {
    HybridError::PublicKey(HpkeError::ValidationError)
}

/// The ML-KEM half of a public key, and the point.
fn split(key: &[u8; PUBLIC_KEY_SIZE]) -> (&[u8; KEM_KEY_SIZE], &[u8; UNCOMPRESSED]) {
    let halves = key
        .split_first_chunk()
        .and_then(|(kem, point)| Some((kem, point.first_chunk()?)));
    halves.expect("1184 and 65 bytes are 1249")
}

fn draw(rng: &mut impl CryptoRng) -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    rng.fill_bytes(bytes.as_mut());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use hpke::OpModeS;
    use hpke::rand_core::{TryCryptoRng, TryRng};
    use proptest::prelude::*;
    use shake::{ExtendableOutput, Shake256, Shake256Reader, Update, XofReader};

    struct ShakeRng(Shake256Reader);

    impl ShakeRng {
        fn new(seed: &[u8]) -> Self {
            let mut xof = Shake256::default();
            xof.update(seed);
            Self(xof.finalize_xof())
        }
    }

    impl TryRng for ShakeRng {
        type Error = core::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            let mut bytes = [0; 4];
            self.0.read(&mut bytes);
            Ok(u32::from_le_bytes(bytes))
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            let mut bytes = [0; 8];
            self.0.read(&mut bytes);
            Ok(u64::from_le_bytes(bytes))
        }
        fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
            self.0.read(out);
            Ok(())
        }
    }

    impl TryCryptoRng for ShakeRng {}

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn an_unmodified_hpke_library_makes_and_opens_the_same_bytes(
            seed: [u8; 32], info: [u8; 7], aad: [u8; 9], plain in prop::collection::vec(any::<u8>(), 0..300)
        ) {
            let key = HybridSecretKey::from_seed(&seed);
            let sealed = seal(&key.public_key(), &info, &aad, &plain, &mut ShakeRng::new(&seed)).unwrap();
            let theirs = <MlKem768P256 as Kem>::PublicKey::from_bytes(&key.public_key()).unwrap();
            let (e, ciphertext) = hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, MlKem768P256>(
                &OpModeS::Base, &theirs, &info, &plain, &aad, &mut ShakeRng::new(&seed),
            ).unwrap();
            prop_assert_eq!(&[&e.to_bytes()[..], &ciphertext].concat(), &sealed);
            prop_assert_eq!(&*key.open(&info, &aad, &sealed).unwrap(), &plain);
            let table = HybridPublicKey::parse(&key.public_key()).unwrap().with_table();
            let again = table.seal(&info, &aad, &plain, &mut ShakeRng::new(&seed)).unwrap();
            prop_assert_eq!(&again, &sealed);
            prop_assert!(key.open(b"other", &aad, &sealed).is_err());
        }
    }

    /// Hands out given draws, one after the other.
    struct Draws(Vec<[u8; 32]>);

    impl TryRng for Draws {
        type Error = core::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            panic!("nobody draws less than 32 bytes");
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            panic!("nobody draws less than 32 bytes");
        }
        fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
            out.copy_from_slice(&self.0.remove(0));
            Ok(())
        }
    }

    impl TryCryptoRng for Draws {}

    /// What is no scalar is drawn again, as the `hpke` crate does; no property test comes by it.
    #[test]
    fn a_draw_that_is_no_scalar_is_drawn_again() {
        let key = HybridSecretKey::from_seed(&[3; 32]);
        let order =
            hex_literal::hex!("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
        let draws = || vec![[5; 32], [0xff; 32], order, [0; 32], [9; 32]];
        let mut ours = Draws(draws());
        let sealed = seal(&key.public_key(), b"info", b"aad", b"plain", &mut ours).unwrap();
        assert!(ours.0.is_empty());
        let theirs = <MlKem768P256 as Kem>::PublicKey::from_bytes(&key.public_key()).unwrap();
        let (e, ciphertext) =
            hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, MlKem768P256>(
                &OpModeS::Base,
                &theirs,
                b"info",
                b"plain",
                b"aad",
                &mut Draws(draws()),
            )
            .unwrap();
        assert_eq!([&e.to_bytes()[..], &ciphertext].concat(), sealed);
        assert_eq!(*key.open(b"info", b"aad", &sealed).unwrap(), b"plain");
    }

    #[test]
    fn malformed_public_keys_are_refused() {
        let good = HybridSecretKey::from_seed(&[1; 32]).public_key();
        let refused = |key: &[u8]| {
            let sealed = seal(key, b"", b"", b"plain", &mut ShakeRng::new(b""));
            matches!(sealed, Err(HybridError::PublicKey(_)))
        };
        assert!(!refused(&good));
        assert!(refused(&good[1..]));
        // A coefficient that is not below 3329, a point off the curve, the identity.
        let mut bytes = good.clone();
        bytes[..2].fill(0xff);
        assert!(refused(&bytes));
        let mut bytes = good.clone();
        bytes[PUBLIC_KEY_SIZE - 1] ^= 1;
        assert!(refused(&bytes));
        let mut bytes = good;
        bytes[KEM_KEY_SIZE..].fill(0);
        assert!(refused(&bytes));
    }
}
