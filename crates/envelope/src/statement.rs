//! Signed statements: exact bytes beside strict Ed25519 signatures over their labelled digest.
//!
//! A signature of a statement of type `T` covers `LP("greffe/v1/" + T) || SHA-256(statement bytes)`. The bytes are
//! deterministic protobuf and stay as received: they are refused when decoding and encoding again gives other bytes.

use core::marker::PhantomData;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use greffe_types::Digest;
use prost::Message;

use crate::label::{label, sha256};
use crate::pb;

/// The only signature algorithm: strict Ed25519 (RFC 8032, small-order and non-canonical points refused).
pub const ALGORITHM_ED25519: u32 = 1;
/// Most bytes of a statement: 1 MiB.
pub const MAX_STATEMENT: usize = 1 << 20;
/// Most signatures beside a statement.
pub const MAX_SIGNATURES: usize = 64;

/// Why a statement was refused.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// Not protobuf of the message expected.
    #[error("the bytes are no message of type {0}")]
    Decode(&'static str, #[source] prost::DecodeError),
    /// Protobuf, but not the deterministic encoding (unknown fields, other order, explicit defaults).
    #[error("a message of type {0} is not deterministically encoded")]
    NotDeterministic(&'static str),
    /// The statement says it is of another type.
    #[error("a statement of type {expected} was expected, not {found:?}")]
    Type {
        /// Expected type.
        expected: &'static str,
        /// Type found, cut to 64 characters.
        found: String,
    },
    /// More than [`MAX_STATEMENT`] bytes or [`MAX_SIGNATURES`] signatures.
    #[error("a statement of type {0} is too large")]
    TooLarge(&'static str),
    /// Signatures are not sorted by signer, or a signer signed twice.
    #[error("the signatures of a {0} are not sorted and unique")]
    Unsorted(&'static str),
    /// No signature by a signer who had to sign.
    #[error("a {kind} is not signed by {signer:?}")]
    Missing {
        /// Type of the statement.
        kind: &'static str,
        /// Who had to sign.
        signer: String,
    },
    /// Another algorithm than [`ALGORITHM_ED25519`].
    #[error("signature algorithm {0} is not accepted")]
    Algorithm(u32),
    /// The signature does not verify.
    #[error("the signature by {0:?} does not verify")]
    Signature(String),
    /// Bytes are no Ed25519 public key, or a weak or non-canonical one.
    #[error("the Ed25519 key of {0:?} is malformed or weak")]
    Key(String),
}

/// A message that is signed, and the type its signatures are labelled with.
pub trait Statement: Message + Default {
    /// The type, such as `device-cert`.
    const TYPE: &'static str;
}

macro_rules! statements {
    ($($message:ident = $name:literal),* $(,)?) => {
        $(impl Statement for pb::$message { const TYPE: &'static str = $name; })*
    };
}

statements! {
    TrustBundle = "trust-bundle",
    DeviceCert = "device-cert",
    KeyRecord = "key-record",
    ShareEpoch = "share-epoch",
    Disclosure = "disclosure",
    Currency = "currency",
    Acknowledgement = "acknowledgement",
    Order = "order",
    Approval = "approval",
    Receipt = "receipt",
    Void = "void",
    RangeStatement = "range",
    KeygenDescriptor = "keygen-descriptor",
    ReshareDescriptor = "reshare-descriptor",
    CeremonyMessage = "keygen-message",
    PersonToken = "person-token",
    DeviceLogin = "device-login",
    PersonAct = "person-act",
    Report = "report",
    ProductionStatement = "production",
    ShareProof = "share-proof",
    KeyUnused = "key-unused",
    KeyRetirement = "key-retirement",
    ShareDestruction = "share-destruction",
}

/// A statement whose bytes were decoded strictly. Its signatures are not verified until [`Signed::verify`] says so.
#[derive(Clone, PartialEq)]
pub struct Signed<M> {
    raw: pb::SignedStatement,
    digest: Digest,
    message: M,
    kind: PhantomData<M>,
}

impl<M: Statement> Signed<M> {
    /// Encodes and signs a message by several signers; signatures are sorted by name.
    pub fn sign(message: M, signers: &[(&str, &SigningKey)]) -> Self {
        let statement = message.encode_to_vec();
        let digest = sha256(&statement);
        let mut raw = pb::SignedStatement {
            r#type: M::TYPE.to_owned(),
            statement,
            signatures: Vec::new(),
        };
        raw.signatures = signers
            .iter()
            .map(|(name, key)| signature::<M>(&digest, name, key))
            .collect();
        raw.signatures.sort_by(|a, b| a.signer.cmp(&b.signer));
        Self {
            raw,
            digest,
            message,
            kind: PhantomData,
        }
    }

    /// Adds one signature, replacing an earlier one by the same signer.
    pub fn add_signature(&mut self, signer: &str, key: &SigningKey) {
        let signature = signature::<M>(&self.digest, signer, key);
        self.raw.signatures.retain(|s| s.signer != signer);
        self.raw.signatures.push(signature);
        self.raw.signatures.sort_by(|a, b| a.signer.cmp(&b.signer));
    }

    /// Takes a statement in: checks type, sizes, strict encoding and the order of the signatures, none of which is
    /// verified yet.
    ///
    /// # Errors
    /// [`StatementError`].
    pub fn decode(raw: pb::SignedStatement) -> Result<Self, StatementError> {
        if raw.r#type != M::TYPE {
            return Err(StatementError::Type {
                expected: M::TYPE,
                found: raw.r#type.chars().take(64).collect(),
            });
        }
        if raw.statement.len() > MAX_STATEMENT || raw.signatures.len() > MAX_SIGNATURES {
            return Err(StatementError::TooLarge(M::TYPE));
        }
        if !raw.signatures.is_sorted_by(|a, b| a.signer < b.signer) {
            return Err(StatementError::Unsorted(M::TYPE));
        }
        let message = decode_strict::<M>(M::TYPE, &raw.statement)?;
        Ok(Self {
            digest: sha256(&raw.statement),
            raw,
            message,
            kind: PhantomData,
        })
    }

    /// As [`Signed::decode`], from the protobuf bytes of a `SignedStatement`, which are strict too.
    ///
    /// # Errors
    /// [`StatementError`].
    pub fn decode_bytes(bytes: &[u8]) -> Result<Self, StatementError> {
        Self::decode(decode_strict("signed-statement", bytes)?)
    }

    /// Verifies the signature of one signer under a key.
    ///
    /// # Errors
    /// [`StatementError::Missing`], [`StatementError::Algorithm`], [`StatementError::Key`],
    /// [`StatementError::Signature`].
    pub fn verify(&self, signer: &str, key: &[u8]) -> Result<(), StatementError> {
        let found = self
            .raw
            .signatures
            .iter()
            .find(|s| s.signer == signer)
            .ok_or_else(|| StatementError::Missing {
                kind: M::TYPE,
                signer: signer.to_owned(),
            })?;
        if found.algorithm != ALGORITHM_ED25519 {
            return Err(StatementError::Algorithm(found.algorithm));
        }
        verify_strict(
            signer,
            key,
            &signed_bytes(M::TYPE, &self.digest),
            &found.signature,
        )
    }

    /// SHA-256 of the statement's bytes.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The message.
    pub const fn message(&self) -> &M {
        &self.message
    }

    /// The statement as it travels.
    pub const fn raw(&self) -> &pb::SignedStatement {
        &self.raw
    }

    /// The statement as it travels, owned.
    pub fn into_raw(self) -> pb::SignedStatement {
        self.raw
    }

    /// The exact bytes that were signed.
    pub fn bytes(&self) -> &[u8] {
        &self.raw.statement
    }

    /// Names of those whose signature stands beside it, verified or not.
    pub fn signers(&self) -> impl Iterator<Item = &str> {
        self.raw.signatures.iter().map(|s| s.signer.as_str())
    }
}

impl<M> core::ops::Deref for Signed<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.message
    }
}

impl<M: core::fmt::Debug> core::fmt::Debug for Signed<M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Signed")
            .field("digest", &self.digest)
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

/// Decodes protobuf and refuses it unless encoding again gives the same bytes.
///
/// # Errors
/// [`StatementError::Decode`], [`StatementError::NotDeterministic`].
pub fn decode_strict<M: Message + Default>(
    what: &'static str,
    bytes: &[u8],
) -> Result<M, StatementError> {
    let message = M::decode(bytes).map_err(|e| StatementError::Decode(what, e))?;
    if message.encode_to_vec() == bytes {
        Ok(message)
    } else {
        Err(StatementError::NotDeterministic(what))
    }
}

/// What a signature of a statement covers: `LP("greffe/v1/" + type) || digest`.
pub fn signed_bytes(kind: &str, digest: &Digest) -> Vec<u8> {
    let mut bytes = label(kind);
    bytes.extend_from_slice(digest.as_bytes());
    bytes
}

/// Strict Ed25519 over bytes as they are; `signer` only names the key in errors.
///
/// # Errors
/// [`StatementError::Key`], [`StatementError::Signature`].
pub fn verify_strict(
    signer: &str,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), StatementError> {
    let key = public_key(signer, key)?;
    let signature = ed25519_dalek::Signature::from_slice(signature)
        .map_err(|_| StatementError::Signature(signer.to_owned()))?;
    key.verify_strict(message, &signature)
        .map_err(|_| StatementError::Signature(signer.to_owned()))
}

/// Reads an Ed25519 public key; refuses small-order points and coordinates not below 2^255 - 19.
///
/// # Errors
/// [`StatementError::Key`].
pub fn public_key(signer: &str, key: &[u8]) -> Result<VerifyingKey, StatementError> {
    let refused = || StatementError::Key(signer.to_owned());
    let bytes: &[u8; 32] = key.try_into().map_err(|_| refused())?;
    let not_reduced =
        bytes[0] >= 0xed && bytes[1..31].iter().all(|b| *b == 0xff) && bytes[31] & 0x7f == 0x7f;
    let key = VerifyingKey::from_bytes(bytes).map_err(|_| refused())?;
    if not_reduced || key.is_weak() {
        return Err(refused());
    }
    Ok(key)
}

fn signature<M: Statement>(digest: &Digest, signer: &str, key: &SigningKey) -> pb::Signature {
    pb::Signature {
        signer: signer.to_owned(),
        algorithm: ALGORITHM_ED25519,
        signature: key.sign(&signed_bytes(M::TYPE, digest)).to_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    fn cert() -> pb::DeviceCert {
        pb::DeviceCert {
            tenant: "acme".into(),
            user: "alice".into(),
            device: vec![1; 16],
            ..Default::default()
        }
    }

    #[test]
    fn a_statement_verifies_for_its_signer_and_type_only() {
        let (a, b) = (
            SigningKey::from_bytes(&[1; 32]),
            SigningKey::from_bytes(&[2; 32]),
        );
        let signed = Signed::sign(cert(), &[("root", &b), ("issuer", &a)]);
        let back = Signed::<pb::DeviceCert>::decode(signed.raw().clone()).unwrap();
        assert_eq!(back, signed);
        assert_eq!(back.signers().collect::<Vec<_>>(), ["issuer", "root"]);
        let key = a.verifying_key().to_bytes();
        back.verify("issuer", &key).unwrap();
        assert!(matches!(
            back.verify("root", &key),
            Err(StatementError::Signature(_))
        ));
        assert!(matches!(
            back.verify("else", &key),
            Err(StatementError::Missing { .. })
        ));
        let mut other = signed.into_raw();
        other.r#type = "receipt".into();
        assert!(matches!(
            Signed::<pb::DeviceCert>::decode(other.clone()),
            Err(StatementError::Type { .. })
        ));
        // The same bytes under another label are another statement.
        other.statement.clear();
        let receipt = Signed::<pb::Receipt>::decode(other).unwrap();
        assert!(receipt.verify("issuer", &key).is_err());
    }

    #[test]
    fn loose_encodings_are_refused() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let good = Signed::sign(cert(), &[("issuer", &key)]).into_raw();
        let decode = Signed::<pb::DeviceCert>::decode;
        let mut unknown = good.clone();
        unknown.statement.extend_from_slice(&[0xf8, 0x01, 0x01]);
        assert!(matches!(
            decode(unknown),
            Err(StatementError::NotDeterministic(_))
        ));
        let mut explicit_default = good.clone();
        explicit_default.statement.extend_from_slice(&[0x30, 0x00]);
        assert!(matches!(
            decode(explicit_default),
            Err(StatementError::NotDeterministic(_))
        ));
        let mut twice = good.clone();
        twice.signatures.push(good.signatures[0].clone());
        assert!(matches!(decode(twice), Err(StatementError::Unsorted(_))));
        let mut garbage = good.clone();
        garbage.statement = vec![0xff];
        assert!(matches!(decode(garbage), Err(StatementError::Decode(..))));
        let mut algorithm = good;
        algorithm.signatures[0].algorithm = 2;
        let signed = decode(algorithm).unwrap();
        assert!(matches!(
            signed.verify("issuer", key.verifying_key().as_bytes()),
            Err(StatementError::Algorithm(2))
        ));
    }

    #[test]
    fn weak_and_non_canonical_keys_are_refused() {
        let small_order = [
            hex!("0100000000000000000000000000000000000000000000000000000000000000"),
            hex!("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
            hex!("0000000000000000000000000000000000000000000000000000000000000000"),
            hex!("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
        ];
        for key in small_order {
            assert!(matches!(public_key("x", &key), Err(StatementError::Key(_))));
        }
        // y = 3 written as p + 3: a point of large order in a second form.
        let mut y3 = [0_u8; 32];
        y3[0] = 3;
        assert!(public_key("x", &y3).is_ok());
        let second = hex!("f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
        assert!(matches!(
            public_key("x", &second),
            Err(StatementError::Key(_))
        ));
        assert!(public_key("x", &[1; 31]).is_err());
    }

    #[test]
    fn ed25519_agrees_with_rfc_8032_test_2() {
        let key = SigningKey::from_bytes(&hex!(
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
        ));
        let signature = hex!(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
        assert_eq!(key.sign(&[0x72]).to_bytes(), signature);
        let public = key.verifying_key().to_bytes();
        verify_strict("rfc", &public, &[0x72], &signature).unwrap();
        assert!(verify_strict("rfc", &public, &[0x73], &signature).is_err());
        assert!(verify_strict("rfc", &public, &[0x72], &signature[..63]).is_err());
    }
}
