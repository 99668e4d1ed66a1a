//! Whether an order may be released: enough different people, the right roles, at the right time.

use greffe_types::{Digest, Millis, TimeRange};

use crate::people::Quorum;
use crate::{ApprovalRule, Permit, QuorumError, Release, Role, Signer};

/// Records that one order may cover.
pub const MAX_RECORDS: u64 = 10_000;

/// An order and its approvals, signatures verified.
#[derive(Debug, Clone)]
pub struct ReleaseCase<'a> {
    /// Order digest: what every approval was signed over.
    pub order: Digest,
    /// Who asked; never an approver.
    pub requester: &'a str,
    /// How many records it covers.
    pub records: u64,
    /// When the order stands.
    pub window: TimeRange,
    /// The time of the decision.
    pub now: Millis,
    /// Who approved this very order.
    pub approvals: &'a [Signer],
}

/// Why an order is not released.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// No record, or more than [`MAX_RECORDS`].
    #[error("an order covers 1 to {MAX_RECORDS} records, not {0}")]
    Records(u64),
    /// Before its first instant, or from its last on.
    #[error("the order does not stand now")]
    Window,
    /// The approvals are no quorum.
    #[error("the approvals are not what the rule asks for")]
    Quorum(#[from] QuorumError),
}

impl ReleaseError {
    /// Stable reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Records(_) => "ORDER_RECORDS",
            Self::Window => "ORDER_WINDOW",
            Self::Quorum(error) => error.reason(),
        }
    }
}

/// Permits the release of an order. Required roles each take a person of their own; others count when they are approvers.
///
/// # Errors
/// When the order does not stand now, covers too many records, or its approvals are no quorum.
pub fn permit_release(
    rule: &ApprovalRule,
    case: &ReleaseCase<'_>,
) -> Result<Permit<Release>, ReleaseError> {
    if !(1..=MAX_RECORDS).contains(&case.records) {
        return Err(ReleaseError::Records(case.records));
    }
    if !case.window.contains(case.now) {
        return Err(ReleaseError::Window);
    }
    let bulk = case.records > u64::from(rule.bulk_threshold());
    let approvers = Quorum {
        minimum: rule.minimum() as usize + usize::from(bulk),
        required: rule.required_roles(),
        also: Some(Role::Approver),
        requester: Some(case.requester),
        earliest: Millis::new(0),
        now: case.now,
    }
    .check(case.approvals)?;
    Ok(Permit::new(Release {
        order: case.order,
        records: case.records,
        expiry: case.window.not_after(),
        approvers,
    }))
}
