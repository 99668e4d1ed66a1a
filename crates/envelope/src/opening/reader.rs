//! The reader's side: decrypt the nodes' answers, verify each, combine a quorum of one share epoch, open the wrap.

use std::collections::BTreeMap;

use greffe_types::Digest;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::answer::{AnswerContext, AnswerError};
use super::hybrid::{HybridSecretKey, PUBLIC_KEY_SIZE};
use super::kem::{open_with_secret, shared_secret};
use super::partial::verify_partial;
use crate::ceremony::ShareHolders;
use crate::ceremony::poly::interpolate;
use crate::curve::Point;
use crate::label::{label, push_lp};

/// Bytes of a sealed content key: 32 and a tag of 16.
pub const WRAPPED_KEY_SIZE: usize = 48;

/// Why a record did not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not enough verified answers.
    #[error("{found} answers have verified, {needed} are needed")]
    NotEnough {
        /// Verified answers.
        found: usize,
        /// Threshold of the epoch.
        needed: u16,
    },
    /// The partial openings are proved right, but the wrap opens under none of the ML-KEM secrets: every node that
    /// answered gave a wrong one, or the sender sealed a malformed wrap.
    #[error("the wrap does not open with any of the ML-KEM secrets answered")]
    Wrap,
}

/// One record being opened: collects the answers of one share epoch.
pub struct Opener<'a> {
    context: AnswerContext,
    holders: &'a ShareHolders,
    public_key: [u8; PUBLIC_KEY_SIZE],
    record_digest: Digest,
    ciphertext: [u8; WRAPPED_KEY_SIZE],
    answers: BTreeMap<u16, Verified>,
}

struct Verified {
    node: String,
    point: Point,
    kem_secret: Zeroizing<[u8; 32]>,
}

/// A content key, and who answered with a wrong ML-KEM secret on the way.
pub struct OpenedKey {
    /// The content key: its commitments are still to be checked against the record.
    pub key: Zeroizing<[u8; 32]>,
    /// Nodes whose ML-KEM secret did not open the wrap.
    pub wrong_secrets: Vec<String>,
}

impl<'a> Opener<'a> {
    /// Starts with what the record says: `record_digest` is rd, `ciphertext` the wrap's sealed content key.
    pub fn new(
        context: AnswerContext,
        holders: &'a ShareHolders,
        public_key: [u8; PUBLIC_KEY_SIZE],
        record_digest: Digest,
        ciphertext: [u8; WRAPPED_KEY_SIZE],
    ) -> Self {
        Self {
            context,
            holders,
            public_key,
            record_digest,
            ciphertext,
            answers: BTreeMap::new(),
        }
    }

    /// Takes in a node's answer; gives how many have verified. `node_key` is the node's Ed25519 key from the bundle.
    ///
    /// # Errors
    /// Every error blames the node, or whoever carried its answer; what was collected stays.
    pub fn add(
        &mut self,
        reader: &HybridSecretKey,
        node: &str,
        node_key: &[u8],
        sealed: &[u8],
    ) -> Result<usize, AnswerError> {
        let holder = self
            .holders
            .by_node(node)
            .ok_or_else(|| AnswerError::NotAHolder(node.to_owned()))?;
        let answer = self.context.open(reader, node, node_key, sealed)?;
        if answer.share_epoch() != self.holders.digest() {
            return Err(AnswerError::Epoch);
        }
        if answer.index() != holder.index {
            return Err(AnswerError::Index {
                expected: holder.index,
                found: answer.index(),
            });
        }
        let statement = self.context.statement(
            self.holders.digest(),
            holder.index,
            holder.verification_share,
        )?;
        let point = verify_partial(&statement, &answer.partial()).map_err(AnswerError::Partial)?;
        self.answers.insert(
            holder.index,
            Verified {
                node: node.to_owned(),
                point,
                kem_secret: answer.kem_secret(),
            },
        );
        Ok(self.answers.len())
    }

    /// Combines the answers and opens the wrap.
    ///
    /// # Errors
    /// When fewer than t answers have verified, or no ML-KEM secret fits.
    pub fn open(&self) -> Result<OpenedKey, OpenError> {
        let needed = self.holders.threshold();
        let points: Vec<(u16, Point)> = self
            .answers
            .iter()
            .take(usize::from(needed))
            .map(|(index, answer)| (*index, answer.point))
            .collect();
        let found = self.answers.len();
        if points.len() < usize::from(needed) {
            return Err(OpenError::NotEnough { found, needed });
        }
        let combined = interpolate(&points, 0).ok_or(OpenError::NotEnough { found, needed })?;
        let mut tried: Vec<&Zeroizing<[u8; 32]>> = Vec::new();
        for answer in self.answers.values() {
            let seen = |other: &&Zeroizing<[u8; 32]>| same(other, &answer.kem_secret);
            if tried.iter().any(seen) {
                continue;
            }
            tried.push(&answer.kem_secret);
            if let Some(key) = self.unwrap_with(&answer.kem_secret, &combined) {
                let wrong = |other: &&Verified| !same(&other.kem_secret, &answer.kem_secret);
                let wrong_secrets = self.answers.values().filter(wrong);
                return Ok(OpenedKey {
                    key,
                    wrong_secrets: wrong_secrets.map(|other| other.node.clone()).collect(),
                });
            }
        }
        Err(OpenError::Wrap)
    }

    fn unwrap_with(&self, kem_secret: &[u8; 32], combined: &Point) -> Option<Zeroizing<[u8; 32]>> {
        let encapsulation = &self.context.encapsulation;
        let secret = shared_secret(kem_secret, combined, encapsulation, &self.public_key).ok()?;
        let plain = open_with_secret(
            &secret,
            &self.public_key,
            encapsulation,
            &wrap_info(&self.context.tenant, &self.context.key_id),
            self.record_digest.as_bytes(),
            &self.ciphertext,
        )
        .ok()?;
        let mut key = Zeroizing::new([0; 32]);
        (plain.len() == key.len()).then(|| key.copy_from_slice(&plain))?;
        Some(key)
    }
}

impl core::fmt::Debug for Opener<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Opener")
            .field("envelope", &self.context.envelope)
            .field("answers", &self.answers.len())
            .finish_non_exhaustive()
    }
}

impl core::fmt::Debug for OpenedKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("OpenedKey")
            .field("wrong_secrets", &self.wrong_secrets)
            .finish_non_exhaustive()
    }
}

fn wrap_info(tenant: &str, key_id: &Digest) -> Vec<u8> {
    let mut info = label("wrap");
    push_lp(&mut info, tenant.as_bytes());
    info.extend_from_slice(key_id.as_bytes());
    info
}

fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.ct_eq(b).into()
}
