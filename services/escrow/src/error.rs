//! Why the node refuses: a stable reason, words for the caller, and a cause that stays here.

use core::fmt;
use core::time::Duration;
use std::borrow::Cow;
use std::error::Error;

use greffe_service_kit::errors::{Reason, ServiceError};
use tonic::{Code, Status};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $($(#[$doc])* pub const $name: Reason = Reason::new(stringify!($name));)*
    };
}

reasons! {
    /// A message or field is missing or malformed.
    MALFORMED,
    /// The node has not followed the log far enough to judge.
    NOT_CAUGHT_UP,
    /// The database, randomness or a sealed value failed.
    NODE_FAILED,
    /// The log did not take the entry in time: nothing is answered without one.
    LOG_UNAVAILABLE,
    /// The log shows two histories. The evidence is kept.
    LOG_FORKED,
    /// The witness's state is gone: an empty one would cosign a second history.
    WITNESS_STATE_LOST,
    /// The witness's state is damaged or of another log.
    WITNESS_STATE_UNUSABLE,
    /// A checkpoint is not the log's, or not well formed.
    CHECKPOINT_REFUSED,
    /// A checkpoint lacks the quorum of recent cosignatures.
    CHECKPOINT_UNWITNESSED,
    /// A statement is not in the log where it is said to be.
    STATEMENT_NOT_IN_LOG,
    /// No disclosure of this mode is in force.
    NO_DISCLOSURE,
    /// No share epoch of a disclosed key is in force.
    NO_SHARE_EPOCH,
    /// The descriptor of a key generation is refused.
    KEYGEN_DESCRIPTOR,
    /// A key generation is not where the message belongs, or was given up: a new ceremony is drafted.
    KEYGEN_SESSION,
    /// A message of a key generation is refused; the session is over when a node is to blame.
    KEYGEN_MESSAGE,
    /// The descriptor of a resharing is refused.
    RESHARE_DESCRIPTOR,
    /// A resharing is not where the message belongs, or was given up: a new one is drafted.
    RESHARE_SESSION,
    /// A message of a resharing is refused; the session is over when a node is to blame.
    RESHARE_MESSAGE,
    /// The trust bundle has other keys for this node than the node itself.
    NODE_KEYS_DIFFER,
    /// An order is malformed or of another tenant.
    ORDER_MALFORMED,
    /// An order is not signed by its requester, or the requester may not ask.
    ORDER_SIGNATURE,
    /// The reader of an order is not a reader of the roster.
    ORDER_READER,
    /// The reader's key in an order is not the roster's.
    ORDER_READER_KEY,
    /// An approval is malformed, of another order, or over other records.
    APPROVAL_MALFORMED,
    /// An approval is not signed by the person it names, or the roster has no such person.
    APPROVAL_SIGNATURE,
    /// The trust bundle's rule for approvals could be met by one person, or by nobody.
    APPROVAL_RULE,
    /// The leaf is not the order's.
    ORDER_LEAF,
    /// The order's leaf is not in the log under the checkpoint.
    ORDER_NOT_IN_LOG,
    /// More records than the order covers.
    ORDER_COUNT,
    /// The record is not in the order's list at that index.
    RECORD_NOT_IN_ORDER,
    /// The envelope is malformed or its signature wrong.
    ENVELOPE_REFUSED,
    /// The record is not of this tenant.
    RECORD_TENANT,
    /// The device certificate is not the header's, or its chain fails.
    CERTIFICATE_REFUSED,
    /// The receipt is malformed, not the archive's, or of another envelope.
    RECEIPT_REFUSED,
    /// The receipt is not in the log where it is said to be.
    RECEIPT_NOT_IN_LOG,
    /// The record was disposed of.
    RECORD_DISPOSED,
    /// The wrap is not the envelope's, or malformed.
    WRAP_REFUSED,
    /// The proof of knowledge does not verify.
    PROOF_REFUSED,
    /// The ML-KEM ciphertext was opened for another envelope before.
    WRAP_REUSED,
    /// The node holds no active share of the key.
    NO_SHARE,
    /// The journaling key is retired, and its shares are destroyed.
    KEY_RETIRED,
    /// The node has opened as many records in this hour as it may.
    RATE_LIMITED,
    /// As many openings are under way as the node, or the caller, may have.
    TOO_MANY_OPENINGS,
}

/// When what is too much now may be asked for again.
const LATER: Duration = Duration::from_secs(60);

/// What kind of refusal: decides the gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is malformed: the same one will never pass.
    Malformed,
    /// A check failed: signatures, quorum, proof.
    Denied,
    /// The node or the log is not in the state for it: later, perhaps.
    State,
    /// Two histories.
    Forked,
    /// Too much for this hour.
    Exhausted,
    /// A peer cannot be reached.
    Unavailable,
    /// The node's own fault.
    Internal,
}

/// A refusal.
#[derive(Debug)]
pub struct Refusal {
    kind: Kind,
    reason: Reason,
    message: Cow<'static, str>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Refusal {
    /// A refusal with words for the caller, which hold no content and no secret.
    pub fn new(kind: Kind, reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            reason,
            message: message.into(),
            source: None,
        }
    }

    /// The request is malformed.
    pub fn malformed(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Malformed, reason, message)
    }

    /// A check failed.
    pub fn denied(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Denied, reason, message)
    }

    /// The node is not in the state for it.
    pub fn state(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::State, reason, message)
    }

    /// The node's own fault.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Kind::Internal, NODE_FAILED, "the node failed").because(source)
    }

    /// The same refusal for another record of a batch, without its cause.
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            kind: self.kind,
            reason: self.reason,
            message: self.message().into(),
            source: None,
        }
    }

    /// Keeps the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Stable reason.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// What and why, for the caller: the message and, for what is checked of the request, the causes. Those of the node's
    /// own failures stay here.
    pub fn message(&self) -> String {
        match self.kind {
            Kind::Internal => self.message.clone().into_owned(),
            _ => greffe_service_kit::errors::Causes(self).to_string(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Refusal {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        let error = ServiceError::from(error);
        let kind = match error.code() {
            Code::Unavailable => Kind::Unavailable,
            Code::ResourceExhausted => Kind::Exhausted,
            _ => Kind::Internal,
        };
        Self::new(kind, error.reason(), "the node's database failed").because(error)
    }
}

impl From<Refusal> for ServiceError {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.kind {
            Kind::Malformed => Code::InvalidArgument,
            Kind::Denied => Code::PermissionDenied,
            Kind::State => Code::FailedPrecondition,
            Kind::Forked => Code::DataLoss,
            Kind::Exhausted => Code::ResourceExhausted,
            Kind::Unavailable => Code::Unavailable,
            Kind::Internal => Code::Internal,
        };
        let error = Self::new(code, refusal.reason, refusal.message());
        let error = match refusal.kind {
            Kind::Exhausted => error.retry_after(LATER),
            _ => error,
        };
        // Elsewhere the causes are part of the message.
        match (refusal.kind, refusal.source) {
            (Kind::Internal, Some(source)) => error.because(source),
            _ => error,
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        ServiceError::from(refusal).into()
    }
}
