//! A node's answer for one record: partial opening and ML-KEM secret, signed by the node, sealed to the reader.

use ed25519_dalek::{Signer as _, SigningKey};
use greffe_types::Digest;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::hybrid::{
    ENCAPSULATION_SIZE, HybridError, HybridPublicKey, HybridSecretKey, KEM_CIPHERTEXT_SIZE,
};
use super::partial::{Partial, PartialError, PartialStatement, answer_partial};
use crate::ceremony::{NodeShare, PointBytes};
use crate::curve::{CurveError, Point};
use crate::label::{label, lp, push_lp, sha256};
use crate::statement::{StatementError, signed_bytes, verify_strict};

/// Bytes of an answer's plaintext: share epoch (32) ‖ be16 index ‖ D_i (33) ‖ c (32) ‖ z (32) ‖ ss_mlkem (32) ‖
/// signature (64).
pub const ANSWER_SIZE: usize = SIGNED_SIZE + 64;
const PARTIAL_AT: usize = 34;
const SECRET_AT: usize = PARTIAL_AT + Partial::SIZE;
const SIGNED_SIZE: usize = SECRET_AT + 32;

/// Why an answer could not be made, or was refused.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The answer could not be sealed to the reader, or the reader cannot open it.
    #[error("the answer cannot be sealed or opened")]
    Hybrid(#[source] HybridError),
    /// The encapsulation's P-256 half is malformed.
    #[error("the wrap's encapsulation is malformed")]
    Encapsulation(#[source] CurveError),
    /// The partial opening could not be made, or does not verify.
    #[error("the partial opening is wrong")]
    Partial(#[source] PartialError),
    /// The plaintext has another length than [`ANSWER_SIZE`].
    #[error("the answer has {0} bytes")]
    Length(usize),
    /// The node's signature does not verify.
    #[error("the answer's signature does not verify")]
    Signature(#[source] StatementError),
    /// The node does not hold a share in the epoch.
    #[error("{0:?} holds no share in this epoch")]
    NotAHolder(String),
    /// The answer is of another share epoch: answers of two epochs are never combined.
    #[error("the answer is of another share epoch")]
    Epoch,
    /// The index is not the node's.
    #[error("the answer carries index {found} instead of {expected}")]
    Index {
        /// The node's index.
        expected: u16,
        /// Index found.
        found: u16,
    },
}

/// Which record an answer is for, under which order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerContext {
    /// The tenant.
    pub tenant: String,
    /// The order.
    pub order: Digest,
    /// The record.
    pub envelope: Digest,
    /// The journaling key.
    pub key_id: Digest,
    /// The wrap's encapsulation.
    pub encapsulation: [u8; ENCAPSULATION_SIZE],
}

/// What an answer says, once decrypted; nothing is verified but its form.
pub(crate) struct RawAnswer(Zeroizing<[u8; ANSWER_SIZE]>);

impl AnswerContext {
    /// Answers for the record: seals partial opening and ML-KEM secret to the reader's public key.
    ///
    /// # Errors
    /// When the encapsulation or the reader's key is malformed.
    pub fn answer(
        &self,
        share: &NodeShare,
        node: &str,
        signing_key: &SigningKey,
        reader_key: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, AnswerError> {
        let reader = HybridPublicKey::parse(reader_key).map_err(AnswerError::Hybrid)?;
        self.answer_to(&reader, share, node, signing_key, rng)
    }

    /// As [`AnswerContext::answer`], to a reader's key that is ready for many answers.
    ///
    /// # Errors
    /// When the encapsulation is malformed.
    pub fn answer_to(
        &self,
        reader: &HybridPublicKey,
        share: &NodeShare,
        node: &str,
        signing_key: &SigningKey,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, AnswerError> {
        let statement = self.statement(
            share.share_epoch(),
            share.index(),
            share.verification_share(),
        )?;
        let partial =
            answer_partial(&statement, share.scalar(), rng).map_err(AnswerError::Partial)?;
        let secret = share.decapsulate(&self.kem_ciphertext());
        let mut plain = Zeroizing::new([0; ANSWER_SIZE]);
        plain[..32].copy_from_slice(share.share_epoch().as_bytes());
        plain[32..PARTIAL_AT].copy_from_slice(&share.index().to_be_bytes());
        plain[PARTIAL_AT..SECRET_AT].copy_from_slice(partial.to_bytes().as_ref());
        plain[SECRET_AT..SIGNED_SIZE].copy_from_slice(secret.as_ref());
        let signature = signing_key.sign(&self.signed(node, &plain[..SIGNED_SIZE]));
        plain[SIGNED_SIZE..].copy_from_slice(&signature.to_bytes());
        reader
            .seal(&self.info(), &self.aad(node), plain.as_ref(), rng)
            .map_err(AnswerError::Hybrid)
    }

    /// Decrypts a node's answer and verifies the node's signature.
    pub(crate) fn open(
        &self,
        reader: &HybridSecretKey,
        node: &str,
        node_key: &[u8],
        sealed: &[u8],
    ) -> Result<RawAnswer, AnswerError> {
        let plain = reader
            .open(&self.info(), &self.aad(node), sealed)
            .map_err(AnswerError::Hybrid)?;
        let length = plain.len();
        let mut answer = RawAnswer(Zeroizing::new([0; ANSWER_SIZE]));
        if length != ANSWER_SIZE {
            return Err(AnswerError::Length(length));
        }
        answer.0.copy_from_slice(&plain);
        let (signed, signature) = answer.0.split_at(SIGNED_SIZE);
        verify_strict(node, node_key, &self.signed(node, signed), signature)
            .map_err(AnswerError::Signature)?;
        Ok(answer)
    }

    /// What the proof of a partial opening is about.
    ///
    /// # Errors
    /// When the encapsulation's P-256 half is no point.
    pub fn statement(
        &self,
        share_epoch: Digest,
        index: u16,
        verification_share: PointBytes,
    ) -> Result<PartialStatement, AnswerError> {
        let encapsulation = Point::from_uncompressed(&self.encapsulation[KEM_CIPHERTEXT_SIZE..])
            .and_then(|point| point.to_compressed())
            .map_err(AnswerError::Encapsulation)?;
        Ok(PartialStatement {
            order: self.order,
            envelope: self.envelope,
            key_id: self.key_id,
            share_epoch,
            index,
            verification_share,
            encapsulation,
        })
    }

    fn kem_ciphertext(&self) -> [u8; KEM_CIPHERTEXT_SIZE] {
        let mut ciphertext = [0; KEM_CIPHERTEXT_SIZE];
        ciphertext.copy_from_slice(&self.encapsulation[..KEM_CIPHERTEXT_SIZE]);
        ciphertext
    }

    fn info(&self) -> Vec<u8> {
        let mut info = label("answer");
        push_lp(&mut info, self.tenant.as_bytes());
        info
    }

    fn aad(&self, node: &str) -> Vec<u8> {
        [
            self.order.as_bytes(),
            self.envelope.as_bytes(),
            node.as_bytes(),
        ]
        .concat()
    }

    /// What the node signs: LP("greffe/v1/answer-sign") ‖ H(order ‖ envelope ‖ key id ‖ LP node ‖ plaintext before the
    /// signature).
    fn signed(&self, node: &str, plain: &[u8]) -> Zeroizing<Vec<u8>> {
        let statement = Zeroizing::new(
            [
                self.order.as_bytes(),
                self.envelope.as_bytes(),
                self.key_id.as_bytes(),
                &lp(node.as_bytes())[..],
                plain,
            ]
            .concat(),
        );
        Zeroizing::new(signed_bytes("answer-sign", &sha256(&statement)))
    }
}

impl RawAnswer {
    pub(crate) fn share_epoch(&self) -> Digest {
        let mut digest = [0; 32];
        digest.copy_from_slice(&self.0[..32]);
        Digest::new(digest)
    }

    pub(crate) fn index(&self) -> u16 {
        u16::from_be_bytes([self.0[32], self.0[33]])
    }

    pub(crate) fn partial(&self) -> Partial {
        let mut bytes = Zeroizing::new([0; Partial::SIZE]);
        bytes.copy_from_slice(&self.0[PARTIAL_AT..SECRET_AT]);
        Partial::from_bytes(&bytes)
    }

    pub(crate) fn kem_secret(&self) -> Zeroizing<[u8; 32]> {
        let mut secret = Zeroizing::new([0; 32]);
        secret.copy_from_slice(&self.0[SECRET_AT..SIGNED_SIZE]);
        secret
    }
}
