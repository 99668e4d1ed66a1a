//! The body of tlog-witness's add-checkpoint: what a log asks of a witness.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use greffe_types::Digest;

use crate::checkpoint::{parse_decimal, parse_hash};
use crate::note::MAX_NOTE;

/// Most hashes a consistency proof may have here.
pub const MAX_CONSISTENCY_PROOF: usize = 63;

/// The body is not an old size, proof lines, an empty line and a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the add-checkpoint request is malformed")]
pub struct RequestError;

/// A request to cosign a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size that the log believes the witness cosigned last; 0 for none.
    pub old_size: u64,
    /// Consistency proof from that size to the checkpoint's; empty from 0.
    pub proof: Vec<Digest>,
    /// The signed checkpoint's bytes.
    pub checkpoint: Vec<u8>,
}

impl AddCheckpoint {
    /// Reads a request body.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        // Proof lines are 45 bytes, the size line at most 25.
        if body.len() > MAX_NOTE + 64 * 45 {
            return Err(RequestError);
        }
        let text = core::str::from_utf8(body).map_err(|_| RequestError)?;
        let (lines, checkpoint) = text.split_once("\n\n").ok_or(RequestError)?;
        let mut lines = lines.split('\n');
        let old_size = lines
            .next()
            .and_then(|line| parse_decimal(line.strip_prefix("old ")?))
            .ok_or(RequestError)?;
        let proof: Option<Vec<Digest>> = lines.map(parse_hash).collect();
        let proof = proof.ok_or(RequestError)?;
        if proof.len() > MAX_CONSISTENCY_PROOF {
            return Err(RequestError);
        }
        Ok(Self {
            old_size,
            proof,
            checkpoint: checkpoint.as_bytes().to_vec(),
        })
    }

    /// As a request body.
    pub fn encode(&self) -> Vec<u8> {
        let mut head = format!("old {}\n", self.old_size);
        for hash in &self.proof {
            head.push_str(&STANDARD.encode(hash.as_bytes()));
            head.push('\n');
        }
        head.push('\n');
        let mut body = head.into_bytes();
        body.extend_from_slice(&self.checkpoint);
        body
    }
}
