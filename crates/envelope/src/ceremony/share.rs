//! What one node holds of a journaling key: its scalar, the ML-KEM half, and the public images of all shares.

use greffe_types::Digest;
use zeroize::Zeroizing;

use super::poly::PointBytes;
use crate::curve::{CurveError, Point, Scalar};
use crate::hybrid::SharedSecret;
use crate::label::{hash, lp, push_lp};
use crate::mlkem::Decapsulation;
use crate::opening::PUBLIC_KEY_SIZE;
use crate::opening::hybrid::{KEM_CIPHERTEXT_SIZE, KEM_KEY_SIZE};

/// Version of the stored form.
const VERSION: u8 = 1;

/// Why a share was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// The stored form has another version, length or a malformed part.
    #[error("the stored share is malformed")]
    Malformed,
    /// The scalar is not behind the verification share at its index.
    #[error("the share does not match its verification share")]
    Scalar,
    /// The ML-KEM seed does not give the key's ML-KEM half.
    #[error("the ML-KEM seed does not match the public key")]
    Seed,
    /// A verification share or the public key is no point.
    #[error("a point of the share is malformed")]
    Point(#[source] CurveError),
}

/// A node's share of a journaling key in one share epoch. Wiped when dropped; never shown.
#[derive(Clone)]
pub struct NodeShare {
    tenant: String,
    share_epoch: Digest,
    index: u16,
    threshold: u16,
    scalar: Zeroizing<Scalar>,
    kem_seed: Zeroizing<[u8; 64]>,
    kem: Decapsulation,
    public_key: Box<[u8; PUBLIC_KEY_SIZE]>,
    verification_shares: Vec<PointBytes>,
}

/// The parts of a share that are not secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareInfo {
    /// The tenant.
    pub tenant: String,
    /// Digest of the share epoch it belongs to.
    pub share_epoch: Digest,
    /// Share index, from 1.
    pub index: u16,
    /// How many shares open a record.
    pub threshold: u16,
    /// The journaling key: ML-KEM-768 encapsulation key ‖ uncompressed P-256 point.
    pub public_key: [u8; PUBLIC_KEY_SIZE],
    /// Y_1 to Y_n.
    pub verification_shares: Vec<PointBytes>,
}

impl NodeShare {
    /// Puts a share together and checks that its parts belong to each other.
    ///
    /// # Errors
    /// When scalar or seed do not belong to the public parts.
    pub fn new(
        info: ShareInfo,
        scalar: Zeroizing<Scalar>,
        kem_seed: Zeroizing<[u8; 64]>,
    ) -> Result<Self, ShareError> {
        let position = usize::from(info.index).checked_sub(1);
        let own = position
            .and_then(|at| info.verification_shares.get(at))
            .ok_or(ShareError::Scalar)?;
        if Point::mul_base(&scalar).to_compressed().as_ref() != Ok(own) {
            return Err(ShareError::Scalar);
        }
        let (kem, encapsulation_key) = Decapsulation::from_seed(&kem_seed);
        if encapsulation_key[..] != info.public_key[..KEM_KEY_SIZE] {
            return Err(ShareError::Seed);
        }
        Point::from_uncompressed(&info.public_key[KEM_KEY_SIZE..]).map_err(ShareError::Point)?;
        Ok(Self {
            tenant: info.tenant,
            share_epoch: info.share_epoch,
            index: info.index,
            threshold: info.threshold,
            scalar,
            kem_seed,
            kem,
            public_key: Box::new(info.public_key),
            verification_shares: info.verification_shares,
        })
    }

    /// The tenant.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Digest of the share epoch it belongs to.
    pub const fn share_epoch(&self) -> Digest {
        self.share_epoch
    }

    /// Share index, from 1.
    pub const fn index(&self) -> u16 {
        self.index
    }

    /// How many shares open a record.
    pub const fn threshold(&self) -> u16 {
        self.threshold
    }

    /// The journaling key's public half, 1249 bytes.
    pub fn public_key(&self) -> &[u8; PUBLIC_KEY_SIZE] {
        &self.public_key
    }

    /// The journaling key's id.
    pub fn key_id(&self) -> Digest {
        key_id(&self.tenant, &self.public_key[..])
    }

    /// Y_1 to Y_n.
    pub fn verification_shares(&self) -> &[PointBytes] {
        &self.verification_shares
    }

    /// This node's own verification share.
    pub fn verification_share(&self) -> PointBytes {
        self.verification_shares[usize::from(self.index) - 1]
    }

    pub(crate) fn scalar(&self) -> &Scalar {
        &self.scalar
    }

    pub(crate) fn kem_seed(&self) -> &Zeroizing<[u8; 64]> {
        &self.kem_seed
    }

    /// ML-KEM decapsulation (FIPS 203, implicit rejection: a wrong ciphertext gives an unrelated secret).
    pub(crate) fn decapsulate(&self, ciphertext: &[u8; KEM_CIPHERTEXT_SIZE]) -> SharedSecret {
        self.kem.decapsulate(ciphertext)
    }

    /// The plain stored form; the service seals it at rest.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Room for everything at once: growing would leave copies behind.
        let size = 256 + self.tenant.len() + PUBLIC_KEY_SIZE + 33 * self.verification_shares.len();
        let mut out = Zeroizing::new(Vec::with_capacity(size));
        out.push(VERSION);
        push_lp(&mut out, self.tenant.as_bytes());
        out.extend_from_slice(self.share_epoch.as_bytes());
        out.extend_from_slice(&self.index.to_be_bytes());
        out.extend_from_slice(&self.threshold.to_be_bytes());
        out.extend_from_slice(self.scalar.to_bytes().as_ref());
        out.extend_from_slice(self.kem_seed.as_ref());
        out.extend_from_slice(&self.public_key[..]);
        let count = self.verification_shares.len() as u16;
        out.extend_from_slice(&count.to_be_bytes());
        for share in &self.verification_shares {
            out.extend_from_slice(share);
        }
        out
    }

    /// Reads the stored form and checks that its parts belong to each other.
    ///
    /// # Errors
    /// When it is malformed or inconsistent.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ShareError> {
        let mut reader = Reader(bytes);
        if reader.array::<1>()? != [VERSION] {
            return Err(ShareError::Malformed);
        }
        let length = u32::from_be_bytes(reader.array()?);
        let tenant = core::str::from_utf8(reader.take(length as usize)?)
            .map_err(|_| ShareError::Malformed)?
            .to_owned();
        let share_epoch = Digest::new(reader.array()?);
        let index = u16::from_be_bytes(reader.array()?);
        let threshold = u16::from_be_bytes(reader.array()?);
        let scalar = Scalar::from_canonical_nonzero(reader.take(32)?)
            .map(Zeroizing::new)
            .map_err(|_| ShareError::Malformed)?;
        let mut kem_seed = Zeroizing::new([0; 64]);
        kem_seed.copy_from_slice(reader.take(64)?);
        let public_key = reader.array()?;
        let count = u16::from_be_bytes(reader.array()?);
        let verification_shares = (0..count)
            .map(|_| reader.array())
            .collect::<Result<_, _>>()?;
        if !reader.0.is_empty() {
            return Err(ShareError::Malformed);
        }
        let info = ShareInfo {
            tenant,
            share_epoch,
            index,
            threshold,
            public_key,
            verification_shares,
        };
        Self::new(info, scalar, kem_seed)
    }
}

impl core::fmt::Debug for NodeShare {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("NodeShare")
            .field("tenant", &self.tenant)
            .field("share_epoch", &self.share_epoch)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// The id of a journaling key: H("key-id" ‖ LP tenant ‖ public key).
pub fn key_id(tenant: &str, public_key: &[u8]) -> Digest {
    hash("key-id", &[&lp(tenant.as_bytes()), public_key])
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ShareError> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(ShareError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ShareError> {
        self.take(N)?.try_into().map_err(|_| ShareError::Malformed)
    }
}
