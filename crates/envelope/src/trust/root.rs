//! The tenant root as clients and nodes pin it.

use core::fmt;

use ed25519_dalek::VerifyingKey;
use greffe_types::{TenantId, from_hex, to_hex};

use super::TrustError;
use crate::statement::{Signed, Statement, public_key};

/// Signer name of the tenant root.
pub const ROOT: &str = "root";
/// Signer name of the device issuer.
pub const ISSUER: &str = "issuer";
/// First word of the file's line.
const MAGIC: &str = "greffe-root-v1";

/// A tenant root's public key. As a file it is one line: `greffe-root-v1 TENANT HEX` (Ed25519, 64 hexadecimal digits).
#[derive(Clone, PartialEq, Eq)]
pub struct RootKey {
    tenant: TenantId,
    key: VerifyingKey,
}

impl RootKey {
    /// From a key's 32 bytes.
    ///
    /// # Errors
    /// [`TrustError::Statement`] for a weak or malformed key.
    pub fn new(tenant: TenantId, key: &[u8]) -> Result<Self, TrustError> {
        Ok(Self {
            tenant,
            key: public_key(ROOT, key)?,
        })
    }

    /// Reads the file's text; nothing but the one line may be in it.
    ///
    /// # Errors
    /// [`TrustError::Field`], [`TrustError::Statement`].
    pub fn parse(text: &str) -> Result<Self, TrustError> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        let mut words = line.split(' ');
        let (Some(MAGIC), Some(tenant), Some(key), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(TrustError::Field("root line"));
        };
        let tenant = TenantId::new(tenant).map_err(|_| TrustError::Field("root tenant"))?;
        let key: [u8; 32] = from_hex(key).map_err(|_| TrustError::Field("root key"))?;
        Self::new(tenant, &key)
    }

    /// The tenant.
    pub const fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Verifies a statement's signature by this root.
    ///
    /// # Errors
    /// [`TrustError::Statement`].
    pub fn verify<M: Statement>(&self, signed: &Signed<M>) -> Result<(), TrustError> {
        Ok(signed.verify(ROOT, self.as_bytes())?)
    }
}

/// The file's line without its end.
impl fmt::Display for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MAGIC} {} {}", self.tenant, to_hex(self.as_bytes()))
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootKey({self})")
    }
}
