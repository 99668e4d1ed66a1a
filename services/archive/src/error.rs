//! What can go wrong, and how callers are told.

use std::time::Duration;

use greffe_service_kit::db::is_fenced;
use greffe_service_kit::errors::{Reason, ServiceError};
use tonic::{Code, Status};

use crate::objects::{FolderError, ObjectError};
use crate::store::months::MonthError;

/// Anything the archive's use cases fail with.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A refusal with its own code and reason.
    #[error("refused")]
    Refused(#[from] ServiceError),
    /// The database.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
    /// The write-once objects.
    #[error("the object store failed")]
    Objects(#[from] ObjectError),
    /// A row or object holds what the archive never wrote.
    #[error("stored data is damaged: {0}")]
    Damaged(&'static str),
    /// The month of a record is not in the database.
    #[error("a month of records is away")]
    Month(#[from] MonthError),
    /// Another archive has changed, since the entry was planned, what the plan rested on.
    #[error("another archive came first")]
    Overtaken,
    /// Another archive process has taken over.
    #[error("a newer archive process has taken over")]
    Fenced,
    /// The audit log refused an entry for good.
    #[error("the audit log refused the entry: {0}")]
    NotLogged(String),
    /// The audit log cannot be reached.
    #[error("the audit log does not answer")]
    LogUnavailable,
    /// A task of ours ended.
    #[error("the archive is stopping")]
    Stopping,
}

/// Database, disk or log cannot be reached now: nothing was changed, try again.
pub const STORE_UNAVAILABLE: Reason = Reason::new("STORE_UNAVAILABLE");
/// A newer process of the caller, or of the archive, has taken over.
pub const FENCED: Reason = Reason::new("FENCED");
/// Stored data is not what was written.
pub const STORE_DAMAGED: Reason = Reason::new("STORE_DAMAGED");
/// No partition was made for this month's records.
pub const MONTH_MISSING: Reason = Reason::new("MONTH_MISSING");
/// The partition of the month was detached.
pub const MONTH_DETACHED: Reason = Reason::new("MONTH_DETACHED");
/// The audit log refused the entry that tells of the act.
pub const NOT_LOGGED: Reason = Reason::new("NOT_LOGGED");
/// A field of the request is malformed.
pub const INVALID_ARGUMENT: Reason = Reason::new("INVALID_ARGUMENT");

/// A malformed request.
pub fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> ServiceError {
    ServiceError::new(Code::InvalidArgument, INVALID_ARGUMENT, message)
}

impl From<sqlx::Error> for ArchiveError {
    fn from(error: sqlx::Error) -> Self {
        if is_fenced(&error) {
            return Self::Fenced;
        }
        match error {
            sqlx::Error::Decode(cause) => match cause.downcast::<MonthError>() {
                Ok(month) => Self::Month(*month),
                Err(cause) => Self::Database(sqlx::Error::Decode(cause)),
            },
            error => match MonthError::of(&error) {
                Some(month) => Self::Month(month),
                None => Self::Database(error),
            },
        }
    }
}

impl From<ArchiveError> for ServiceError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Refused(refused) => refused,
            ArchiveError::Objects(
                cause @ (ObjectError::Digest { .. } | ObjectError::Folder(FolderError::Lock(_))),
            ) => Self::new(Code::DataLoss, STORE_DAMAGED, "a stored object is damaged")
                .because(cause),
            ArchiveError::Database(cause) => cause.into(),
            error @ ArchiveError::Objects(_) => Self::new(
                Code::Unavailable,
                STORE_UNAVAILABLE,
                "the archive's storage does not answer; nothing was changed, try again",
            )
            .retry_after(Duration::from_millis(500))
            .because(error),
            ArchiveError::Damaged(what) => {
                Self::new(Code::DataLoss, STORE_DAMAGED, "stored data is damaged")
                    .with("what", what)
            }
            ArchiveError::Month(cause @ MonthError::Missing) => Self::new(
                Code::Unavailable,
                MONTH_MISSING,
                "this month's partition of records was not made, so nothing was archived; see whether the clock is right and why \
                 the job of the months fails",
            )
            .retry_after(Duration::from_secs(5))
            .because(cause),
            ArchiveError::Month(MonthError::Detached(month)) => Self::new(
                Code::FailedPrecondition,
                MONTH_DETACHED,
                format!(
                    "{month}, a month of records that this needs, is detached from the database; attach it again, or ask for \
                     another time"
                ),
            )
            .with("month", month),
            ArchiveError::Fenced => Self::new(
                Code::Aborted,
                FENCED,
                "a newer process has taken over; ask that one",
            ),
            ArchiveError::NotLogged(reason) => Self::new(
                Code::FailedPrecondition,
                NOT_LOGGED,
                "the audit log refused the entry, so the act is not in force",
            )
            .with("reason", reason),
            ArchiveError::Overtaken => Self::new(
                Code::Unavailable,
                STORE_UNAVAILABLE,
                "another archive came first; nothing was changed, try again",
            )
            .retry_after(Duration::from_millis(100)),
            ArchiveError::LogUnavailable => Self::new(
                Code::Unavailable,
                STORE_UNAVAILABLE,
                "the audit log does not answer; try again",
            )
            .retry_after(Duration::from_secs(1)),
            ArchiveError::Stopping => Self::new(
                Code::Unavailable,
                STORE_UNAVAILABLE,
                "the archive is stopping; try again",
            )
            .retry_after(Duration::from_secs(1)),
        }
    }
}

impl From<ArchiveError> for Status {
    fn from(error: ArchiveError) -> Self {
        ServiceError::from(error).into()
    }
}
