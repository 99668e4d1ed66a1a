//! Everything that a service can refuse of a message: one pure function, called by the relay before it gives a number and
//! by the archive before it gives a receipt, so that what the relay lets through the archive does not refuse.
//!
//! What only encoding and sizes decide is [`Envelope::decode`]'s, before this. What takes long arithmetic, the proofs of
//! knowledge, is [`crate::wrap::verify_proofs`]' to say, after it.

use greffe_types::{ConversationId, Digest, Millis};

use crate::envelope::Envelope;
use crate::label::sha256;
use crate::pb;
use crate::statement::{Signed, StatementError};
use crate::trust::{Bundle, TrustError, VerifiedDisclosure, verify_device_cert};
use crate::wrap::{WrapError, WrapView};

/// What the MLS PrivateMessage that carries the seed says of itself, outside its encryption. A member who decrypts it
/// authenticates it; a service only sees that it fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carrier {
    /// Its group id.
    pub conversation: ConversationId,
    /// Its epoch.
    pub epoch: u64,
    /// Its authenticated data: the envelope digest.
    pub envelope: Digest,
}

/// What a message is judged by.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The bundle in force.
    pub bundle: &'a Bundle,
    /// The disclosure in force in the conversation.
    pub disclosure: &'a VerifiedDisclosure,
    /// The sender's certificate, not yet verified.
    pub cert: &'a Signed<pb::DeviceCert>,
    /// The conversation that it was handed in for.
    pub conversation: ConversationId,
    /// The MLS message that came with it.
    pub carrier: Carrier,
    /// Whether the policy pack of the disclosure has a record class.
    pub record_class: &'a dyn Fn(&str) -> bool,
    /// The instant that certificate and journaling keys have to be valid at.
    pub at: Millis,
}

/// Why a message was refused.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// The header names another conversation than the one it was handed in for.
    #[error("the envelope belongs to another conversation")]
    Conversation,
    /// The MLS message belongs to another conversation, epoch or envelope.
    #[error("the MLS message is not the one of this envelope: its {0} differs")]
    Carrier(&'static str),
    /// Tenants, mode, policy or keys are not those disclosed.
    #[error("the header's {0} differs from the disclosure in force")]
    Disclosure(&'static str),
    /// The pack has been withdrawn from the trust bundle.
    #[error("the policy pack is not one that the trust bundle names")]
    Pack,
    /// The pack does not know the record class.
    #[error("the policy pack has no such record class")]
    RecordClass,
    /// A journaling key is not valid now.
    #[error("a journaling key is outside its period")]
    KeyPeriod(#[source] TrustError),
    /// The certificate is not the one that the header names.
    #[error("the certificate is not the one of the header: its {0} differs")]
    OtherCertificate(&'static str),
    /// The certificate is not valid now.
    #[error("the device certificate is refused")]
    Certificate(#[source] TrustError),
    /// The signature.
    #[error("the envelope's signature is refused")]
    Signature(#[source] StatementError),
    /// The ciphertext is not the one that was signed.
    #[error("the ciphertext is not the one that was signed")]
    Ciphertext,
    /// Wraps are missing, too many, out of order or not those that were signed.
    #[error("the wraps are not those that were signed")]
    Wraps,
    /// A wrap is malformed.
    #[error("a wrap is malformed")]
    Wrap(#[source] WrapError),
}

impl Invalid {
    /// Stable reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Conversation => "CONVERSATION_MISMATCH",
            Self::Carrier(_) => "MLS_MESSAGE_MISMATCH",
            Self::Disclosure(_) => "DISCLOSURE_MISMATCH",
            Self::Pack => "POLICY_UNKNOWN",
            Self::RecordClass => "RECORD_CLASS_UNKNOWN",
            Self::KeyPeriod(_) => "JOURNALING_KEY_EXPIRED",
            Self::OtherCertificate(_) => "CERTIFICATE_MISMATCH",
            Self::Certificate(TrustError::Revoked) => "CERTIFICATE_REVOKED",
            Self::Certificate(TrustError::Period { .. }) => "CERTIFICATE_EXPIRED",
            Self::Certificate(_) => "CERTIFICATE_INVALID",
            Self::Signature(_) => "SIGNATURE_INVALID",
            Self::Ciphertext => "CIPHERTEXT_MISMATCH",
            Self::Wraps => "WRAPS_MISMATCH",
            Self::Wrap(_) => "WRAP_MALFORMED",
        }
    }
}

/// Judges a message; gives its wraps in order, for [`crate::wrap::verify_proofs`]. Cheap checks come first.
///
/// # Errors
/// [`Invalid`], the first that was found.
pub fn validate(
    envelope: &Envelope,
    wraps: &[pb::Wrap],
    ciphertext: &[u8],
    context: &Context<'_>,
) -> Result<Vec<WrapView>, Invalid> {
    check_carrier(envelope, context)?;
    check_disclosure(envelope, context)?;
    check_sender(envelope, context)?;
    if ciphertext.len() as u64 != envelope.body().ciphertext_size
        || sha256(ciphertext) != envelope.ciphertext_digest()
    {
        return Err(Invalid::Ciphertext);
    }
    check_wraps(envelope, wraps)
}

/// Envelope, MLS message and the place they were handed in for speak of the same thing.
fn check_carrier(envelope: &Envelope, context: &Context<'_>) -> Result<(), Invalid> {
    let header = envelope.header();
    if header.conversation() != context.conversation {
        return Err(Invalid::Conversation);
    }
    let carrier = &context.carrier;
    let pairs = [
        (carrier.conversation == context.conversation, "conversation"),
        (carrier.epoch == header.message().mls_epoch, "epoch"),
        (carrier.envelope == envelope.digest(), "envelope digest"),
    ];
    match pairs.into_iter().find(|(same, _)| !same) {
        Some((_, what)) => Err(Invalid::Carrier(what)),
        None => Ok(()),
    }
}

/// The header says what the members were shown, nothing else.
fn check_disclosure(envelope: &Envelope, context: &Context<'_>) -> Result<(), Invalid> {
    let (header, disclosure) = (envelope.header().message(), context.disclosure);
    let disclosed = disclosure.message();
    // The body lists wraps as the disclosure lists records: by tenant, then key id.
    let keys = disclosure.records().iter().map(|r| (&r.tenant, &r.key_id));
    let wraps = envelope.body().wraps.iter().map(|w| (&w.tenant, &w.key_id));
    let pairs = [
        (header.tenants == disclosed.tenants, "tenants"),
        (header.mode == disclosed.mode, "mode"),
        (header.policy_digest == disclosed.policy_digest, "policy"),
        (keys.eq(wraps), "journaling keys"),
    ];
    if let Some((_, what)) = pairs.into_iter().find(|(same, _)| !same) {
        return Err(Invalid::Disclosure(what));
    }
    if !context.bundle.has_pack(&header.policy_digest) {
        return Err(Invalid::Pack);
    }
    if !(context.record_class)(&header.record_class) {
        return Err(Invalid::RecordClass);
    }
    disclosure
        .check_period(context.at)
        .map_err(Invalid::KeyPeriod)
}

/// The device of the header, certified now, has signed.
fn check_sender(envelope: &Envelope, context: &Context<'_>) -> Result<(), Invalid> {
    let (header, cert) = (envelope.header(), context.cert);
    let pairs = [
        (header.device_cert() == cert.digest(), "digest"),
        (header.message().sender_user == cert.user, "user"),
        (header.message().sender_device == cert.device, "device"),
        (header.message().tenants.contains(&cert.tenant), "tenant"),
    ];
    if let Some((_, what)) = pairs.into_iter().find(|(same, _)| !same) {
        return Err(Invalid::OtherCertificate(what));
    }
    verify_device_cert(cert, context.bundle, context.at).map_err(Invalid::Certificate)?;
    envelope
        .verify_signature(&cert.envelope_key)
        .map_err(Invalid::Signature)
}

/// Exactly the wraps that the body names, in its order.
fn check_wraps(envelope: &Envelope, wraps: &[pb::Wrap]) -> Result<Vec<WrapView>, Invalid> {
    let named = &envelope.body().wraps;
    if wraps.len() != named.len() {
        return Err(Invalid::Wraps);
    }
    let mut views = Vec::with_capacity(wraps.len());
    for (wrap, name) in wraps.iter().zip(named) {
        let view = WrapView::parse(&wrap.sealed).map_err(Invalid::Wrap)?;
        if (&wrap.tenant, &wrap.key_id) != (&name.tenant, &name.key_id)
            || view.digest().as_bytes() != name.digest.as_slice()
        {
            return Err(Invalid::Wraps);
        }
        views.push(view);
    }
    Ok(views)
}

#[cfg(test)]
mod tests;
