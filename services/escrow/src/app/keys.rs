//! The node's own name and keys, unsealed at start.

use core::fmt;

use ed25519_dalek::SigningKey;
use greffe_envelope::ceremony::NodeIdentity;
use greffe_envelope::opening::HybridSecretKey;
use greffe_envelope::sealbox::SealKey;
use greffe_service_kit::secrets::{Secrets, SecretsError};

/// What the node signs, opens and seals with. Its witness key is the witness's alone.
pub struct Keys {
    identity: NodeIdentity,
    seal: SealKey,
}

impl Keys {
    /// From the node's secrets.
    ///
    /// # Errors
    /// When one is missing or does not open.
    pub fn load(name: &str, secrets: &Secrets) -> Result<Self, SecretsError> {
        Ok(Self {
            identity: NodeIdentity {
                name: name.to_owned(),
                signing_key: SigningKey::from_bytes(&*secrets.seed("signing_key")?),
                channel_key: HybridSecretKey::from_seed(&*secrets.seed("channel_key")?),
            },
            seal: secrets.seal_key().clone(),
        })
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Name and keys, as a ceremony wants them.
    pub const fn identity(&self) -> &NodeIdentity {
        &self.identity
    }

    /// Signs answers, currency, ceremony messages.
    pub const fn signing(&self) -> &SigningKey {
        &self.identity.signing_key
    }

    /// Seals shares at rest.
    pub const fn seal(&self) -> &SealKey {
        &self.seal
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.name())
    }
}
