//! Share epochs: who holds shares now, checked to be one polynomial of the right degree behind the public key.

use greffe_types::Digest;

use super::poly::{PointBytes, degree_is_exactly, interpolate};
use crate::curve::{CurveError, Point};
use crate::limits::MAX_HOLDERS;
use crate::opening::PUBLIC_KEY_SIZE;
use crate::pb;
use crate::statement::{Signed, StatementError};

/// Why a share epoch was refused.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    /// It names another tenant or key than the key record.
    #[error("the share epoch is of another key")]
    Key,
    /// The key record's public key is malformed.
    #[error("the key record's public key is malformed")]
    PublicKey,
    /// The threshold is below the key record's t_min, below 2, or above the number of holders.
    #[error("threshold {threshold} is outside {minimum} to {holders}")]
    Threshold {
        /// Threshold found.
        threshold: u32,
        /// Lowest allowed.
        minimum: u32,
        /// Number of holders.
        holders: usize,
    },
    /// Indices are not 1 to n in order, a node holds two shares, or there are more than [`MAX_HOLDERS`].
    #[error("the holders of the share epoch are not numbered 1 to n, one node each")]
    Holders,
    /// A verification share is no point.
    #[error("the verification share of {node:?} is malformed")]
    VerificationShare {
        /// The holder.
        node: String,
        /// What is wrong with it.
        #[source]
        cause: CurveError,
    },
    /// The verification shares are not on one polynomial of degree exactly t - 1 that ends in the public key.
    #[error("the verification shares do not belong to the public key and threshold")]
    Inconsistent,
    /// It does not follow the epoch before.
    #[error("the share epoch does not follow the one before it")]
    Sequence,
    /// A holder's signing key is unknown.
    #[error("no signing key is known for {0:?}")]
    UnknownNode(String),
    /// A signature that has to be there is missing or wrong.
    #[error("a holder's signature is missing or wrong")]
    Signature(#[source] StatementError),
    /// Fewer than t of the previous holders have signed.
    #[error("{found} of the previous holders have signed, {needed} must")]
    Previous {
        /// Valid signatures.
        found: usize,
        /// The previous threshold.
        needed: u16,
    },
}

/// A holder of a share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Share index, from 1.
    pub index: u16,
    /// Node name.
    pub node: String,
    /// Y_i, compressed SEC1.
    pub verification_share: PointBytes,
}

/// A share epoch that has passed [`ShareHolders::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareHolders {
    tenant: String,
    key_id: Digest,
    digest: Digest,
    epoch: u64,
    threshold: u16,
    holders: Vec<Holder>,
}

impl ShareHolders {
    /// Checks a share epoch against its key record: everything but signatures.
    ///
    /// # Errors
    /// When key, threshold, indices or verification shares are wrong.
    pub fn check(
        epoch: &Signed<pb::ShareEpoch>,
        record: &pb::KeyRecord,
    ) -> Result<Self, EpochError> {
        if epoch.tenant != record.tenant || epoch.key_id != record.key_id {
            return Err(EpochError::Key);
        }
        let key_id = Digest::try_from(epoch.key_id.as_slice()).map_err(|_| EpochError::Key)?;
        if epoch.epoch == 0 || (epoch.epoch == 1) != (epoch.previous == [0; 32]) {
            return Err(EpochError::Sequence);
        }
        let threshold = check_threshold(epoch.threshold, record.t_min, epoch.holders.len())?;
        let holders = check_holders(&epoch.holders)?;
        let points = points(&holders)?;
        if !degree_is_exactly(&points, threshold)
            || interpolate(&points[..usize::from(threshold)], 0)
                != Some(public_point(&record.public_key)?)
        {
            return Err(EpochError::Inconsistent);
        }
        Ok(Self {
            tenant: epoch.tenant.clone(),
            key_id,
            digest: epoch.digest(),
            epoch: epoch.epoch,
            threshold,
            holders,
        })
    }

    /// Checks the signatures: all holders of this epoch, and t of the previous holders unless it is the first. The
    /// lookup gives a node's Ed25519 key from the trust bundle.
    ///
    /// # Errors
    /// When a signature is missing or wrong, or the epochs do not follow one another.
    pub fn check_signatures<'k>(
        &self,
        epoch: &Signed<pb::ShareEpoch>,
        previous: Option<&Self>,
        key_of: impl Fn(&str) -> Option<&'k [u8]>,
    ) -> Result<(), EpochError> {
        for holder in &self.holders {
            let key =
                key_of(&holder.node).ok_or_else(|| EpochError::UnknownNode(holder.node.clone()))?;
            epoch
                .verify(&holder.node, key)
                .map_err(EpochError::Signature)?;
        }
        let Some(previous) = previous else {
            return if self.epoch == 1 {
                Ok(())
            } else {
                Err(EpochError::Sequence)
            };
        };
        if !self.follows(previous) || epoch.previous != previous.digest.as_bytes() {
            return Err(EpochError::Sequence);
        }
        let found = previous
            .holders
            .iter()
            .filter(|holder| {
                key_of(&holder.node).is_some_and(|key| epoch.verify(&holder.node, key).is_ok())
            })
            .count();
        if found < usize::from(previous.threshold) {
            return Err(EpochError::Previous {
                found,
                needed: previous.threshold,
            });
        }
        Ok(())
    }

    fn follows(&self, previous: &Self) -> bool {
        self.tenant == previous.tenant
            && self.key_id == previous.key_id
            && previous.epoch.checked_add(1) == Some(self.epoch)
    }

    /// The tenant.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The journaling key.
    pub const fn key_id(&self) -> Digest {
        self.key_id
    }

    /// Digest of the share epoch's statement.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Its number, from 1.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many answers open a record.
    pub const fn threshold(&self) -> u16 {
        self.threshold
    }

    /// The holders, by index.
    pub fn holders(&self) -> &[Holder] {
        &self.holders
    }

    /// The holder with this node name.
    pub fn by_node(&self, node: &str) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.node == node)
    }
}

pub(crate) fn check_threshold(
    threshold: u32,
    t_min: u32,
    holders: usize,
) -> Result<u16, EpochError> {
    let minimum = t_min.max(2);
    u16::try_from(threshold)
        .ok()
        .filter(|t| threshold >= minimum && usize::from(*t) <= holders)
        .ok_or(EpochError::Threshold {
            threshold,
            minimum,
            holders,
        })
}

fn check_holders(holders: &[pb::ShareHolder]) -> Result<Vec<Holder>, EpochError> {
    if holders.len() > MAX_HOLDERS {
        return Err(EpochError::Holders);
    }
    let mut out: Vec<Holder> = Vec::with_capacity(holders.len());
    for (expected, holder) in (1_u16..).zip(holders) {
        let taken = out.iter().any(|other| other.node == holder.node);
        if holder.index != u32::from(expected) || holder.node.is_empty() || taken {
            return Err(EpochError::Holders);
        }
        let malformed = |cause| EpochError::VerificationShare {
            node: holder.node.clone(),
            cause,
        };
        let verification_share = holder.verification_share.as_slice();
        out.push(Holder {
            index: expected,
            node: holder.node.clone(),
            verification_share: verification_share
                .try_into()
                .map_err(|_| malformed(CurveError::Point))?,
        });
    }
    Ok(out)
}

fn points(holders: &[Holder]) -> Result<Vec<(u16, Point)>, EpochError> {
    holders
        .iter()
        .map(|holder| {
            Point::from_compressed(&holder.verification_share)
                .map(|point| (holder.index, point))
                .map_err(|cause| EpochError::VerificationShare {
                    node: holder.node.clone(),
                    cause,
                })
        })
        .collect()
}

/// The P-256 half of a journaling key.
pub(crate) fn public_point(public_key: &[u8]) -> Result<Point, EpochError> {
    if public_key.len() != PUBLIC_KEY_SIZE {
        return Err(EpochError::PublicKey);
    }
    Point::from_uncompressed(&public_key[crate::opening::hybrid::KEM_KEY_SIZE..])
        .map_err(|_| EpochError::PublicKey)
}
