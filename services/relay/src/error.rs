//! Everything the relay refuses or fails with, and one exhaustive way to gRPC.

use core::time::Duration;
use greffe_service_kit::db::is_fenced;

use greffe_envelope::trust::TrustError;
use greffe_mls::{MlsError, Refusal};
use greffe_service_kit::append::AppendError;
use greffe_service_kit::errors::{Reason, ServiceError};
use tonic::{Code, Status};

use crate::attachments::StagingError;
use crate::pipeline::MessageRefusal;
use crate::session::SessionError;

/// Why a call was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// A field is missing, of a wrong size or form.
    #[error("the field {0} is missing or malformed")]
    Field(&'static str),
    /// More of something than one call may carry.
    #[error("at most {limit} {what} in one call")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// A statement, or something that it says, is not trusted.
    #[error("the {0} is refused: its signatures, period or place do not hold")]
    Statement(&'static str, #[source] TrustError),
    /// A kind of statement that is not published here.
    #[error("statements of this type are not published through the relay")]
    StatementType,
    /// The same kind of statement is in force with other bytes.
    #[error("another statement of the same serial is in force")]
    StatementTaken,
    /// A device is registered for another user.
    #[error("the device is registered for another user")]
    DeviceUser,
    /// No such certificate is registered.
    #[error("the device certificate is not registered: call RegisterDevice first")]
    CertificateUnknown,
    /// The certificate was revoked or its period is over.
    #[error("the device certificate is revoked or out of its period: register a new one")]
    CertificateInvalid(#[source] TrustError),
    /// The challenge is not one given to this device, was used, or ran out.
    #[error("the challenge is unknown, used or older than 60 seconds: ask for another")]
    Challenge,
    /// The login is not what it has to be.
    #[error("the login is refused")]
    Login(#[source] TrustError),
    /// The session.
    #[error("{0}")]
    Session(SessionError),
    /// A key package is refused.
    #[error("key package {index} is refused: {why}")]
    KeyPackage {
        /// Its place in the call.
        index: usize,
        /// Why.
        why: Refusal,
    },
    /// A key package names another device or certificate than the session's.
    #[error("key package {0} is not of the session's device and certificate")]
    KeyPackageDevice(usize),
    /// No such conversation, or the device is not in it: the two are told alike.
    #[error("there is no such conversation with this device as a member")]
    NoConversation,
    /// A conversation's id is taken by another group.
    #[error("the conversation's id is taken by another group")]
    ConversationTaken,
    /// The group info of a new conversation is refused.
    #[error("the group info is refused: {0}")]
    GroupInfo(Refusal),
    /// A new conversation has one member, the session's device, and epoch 0.
    #[error("a new conversation has epoch 0 and the session's device as its only member")]
    Creator,
    /// Supervised conversations wait for the supervision desk.
    #[error("supervised conversations are not offered: there is no supervision desk yet")]
    SupervisionUnavailable,
    /// The tenant's policy does not allow this mode.
    #[error("the policy pack does not allow conversations of this mode")]
    ModeNotAllowed,
    /// The device has not acknowledged the notice of the disclosure in force.
    #[error("the notice in force is not acknowledged: call AcknowledgeNotice first")]
    NotAcknowledged,
    /// The acknowledgement names another disclosure than the one in force.
    #[error("the acknowledgement is not of the disclosure in force")]
    NotInForce,
    /// The commit or message is of another epoch.
    #[error(
        "it is not of the present epoch {current}: take in what was delivered and make it anew"
    )]
    EpochStale {
        /// The conversation's epoch.
        current: u64,
    },
    /// An earlier commit has no receipt yet.
    #[error("an earlier commit of the conversation is being archived: try again")]
    CommitPending,
    /// A commit is refused.
    #[error("the commit is refused: {0}")]
    Commit(Refusal),
    /// A commit that is not the session device's own.
    #[error("the commit was made by another device than the session's")]
    Committer,
    /// Devices are added without a Welcome, or a Welcome comes with nobody added.
    #[error("a Welcome and a ratchet tree come with a commit that adds devices, and only with one")]
    Welcome,
    /// The archive refused a sequenced item; its number is taken by a void.
    #[error("the archive refused it: {0}")]
    Voided(String),
    /// The same key was used for something else.
    #[error("this was accepted before with another body")]
    Conflict,
    /// Another replica has taken over.
    #[error("another replica serves this tenant now")]
    Fenced,
    /// A message gets no number.
    #[error("{0}")]
    Message(#[from] MessageRefusal),
    /// No such attachment for this device, or no longer.
    #[error("there is no such attachment for this device, or every member has had its message")]
    NoAttachment,
    /// An attachment cannot be staged.
    #[error("{0}")]
    Staging(#[from] StagingError),
    /// The archive did not take an attachment.
    #[error("the archive did not take the attachment: upload it again")]
    Archive(#[source] Box<Status>),
    /// Relay and archive contradict each other about a conversation: an operator has to look.
    #[error("the conversation is stopped: relay and archive contradict each other")]
    Stalled,
    /// The relay is stopping.
    #[error("the relay is stopping")]
    Stopping,
    /// Too much is under way.
    #[error("the relay is busy: {0}")]
    Busy(&'static str),
    /// One device has too much under way.
    #[error("the device has to wait: {0}")]
    DeviceBusy(&'static str),
    /// The audit log did not take an entry in.
    #[error("the audit log refused the entry: nothing was changed")]
    Log(#[source] AppendError),
    /// The database.
    #[error("the relay's database failed")]
    Database(#[source] sqlx::Error),
    /// Stored bytes no longer parse.
    #[error("stored state is damaged: {0}")]
    Damaged(&'static str),
    /// The MLS observer failed on the relay's own side.
    #[error("the conversation's group state cannot be used")]
    Observer(#[source] MlsError),
    /// The operating system gave no random bytes.
    #[error("no randomness")]
    Randomness,
}

impl RelayError {
    /// gRPC code and stable reason.
    fn classify(&self) -> (Code, &'static str) {
        use Code::{
            Aborted, AlreadyExists, FailedPrecondition, Internal, InvalidArgument, NotFound,
            PermissionDenied, ResourceExhausted, Unauthenticated, Unavailable,
        };
        match self {
            Self::Field(_) => (InvalidArgument, "FIELD_MALFORMED"),
            Self::TooMany { .. } => (InvalidArgument, "TOO_MANY"),
            Self::Statement(..) => (InvalidArgument, "STATEMENT_REFUSED"),
            Self::StatementType => (InvalidArgument, "STATEMENT_TYPE"),
            Self::StatementTaken => (AlreadyExists, "STATEMENT_TAKEN"),
            Self::DeviceUser => (AlreadyExists, "DEVICE_OF_OTHER_USER"),
            Self::CertificateUnknown => (NotFound, "CERTIFICATE_UNKNOWN"),
            Self::CertificateInvalid(_) => (PermissionDenied, "CERTIFICATE_INVALID"),
            Self::Challenge => (Unauthenticated, "CHALLENGE_REFUSED"),
            Self::Login(_) => (Unauthenticated, "LOGIN_REFUSED"),
            Self::Session(why) => (Unauthenticated, why.reason()),
            Self::KeyPackage { .. } => (InvalidArgument, "KEY_PACKAGE_REFUSED"),
            Self::KeyPackageDevice(_) => (PermissionDenied, "KEY_PACKAGE_OF_OTHER_DEVICE"),
            Self::NoConversation => (NotFound, "CONVERSATION_UNKNOWN"),
            Self::ConversationTaken => (AlreadyExists, "CONVERSATION_TAKEN"),
            Self::GroupInfo(_) => (InvalidArgument, "GROUP_INFO_REFUSED"),
            Self::Creator => (InvalidArgument, "CREATOR_NOT_ALONE"),
            Self::SupervisionUnavailable => (FailedPrecondition, "SUPERVISION_UNAVAILABLE"),
            Self::ModeNotAllowed => (FailedPrecondition, "MODE_NOT_ALLOWED"),
            Self::NotAcknowledged => (FailedPrecondition, "NOTICE_NOT_ACKNOWLEDGED"),
            Self::NotInForce => (FailedPrecondition, "DISCLOSURE_NOT_IN_FORCE"),
            Self::EpochStale { .. } => (Aborted, "EPOCH_STALE"),
            Self::CommitPending => (Unavailable, "COMMIT_PENDING"),
            Self::Commit(_) => (InvalidArgument, "COMMIT_REFUSED"),
            Self::Committer => (PermissionDenied, "COMMIT_OF_OTHER_DEVICE"),
            Self::Welcome => (InvalidArgument, "WELCOME_MISMATCH"),
            Self::Voided(_) => (FailedPrecondition, "ARCHIVE_REFUSED"),
            Self::Conflict => (AlreadyExists, "IDEMPOTENCY_CONFLICT"),
            Self::Fenced => (Unavailable, "FENCED"),
            Self::Message(why) => (InvalidArgument, why.reason()),
            Self::NoAttachment => (NotFound, "ATTACHMENT_UNKNOWN"),
            Self::Staging(StagingError::Differs(_)) => (InvalidArgument, "ATTACHMENT_MISMATCH"),
            Self::Staging(StagingError::Io(..)) => (Internal, "STAGING_FAILED"),
            Self::Staging(StagingError::NotDurable(_)) => (Unavailable, "NOT_DURABLE"),
            Self::Archive(_) => (Unavailable, "ARCHIVE_UNAVAILABLE"),
            Self::Stalled => (Code::DataLoss, "CONVERSATION_STALLED"),
            Self::Stopping => (Unavailable, "SERVICE_STOPPING"),
            Self::Busy(_) => (ResourceExhausted, "BUSY"),
            Self::DeviceBusy(_) => (ResourceExhausted, "DEVICE_BUSY"),
            Self::Log(_) => (FailedPrecondition, "LOG_REFUSED"),
            Self::Database(_) => (Internal, "DATABASE_FAILED"),
            Self::Damaged(_) => (Internal, "STATE_DAMAGED"),
            Self::Observer(_) => (Internal, "OBSERVER_FAILED"),
            Self::Randomness => (Internal, "NO_RANDOMNESS"),
        }
    }

    /// Stable reason.
    pub fn reason(&self) -> &'static str {
        self.classify().1
    }

    /// Whether the refusal is an act that the log records: what an honest client does not do. Races, overload and
    /// failures of our own are not.
    pub fn is_recorded(&self) -> bool {
        if let Self::Message(why) = self {
            return why.is_recorded();
        }
        !matches!(
            self,
            Self::EpochStale { .. }
                | Self::CommitPending
                | Self::NotAcknowledged
                | Self::NotInForce
                | Self::Voided(_)
                | Self::Fenced
                | Self::Stopping
                | Self::Stalled
                | Self::Staging(StagingError::Io(..) | StagingError::NotDurable(_))
                | Self::Archive(_)
                | Self::Busy(_)
                | Self::DeviceBusy(_)
                | Self::Log(_)
                | Self::Database(_)
                | Self::Damaged(_)
                | Self::Observer(_)
                | Self::Randomness
        )
    }
}

impl From<sqlx::Error> for RelayError {
    fn from(error: sqlx::Error) -> Self {
        if is_fenced(&error) {
            Self::Fenced
        } else {
            Self::Database(error)
        }
    }
}

impl From<MlsError> for RelayError {
    fn from(error: MlsError) -> Self {
        Self::Observer(error)
    }
}

impl From<SessionError> for RelayError {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl From<RelayError> for ServiceError {
    fn from(error: RelayError) -> Self {
        // Busy, full, failed or not to be relied on any more: the caller has to know which.
        let error = match error {
            RelayError::Database(cause) => return cause.into(),
            error => error,
        };
        let (code, reason) = error.classify();
        let made = Self::new(code, Reason::new(reason), error.to_string());
        let made = match &error {
            RelayError::EpochStale { current } => made.with("epoch", current),
            RelayError::Voided(why) => made.with("reason", why),
            RelayError::CommitPending => made.retry_after(Duration::from_millis(50)),
            RelayError::Busy(_) | RelayError::DeviceBusy(_) | RelayError::Stopping => {
                made.retry_after(Duration::from_millis(250))
            }
            _ => made,
        };
        if std::error::Error::source(&error).is_none() {
            return made;
        }
        made.because(error)
    }
}

impl From<RelayError> for Status {
    fn from(error: RelayError) -> Self {
        ServiceError::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use greffe_service_kit::errors::CallError;

    use super::*;

    #[test]
    fn a_stale_epoch_tells_the_present_one() {
        let error = CallError::from(Status::from(RelayError::EpochStale { current: 7 }));
        assert_eq!(error.reason.as_deref(), Some("EPOCH_STALE"));
        assert_eq!(error.metadata.get("epoch").map(String::as_str), Some("7"));
    }

    #[test]
    fn what_is_ours_is_not_recorded_against_the_caller() {
        assert!(!RelayError::Database(sqlx::Error::RowNotFound).is_recorded());
        assert!(RelayError::Conflict.is_recorded());
    }
}
