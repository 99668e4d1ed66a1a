//! What may become a leaf: exactly one typed event of the caller's tenant, within limits, without a stray byte.

use greffe_api::audit as api;
use greffe_envelope::label::sha256;
use greffe_envelope::pb::{self, log_entry::Event};
use greffe_envelope::statement::{Signed, Statement, StatementError};
use greffe_service_kit::clock::CLOCK_BEHIND_LOG;
use greffe_service_kit::errors::Reason;
use greffe_tlog::MAX_ENTRY;
use greffe_types::{Digest, TenantId};
use prost::Message as _;

use crate::texts::{self, BadText};

/// Longest text of an event that is no statement, in bytes: a user's name and some words around it.
const MAX_TEXT: usize = 512;
/// What `recorded_by` and `at` may add to an entry, in bytes.
const STAMP: usize = 80;

/// The entry breaks the contract: no event, a field of the wrong shape, a control character.
pub const ENTRY_INVALID: Reason = Reason::new("ENTRY_INVALID");
/// The leaf would be longer than a bundle can hold.
pub const ENTRY_TOO_LARGE: Reason = Reason::new("ENTRY_TOO_LARGE");
/// The entry names another tenant than the caller's certificate.
pub const TENANT_MISMATCH: Reason = Reason::new("TENANT_MISMATCH");
/// The id was used for another event.
pub const IDEMPOTENCY_CONFLICT: Reason = Reason::new("IDEMPOTENCY_CONFLICT");

/// Why an entry was refused; the stream that brought it goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryRefused {
    /// The id is not 16 bytes.
    #[error("the id has to have 16 bytes")]
    Id,
    /// No entry, or one without event.
    #[error("the entry has no event of a kind that this log knows")]
    NoEvent,
    /// The audit service's own fields were set.
    #[error("recorded_by and at are set by the audit service: leave them empty")]
    Stamped,
    /// Another tenant's.
    #[error("the entry names another tenant than the caller's certificate")]
    Tenant,
    /// A field has the wrong length or value.
    #[error("the field {0} is malformed")]
    Field(&'static str),
    /// A text with a line break or another control character.
    #[error("the text {0} has a control character")]
    Text(String),
    /// A statement of a type that has no place there.
    #[error("a statement of this type has no place in an entry of this kind")]
    StatementType,
    /// A statement that is not encoded as the contract says.
    #[error("a statement is not encoded as its type")]
    Statement(#[source] StatementError),
    /// Longer than [`MAX_ENTRY`].
    #[error("the entry has {0} bytes, at most {MAX_ENTRY} go into a leaf")]
    TooLarge(usize),
    /// The same id came with another event before.
    #[error("this id was used for another event")]
    Conflict,
    /// The clock of this service stands before the log.
    #[error("the audit service's clock is behind the log: set it right, then ask again")]
    Clock,
}

impl EntryRefused {
    /// Stable reason.
    pub(crate) const fn reason(&self) -> Reason {
        match self {
            Self::Id
            | Self::NoEvent
            | Self::Stamped
            | Self::Field(_)
            | Self::Text(_)
            | Self::StatementType
            | Self::Statement(_) => ENTRY_INVALID,
            Self::Tenant => TENANT_MISMATCH,
            Self::TooLarge(_) => ENTRY_TOO_LARGE,
            Self::Conflict => IDEMPOTENCY_CONFLICT,
            Self::Clock => CLOCK_BEHIND_LOG,
        }
    }
}

impl From<BadText> for EntryRefused {
    fn from(bad: BadText) -> Self {
        Self::Text(bad.field)
    }
}

/// An entry that passed every check and waits for its place; only [`check`] makes one.
#[derive(Debug, Clone)]
pub(crate) struct Proposed {
    pub(crate) caller: String,
    pub(crate) id: [u8; 16],
    pub(crate) event: Digest,
    pub(crate) entry: pb::LogEntry,
}

/// Checks a request of a service.
///
/// # Errors
/// [`EntryRefused`].
pub(crate) fn check(
    request: api::AppendRequest,
    tenant: &TenantId,
    caller: &str,
) -> Result<Proposed, EntryRefused> {
    let id = request
        .id
        .as_slice()
        .try_into()
        .map_err(|_| EntryRefused::Id)?;
    let entry = request.entry.ok_or(EntryRefused::NoEvent)?;
    if !entry.recorded_by.is_empty() || entry.at != 0 {
        return Err(EntryRefused::Stamped);
    }
    if entry.tenant != tenant.as_str() {
        return Err(EntryRefused::Tenant);
    }
    let bytes = entry.encode_to_vec();
    if bytes.len() > MAX_ENTRY - STAMP {
        return Err(EntryRefused::TooLarge(bytes.len()));
    }
    check_event(entry.event.as_ref().ok_or(EntryRefused::NoEvent)?)?;
    texts::check("LogEntry", &bytes)?;
    Ok(Proposed {
        caller: caller.to_owned(),
        id,
        event: sha256(&bytes),
        entry,
    })
}

/// Shapes of the events: every byte field has the one length of what it stands for, so that nothing else fits in it.
fn check_event(event: &Event) -> Result<(), EntryRefused> {
    match event {
        Event::Statement(signed) => statement(signed),
        Event::Receipts(batch) => {
            length(&batch.root, &[32], "receipts.root")?;
            require(batch.count > 0, "receipts.count")?;
            require(batch.first > 0, "receipts.first")?;
            require(
                batch.proofs_verified <= batch.count,
                "receipts.proofs_verified",
            )
        }
        Event::ReleasedOrder(released) => {
            let order = released.order.as_ref();
            of_type::<pb::Order>(order.ok_or(EntryRefused::Field("released_order.order"))?)?;
            length(&released.salt, &[0, 32], "released_order.salt")?;
            released
                .approvals
                .iter()
                .try_for_each(of_type::<pb::Approval>)
        }
        Event::SealedOrder(digest) => length(digest, &[32], "sealed_order"),
        Event::Opened(opened) => {
            length(&opened.order, &[32], "opened.order")?;
            length(&opened.envelope, &[32], "opened.envelope")?;
            length(&opened.key_id, &[32], "opened.key_id")?;
            length(&opened.share_epoch, &[32], "opened.share_epoch")?;
            text(&opened.node, "opened.node")
        }
        Event::SealedOpened(sealed) => {
            length(&sealed.sealed_order, &[32], "sealed_opened.sealed_order")?;
            length(&sealed.opened, &[32], "sealed_opened.opened")
        }
        Event::Refusal(refusal) => {
            require(is_reason(&refusal.reason), "refusal.reason")?;
            text(&refusal.operation, "refusal.operation")?;
            require(refusal.caller.len() <= MAX_TEXT, "refusal.caller")?;
            length(&refusal.subject, &[0, 16, 32], "refusal.subject")
        }
        Event::Access(access) => {
            text(&access.person, "access.person")?;
            text(&access.action, "access.action")?;
            length(&access.subject, &[0, 16, 32], "access.subject")
        }
        Event::Conversation(created) => {
            length(&created.conversation, &[16], "conversation.conversation")?;
            length(&created.disclosure, &[0, 32], "conversation.disclosure")?;
            length(&created.device, &[16], "conversation.device")?;
            let known = created.mode() != pb::Mode::Unspecified;
            require(known, "conversation.mode")
        }
        Event::Tombstone(tombstone) => {
            length(&tombstone.envelope, &[32], "tombstone.envelope")?;
            require(!tombstone.acts.is_empty(), "tombstone.acts")?;
            tombstone.acts.iter().try_for_each(of_type::<pb::PersonAct>)
        }
    }
}

/// What becomes effective by being logged. Credentials are statements too, and have no place here.
fn statement(signed: &pb::SignedStatement) -> Result<(), EntryRefused> {
    match signed.r#type.as_str() {
        "trust-bundle" => of_type::<pb::TrustBundle>(signed),
        "device-cert" => of_type::<pb::DeviceCert>(signed),
        "key-record" => of_type::<pb::KeyRecord>(signed),
        "share-epoch" => of_type::<pb::ShareEpoch>(signed),
        "disclosure" => of_type::<pb::Disclosure>(signed),
        "currency" => of_type::<pb::Currency>(signed),
        "acknowledgement" => of_type::<pb::Acknowledgement>(signed),
        "order" => of_type::<pb::Order>(signed),
        "approval" => of_type::<pb::Approval>(signed),
        "void" => of_type::<pb::Void>(signed),
        "range" => of_type::<pb::RangeStatement>(signed),
        "keygen-descriptor" => of_type::<pb::KeygenDescriptor>(signed),
        "reshare-descriptor" => of_type::<pb::ReshareDescriptor>(signed),
        "key-retirement" => of_type::<pb::KeyRetirement>(signed),
        "share-proof" => of_type::<pb::ShareProof>(signed),
        "share-destruction" => of_type::<pb::ShareDestruction>(signed),
        "person-act" => of_type::<pb::PersonAct>(signed),
        _ => Err(EntryRefused::StatementType),
    }
}

/// Deterministic protobuf of the message that its type names, beside signatures in order. Who signed is the caller's to
/// check, and every reader's.
fn of_type<M: Statement>(signed: &pb::SignedStatement) -> Result<(), EntryRefused> {
    let known = |signature: &pb::Signature| {
        signature.signature.len() == 64 && (1..=MAX_TEXT).contains(&signature.signer.len())
    };
    require(signed.signatures.iter().all(known), "signatures")?;
    match Signed::<M>::decode(signed.clone()) {
        Ok(_) => Ok(()),
        Err(StatementError::Type { .. }) => Err(EntryRefused::StatementType),
        Err(error) => Err(EntryRefused::Statement(error)),
    }
}

fn length(bytes: &[u8], allowed: &[usize], field: &'static str) -> Result<(), EntryRefused> {
    require(allowed.contains(&bytes.len()), field)
}

fn text(text: &str, field: &'static str) -> Result<(), EntryRefused> {
    require((1..=MAX_TEXT).contains(&text.len()), field)
}

fn is_reason(reason: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    (1..=63).contains(&reason.len()) && reason.bytes().all(allowed)
}

fn require(holds: bool, field: &'static str) -> Result<(), EntryRefused> {
    if holds {
        Ok(())
    } else {
        Err(EntryRefused::Field(field))
    }
}
