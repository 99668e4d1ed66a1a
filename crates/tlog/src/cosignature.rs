//! Cosignatures: a witness's dated word that a checkpoint continues all it has seen (C2SP tlog-cosignature, cosignature/v1).

use core::fmt;
use core::str::FromStr;

use greffe_types::Millis;

use crate::checkpoint::SignedCheckpoint;
use crate::key::{KeyError, KeyType, NamedKey, NamedSigner};
use crate::note::{NoteError, NoteSignature};

/// A witness's public key. C2SP wants it used for nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CosignerKey(NamedKey);

impl CosignerKey {
    /// From the witness's name and a raw Ed25519 public key.
    pub fn new(name: &str, key: &[u8; 32]) -> Result<Self, KeyError> {
        NamedKey::new(name, KeyType::Cosignature, key).map(Self)
    }

    /// The witness's name.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The raw public key.
    pub fn key(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The newest time at which this witness cosigned, to the second; none when it did not. A false line in its name
    /// spoils the checkpoint.
    pub fn newest(&self, checkpoint: &SignedCheckpoint) -> Result<Option<Millis>, NoteError> {
        let mut newest = None;
        for line in checkpoint.note().lines_of(&self.0) {
            let time = self.verify(checkpoint.note().text(), line).ok_or_else(|| {
                NoteError::Signature {
                    name: self.name().to_owned(),
                }
            })?;
            newest = newest.max(Some(time));
        }
        Ok(newest)
    }

    fn verify(&self, body: &str, line: &NoteSignature) -> Option<Millis> {
        let (time, signature) = line.bytes().split_first_chunk::<8>()?;
        let seconds = u64::from_be_bytes(*time);
        let in_range = seconds <= i64::MAX as u64;
        let valid = in_range && self.0.verify(&message(seconds, body), signature);
        valid.then(|| Millis::new(seconds.saturating_mul(1000)))
    }
}

impl FromStr for CosignerKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        NamedKey::parse(text, KeyType::Cosignature).map(Self)
    }
}

impl fmt::Display for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A witness's secret key. It signs whatever it is given: only [`Witness`](crate::Witness) knows the rules.
pub struct Cosigner(NamedSigner);

impl Cosigner {
    /// From the witness's name and the 32 bytes of an Ed25519 secret key, which the caller wipes.
    pub fn new(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        NamedSigner::new(name, KeyType::Cosignature, seed).map(Self)
    }

    /// The key that verifies what this one signs.
    pub fn key(&self) -> CosignerKey {
        CosignerKey(self.0.public().clone())
    }

    /// Cosigns as of `now`, cut to the second.
    pub(crate) fn cosign(&self, checkpoint: &SignedCheckpoint, now: Millis) -> NoteSignature {
        let seconds = now.get() / 1000;
        let signature = self.0.sign(&message(seconds, checkpoint.note().text()));
        let mut bytes = seconds.to_be_bytes().to_vec();
        bytes.extend_from_slice(&signature);
        NoteSignature::new(self.0.public(), bytes)
    }
}

impl fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cosigner({})", self.0.public())
    }
}

/// The header line keeps a cosignature from being any other signature.
fn message(seconds: u64, body: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {seconds}\n{body}").into_bytes()
}
