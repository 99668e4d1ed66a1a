//! A person who acts: auditor, approver, legal, records manager, reader. Their keys are files of their own, and everything
//! they ask for carries their signature.

use core::fmt;
use core::time::Duration;
use std::path::Path;

use ed25519_dalek::SigningKey;
use greffe_envelope::opening::HybridSecretKey;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_types::{Millis, TenantId};
use prost::Message as _;

use crate::client::random;
use crate::error::{ClientError, Result};
use crate::secrets::{read_secret, write_secret};

/// File of the key that signs acts.
pub const SIGNING_FILE: &str = "signing.key";
/// File of the key that opened records are encrypted to.
pub const READER_FILE: &str = "reader.key";
/// How far the services' clocks may be behind ours.
const SKEW: Duration = Duration::from_secs(60);
/// How long a token is good.
const TOKEN_LIFE: Duration = Duration::from_secs(600);

/// A person with their keys.
#[derive(Clone)]
pub struct Person {
    name: String,
    signing: SigningKey,
    reader: Option<HybridSecretKey>,
}

impl Person {
    /// Makes keys, and a reader key too when asked for, in a folder that has none yet.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn generate(folder: &Path, name: &str, reader: bool) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|source| ClientError::Io {
            operation: "create the folder",
            name: folder.display().to_string(),
            source,
        })?;
        write_secret(&folder.join(SIGNING_FILE), &random()?)?;
        if reader {
            write_secret(&folder.join(READER_FILE), &random()?)?;
        }
        Self::load(folder, name)
    }

    /// From the key files of a folder; the reader key only when there is one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn load(folder: &Path, name: &str) -> Result<Self> {
        let signing = read_secret(&folder.join(SIGNING_FILE))?;
        let path = folder.join(READER_FILE);
        let reader = if path.exists() {
            Some(HybridSecretKey::from_seed(&*read_secret(&path)?))
        } else {
            None
        };
        Ok(Self::new(name, SigningKey::from_bytes(&signing), reader))
    }

    /// From keys at hand.
    pub fn new(name: &str, signing: SigningKey, reader: Option<HybridSecretKey>) -> Self {
        Self {
            name: name.to_owned(),
            signing,
            reader,
        }
    }

    /// The name in the roster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public key for the roster.
    pub fn signing_public(&self) -> [u8; 32] {
        self.signing.verifying_key().to_bytes()
    }

    /// The reader's public key for the roster; empty when there is none.
    pub fn reader_public(&self) -> Vec<u8> {
        self.reader
            .as_ref()
            .map_or_else(Vec::new, HybridSecretKey::public_key)
    }

    pub(crate) fn reader(&self) -> Result<&HybridSecretKey> {
        self.reader.as_ref().ok_or_else(|| {
            ClientError::refused(
                "READER_KEY_MISSING",
                format!(
                    "{} has no {READER_FILE}: open the order as its reader",
                    self.name
                ),
            )
        })
    }

    pub(crate) fn sign<M: greffe_envelope::statement::Statement>(&self, message: M) -> Signed<M> {
        Signed::sign(message, &[(&self.name, &self.signing)])
    }

    /// A token for reading from a service, as metadata carries it.
    pub(crate) fn token(&self, tenant: &TenantId, audience: &str, now: Millis) -> Result<Vec<u8>> {
        let token = pb::PersonToken {
            tenant: tenant.to_string(),
            person: self.name.clone(),
            audience: audience.to_owned(),
            not_before: now.minus(SKEW).get(),
            expiry: now.plus(TOKEN_LIFE).get(),
            nonce: random::<16>()?.to_vec(),
        };
        Ok(self.sign(token).raw().encode_to_vec())
    }

    /// Signs an act, or a second person's consent to it: the same action and the same bytes.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn sign_act(
        &self,
        tenant: &TenantId,
        action: &str,
        act: &[u8],
        now: Millis,
    ) -> Result<pb::SignedStatement> {
        let act = pb::PersonAct {
            tenant: tenant.to_string(),
            person: self.name.clone(),
            action: action.to_owned(),
            act: act.to_vec(),
            at: now.get(),
            nonce: random::<16>()?.to_vec(),
        };
        Ok(self.sign(act).into_raw())
    }
}

impl fmt::Debug for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Person({:?})", self.name)
    }
}
