//! Retention of a record can be set to a later date, and to nothing else.

use greffe_types::{Digest, Millis};

use crate::people::Quorum;
use crate::retention::conflict;
use crate::{
    Conflict, Events, Extend, Pack, Permit, QuorumError, RetentionError, Role, Signer, calendar,
};

/// A wish to keep a record longer.
#[derive(Debug, Clone)]
pub struct Extension<'a> {
    /// The record's pack.
    pub pack: &'a Pack,
    /// Envelope digest.
    pub record: Digest,
    /// Its class.
    pub class: &'a str,
    /// When the archive had it.
    pub archived_at: Millis,
    /// Events that have happened.
    pub events: &'a Events,
    /// Its retention date now.
    pub current: Millis,
    /// The date wished for.
    pub to: Millis,
    /// The time of the decision.
    pub now: Millis,
    /// Who signed the extension of this record to this date: a records manager or legal; legal when a maximum is passed.
    pub signers: &'a [Signer],
}

/// Why an extension was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExtendError {
    /// The date is not later than the present one: retention never gets shorter.
    #[error("retention only grows: {} is not after {}", calendar::display(*.to), calendar::display(*.current))]
    NotLonger {
        /// The present date.
        current: Millis,
        /// The date wished for.
        to: Millis,
    },
    /// The date passes a maximum, and legal has not signed.
    #[error("only legal may settle a conflict")]
    Conflict(#[source] Conflict),
    /// Nobody who may has signed.
    #[error("the extension is not signed by who may")]
    Quorum(#[from] QuorumError),
    /// The record's clocks cannot be computed.
    #[error("the record's clocks cannot be computed")]
    Retention(#[from] RetentionError),
}

impl ExtendError {
    /// Stable reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotLonger { .. } => "RETENTION_SHORTENED",
            Self::Conflict(_) => "RETENTION_CONFLICT",
            Self::Quorum(error) => error.reason(),
            Self::Retention(error) => error.reason(),
        }
    }
}

/// Permits a later retention date. No role, and no number of people, can make it earlier.
///
/// # Errors
/// When the date is not later, passes a maximum without legal, or nobody who may has signed.
pub fn extend(extension: &Extension<'_>) -> Result<Permit<Extend>, ExtendError> {
    if extension.to <= extension.current {
        return Err(ExtendError::NotLonger {
            current: extension.current,
            to: extension.to,
        });
    }
    let explanation =
        extension
            .pack
            .explain(extension.class, extension.archived_at, extension.events)?;
    let conflict = conflict(&explanation.clocks, "extension", extension.to);
    let quorum = |required: &[Role], also| {
        Quorum {
            minimum: 1,
            required,
            also,
            requester: None,
            earliest: Millis::new(0),
            now: extension.now,
        }
        .check(extension.signers)
    };
    match conflict {
        None if holds(extension, Role::RecordsManager) => {
            quorum(&[Role::RecordsManager], Some(Role::Legal))?
        }
        None => quorum(&[Role::Legal], None)?,
        Some(conflict) if !holds(extension, Role::Legal) => {
            return Err(ExtendError::Conflict(conflict));
        }
        Some(_) => quorum(&[Role::Legal], Some(Role::RecordsManager))?,
    };
    Ok(Permit::new(Extend {
        record: extension.record,
        from: extension.current,
        to: extension.to,
    }))
}

fn holds(extension: &Extension<'_>, role: Role) -> bool {
    extension
        .signers
        .iter()
        .any(|signer| signer.roles.contains(&role))
}
