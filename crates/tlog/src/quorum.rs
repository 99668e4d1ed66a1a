//! When a checkpoint is witnessed: enough of the configured witnesses cosigned it, recently enough.

use core::time::Duration;

use greffe_types::Millis;

use crate::checkpoint::SignedCheckpoint;
use crate::cosignature::CosignerKey;
use crate::hash::TreeHead;
use crate::note::NoteError;

/// Why a set of witnesses makes no quorum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuorumConfigError {
    /// None required, or more than there are.
    #[error("{required} cosignatures required of {witnesses} witnesses")]
    Threshold {
        /// Required.
        required: usize,
        /// Witnesses configured.
        witnesses: usize,
    },
    /// Two witnesses with one name or one key would be one witness counted twice.
    #[error("witness {name} has the name or key of another")]
    Repeated {
        /// The second of the two.
        name: String,
    },
}

/// Why a checkpoint is not witnessed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// A line in a witness's name is not its cosignature.
    #[error("a cosignature is false")]
    False(#[source] NoteError),
    /// Too few.
    #[error(
        "{required} recent cosignatures required, {recent} found, {old} too old, {ahead} ahead of the clock"
    )]
    NotReached {
        /// Required.
        required: usize,
        /// Witnesses with a recent cosignature.
        recent: usize,
        /// Witnesses whose newest is too old.
        old: usize,
        /// Witnesses whose newest lies in the future.
        ahead: usize,
    },
}

/// What counts as recent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// The caller's clock.
    pub now: Millis,
    /// Cosignatures older than this do not count.
    pub max_age: Duration,
    /// Nor do those further ahead of the clock than this.
    pub max_ahead: Duration,
}

/// Some number of some witnesses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    witnesses: Vec<CosignerKey>,
    required: usize,
}

/// The proof that a quorum cosigned: only [`Quorum::check`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessed {
    head: TreeHead,
    as_of: Millis,
    by: Vec<String>,
}

impl Quorum {
    /// `required` of these witnesses, each with a name and key of its own.
    pub fn new(witnesses: Vec<CosignerKey>, required: usize) -> Result<Self, QuorumConfigError> {
        if required == 0 || required > witnesses.len() {
            return Err(QuorumConfigError::Threshold {
                required,
                witnesses: witnesses.len(),
            });
        }
        for (place, witness) in witnesses.iter().enumerate() {
            let same = |other: &CosignerKey| {
                other.name() == witness.name() || other.key() == witness.key()
            };
            if witnesses[..place].iter().any(same) {
                return Err(QuorumConfigError::Repeated {
                    name: witness.name().to_owned(),
                });
            }
        }
        Ok(Self {
            witnesses,
            required,
        })
    }

    /// Cosignatures required.
    pub fn required(&self) -> usize {
        self.required
    }

    /// Demands the quorum; of several cosignatures by one witness the newest counts.
    pub fn check(
        &self,
        checkpoint: &SignedCheckpoint,
        freshness: &Freshness,
    ) -> Result<Witnessed, QuorumError> {
        let oldest = freshness.now.minus(freshness.max_age);
        let latest = freshness.now.plus(freshness.max_ahead);
        let (mut recent, mut old, mut ahead) = (Vec::new(), 0, 0);
        for witness in &self.witnesses {
            match witness.newest(checkpoint).map_err(QuorumError::False)? {
                None => {}
                Some(time) if time > latest => ahead += 1,
                Some(time) if time < oldest => old += 1,
                Some(time) => recent.push((time, witness.name().to_owned())),
            }
        }
        recent.sort_by(|a, b| b.cmp(a));
        match recent.get(self.required - 1) {
            Some(&(as_of, _)) => Ok(Witnessed {
                head: checkpoint.head(),
                as_of,
                by: recent.into_iter().map(|(_, name)| name).collect(),
            }),
            None => Err(QuorumError::NotReached {
                required: self.required,
                recent: recent.len(),
                old,
                ahead,
            }),
        }
    }
}

impl Witnessed {
    /// Size and root that were witnessed.
    pub fn head(&self) -> TreeHead {
        self.head
    }

    /// The latest time at which the whole quorum stood by it.
    pub fn as_of(&self) -> Millis {
        self.as_of
    }

    /// Who cosigned recently, newest first.
    pub fn by(&self) -> &[String] {
        &self.by
    }
}
