//! Why a message gets no number.

use greffe_api::relay as api;
use greffe_envelope::envelope::{EnvelopeError, envelope_digest};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::validate::Invalid;
use greffe_envelope::wrap::ProofError;
use greffe_types::Digest;

use crate::error::RelayError;

/// Why a message was refused; it took no number and changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum MessageRefusal {
    /// No envelope, or one that is malformed.
    #[error("the envelope is missing or malformed")]
    Envelope(#[source] Option<EnvelopeError>),
    /// The header names another device than the session.
    #[error("the header names another device, user or certificate than the session")]
    Sender,
    /// The header's certificate is not the one of the sender's leaf in the group.
    #[error("the header's certificate is not the one of the sender's MLS leaf")]
    Leaf,
    /// The ciphertext is over 1 MiB and its overhead.
    #[error("the ciphertext is too large")]
    Size,
    /// The MLS message is malformed, or not an application message.
    #[error("the MLS message is refused: {0}")]
    Frame(greffe_mls::Refusal),
    /// What relay and archive both demand.
    #[error("{0}")]
    Invalid(Invalid),
    /// The proof of knowledge.
    #[error("the proof of knowledge is refused")]
    Proof(#[source] ProofError),
    /// The device's counter is not one more than its last.
    #[error("the device counter has to be {expected}")]
    Counter {
        /// The next one.
        expected: u64,
    },
    /// The previous envelope is another.
    #[error("the previous envelope of this device in the conversation is another")]
    Previous,
    /// What the sender says it has seen never was.
    #[error("seen_seq and seen_head are not of this conversation's chain")]
    Seen,
    /// An attachment was not uploaded, or has another size.
    #[error("attachment {0} is not complete: upload it first")]
    Attachment(Digest),
}

impl MessageRefusal {
    /// Stable reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Envelope(_) => "ENVELOPE_MALFORMED",
            Self::Sender => "SENDER_MISMATCH",
            Self::Leaf => "CERTIFICATE_NOT_OF_LEAF",
            Self::Size => "CIPHERTEXT_TOO_LARGE",
            Self::Frame(_) => "MLS_MESSAGE_REFUSED",
            Self::Invalid(why) => why.reason(),
            Self::Proof(_) => "PROOF_INVALID",
            Self::Counter { .. } => "COUNTER_MISMATCH",
            Self::Previous => "PREVIOUS_MISMATCH",
            Self::Seen => "SEEN_HEAD_MISMATCH",
            Self::Attachment(_) => "ATTACHMENT_INCOMPLETE",
        }
    }

    /// Whether the log records it: an honest client whose earlier message was refused gets the last three.
    pub const fn is_recorded(&self) -> bool {
        !matches!(
            self,
            Self::Counter { .. } | Self::Previous | Self::Attachment(_)
        )
    }
}

/// The name a message is answered by, well formed or not.
pub(super) fn digest_of(request: &api::SendRequest) -> Digest {
    let body = request.envelope.as_ref().map(|e| e.body.as_slice());
    envelope_digest(body.unwrap_or_default())
}

/// Whether an error is no answer to the message but the end of the stream: overload, and failures of our own.
pub(super) const fn ends_stream(error: &RelayError) -> bool {
    matches!(
        error,
        RelayError::Busy(_)
            | RelayError::DeviceBusy(_)
            | RelayError::Stopping
            | RelayError::Fenced
            | RelayError::Database(_)
            | RelayError::Damaged(_)
            | RelayError::Observer(_)
    )
}

/// The reason in a void that was verified when it came.
pub(crate) fn void_reason(void: &pb::SignedStatement, refused: Digest) -> String {
    Signed::<pb::Void>::decode(void.clone())
        .map_or_else(|_| refused.to_string(), |void| void.reason.clone())
}
