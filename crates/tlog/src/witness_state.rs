//! What a witness must not forget: the last checkpoint it cosigned, and the evidence against a log that forked.

use sha2::{Digest as _, Sha256};

use crate::checkpoint::SignedCheckpoint;
use crate::key::NoteVerifier;

/// Conflicts kept; one convicts the log, and later ones are refused all the same.
pub const MAX_EVIDENCE: usize = 16;

const MAGIC: &[u8] = b"greffe/v1/witness-state\n";

/// Why a witness refuses to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// There is none. Starting afresh would cosign a second history; the operator enrols a witness, once.
    #[error("the witness has no state: a lost state is not replaced by an empty one")]
    Lost,
    /// Cut short, altered, or not a state.
    #[error("the witness's state is damaged")]
    Damaged,
    /// It is about another log or log key.
    #[error("the witness's state is about another log")]
    Foreign,
}

/// Two checkpoints of one size with different roots, both signed by the log: proof, for anyone, that it forked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The one the witness had cosigned.
    pub cosigned: SignedCheckpoint,
    /// The one it was then asked to cosign.
    pub offered: SignedCheckpoint,
}

/// The state itself. Both kinds of checkpoint carry the log's signature only: other lines are whoever's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct WitnessState {
    pub(crate) latest: Option<SignedCheckpoint>,
    pub(crate) evidence: Vec<Conflict>,
}

impl WitnessState {
    /// MAGIC ‖ LP(origin) ‖ log key ‖ LP(latest or nothing) ‖ be32 count ‖ (LP ‖ LP)* ‖ SHA-256 of all that, where LP is a
    /// be32 length and the bytes.
    pub(crate) fn encode(&self, log: &NoteVerifier) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put(&mut out, log.name().as_bytes());
        out.extend_from_slice(log.key());
        let latest = self.latest.as_ref().map(SignedCheckpoint::encode);
        put(&mut out, &latest.unwrap_or_default());
        out.extend_from_slice(&(self.evidence.len() as u32).to_be_bytes());
        for conflict in &self.evidence {
            put(&mut out, &conflict.cosigned.encode());
            put(&mut out, &conflict.offered.encode());
        }
        let checksum = Sha256::digest(&out);
        out.extend_from_slice(&checksum);
        out
    }

    pub(crate) fn decode(bytes: &[u8], log: &NoteVerifier) -> Result<Self, StartError> {
        let (content, checksum) = bytes.split_last_chunk::<32>().ok_or(StartError::Damaged)?;
        let computed: [u8; 32] = Sha256::digest(content).into();
        let mut rest = content.strip_prefix(MAGIC).ok_or(StartError::Damaged)?;
        if computed != *checksum {
            return Err(StartError::Damaged);
        }
        let origin = take(&mut rest)?;
        let key = take_chunk::<32>(&mut rest)?;
        if origin != log.name().as_bytes() || key != log.key() {
            return Err(StartError::Foreign);
        }
        let open = |bytes| SignedCheckpoint::open(bytes, log).map_err(|_| StartError::Damaged);
        let latest = match take(&mut rest)? {
            [] => None,
            note => Some(open(note)?),
        };
        let count = u32::from_be_bytes(*take_chunk(&mut rest)?) as usize;
        if count > MAX_EVIDENCE {
            return Err(StartError::Damaged);
        }
        let mut evidence = Vec::with_capacity(count);
        for _ in 0..count {
            evidence.push(Conflict {
                cosigned: open(take(&mut rest)?)?,
                offered: open(take(&mut rest)?)?,
            });
        }
        if !rest.is_empty() {
            return Err(StartError::Damaged);
        }
        Ok(Self { latest, evidence })
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], StartError> {
    let length = u32::from_be_bytes(*take_chunk(rest)?) as usize;
    let (bytes, after) = rest.split_at_checked(length).ok_or(StartError::Damaged)?;
    *rest = after;
    Ok(bytes)
}

fn take_chunk<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], StartError> {
    let (chunk, after) = rest.split_first_chunk().ok_or(StartError::Damaged)?;
    *rest = after;
    Ok(chunk)
}
