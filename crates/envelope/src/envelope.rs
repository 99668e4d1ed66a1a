//! The sealed envelope: strict header and body, their digests, the signature.
//!
//! ```text
//! hd              = H("header" || header bytes)
//! rd              = H("record" || hd || H(ct) || commitment || seed_commitment)
//! envelope digest = H("envelope" || body bytes)
//! signature       = strict Ed25519 by the device's envelope key over LP("greffe/v1/sign") || envelope digest
//! ```
//!
//! Bytes stay as received; a [`Header`] or [`Envelope`] exists only when its bytes are deterministic protobuf within every
//! limit. Wraps travel beside the body, so header and signature stay verifiable after the wraps are destroyed.

mod header;

use ed25519_dalek::{Signer as _, SigningKey};
use greffe_types::Digest;
use prost::Message as _;

pub use header::{Header, HeaderError};

use crate::label::{hash, label};
use crate::limits::{MAX_BODY, MAX_CONTENT};
use crate::padding::{is_padded_len, padded_len};
use crate::pb;
use crate::statement::{StatementError, decode_strict, verify_strict};
use crate::stream::plaintext_len;

/// Why an envelope was refused.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Longer than [`MAX_BODY`].
    #[error("the envelope's body is too large")]
    TooLarge,
    /// Not deterministic protobuf, or a signature that does not verify.
    #[error("the envelope's encoding or signature is refused")]
    Statement(#[from] StatementError),
    /// The header.
    #[error("the envelope's header is refused")]
    Header(#[from] HeaderError),
    /// A field of the body is malformed.
    #[error("the field {0} of the envelope's body is malformed")]
    Field(&'static str),
    /// The wraps named by the body are not sorted and unique, or not those of the header's keys.
    #[error("the wraps in the envelope's body are not those of the header's keys")]
    Wraps,
}

/// An envelope without its wraps and ciphertext. Its signature is not verified until
/// [`Envelope::verify_signature`] says so.
#[derive(Clone)]
pub struct Envelope {
    raw: pb::SealedEnvelope,
    body: pb::EnvelopeBody,
    header: Header,
    digest: Digest,
    record_digest: Digest,
}

impl Envelope {
    /// Takes an envelope in: strict encoding, limits, consistency of header and body.
    ///
    /// # Errors
    /// [`EnvelopeError`].
    pub fn decode(raw: pb::SealedEnvelope) -> Result<Self, EnvelopeError> {
        if raw.body.len() > MAX_BODY {
            return Err(EnvelopeError::TooLarge);
        }
        if raw.signature.len() != 64 {
            return Err(EnvelopeError::Field("signature"));
        }
        let body: pb::EnvelopeBody = decode_strict("envelope-body", &raw.body)?;
        let header = Header::decode(&body.header)?;
        let ct = digest_field("ciphertext_digest", &body.ciphertext_digest)?;
        let commitment = digest_field("commitment", &body.commitment)?;
        let seed_commitment = digest_field("seed_commitment", &body.seed_commitment)?;
        if !is_content_size(body.ciphertext_size) {
            return Err(EnvelopeError::Field("ciphertext_size"));
        }
        check_wraps(&header, &body.wraps)?;
        Ok(Self {
            digest: envelope_digest(&raw.body),
            record_digest: record_digest(&header.digest(), &ct, &commitment, &seed_commitment),
            raw,
            body,
            header,
        })
    }

    /// Signs a body.
    ///
    /// # Errors
    /// [`EnvelopeError`], as [`Envelope::decode`]: nothing is made that would be refused.
    pub fn sign(body: &pb::EnvelopeBody, key: &SigningKey) -> Result<Self, EnvelopeError> {
        let body = body.encode_to_vec();
        let signature = key.sign(&signed_bytes(&envelope_digest(&body)));
        Self::decode(pb::SealedEnvelope {
            body,
            signature: signature.to_bytes().to_vec(),
        })
    }

    /// Verifies the signature under a certificate's envelope key.
    ///
    /// # Errors
    /// [`StatementError::Key`], [`StatementError::Signature`].
    pub fn verify_signature(&self, envelope_key: &[u8]) -> Result<(), StatementError> {
        verify_strict(
            &self.header.message().sender_user,
            envelope_key,
            &signed_bytes(&self.digest),
            &self.raw.signature,
        )
    }

    /// The envelope as it travels.
    pub const fn raw(&self) -> &pb::SealedEnvelope {
        &self.raw
    }

    /// The envelope as it travels, owned.
    pub fn into_raw(self) -> pb::SealedEnvelope {
        self.raw
    }

    /// The header.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The body's fields.
    pub const fn body(&self) -> &pb::EnvelopeBody {
        &self.body
    }

    /// The envelope digest: the record's name everywhere.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// `rd`, which wraps and proofs are bound to.
    pub const fn record_digest(&self) -> Digest {
        self.record_digest
    }

    /// `H(ct)`.
    pub fn ciphertext_digest(&self) -> Digest {
        known(&self.body.ciphertext_digest)
    }

    /// The content key's commitment.
    pub fn commitment(&self) -> Digest {
        known(&self.body.commitment)
    }

    /// The seed's commitment.
    pub fn seed_commitment(&self) -> Digest {
        known(&self.body.seed_commitment)
    }
}

impl core::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Envelope({})", self.digest)
    }
}

/// `H("envelope" || body)`.
pub fn envelope_digest(body: &[u8]) -> Digest {
    hash("envelope", &[body])
}

/// `rd = H("record" || hd || H(ct) || commitment || seed_commitment)`.
pub fn record_digest(
    hd: &Digest,
    ct: &Digest,
    commitment: &Digest,
    seed_commitment: &Digest,
) -> Digest {
    hash(
        "record",
        &[
            hd.as_bytes(),
            ct.as_bytes(),
            commitment.as_bytes(),
            seed_commitment.as_bytes(),
        ],
    )
}

/// What the signature covers.
fn signed_bytes(digest: &Digest) -> Vec<u8> {
    let mut bytes = label("sign");
    bytes.extend_from_slice(digest.as_bytes());
    bytes
}

/// Whether a ciphertext of this size can hold a padded content within the limit.
fn is_content_size(size: u64) -> bool {
    plaintext_len(size)
        .is_some_and(|plain| is_padded_len(plain) && plain <= padded_len(MAX_CONTENT))
}

/// One wrap for each of the header's keys, sorted by tenant and key.
fn check_wraps(header: &Header, wraps: &[pb::WrapRef]) -> Result<(), EnvelopeError> {
    let message = header.message();
    if !wraps.is_sorted_by(|a, b| (&a.tenant, &a.key_id) < (&b.tenant, &b.key_id)) {
        return Err(EnvelopeError::Wraps);
    }
    let mut keys: Vec<&Vec<u8>> = wraps.iter().map(|wrap| &wrap.key_id).collect();
    keys.sort();
    if !keys.into_iter().eq(&message.key_ids) {
        return Err(EnvelopeError::Wraps);
    }
    for wrap in wraps {
        if !message.tenants.contains(&wrap.tenant) {
            return Err(EnvelopeError::Wraps);
        }
        digest_field("wraps.digest", &wrap.digest)?;
    }
    Ok(())
}

fn digest_field(field: &'static str, bytes: &[u8]) -> Result<Digest, EnvelopeError> {
    Digest::try_from(bytes).map_err(|_| EnvelopeError::Field(field))
}

/// A field whose length was checked on the way in.
fn known(bytes: &[u8]) -> Digest {
    Digest::try_from(bytes).expect("the length was checked when the envelope was decoded")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::sha256;

    fn body(header: &pb::Header) -> pb::EnvelopeBody {
        pb::EnvelopeBody {
            header: header.encode_to_vec(),
            ciphertext_digest: vec![1; 32],
            ciphertext_size: 16 + 104,
            commitment: vec![2; 32],
            seed_commitment: vec![3; 32],
            wraps: header
                .key_ids
                .iter()
                .map(|key_id| pb::WrapRef {
                    tenant: "acme".into(),
                    key_id: key_id.clone(),
                    digest: vec![4; 32],
                })
                .collect(),
        }
    }

    fn refused(change: impl FnOnce(&mut pb::EnvelopeBody)) -> EnvelopeError {
        let mut body = body(&header::tests::header());
        change(&mut body);
        Envelope::sign(&body, &SigningKey::from_bytes(&[1; 32])).unwrap_err()
    }

    #[test]
    fn an_envelope_verifies_under_its_key_only() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let envelope = Envelope::sign(&body(&header::tests::header()), &key).unwrap();
        envelope
            .verify_signature(key.verifying_key().as_bytes())
            .unwrap();
        let other = SigningKey::from_bytes(&[2; 32]).verifying_key();
        assert!(envelope.verify_signature(other.as_bytes()).is_err());
        let back = Envelope::decode(envelope.raw().clone()).unwrap();
        assert_eq!(back.digest(), envelope.digest());
        assert_ne!(back.digest(), sha256(&envelope.raw().body));
        assert_ne!(back.digest(), back.record_digest());
    }

    #[test]
    fn malformed_bodies_are_refused() {
        use EnvelopeError::{Field, TooLarge, Wraps};
        assert!(matches!(
            refused(|b| b.commitment.push(0)),
            Field("commitment")
        ));
        assert!(matches!(
            refused(|b| b.seed_commitment.clear()),
            Field("seed_commitment")
        ));
        assert!(matches!(
            refused(|b| b.ciphertext_digest.clear()),
            Field("ciphertext_digest")
        ));
        // 9 + 8 bytes are never a padded length; neither is a stream of 10 bytes.
        assert!(matches!(
            refused(|b| b.ciphertext_size = 16 + 17),
            Field("ciphertext_size")
        ));
        assert!(matches!(
            refused(|b| b.ciphertext_size = 10),
            Field("ciphertext_size")
        ));
        assert!(matches!(
            refused(|b| b.ciphertext_size = 1 << 30),
            Field("ciphertext_size")
        ));
        assert!(matches!(refused(|b| b.wraps.reverse()), Wraps));
        assert!(matches!(refused(|b| b.wraps.truncate(1)), Wraps));
        assert!(matches!(
            refused(|b| b.wraps[0].tenant = "zzz".into()),
            Wraps
        ));
        assert!(matches!(
            refused(|b| b.wraps[1] = b.wraps[0].clone()),
            Wraps
        ));
        assert!(matches!(
            refused(|b| b.wraps[0].digest.clear()),
            Field("wraps.digest")
        ));
        assert!(matches!(
            refused(|b| b.header = vec![0; MAX_BODY]),
            TooLarge
        ));
        assert!(matches!(
            refused(|b| b.header.push(0)),
            EnvelopeError::Header(_)
        ));
    }
}
