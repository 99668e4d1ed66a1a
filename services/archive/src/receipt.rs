//! The key that signs receipts, voids and ranges.

use core::fmt;

use ed25519_dalek::SigningKey;
use greffe_envelope::statement::{Signed, Statement};
use greffe_envelope::trust::Bundle;
use greffe_service_kit::errors::{Reason, ServiceError};
use greffe_types::Millis;
use tonic::Code;

/// The trust bundle names no such receipt key, or not now.
pub const RECEIPT_KEY_UNKNOWN: Reason = Reason::new("RECEIPT_KEY_UNKNOWN");

/// The archive's receipt key. Its name is the one under which the trust bundle has its public half.
pub struct ReceiptKey {
    key: SigningKey,
}

impl ReceiptKey {
    /// From the secret's 32 bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self {
            key: SigningKey::from_bytes(secret),
        }
    }

    /// The signer name at an instant.
    ///
    /// # Errors
    /// [`RECEIPT_KEY_UNKNOWN`] when the bundle does not vouch for the key then: nobody would accept a signature.
    pub fn name<'a>(&self, bundle: &'a Bundle, at: Millis) -> Result<&'a str, ServiceError> {
        let public = self.key.verifying_key();
        bundle
            .message()
            .receipt_keys
            .iter()
            .find(|known| {
                known.key == public.as_bytes() && bundle.receipt_key(&known.name, at).is_ok()
            })
            .map(|known| known.name.as_str())
            .ok_or_else(|| {
                ServiceError::new(
                    Code::Unavailable,
                    RECEIPT_KEY_UNKNOWN,
                    "the trust bundle does not name this archive's receipt key now; publish one that does",
                )
            })
    }

    /// Signs a statement under a name from [`ReceiptKey::name`].
    pub fn sign<M: Statement>(&self, name: &str, message: M) -> Signed<M> {
        Signed::sign(message, &[(name, &self.key)])
    }
}

impl fmt::Debug for ReceiptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReceiptKey")
    }
}
