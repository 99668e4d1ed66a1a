//! Legal holds: they add up, and a record is free only when every one of them has been released and cooled off.

use std::collections::{BTreeMap, BTreeSet};

use greffe_types::{ActId, Digest, MatterId, Millis};

use crate::people::Quorum;
use crate::{Pack, Permit, QuorumError, ReleaseHold, Signer};

/// A hold, as it bears on a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingHold {
    /// The act that placed it.
    pub id: ActId,
    /// The matter it belongs to.
    pub matter: MatterId,
    /// When its release becomes effective; none while nobody has released it.
    pub release_effective_at: Option<Millis>,
}

/// The holds on one record: the record stays while any of them stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HoldSet(BTreeMap<ActId, StandingHold>);

impl HoldSet {
    /// Adds a hold. The same hold reaching the record twice (by conversation and by custodian, say) counts once, and by
    /// its later release.
    pub fn add(&mut self, hold: StandingHold) {
        let Some(known) = self.0.get_mut(&hold.id) else {
            self.0.insert(hold.id, hold);
            return;
        };
        known.release_effective_at = match (known.release_effective_at, hold.release_effective_at) {
            (Some(one), Some(other)) => Some(one.max(other)),
            _ => None,
        };
    }

    /// Those that stand at an instant: not released, or released and still cooling off.
    pub fn standing(&self, now: Millis) -> impl Iterator<Item = &StandingHold> {
        self.0
            .values()
            .filter(move |hold| hold.release_effective_at.is_none_or(|at| now < at))
    }

    /// The instant at which the last of the released holds became, or becomes, effective.
    pub(crate) fn last_release(&self) -> Option<Millis> {
        self.0
            .values()
            .filter_map(|hold| hold.release_effective_at)
            .max()
    }
}

impl FromIterator<StandingHold> for HoldSet {
    fn from_iter<I: IntoIterator<Item = StandingHold>>(holds: I) -> Self {
        let mut set = Self::default();
        holds.into_iter().for_each(|hold| set.add(hold));
        set
    }
}

/// A wish to release a hold.
#[derive(Debug, Clone)]
pub struct HoldRelease<'a> {
    /// The tenant's pack.
    pub pack: &'a Pack,
    /// The hold.
    pub hold: ActId,
    /// When it was placed: nobody signs its release before.
    pub placed_at: Millis,
    /// The time of the decision, from which the cooling-off period runs.
    pub now: Millis,
    /// Who signed the release of this hold.
    pub signers: &'a [Signer],
}

/// Why a hold was not released.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseHoldError {
    /// Legal and the records manager, as two people, have not both signed.
    #[error("the release is not signed by who must")]
    Quorum(#[from] QuorumError),
}

impl ReleaseHoldError {
    /// Stable reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Quorum(error) => error.reason(),
        }
    }
}

/// Permits the release of one hold, effective after the pack's cooling-off period. It destroys nothing: retention resumes.
///
/// # Errors
/// When the pack's roles (at least legal and the records manager, two people) have not signed.
pub fn release_hold(release: &HoldRelease<'_>) -> Result<Permit<ReleaseHold>, ReleaseHoldError> {
    let rule = release.pack.hold_release();
    let signers = Quorum {
        minimum: rule.roles().len(),
        required: rule.roles(),
        also: None,
        requester: None,
        earliest: release.placed_at,
        now: release.now,
    }
    .check(release.signers)?;
    Ok(Permit::new(ReleaseHold {
        hold: release.hold,
        effective_at: release.now.plus(rule.cooling_off()),
        signers,
    }))
}

/// Which holds bear on which records: the reference that stores are tested against.
#[derive(Debug, Clone, Default)]
pub struct HoldLedger {
    holds: BTreeMap<ActId, StandingHold>,
    on: BTreeMap<Digest, BTreeSet<ActId>>,
}

/// Why the ledger refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// No such hold.
    #[error("no hold {0}")]
    Unknown(ActId),
    /// The hold belongs to another matter, or has been released: it takes no more records.
    #[error("the hold {0} is another matter's, or has been released")]
    Closed(ActId),
}

impl HoldLedger {
    /// Places a hold on records, or adds records to it.
    ///
    /// # Errors
    /// When a hold of that id belongs to another matter or has been released.
    pub fn place(
        &mut self,
        id: ActId,
        matter: MatterId,
        records: impl IntoIterator<Item = Digest>,
    ) -> Result<(), HoldError> {
        let hold = self.holds.entry(id).or_insert(StandingHold {
            id,
            matter,
            release_effective_at: None,
        });
        if hold.matter != matter || hold.release_effective_at.is_some() {
            return Err(HoldError::Closed(id));
        }
        for record in records {
            self.on.entry(record).or_default().insert(id);
        }
        Ok(())
    }

    /// Releases a hold; others on the same records go on standing. A second release never makes it earlier.
    ///
    /// # Errors
    /// When there is no such hold.
    pub fn release(&mut self, permit: Permit<ReleaseHold>) -> Result<(), HoldError> {
        let release = permit.into_inner();
        let hold = self
            .holds
            .get_mut(&release.hold)
            .ok_or(HoldError::Unknown(release.hold))?;
        let effective_at = hold
            .release_effective_at
            .map_or(release.effective_at, |at| at.max(release.effective_at));
        hold.release_effective_at = Some(effective_at);
        Ok(())
    }

    /// The holds on a record, standing or released.
    pub fn on(&self, record: &Digest) -> HoldSet {
        self.on
            .get(record)
            .into_iter()
            .flatten()
            .filter_map(|id| self.holds.get(id).cloned())
            .collect()
    }
}
