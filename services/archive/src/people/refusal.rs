//! How a person's call is refused: one stable reason for each rule, with what the person can do about it.

use greffe_envelope::opening::RecordsError;
use greffe_envelope::statement::StatementError;
use greffe_envelope::trust::TrustError;
use greffe_policy::{
    CallRefused, ClockError, ExtendError, KeepReason, QuorumError, ReadRefused, ReleaseError,
    ReleaseHoldError, RetentionError,
};
use greffe_service_kit::errors::{Reason, ServiceError};
use tonic::Code;

/// A rule of the archive's own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule(Code, Reason, &'static str);

macro_rules! rules {
    ($($name:ident: $code:ident, $message:literal;)*) => {
        $(pub(crate) const $name: Rule = Rule(Code::$code, Reason::new(stringify!($name)), $message);)*
    };
}

rules! {
    TOKEN_MISSING: Unauthenticated, "send a person-token, signed by a person of the roster, as greffe-person-bin";
    TOKEN_REFUSED: Unauthenticated, "the person-token is for another tenant or service, or not valid now, or for longer than 15 minutes";
    CALLER_NOT_A_PERSON: Unauthenticated, "people call through an application's TLS certificate and with a person-token";
    FIELD_INVALID: InvalidArgument, "a field is malformed";
    PAGE_TOKEN_INVALID: InvalidArgument, "the page token is not from a response to this query; start without one";
    RECORD_UNKNOWN: NotFound, "the archive holds no such record";
    RECORD_DISPOSED: FailedPrecondition, "the record has been disposed of";
    RECORD_NOT_A_MESSAGE: FailedPrecondition, "only messages are opened, extended or disposed of";
    CONVERSATION_UNKNOWN: NotFound, "the archive holds nothing of that conversation";
    RANGE_INVALID: OutOfRange, "a range has 1 to 10000 numbers, in order, none above the conversation's highest";
    PACK_UNKNOWN: FailedPrecondition, "the archive does not have the policy pack that decides; add it to archive.packs";
    ACTS_COUNT: InvalidArgument, "this act needs another number of signatures";
    ACTS_DIFFER: InvalidArgument, "the people have not signed the same act";
    ACT_UNKNOWN: InvalidArgument, "there is no such act";
    ACT_NOT_YOURS: PermissionDenied, "whoever brings an act has to be one of its signers";
    ACT_STALE: FailedPrecondition, "the act was signed more than 30 days ago; sign it again";
    ACT_IN_THE_FUTURE: FailedPrecondition, "the act was signed ahead of the archive's clock";
    ACT_NONCE_REUSED: AlreadyExists, "the act's nonce belongs to another act; sign with a fresh one";
    KEY_UNKNOWN: NotFound, "the log has no record of such a journaling key";
    KEY_IN_PERIOD: FailedPrecondition, "the journaling key's period has to be over for an hour and a quarter: records may still come until then";
    KEY_IN_USE: FailedPrecondition, "records are left that this key opens: a key is retired when the last of them has been disposed of";
    MATTER_UNKNOWN: NotFound, "there is no such matter";
    MATTER_CLOSED: FailedPrecondition, "the matter is closed";
    MATTER_EXISTS: AlreadyExists, "there is a matter of that id";
    HOLD_UNKNOWN: NotFound, "there is no such hold";
    HOLD_EXISTS: AlreadyExists, "there is a hold of that id";
    HOLD_DIFFERS: FailedPrecondition, "the release names another matter or query than the hold";
    RETENTION_CHANGED: Aborted, "the record's retention was changed meanwhile; try again";
    APPROVAL_RULE: FailedPrecondition, "the trust bundle's approval rule asks for less than two people, or than a pack of the records";
    ORDER_UNKNOWN: NotFound, "there is no such order";
    ORDER_EXISTS: AlreadyExists, "another order has that id; file with a fresh one";
    ORDER_NOT_YOURS: PermissionDenied, "an order is filed by its requester, approved by its approver and read by its reader";
    ORDER_READER: FailedPrecondition, "the order's reader is not a reader of the roster with that key";
    ORDER_WINDOW: FailedPrecondition, "the order does not stand now";
    ORDER_RECORD_UNKNOWN: NotFound, "a record of the list is not in the archive, or has been disposed of";
    ORDER_RECORDS_DIFFER: FailedPrecondition, "the approval names another root or count of records than the order";
    ORDER_NOT_RELEASED: FailedPrecondition, "the order has not been released";
    ORDER_RELEASED: FailedPrecondition, "the order has been released already";
    ORDER_RECORD_OUTSIDE: PermissionDenied, "the record, or its attachment, is none of the order's";
}

impl Rule {
    /// The refusal.
    pub(crate) fn refuse(self) -> ServiceError {
        ServiceError::new(self.0, self.1, self.2)
    }
}

/// A malformed field, by name.
pub(crate) fn field(name: &'static str) -> ServiceError {
    FIELD_INVALID.refuse().with("field", name)
}

/// `Err` unless a field is well formed.
pub(crate) fn require(holds: bool, name: &'static str) -> Result<(), ServiceError> {
    if holds { Ok(()) } else { Err(field(name)) }
}

/// A statement whose encoding or signature does not hold.
pub(crate) fn statement(error: StatementError) -> ServiceError {
    trust(TrustError::Statement(error))
}

/// A signature that the roster does not bear out.
pub(crate) fn trust(error: TrustError) -> ServiceError {
    ServiceError::new(
        Code::PermissionDenied,
        Reason::new("SIGNATURE_REFUSED"),
        "the statement is not signed by a person of the current roster who may act now",
    )
    .because(error)
}

/// A digest list that is not the order's.
pub(crate) fn records(error: RecordsError) -> ServiceError {
    let message = error.to_string();
    ServiceError::new(Code::InvalidArgument, Reason::new("ORDER_RECORDS"), message)
}

/// A caller or asker without the role.
pub(crate) fn access(error: &CallRefused) -> ServiceError {
    denied(error.reason(), error.to_string())
}

/// Signatures that are no quorum.
pub(crate) fn quorum(error: &QuorumError) -> ServiceError {
    denied(error.reason(), error.to_string())
}

/// An order that is not released.
pub(crate) fn release(error: &ReleaseError) -> ServiceError {
    match error {
        ReleaseError::Quorum(error) => quorum(error),
        other => precondition(other.reason(), other.to_string()),
    }
}

/// A hold that is not released.
pub(crate) fn hold(error: &ReleaseHoldError) -> ServiceError {
    let ReleaseHoldError::Quorum(error) = error;
    quorum(error)
}

/// Retention that is not extended.
pub(crate) fn extension(error: &ExtendError) -> ServiceError {
    match error {
        ExtendError::Quorum(error) => quorum(error),
        other => precondition(other.reason(), other.to_string()),
    }
}

/// A retention that cannot be computed.
pub(crate) fn retention(error: &RetentionError) -> ServiceError {
    precondition(error.reason(), error.to_string())
}

/// A record that stays, for all these reasons.
pub(crate) fn kept(reasons: &[KeepReason]) -> ServiceError {
    let first = reasons.first().map_or("RECORD_HELD", KeepReason::reason);
    // A hold outranks a date: it is what the person can do something about.
    let held = reasons
        .iter()
        .map(KeepReason::reason)
        .find(|r| *r == "RECORD_HELD");
    let words: Vec<String> = reasons
        .iter()
        .map(|reason| match reason {
            KeepReason::RetainedUntil(until) => format!("retained until {until}"),
            KeepReason::Awaiting(event) => format!("its retention waits for {event}"),
            KeepReason::Held(hold) => format!("hold {} of matter {} stands", hold.id, hold.matter),
        })
        .collect();
    precondition(
        held.unwrap_or(first),
        format!("the record stays: {}", words.join("; ")),
    )
}

/// No time to destroy by.
pub(crate) fn clock(error: &ClockError) -> ServiceError {
    precondition(error.reason(), error.to_string())
}

/// A record that may not be read.
pub(crate) fn read(error: &ReadRefused) -> ServiceError {
    precondition(error.reason(), error.to_string())
}

fn denied(reason: &'static str, message: String) -> ServiceError {
    ServiceError::new(Code::PermissionDenied, Reason::new(reason), message)
}

fn precondition(reason: &'static str, message: String) -> ServiceError {
    ServiceError::new(Code::FailedPrecondition, Reason::new(reason), message)
}
