//! Whether a record may be destroyed: when every clock has run, no hold stands, and two people have said so.

use greffe_types::{Digest, Millis};

use crate::people::Quorum;
use crate::{
    Dispose, Events, HoldSet, Pack, Permit, QuorumError, RetentionError, Signer, StandingHold,
    TrustedNow,
};

/// Everything that the decision over one record depends on, beside the time.
#[derive(Debug, Clone)]
pub struct DispositionCase<'a> {
    /// The pack the record was archived under.
    pub pack: &'a Pack,
    /// Envelope digest.
    pub record: Digest,
    /// Its class.
    pub class: &'a str,
    /// When the archive had it.
    pub archived_at: Millis,
    /// Its retention date: pinned at ingest, extended since.
    pub retain_until: Millis,
    /// Events that have happened.
    pub events: &'a Events,
    /// Holds on it. A store must read them in the same transaction that destroys, from its primary.
    pub holds: &'a HoldSet,
    /// Who asked for the disposition; never an approver.
    pub requester: &'a str,
    /// Who signed the disposition of this very record.
    pub approvals: &'a [Signer],
}

/// What becomes of a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It stays, for all these reasons.
    Keep(Vec<KeepReason>),
    /// Nothing keeps it, but its approvals are no quorum; it stays.
    NeedsApproval(QuorumError),
    /// It may be destroyed.
    Dispose(Permit<Dispose>),
}

/// Why a record stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeepReason {
    /// Its retention has not run.
    RetainedUntil(Millis),
    /// An event that its retention counts from has not happened.
    Awaiting(String),
    /// A hold stands.
    Held(StandingHold),
}

impl KeepReason {
    /// Stable reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::RetainedUntil(_) => "RETENTION_NOT_OVER",
            Self::Awaiting(_) => "RETENTION_AWAITS_EVENT",
            Self::Held(_) => "RECORD_HELD",
        }
    }
}

/// Decides over one record. Approvals count only from the moment nothing else kept the record: none is given in advance.
///
/// # Errors
/// When the class is unknown to the pack or a date is out of range; the record stays.
pub fn decide(case: &DispositionCase<'_>, now: TrustedNow) -> Result<Disposition, RetentionError> {
    let now = now.get();
    let explanation = case
        .pack
        .explain(case.class, case.archived_at, case.events)?;
    // The pinned date stands even if the pack has come to say less.
    let retain_until = case.retain_until.max(explanation.retain_until);
    let mut reasons: Vec<KeepReason> = Vec::new();
    if now < retain_until {
        reasons.push(KeepReason::RetainedUntil(retain_until));
    }
    reasons.extend(explanation.awaiting.into_iter().map(KeepReason::Awaiting));
    reasons.extend(case.holds.standing(now).cloned().map(KeepReason::Held));
    if !reasons.is_empty() {
        return Ok(Disposition::Keep(reasons));
    }
    let free_since = case
        .holds
        .last_release()
        .map_or(retain_until, |at| at.max(retain_until));
    let quorum = Quorum {
        minimum: case.pack.disposition_roles().len(),
        required: case.pack.disposition_roles(),
        also: None,
        requester: Some(case.requester),
        earliest: free_since,
        now,
    };
    Ok(match quorum.check(case.approvals) {
        Ok(approvers) => Disposition::Dispose(Permit::new(Dispose {
            record: case.record,
            decided_at: now,
            approvers,
        })),
        Err(error) => Disposition::NeedsApproval(error),
    })
}
