//! Fixed randomness, and journaling keys whose private halves are known.

use core::convert::Infallible;

use ed25519_dalek::SigningKey;
use greffe_envelope::curve::{Point, Scalar};
use greffe_envelope::wrap::JournalKey;
use ml_kem::array::Array;
use ml_kem::kem::Decapsulate as _;
use ml_kem::{FromSeed, KeyExport, MlKem768};
use rand_core::{Rng as _, TryCryptoRng, TryRng};
use shake::{ExtendableOutput, Shake256, Update, XofReader};

/// SHAKE256 of a name.
pub struct Seeded(<Shake256 as ExtendableOutput>::Reader);

impl Seeded {
    pub fn new(name: &str) -> Self {
        let mut xof = Shake256::default();
        xof.update(b"greffe vectors: ");
        xof.update(name.as_bytes());
        Self(xof.finalize_xof())
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.fill_bytes(&mut out);
        out
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        self.fill_bytes(&mut out);
        out
    }

    pub fn scalar(&mut self) -> Scalar {
        Scalar::reduce48(&self.array()).expect("not zero, or the vectors need another name")
    }

    pub fn signer(&mut self) -> SigningKey {
        SigningKey::from_bytes(&self.array())
    }
}

impl TryRng for Seeded {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_be_bytes(self.array()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_be_bytes(self.array()))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.read(out);
        Ok(())
    }
}

impl TryCryptoRng for Seeded {}

/// A journaling key with everything that no machine ever holds together.
pub struct Secret {
    pub key: JournalKey,
    pub kem_seed: [u8; 64],
    /// Of the polynomial that is shared out; the first is the key's scalar.
    pub coefficients: [Scalar; 2],
}

impl Secret {
    pub fn new(tenant: &str) -> Self {
        let mut rng = Seeded::new(&format!("journaling key of {tenant}"));
        let kem_seed: [u8; 64] = rng.array();
        let coefficients = [rng.scalar(), rng.scalar()];
        let (_, encapsulation) = MlKem768::from_seed(&Array::from(kem_seed));
        let mut public_key = encapsulation.to_bytes().to_vec();
        let point = Point::mul_base(&coefficients[0]).to_uncompressed();
        public_key.extend_from_slice(&point.expect("the scalar is not zero"));
        Self {
            key: JournalKey::from_public_key(tenant, &public_key).expect("made well formed"),
            kem_seed,
            coefficients,
        }
    }

    /// What ML-KEM makes of a ciphertext; of a wrong one a value that only the seed's second half decides (FIPS 203 6.3).
    pub fn decapsulate(&self, ciphertext: &[u8]) -> [u8; 32] {
        let (key, _) = MlKem768::from_seed(&Array::from(self.kem_seed));
        let ciphertext: [u8; 1088] = ciphertext.try_into().expect("an ML-KEM-768 ciphertext");
        key.decapsulate(&ciphertext.into()).into()
    }

    /// Of the ciphertext with its first bit changed.
    pub fn reject(&self, ciphertext: &[u8]) -> [u8; 32] {
        let mut altered = ciphertext.to_vec();
        altered[0] ^= 1;
        self.decapsulate(&altered)
    }

    /// The share at an index.
    pub fn share(&self, index: u16) -> Scalar {
        self.coefficients[0] + self.coefficients[1] * Scalar::from_u64(index.into())
    }
}
