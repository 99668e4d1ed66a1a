//! A journaling key, parsed once; its table is made when something is first sealed to it.

use std::sync::{Arc, OnceLock};

use greffe_types::Digest;

use crate::curve::{CurveError, FixedBase, Point};
use crate::hybrid::{KEM_ID, SharedSecret};
use crate::label::{hash, lp, sha256};
use crate::limits::{MLKEM_CIPHERTEXT, MLKEM_KEY, PUBLIC_KEY};
use crate::mlkem::Encapsulation;
use crate::pb;

/// Why a journaling key was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not KEM 0x0050.
    #[error("KEM {0:#06x} is not accepted")]
    Kem(u32),
    /// Not 1249 bytes.
    #[error("a journaling key has {PUBLIC_KEY} bytes")]
    Length,
    /// The ML-KEM half fails the modulus check of FIPS 203 7.2.
    #[error("the ML-KEM half of the journaling key is malformed")]
    MlKem,
    /// The P-256 half is not a point in uncompressed form.
    #[error("the P-256 half of the journaling key is malformed")]
    Point(#[source] CurveError),
    /// The key id is not the digest of tenant and key.
    #[error("the key id does not belong to the journaling key")]
    Id,
}

/// `key_id = H("key-id" || LP tenant || pk)`.
pub fn key_id(tenant: &str, public_key: &[u8]) -> Digest {
    hash("key-id", &[&lp(tenant.as_bytes()), public_key])
}

/// A journaling public key ready for use. The first use costs a table, which all that hold the same key share.
#[derive(Clone)]
pub struct JournalKey {
    tenant: String,
    key_id: Digest,
    public_key: Box<[u8; PUBLIC_KEY]>,
    public_key_digest: Digest,
    mlkem: Encapsulation,
    point: Point,
    table: OnceLock<Arc<FixedBase>>,
}

impl JournalKey {
    /// From a record whose signatures have been verified (see [`crate::trust`]).
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_record(record: &pb::KeyRecord) -> Result<Self, KeyError> {
        if record.kem != u32::from(KEM_ID) {
            return Err(KeyError::Kem(record.kem));
        }
        let key = Self::from_public_key(&record.tenant, &record.public_key)?;
        if key.key_id.as_bytes().as_slice() != record.key_id {
            return Err(KeyError::Id);
        }
        Ok(key)
    }

    /// From the key itself.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_public_key(tenant: &str, public_key: &[u8]) -> Result<Self, KeyError> {
        let bytes: Box<[u8; PUBLIC_KEY]> =
            Box::new(public_key.try_into().map_err(|_| KeyError::Length)?);
        let (mlkem, point) = bytes.split_at(MLKEM_KEY);
        let mlkem = mlkem.try_into().map_err(|_| KeyError::Length)?;
        let mlkem = Encapsulation::parse(mlkem).map_err(|_| KeyError::MlKem)?;
        let point = Point::from_uncompressed(point).map_err(KeyError::Point)?;
        Ok(Self {
            tenant: tenant.to_owned(),
            key_id: key_id(tenant, public_key),
            public_key_digest: sha256(public_key),
            public_key: bytes,
            mlkem,
            point,
            table: OnceLock::new(),
        })
    }

    /// The tenant.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The key's id.
    pub const fn key_id(&self) -> &Digest {
        &self.key_id
    }

    /// All 1249 bytes.
    pub fn public_key(&self) -> &[u8; PUBLIC_KEY] {
        &self.public_key
    }

    /// `H(pk)`.
    pub const fn public_key_digest(&self) -> &Digest {
        &self.public_key_digest
    }

    /// The P-256 half.
    pub const fn point(&self) -> Point {
        self.point
    }

    /// The P-256 half, uncompressed.
    pub fn point_bytes(&self) -> &[u8; 65] {
        self.public_key
            .last_chunk()
            .expect("the key ends in 65 bytes of point")
    }

    pub(super) fn table(&self) -> &FixedBase {
        self.table.get_or_init(|| FixedBase::shared(self.point))
    }

    /// ML-KEM-768 encapsulation from 32 bytes of randomness (FIPS 203 algorithm 17).
    pub(super) fn encapsulate(&self, message: &[u8; 32]) -> ([u8; MLKEM_CIPHERTEXT], SharedSecret) {
        self.mlkem.encapsulate(message)
    }
}

impl core::fmt::Debug for JournalKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "JournalKey({:?}, {})", self.tenant, self.key_id)
    }
}
