//! The wrap: a message's cek sealed to a journaling key, with a proof that the sender knew what it sealed.
//!
//! ```text
//! wrap   = enc (1153) || ct (48) || proof (131)                        1332 bytes
//! enc,ct = HPKE base, MLKEM768-P256, info = "wrap" || LP tenant || key_id, aad = rd, plaintext cek
//! rng    = SHAKE256("wrap-rng" || Expand(prk, "wrap" || rd || LP tenant || key_id, 32))
//!          32 bytes for ML-KEM, then 32-byte windows until 0 < r < q for P-256
//! ```
//!
//! Everything follows from the seed and the record digest, so a recipient makes the same bytes again; since `rd` differs
//! for every record, no randomness is used for two.

mod key;
mod proof;

use greffe_types::Digest;
use shake::{ExtendableOutput, Shake256, Update, XofReader};
use zeroize::Zeroizing;

pub use key::{JournalKey, KeyError, key_id};
pub use proof::{ProofError, ProofJob, verify_proof, verify_proofs};

use crate::curve::{CurveError, FixedBase, Point, Scalar};
use crate::derive::{Cek, SeedKeys};
use crate::hybrid::{self, SharedSecret};
use crate::label::{hash, label};
use crate::limits::{ENC, MLKEM_CIPHERTEXT, PROOF, WRAP, WRAP_CT};
use crate::pb;

/// Why a wrap was refused or could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// Not 1332 bytes.
    #[error("a wrap has {WRAP} bytes")]
    Length,
    /// The P-256 half of the encapsulation is not a point in uncompressed form.
    #[error("the wrap's encapsulation is malformed")]
    Point(#[source] CurveError),
    /// A derived value was zero: happens with probability 2^-256.
    #[error("a value derived from the seed is zero")]
    Zero,
    /// The wrap does not open.
    #[error("the wrap does not open")]
    Open,
}

/// A wrap's bytes in their parts. The encapsulated point is valid; the proof has been parsed by nobody yet.
#[derive(Clone)]
pub struct WrapView {
    bytes: Box<[u8; WRAP]>,
    point: Point,
}

impl WrapView {
    /// Takes a wrap apart.
    ///
    /// # Errors
    /// [`WrapError::Length`], [`WrapError::Point`].
    pub fn parse(sealed: &[u8]) -> Result<Self, WrapError> {
        let bytes: Box<[u8; WRAP]> = Box::new(sealed.try_into().map_err(|_| WrapError::Length)?);
        let point =
            Point::from_uncompressed(&bytes[MLKEM_CIPHERTEXT..ENC]).map_err(WrapError::Point)?;
        Ok(Self { bytes, point })
    }

    /// All 1332 bytes.
    pub fn bytes(&self) -> &[u8; WRAP] {
        &self.bytes
    }

    /// The encapsulation: ML-KEM ciphertext and uncompressed point, 1153 bytes.
    pub fn enc(&self) -> &[u8] {
        &self.bytes[..ENC]
    }

    /// The ML-KEM-768 ciphertext, 1088 bytes.
    pub fn mlkem_ciphertext(&self) -> &[u8] {
        &self.bytes[..MLKEM_CIPHERTEXT]
    }

    /// The sealed cek, 48 bytes.
    pub fn ct(&self) -> &[u8] {
        &self.bytes[ENC..ENC + WRAP_CT]
    }

    /// The proof of knowledge, 131 bytes.
    pub fn proof(&self) -> &[u8] {
        &self.bytes[ENC + WRAP_CT..]
    }

    /// The encapsulated point `E`.
    pub const fn point(&self) -> Point {
        self.point
    }

    /// `E`, uncompressed, 65 bytes.
    pub fn point_bytes(&self) -> &[u8] {
        &self.bytes[MLKEM_CIPHERTEXT..ENC]
    }

    /// `H("wrap-digest" || enc || ct || proof)`, which the envelope's body names.
    pub fn digest(&self) -> Digest {
        hash("wrap-digest", &[self.bytes.as_slice()])
    }

    /// SHA-256 of the ML-KEM ciphertext: with tenant and key id, what may be used once only.
    pub fn mlkem_digest(&self) -> Digest {
        crate::label::sha256(self.mlkem_ciphertext())
    }

    /// Opens the wrap from the KEM's shared secret (see [`hybrid::combine`]).
    ///
    /// # Errors
    /// [`WrapError::Open`].
    pub fn open(
        &self,
        secret: &SharedSecret,
        tenant: &str,
        key_id: &Digest,
        rd: &Digest,
    ) -> Result<Cek, WrapError> {
        let info = hybrid::wrap_info(tenant, key_id);
        let cek = hybrid::open(secret, &info, rd.as_bytes(), self.ct())
            .map_err(|hybrid::HybridError| WrapError::Open)?;
        let cek: [u8; 32] = cek.as_slice().try_into().map_err(|_| WrapError::Open)?;
        Ok(Cek::from_bytes(cek))
    }
}

impl core::fmt::Debug for WrapView {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "WrapView({})", self.digest())
    }
}

/// Makes the wrap of a record for one journaling key, with its proof.
///
/// # Errors
/// [`WrapError::Zero`].
pub fn make_wrap(seed: &SeedKeys, rd: &Digest, key: &JournalKey) -> Result<pb::Wrap, WrapError> {
    let mut randomness = Randomness::new(seed, rd, key);
    let message = randomness.window();
    let r = randomness.scalar();

    let (mlkem_ct, mlkem_secret) = key.encapsulate(&message);
    let (point, shared) = (FixedBase::generator().mul(&r), key.table().mul(&r));
    let (e, secret) = hybrid::combine_points(&mlkem_secret, point, shared, key.point_bytes())
        .map_err(|_| WrapError::Zero)?;

    let mut sealed = Vec::with_capacity(WRAP);
    sealed.extend_from_slice(&mlkem_ct);
    sealed.extend_from_slice(&e);
    let info = hybrid::wrap_info(key.tenant(), key.key_id());
    let ct = hybrid::seal(&secret, &info, rd.as_bytes(), seed.cek().as_bytes())
        .map_err(|hybrid::HybridError| WrapError::Open)?;
    sealed.extend_from_slice(&ct);
    let statement = proof::statement(rd, key, &sealed[..ENC], &ct);
    let proof: [u8; PROOF] =
        proof::prove(seed, &statement, &r, point).map_err(|_| WrapError::Zero)?;
    sealed.extend_from_slice(&proof);
    Ok(pb::Wrap {
        tenant: key.tenant().to_owned(),
        key_id: key.key_id().to_vec(),
        sealed,
    })
}

/// The randomness of one wrap.
struct Randomness(shake::Shake256Reader);

impl Randomness {
    fn new(seed: &SeedKeys, rd: &Digest, key: &JournalKey) -> Self {
        let wrap_seed = seed.wrap_seed(rd, key.tenant(), key.key_id());
        let mut xof = Shake256::default();
        xof.update(&label("wrap-rng"));
        xof.update(wrap_seed.as_slice());
        Self(xof.finalize_xof())
    }

    /// The next 32 bytes.
    fn window(&mut self) -> Zeroizing<[u8; 32]> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        self.0.read(bytes.as_mut());
        bytes
    }

    /// The first window that is a scalar above zero and below `q`.
    fn scalar(&mut self) -> Zeroizing<Scalar> {
        loop {
            if let Ok(r) = Scalar::from_canonical_nonzero(self.window().as_slice()) {
                return Zeroizing::new(r);
            }
        }
    }
}

#[cfg(test)]
mod tests;
