//! From a seed to every key of a message.
//!
//! ```text
//! core             = H("core" || LP tenant || conversation || message || device)
//! prk              = HKDF-Extract("greffe/v1/seed", seed)
//! cek              = Expand(prk, "cek" || core, 32)
//! seed_commitment  = Expand(prk, "seed-commit" || core, 32)
//! attachment_key_i = Expand(cek, "attachment" || core || be32 i || H(padded attachment), 32)
//! content_key || commitment = Expand(cek, "content" || hd, 64)
//! ```

use greffe_types::{ConversationId, DeviceId, Digest, MessageId};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::label::{Prk, SEED_SALT, hash, lp};

/// A message's seed: 32 fresh bytes for every attempt to send. Travels inside MLS only.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; 32]);

/// A message's content-encryption key: what a wrap holds and a reader gets.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Cek([u8; 32]);

/// A key of one STREAM; used for one plaintext only.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct StreamKey([u8; 32]);

macro_rules! secret {
    ($($name:ident),*) => { $(
        impl $name {
            /// From its bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.ct_eq(&other.0).into()
            }
        }

        impl Eq for $name {}
    )* };
}

secret!(Seed, Cek, StreamKey);

impl Seed {
    /// Fresh from the operating system.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut seed = Self([0; 32]);
        getrandom::fill(&mut seed.0)?;
        Ok(seed)
    }
}

/// What ties every key of a message to where it belongs. The tenant is the device certificate's.
pub fn core(
    tenant: &str,
    conversation: &ConversationId,
    message: &MessageId,
    device: &DeviceId,
) -> Digest {
    hash(
        "core",
        &[
            &lp(tenant.as_bytes()),
            conversation.as_bytes(),
            message.as_bytes(),
            device.as_bytes(),
        ],
    )
}

/// A seed at its place: what sender and recipients derive from.
#[derive(Clone, Debug)]
pub struct SeedKeys {
    prk: Prk,
    core: Digest,
}

impl SeedKeys {
    /// Extracts.
    pub fn new(seed: &Seed, core: &Digest) -> Self {
        Self {
            prk: Prk::extract(SEED_SALT, seed.as_bytes()),
            core: *core,
        }
    }

    /// The core it belongs to.
    pub const fn core(&self) -> &Digest {
        &self.core
    }

    /// The content-encryption key.
    pub fn cek(&self) -> Cek {
        Cek(*self.prk.expand::<32>("cek", &[self.core.as_bytes()]))
    }

    /// The commitment to the seed, which stands in the body.
    pub fn commitment(&self) -> Digest {
        Digest::new(
            *self
                .prk
                .expand::<32>("seed-commit", &[self.core.as_bytes()]),
        )
    }

    /// The randomness of a wrap: `Expand(prk, "wrap" || rd || LP tenant || key_id, 32)`.
    pub(crate) fn wrap_seed(
        &self,
        rd: &Digest,
        tenant: &str,
        key_id: &Digest,
    ) -> Zeroizing<[u8; 32]> {
        let tenant = lp(tenant.as_bytes());
        self.prk
            .expand("wrap", &[rd.as_bytes(), &tenant, key_id.as_bytes()])
    }

    /// The nonce of a proof: 48 bytes of `Expand(prk, "tdh2-k" || L)`.
    pub(crate) fn proof_nonce(&self, statement: &Digest) -> Zeroizing<[u8; 48]> {
        self.prk.expand("tdh2-k", &[statement.as_bytes()])
    }
}

impl Cek {
    /// The key of attachment `index` (from 0), bound to `H(padded attachment)`.
    pub fn attachment_key(&self, core: &Digest, index: u32, padded: &Digest) -> StreamKey {
        StreamKey(*Prk::from_key(&self.0).expand::<32>(
            "attachment",
            &[core.as_bytes(), &index.to_be_bytes(), padded.as_bytes()],
        ))
    }

    /// The content's key and the commitment that stands in the body; `hd` is the header digest.
    pub fn content(&self, hd: &Digest) -> (StreamKey, Digest) {
        let both = Prk::from_key(&self.0).expand::<64>("content", &[hd.as_bytes()]);
        let mut key = StreamKey([0; 32]);
        let mut commitment = [0; 32];
        key.0.copy_from_slice(&both[..32]);
        commitment.copy_from_slice(&both[32..]);
        (key, Digest::new(commitment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_input_of_core_counts() {
        let (c, m, d) = (
            ConversationId::new([1; 16]),
            MessageId::new([2; 16]),
            DeviceId::new([3; 16]),
        );
        let base = core("acme", &c, &m, &d);
        assert_ne!(base, core("acm", &c, &m, &d));
        assert_ne!(base, core("acme", &ConversationId::new([9; 16]), &m, &d));
        assert_ne!(base, core("acme", &c, &MessageId::new([9; 16]), &d));
        assert_ne!(base, core("acme", &c, &m, &DeviceId::new([9; 16])));
    }

    #[test]
    fn secrets_do_not_print_and_seeds_differ() {
        let seed = Seed::from_bytes([0x41; 32]);
        assert_eq!(format!("{seed:?}"), "Seed(..)");
        let keys = SeedKeys::new(&seed, &Digest::ZERO);
        assert!(!format!("{keys:?}{:?}", keys.cek()).contains("65"));
        assert_ne!(Seed::random().unwrap(), Seed::random().unwrap());
        assert_ne!(keys.cek().as_bytes(), keys.commitment().as_bytes());
    }
}
