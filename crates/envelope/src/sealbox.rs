//! Secrets at rest: AES-256-GCM whose associated data binds where a value lies, so that no ciphertext can be moved to
//! another table, row or column.
//!
//! ```text
//! sealed = 0x01 || nonce (12, random) || ciphertext || tag (16)
//! key    = Expand(master, "sealbox" || LP table, 32)
//! ad     = "sealbox-ad" || LP table || LP row || LP column
//! ```
//!
//! Random nonces are safe for 2^32 values a table and master key (NIST SP 800-38D 8.3).

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::label::{Prk, label, push_lp};

/// First byte of everything sealed.
const VERSION: u8 = 0x01;
/// Bytes a value grows by.
pub const OVERHEAD: usize = 1 + 12 + 16;

/// Why a value could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealboxError {
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system")]
    Randomness(#[source] getrandom::Error),
    /// More than 64 GiB.
    #[error("the value is too large")]
    TooLarge,
    /// Altered, moved, or sealed under another key.
    #[error("the sealed value does not open here")]
    Open,
}

/// Where a value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Table.
    pub table: &'a str,
    /// The row's key, as bytes.
    pub row: &'a [u8],
    /// Column.
    pub column: &'a str,
}

/// A master key for secrets at rest.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SealKey([u8; 32]);

impl SealKey {
    /// From 32 uniform bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Fresh from the operating system.
    ///
    /// # Errors
    /// [`SealboxError::Randomness`].
    pub fn random() -> Result<Self, SealboxError> {
        let mut key = Self([0; 32]);
        getrandom::fill(&mut key.0).map_err(SealboxError::Randomness)?;
        Ok(key)
    }

    /// Its bytes, for the file it is kept in.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Seals a value at its place.
    ///
    /// # Errors
    /// [`SealboxError::Randomness`], [`SealboxError::TooLarge`].
    pub fn seal(&self, place: &Place<'_>, plain: &[u8]) -> Result<Vec<u8>, SealboxError> {
        let mut nonce = [0_u8; 12];
        getrandom::fill(&mut nonce).map_err(SealboxError::Randomness)?;
        let payload = Payload {
            msg: plain,
            aad: &associated(place),
        };
        let sealed = self
            .cipher(place)
            .encrypt(&nonce.into(), payload)
            .map_err(|_| SealboxError::TooLarge)?;
        Ok([&[VERSION], nonce.as_slice(), &sealed].concat())
    }

    /// Opens a value at its place.
    ///
    /// # Errors
    /// [`SealboxError::Open`].
    pub fn open(
        &self,
        place: &Place<'_>,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealboxError> {
        let (version, rest) = sealed.split_first().ok_or(SealboxError::Open)?;
        let (nonce, msg) = rest.split_first_chunk::<12>().ok_or(SealboxError::Open)?;
        if *version != VERSION {
            return Err(SealboxError::Open);
        }
        let payload = Payload {
            msg,
            aad: &associated(place),
        };
        self.cipher(place)
            .decrypt(&(*nonce).into(), payload)
            .map(Zeroizing::new)
            .map_err(|_| SealboxError::Open)
    }

    fn cipher(&self, place: &Place<'_>) -> Aes256Gcm {
        let mut table = Vec::new();
        push_lp(&mut table, place.table.as_bytes());
        let key = Prk::from_key(&self.0).expand::<32>("sealbox", &[&table]);
        Aes256Gcm::new((&*key).into())
    }
}

impl core::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SealKey(..)")
    }
}

fn associated(place: &Place<'_>) -> Vec<u8> {
    let mut bytes = label("sealbox-ad");
    push_lp(&mut bytes, place.table.as_bytes());
    push_lp(&mut bytes, place.row);
    push_lp(&mut bytes, place.column.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_at_its_place_only() {
        let key = SealKey::from_bytes([1; 32]);
        let place = Place {
            table: "shares",
            row: b"1",
            column: "scalar",
        };
        let sealed = key.seal(&place, b"secret").unwrap();
        assert_eq!(sealed.len(), 6 + OVERHEAD);
        assert_eq!(key.open(&place, &sealed).unwrap().as_slice(), b"secret");
        assert_ne!(key.seal(&place, b"secret").unwrap(), sealed);
        for other in [
            Place {
                table: "share",
                ..place
            },
            Place { row: b"2", ..place },
            Place {
                column: "seed",
                ..place
            },
            // The same letters cut elsewhere.
            Place {
                table: "shares1",
                row: b"",
                ..place
            },
        ] {
            assert!(matches!(key.open(&other, &sealed), Err(SealboxError::Open)));
        }
        assert!(SealKey::from_bytes([2; 32]).open(&place, &sealed).is_err());
        for i in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[i] ^= 1;
            assert!(key.open(&place, &bad).is_err(), "byte {i}");
            assert!(key.open(&place, &sealed[..i]).is_err());
        }
        assert_eq!(format!("{key:?}"), "SealKey(..)");
        assert_ne!(
            SealKey::random().unwrap().as_bytes(),
            SealKey::random().unwrap().as_bytes()
        );
    }
}
