//! The rules of a witness (C2SP tlog-witness): it cosigns one history of a log, and never steps back.
//!
//! The witness is deterministic: stored state and the time are inputs, the next state is an output. A cosignature comes
//! out of [`Pending`] only, after the caller says that the new state is on disk; until then the witness is borrowed, so no
//! second request can be judged by the old state.

use greffe_types::Millis;

use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::cosignature::Cosigner;
use crate::hash::TreeHead;
use crate::key::NoteVerifier;
use crate::note::{NoteError, NoteSignature};
use crate::proof::{ProofError, verify_consistency};
use crate::request::AddCheckpoint;
use crate::witness_state::{Conflict, MAX_EVIDENCE, StartError, WitnessState};

/// Why a witness did not cosign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WitnessRefusal {
    /// The checkpoint is malformed.
    #[error("the checkpoint offered is malformed")]
    Malformed(#[source] CheckpointError),
    /// It is of a log this witness does not follow.
    #[error("the checkpoint offered is of another log")]
    UnknownLog,
    /// The log's key did not sign it.
    #[error("the log did not sign the checkpoint offered")]
    Unsigned(#[source] NoteError),
    /// The old size is larger than the checkpoint's.
    #[error("the request's old size {old} is larger than the checkpoint's size {size}")]
    OldSizeTooLarge {
        /// The request's old size.
        old: u64,
        /// The checkpoint's size.
        size: u64,
    },
    /// The checkpoint is smaller than what was cosigned already: the log lost entries, or was restored from an old copy.
    #[error("the log stepped back from {latest} leaves to {size}")]
    Rollback {
        /// Size cosigned last.
        latest: u64,
        /// The checkpoint's size.
        size: u64,
    },
    /// Same size as what was cosigned already, another root: the log forked. The evidence is kept.
    #[error("the log signed two roots for {size} leaves")]
    Conflict {
        /// The size of both.
        size: u64,
    },
    /// The proof starts from another size than what was cosigned last.
    #[error("the request starts from {old} leaves, the witness is at {latest}")]
    OldSizeMismatch {
        /// Size cosigned last.
        latest: u64,
        /// The request's old size.
        old: u64,
    },
    /// The proof does not show that the checkpoint continues what was cosigned last.
    #[error("the checkpoint does not continue what was cosigned")]
    Inconsistent(#[source] ProofError),
}

impl WitnessRefusal {
    /// The HTTP status that tlog-witness gives to this refusal.
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::OldSizeTooLarge { .. } => 400,
            Self::Unsigned(_) => 403,
            Self::UnknownLog => 404,
            Self::Rollback { .. } | Self::Conflict { .. } | Self::OldSizeMismatch { .. } => 409,
            Self::Inconsistent(_) => 422,
        }
    }

    /// The size cosigned last, where the log needs it to ask again.
    pub fn latest_size(&self) -> Option<u64> {
        match self {
            Self::Rollback { latest, .. } | Self::OldSizeMismatch { latest, .. } => Some(*latest),
            Self::Conflict { size } => Some(*size),
            _ => None,
        }
    }
}

/// A witness of one log.
#[derive(Debug)]
pub struct Witness {
    log: NoteVerifier,
    cosigner: Cosigner,
    state: WitnessState,
}

/// The first state of a witness that has seen nothing: written once, when an operator enrols it, never at start.
pub fn enrol(log: &NoteVerifier) -> Vec<u8> {
    WitnessState::default().encode(log)
}

impl Witness {
    /// Resumes from the stored state; refuses without one.
    pub fn start(
        log: NoteVerifier,
        cosigner: Cosigner,
        stored: Option<&[u8]>,
    ) -> Result<Self, StartError> {
        let state = WitnessState::decode(stored.ok_or(StartError::Lost)?, &log)?;
        Ok(Self {
            log,
            cosigner,
            state,
        })
    }

    /// Judges a request. After [`WitnessRefusal::Conflict`] the caller stores [`Self::state`], which has the evidence.
    pub fn add_checkpoint(
        &mut self,
        request: &AddCheckpoint,
        now: Millis,
    ) -> Result<Pending<'_>, WitnessRefusal> {
        let offered = self.open(&request.checkpoint)?;
        let (size, latest) = (offered.head().size, self.latest());
        if request.old_size > size {
            return Err(WitnessRefusal::OldSizeTooLarge {
                old: request.old_size,
                size,
            });
        }
        if size < latest.size {
            return Err(WitnessRefusal::Rollback {
                latest: latest.size,
                size,
            });
        }
        // Before the old size is looked at: the log's signature alone makes this evidence.
        if size == latest.size && offered.head().root != latest.root {
            self.keep_evidence(offered);
            return Err(WitnessRefusal::Conflict { size });
        }
        if request.old_size != latest.size {
            return Err(WitnessRefusal::OldSizeMismatch {
                latest: latest.size,
                old: request.old_size,
            });
        }
        verify_consistency(&latest, &offered.head(), &request.proof)
            .map_err(WitnessRefusal::Inconsistent)?;
        let cosignature = self.cosigner.cosign(&offered, now);
        let next = WitnessState {
            latest: Some(offered),
            evidence: self.state.evidence.clone(),
        };
        Ok(Pending {
            witness: self,
            next,
            cosignature,
        })
    }

    fn open(&self, bytes: &[u8]) -> Result<SignedCheckpoint, WitnessRefusal> {
        let opened = SignedCheckpoint::open(bytes, &self.log).map_err(|error| match error {
            CheckpointError::Origin => WitnessRefusal::UnknownLog,
            CheckpointError::Note(cause @ (NoteError::Unsigned | NoteError::Signature { .. })) => {
                WitnessRefusal::Unsigned(cause)
            }
            malformed => WitnessRefusal::Malformed(malformed),
        })?;
        Ok(opened.stripped(&self.log))
    }

    fn keep_evidence(&mut self, offered: SignedCheckpoint) {
        let known = self
            .state
            .evidence
            .iter()
            .any(|conflict| conflict.offered.head() == offered.head());
        if let Some(cosigned) = self.state.latest.clone()
            && !known
            && self.state.evidence.len() < MAX_EVIDENCE
        {
            self.state.evidence.push(Conflict { cosigned, offered });
        }
    }

    /// Size and root cosigned last; the empty tree when none was.
    pub fn latest(&self) -> TreeHead {
        self.state
            .latest
            .as_ref()
            .map_or_else(TreeHead::empty, SignedCheckpoint::head)
    }

    /// Proofs that the log forked.
    pub fn evidence(&self) -> &[Conflict] {
        &self.state.evidence
    }

    /// The present state, to be stored.
    pub fn state(&self) -> Vec<u8> {
        self.state.encode(&self.log)
    }

    /// The witness's name and key.
    pub fn cosigner(&self) -> &Cosigner {
        &self.cosigner
    }
}

/// A decision to cosign that is not yet on disk. Dropped, it never happened.
#[derive(Debug)]
#[must_use = "the state has to be stored before the cosignature may leave"]
pub struct Pending<'w> {
    witness: &'w mut Witness,
    next: WitnessState,
    cosignature: NoteSignature,
}

impl Pending<'_> {
    /// What has to be on disk first.
    pub fn state(&self) -> Vec<u8> {
        self.next.encode(&self.witness.log)
    }

    /// The state is on disk: the witness moves on and the cosignature may leave.
    pub fn stored(self) -> NoteSignature {
        self.witness.state = self.next;
        self.cosignature
    }
}
