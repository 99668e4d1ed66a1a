//! The cheap checks: everything that can refuse a message without a scalar multiplication, and without a lock.
//!
//! What may change before the message has its number (epoch, disclosure, membership, counter, duplicates) is checked again
//! when it gets it; here it spares the work.

use std::sync::Arc;

use greffe_api::relay as api;
use greffe_envelope::envelope::Envelope;
use greffe_envelope::limits::MAX_CONTENT;
use greffe_envelope::trust::VerifiedDisclosure;
use greffe_envelope::validate::{Carrier, Context, validate};
use greffe_envelope::wrap::WrapView;
use greffe_mls::{Frame, FrameKind, Refusal};
use greffe_policy::Pack;
use greffe_types::{ConversationId, DeviceId, Digest};
use prost::Message as _;

use super::{Core, MessageRefusal};
use crate::error::RelayError;
use crate::session::Session;
use crate::store::attachments;
use crate::store::items::{Kind, NewItem};
use crate::store::standing::{self, Standing};

/// Most bytes of ciphertext: content, its padding, and the tags of its chunks.
const MAX_CIPHERTEXT: usize = (MAX_CONTENT as usize) + (MAX_CONTENT as usize) / 4;

/// A message that may go on to the proof of knowledge.
pub(super) struct Checked {
    pub(super) item: NewItem,
    pub(super) counter: u64,
    pub(super) previous: Digest,
    pub(super) attachments: Vec<(Digest, u64)>,
    /// Protobuf of the DeliveredMessage.
    pub(super) payload: Vec<u8>,
    pub(super) rd: Digest,
    /// In the order of the disclosure's keys.
    pub(super) wraps: Vec<WrapView>,
    pub(super) disclosure: Arc<VerifiedDisclosure>,
}

/// What the checks say.
pub(super) enum Outcome {
    /// It was sequenced before.
    Known(Digest, ConversationId, DeviceId),
    /// It is new, and nothing cheap speaks against it.
    Checked(Box<Checked>),
}

/// Checks a message.
///
/// # Errors
/// Refusals, and failures of our own.
pub(super) async fn check(
    core: &Core,
    session: &Session,
    request: api::SendRequest,
) -> Result<Outcome, RelayError> {
    let raw = request.envelope.ok_or(MessageRefusal::Envelope(None))?;
    let envelope = Envelope::decode(raw).map_err(|why| MessageRefusal::Envelope(Some(why)))?;
    let header = envelope.header();
    let conversation = header.conversation();
    if header.device() != session.device || header.message().sender_user != session.user.as_str() {
        return Err(MessageRefusal::Sender.into());
    }
    let digest = envelope.digest();
    let message_id = header.message_id();
    let standing = standing::of_message(
        core.db.read(),
        &core.scope,
        &standing::Message {
            envelope: &digest,
            conversation: &conversation,
            device: &session.device,
            message_id: &message_id,
            seen: header.message().seen_seq,
        },
    )
    .await?;
    if standing.as_ref().is_some_and(|standing| standing.known) {
        return Ok(Outcome::Known(digest, conversation, session.device));
    }
    if request.ciphertext.len() > MAX_CIPHERTEXT {
        return Err(MessageRefusal::Size.into());
    }
    let standing = standing.ok_or(RelayError::NoConversation)?;
    check_membership(&standing, &header.device_cert())?;
    let row = &standing.conversation;
    if row.stalled || core.is_stalled(&conversation) {
        // In case nobody told us that another replica stopped it.
        core.waiters.free(&conversation);
        return Err(RelayError::Stalled);
    }
    // One message id, one envelope; this one has no number.
    if standing.taken_by.is_some() {
        return Err(RelayError::Conflict);
    }
    let carrier = carrier(&request.mls_message)?;
    if carrier.epoch != row.epoch {
        return Err(RelayError::EpochStale { current: row.epoch });
    }
    let cert = core
        .devices
        .find(&header.device_cert())
        .await?
        .ok_or(RelayError::CertificateUnknown)?;
    let (bundle, disclosure) = {
        let trust = core.trust.read();
        let disclosure = trust.disclosure(&row.disclosure).cloned();
        (trust.bundle().clone(), disclosure)
    };
    let disclosure = disclosure.ok_or(RelayError::Damaged("disclosure in force"))?;
    let policy = header.policy_digest();
    let wraps = validate(
        &envelope,
        &request.wraps,
        &request.ciphertext,
        &Context {
            bundle: &bundle,
            disclosure: &disclosure,
            cert: &cert,
            conversation,
            carrier,
            record_class: &|class| has_class(&policy, class),
            at: core.clock.now(),
        },
    )
    .map_err(MessageRefusal::Invalid)?;
    check_seen(&envelope, &standing)?;
    let attachments = check_attachments(core, &envelope).await?;
    let header = envelope.header();
    let checked = Checked {
        item: NewItem {
            conversation,
            sequence: 0,
            kind: Kind::Message,
            digest,
            message_id: Some(message_id),
            device: session.device,
            certificate: header.device_cert(),
            epoch: carrier.epoch,
            disclosure: row.disclosure,
        },
        counter: header.message().device_counter,
        previous: header.previous(),
        attachments,
        rd: envelope.record_digest(),
        wraps,
        disclosure,
        payload: api::DeliveredMessage {
            envelope: Some(envelope.into_raw()),
            wraps: request.wraps,
            ciphertext: request.ciphertext,
            mls_message: request.mls_message,
        }
        .encode_to_vec(),
    };
    Ok(Outcome::Checked(Box::new(checked)))
}

/// The device takes part, under this certificate, and has acknowledged the notice in force.
fn check_membership(standing: &Standing, certificate: &Digest) -> Result<(), RelayError> {
    let of_leaf = standing.certificate.ok_or(RelayError::NoConversation)?;
    if !standing.acknowledged {
        return Err(RelayError::NotAcknowledged);
    }
    if of_leaf != *certificate {
        return Err(MessageRefusal::Leaf.into());
    }
    Ok(())
}

/// What the MLS message says of itself.
fn carrier(mls_message: &[u8]) -> Result<Carrier, RelayError> {
    let frame = Frame::parse(mls_message).map_err(MessageRefusal::Frame)?;
    let FrameKind::Application { envelope } = frame.kind else {
        return Err(MessageRefusal::Frame(Refusal::Unexpected("kind of message")).into());
    };
    Ok(Carrier {
        conversation: frame.conversation,
        epoch: frame.epoch,
        envelope,
    })
}

/// What the sender has seen is a place of this chain: it was not shown another one.
fn check_seen(envelope: &Envelope, standing: &Standing) -> Result<(), RelayError> {
    let (header, row) = (envelope.header(), &standing.conversation);
    let head = match header.message().seen_seq {
        0 => Some(Digest::ZERO),
        n if n == row.released => Some(row.head),
        _ => standing.seen,
    };
    if head != Some(header.seen_head()) {
        return Err(MessageRefusal::Seen.into());
    }
    Ok(())
}

/// Every attachment is complete in the archive, and still here.
async fn check_attachments(
    core: &Core,
    envelope: &Envelope,
) -> Result<Vec<(Digest, u64)>, RelayError> {
    let header = envelope.header();
    let conversation = header.conversation();
    let mut complete = Vec::with_capacity(header.message().attachments.len());
    for named in &header.message().attachments {
        let digest = Digest::try_from(named.digest.as_slice())
            .map_err(|_| MessageRefusal::Envelope(None))?;
        let found = attachments::find(core.db.read(), &core.scope, &conversation, &digest).await?;
        if found != Some((named.size, true)) {
            return Err(MessageRefusal::Attachment(digest).into());
        }
        complete.push((digest, named.size));
    }
    Ok(complete)
}

fn has_class(policy: &Digest, class: &str) -> bool {
    Pack::all_embedded()
        .iter()
        .find(|pack| pack.digest() == *policy)
        .is_some_and(|pack| pack.class(class).is_ok())
}
