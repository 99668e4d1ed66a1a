//! Why something did not happen: one line for a person, a stable reason for a program, the cause behind it.

use greffe_envelope::attachment::AttachmentError;
use greffe_envelope::message::{OpenError, SealError};
use greffe_envelope::sealbox::SealboxError;
use greffe_envelope::statement::StatementError;
use greffe_envelope::trust::TrustError;
use greffe_mls::MlsError;
use greffe_policy::NoticeError;
use greffe_service_kit::errors::CallError;
use tonic::Status;

use crate::log::LogError;

/// Everything that can go wrong in this library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// A setting or file of the connection cannot be used.
    #[error("the connection's {what} cannot be used")]
    Connection {
        /// Which setting.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A service refused, or could not be reached.
    #[error("{operation} was not done: {source}")]
    Call {
        /// The RPC.
        operation: &'static str,
        /// What the service said.
        source: Box<CallError>,
    },
    /// What a service handed over does not follow from the pinned root.
    #[error("the {what} is not trusted")]
    Trust {
        /// What it is.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<TrustError>,
    },
    /// The log does not bear out what a service said.
    #[error("the log does not bear out the {what}")]
    Log {
        /// What was to be found in it.
        what: &'static str,
        /// Why.
        #[source]
        source: LogError,
    },
    /// A service answered something that cannot be.
    #[error("a service answered with {0}: nothing was done with it")]
    Answer(&'static str),
    /// MLS.
    #[error("the conversation's encryption refuses")]
    Mls(#[from] MlsError),
    /// A message could not be sealed.
    #[error("the message cannot be sealed")]
    Seal(#[from] SealError),
    /// A record could not be opened.
    #[error("the record does not open")]
    Open(#[from] OpenError),
    /// An attachment.
    #[error("the attachment {name:?} is refused")]
    Attachment {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: AttachmentError,
    },
    /// A file could not be read or written.
    #[error("cannot {operation} {name:?}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        name: String,
        /// As the system reported it.
        #[source]
        source: std::io::Error,
    },
    /// There is no notice to show.
    #[error("the notice cannot be shown")]
    Notice(#[from] NoticeError),
    /// The database of this machine. Nothing was sent or acknowledged.
    #[error("the client's database failed; nothing was sent or acknowledged")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A secret at rest does not open: another key file, or a damaged database.
    #[error("a secret in the client's database does not open: wrong key file, or damage")]
    Sealbox(#[from] SealboxError),
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system")]
    Randomness(#[source] getrandom::Error),
    /// Refused here, before anything was sent.
    #[error("{message}")]
    Refused {
        /// Stable reason.
        reason: &'static str,
        /// What, why, and what to do.
        message: String,
    },
}

/// Of anything in this library.
pub type Result<T, E = ClientError> = core::result::Result<T, E>;

impl ClientError {
    /// Stable reason in SCREAMING_SNAKE_CASE.
    pub fn reason(&self) -> &str {
        match self {
            Self::Connection { .. } => "CONNECTION_INVALID",
            Self::Call { source, .. } => match &source.reason {
                Some(reason) => reason,
                None if source.code == tonic::Code::Unavailable => "SERVICE_UNAVAILABLE",
                None if source.code == tonic::Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
                None => "CALL_FAILED",
            },
            Self::Trust { .. } => "NOT_TRUSTED",
            Self::Log { .. } => "LOG_CONTRADICTS",
            Self::Answer(_) => "ANSWER_INVALID",
            Self::Mls(_) => "MLS_REFUSED",
            Self::Seal(SealError::TooLarge) => "MESSAGE_TOO_LARGE",
            Self::Seal(_) => "MESSAGE_NOT_SEALED",
            Self::Open(_) => "RECORD_NOT_OPENED",
            Self::Attachment {
                source: AttachmentError::TooLarge,
                ..
            } => "ATTACHMENT_TOO_LARGE",
            Self::Attachment { .. } => "ATTACHMENT_REFUSED",
            Self::Io { .. } => "FILE_FAILED",
            Self::Notice(error) => error.reason(),
            Self::Store(_) => "STORE_FAILED",
            Self::Sealbox(_) => "SECRET_NOT_OPENED",
            Self::Randomness(_) => "NO_RANDOMNESS",
            Self::Refused { reason, .. } => reason,
        }
    }

    /// Whether the same call may succeed later by itself: the service said so, or was not the one that answered. Every
    /// refusal of ours has a reason; a connection that breaks has none, and gRPC names it in several ways.
    pub fn is_retryable(&self) -> bool {
        use tonic::Code;
        match self {
            Self::Call { source, .. } => {
                let broken = matches!(
                    source.code,
                    Code::Unknown | Code::Internal | Code::Cancelled | Code::DeadlineExceeded
                );
                source.is_retryable() || broken
            }
            _ => false,
        }
    }

    pub(crate) fn refused(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Refused {
            reason,
            message: message.into(),
        }
    }

    /// A refusal that came as an answer instead of an error.
    pub(crate) fn call_reason(operation: &'static str, reason: &str) -> Self {
        Self::Call {
            operation,
            source: Box::new(CallError {
                code: tonic::Code::FailedPrecondition,
                reason: Some(reason.to_owned()),
                message: "the service refused it".to_owned(),
                metadata: std::collections::BTreeMap::new(),
                retry_after: None,
            }),
        }
    }

    pub(crate) fn store(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Store(source.into())
    }

    pub(crate) fn connection(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Connection {
            what: what.into(),
            source: source.into(),
        }
    }
}

impl From<sqlx::Error> for ClientError {
    fn from(source: sqlx::Error) -> Self {
        Self::store(source)
    }
}

/// For `map_err`: a failed RPC.
pub(crate) fn call(operation: &'static str) -> impl Fn(Status) -> ClientError {
    move |status| ClientError::Call {
        operation,
        source: Box::new(status.into()),
    }
}

/// For `map_err`: something that the pinned root does not vouch for.
pub(crate) fn untrusted<E: Into<TrustError>>(what: &'static str) -> impl Fn(E) -> ClientError {
    move |source| ClientError::Trust {
        what,
        source: Box::new(source.into()),
    }
}

/// For `map_err`: a statement that does not decode.
pub(crate) fn malformed(what: &'static str) -> impl Fn(StatementError) -> ClientError {
    move |source| ClientError::Trust {
        what,
        source: Box::new(TrustError::from(source)),
    }
}
