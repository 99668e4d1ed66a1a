//! Why something was refused, and what can fail on our own side.

use std::sync::Arc;

use greffe_types::{DeviceId, Digest};
use mls_rs_core::error::{AnyError, IntoAnyError};

use crate::trust::DisclosureError;

/// Why an input was refused. Nothing changes when one is returned.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Longer than its limit (`limits`).
    #[error("a {what} of {found} bytes is over the limit of {limit}")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
    /// Not what RFC 9420 says it should look like, or trailing bytes.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// More entries than allowed in one of its lists.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// Another MLS version, cipher suite or kind of message than this place takes.
    #[error("unexpected {0}")]
    Unexpected(&'static str),
    /// Belongs to another conversation.
    #[error("it belongs to another conversation")]
    OtherConversation,
    /// Not of the current epoch: late, or something before it was withheld.
    #[error("it is of epoch {found}, the conversation is in epoch {current}")]
    Epoch {
        /// Where the conversation is.
        current: u64,
        /// Where the message is.
        found: u64,
    },
    /// A handshake with authenticated data, or an application message whose authenticated data is not 32 bytes.
    #[error("authenticated data of {0} bytes is not allowed here")]
    AuthenticatedData(usize),
    /// An application message whose plaintext is not version 1 and a seed.
    #[error("the plaintext is not a version and a seed")]
    Plaintext,
    /// A sender that is not a member: external commits, external proposals.
    #[error("the sender is not a member")]
    NotAMember,
    /// A proposal sent alone or by reference; here a proposal is committed in the step that makes it.
    #[error("a proposal outside the commit that carries it")]
    LooseProposal,
    /// A type of proposal that conversations do not use (RFC 9420 section 12.1 number).
    #[error("proposals of type {0} are not allowed")]
    Proposal(u16),
    /// An extension outside the allow-list of its place.
    #[error("extension {kind:#06x} is not allowed in a {place}")]
    Extension {
        /// Where it was.
        place: &'static str,
        /// Its type.
        kind: u16,
    },
    /// The journaling extension is absent.
    #[error("there is no journaling extension")]
    NoDisclosure,
    /// The required capabilities do not demand the journaling extension.
    #[error("the required capabilities do not demand the journaling extension")]
    NoRequirement,
    /// The verifier refuses the disclosure.
    #[error("the disclosure is not acceptable")]
    Disclosure(#[source] DisclosureError),
    /// The serial is lower than one already seen.
    #[error("the disclosure has serial {found}, {known} is known")]
    SerialLower {
        /// Highest known.
        known: u64,
        /// Found.
        found: u64,
    },
    /// Two different disclosures carry one serial.
    #[error("another disclosure with serial {0} is known")]
    SerialReused(u64),
    /// A conversation's mode only moves upward.
    #[error("the mode would become weaker")]
    ModeLowered,
    /// The tenants of a conversation do not change.
    #[error("the tenants would change")]
    TenantsChanged,
    /// The credential is not a basic credential of 48 bytes.
    #[error("the credential is not a device and its certificate")]
    Credential,
    /// No such device certificate was presented, or it is not valid.
    #[error("device certificate {0} was not presented")]
    UnknownCertificate(Digest),
    /// The leaf's device or key is not the certificate's.
    #[error("the leaf of device {0} does not match its certificate")]
    CertificateMismatch(DeviceId),
    /// The device's tenant does not take part in the conversation.
    #[error("the tenant of device {0} does not take part")]
    ForeignTenant(DeviceId),
    /// Our own application message came back.
    #[error("it is our own message")]
    OwnMessage,
    /// The key of this message was used or skipped too far.
    #[error("its key is gone: received before, or too far ahead")]
    Replay,
    /// This member is no longer in the conversation.
    #[error("this device is not in the conversation any more")]
    Closed,
    /// The MLS library refuses it: a signature, a tag, a decryption, a tree.
    #[error("MLS refuses it")]
    Mls(#[source] Arc<mls_rs::error::MlsError>),
}

impl Refusal {
    /// A stable word for counters and reports.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too-large",
            Self::Malformed(_) => "malformed",
            Self::TooMany(_) => "too-many",
            Self::Unexpected(_) => "unexpected",
            Self::OtherConversation => "other-conversation",
            Self::Epoch { .. } => "epoch",
            Self::AuthenticatedData(_) => "authenticated-data",
            Self::Plaintext => "plaintext",
            Self::NotAMember => "not-a-member",
            Self::LooseProposal => "loose-proposal",
            Self::Proposal(_) => "proposal",
            Self::Extension { .. } => "extension",
            Self::NoDisclosure => "no-disclosure",
            Self::NoRequirement => "no-requirement",
            Self::Disclosure(_) => "disclosure",
            Self::SerialLower { .. } => "serial-lower",
            Self::SerialReused(_) => "serial-reused",
            Self::ModeLowered => "mode-lowered",
            Self::TenantsChanged => "tenants-changed",
            Self::Credential => "credential",
            Self::UnknownCertificate(_) => "unknown-certificate",
            Self::CertificateMismatch(_) => "certificate-mismatch",
            Self::ForeignTenant(_) => "foreign-tenant",
            Self::OwnMessage => "own-message",
            Self::Replay => "replay",
            Self::Closed => "closed",
            Self::Mls(_) => "mls",
        }
    }
}

impl IntoAnyError for Refusal {
    fn into_dyn_error(self) -> Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(Box::new(self))
    }
}

impl From<mls_rs::error::MlsError> for Refusal {
    fn from(error: mls_rs::error::MlsError) -> Self {
        use mls_rs::error::MlsError as E;
        let ours = |any: &AnyError| any.inner_dyn_error().downcast_ref::<Self>().cloned();
        match &error {
            E::MlsRulesError(any) | E::IdentityProviderError(any) => ours(any),
            E::CantProcessMessageFromSelf => Some(Self::OwnMessage),
            E::KeyMissing(_) | E::InvalidFutureGeneration(_) => Some(Self::Replay),
            E::SerializationError(_) => Some(Self::Malformed("MLS message")),
            _ => None,
        }
        .unwrap_or_else(|| Self::Mls(Arc::new(error)))
    }
}

/// What can fail in an operation of our own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MlsError {
    /// What was asked for, or handed in, is refused.
    #[error("refused")]
    Refused(#[from] Refusal),
    /// A commit of ours awaits the relay's answer; apply or clear it first.
    #[error("a commit of ours is pending")]
    CommitPending,
    /// There is no pending commit to apply.
    #[error("no commit of ours is pending")]
    NoCommitPending,
    /// The device is not in the conversation.
    #[error("device {0} is not in the conversation")]
    NoSuchMember(DeviceId),
    /// A row that the operation needs was not handed in, or does not parse.
    #[error("the stored {0} is missing or damaged")]
    Row(&'static str),
    /// The signing key does not have the right form.
    #[error("not an MLS signing key")]
    Key,
}

impl From<mls_rs::error::MlsError> for MlsError {
    fn from(error: mls_rs::error::MlsError) -> Self {
        Self::Refused(error.into())
    }
}
