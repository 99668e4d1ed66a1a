//! An entry as the relay hands it in, parsed; what cannot be parsed is known too, because it took a number.

use bytes::Bytes;
use greffe_api::archive as api;
use greffe_envelope::chain::handshake_digest;
use greffe_envelope::envelope::{Envelope, envelope_digest};
use greffe_envelope::label::{hash, lp};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::validate::Carrier;
use greffe_mls::{Frame, FrameKind};
use greffe_service_kit::errors::ServiceError;
use greffe_types::{ConversationId, DeviceId, Digest, UserId};

use crate::error::invalid;

/// Most members of a conversation whose names come with an entry.
const MAX_PARTICIPANTS: usize = 20_000;

/// An entry of a conversation.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The conversation.
    pub conversation: ConversationId,
    /// Its number, from 1.
    pub sequence: u64,
    /// The relay's fencing epoch.
    pub fence: u64,
    /// Envelope digest or handshake digest, of bytes that may be malformed.
    pub subject: Digest,
    /// What it is.
    pub kind: Kind,
    /// Who is a member at this number, sorted.
    pub members: Vec<(String, DeviceId)>,
    /// Names those members.
    pub member_set: Digest,
}

/// What took the number.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A message.
    Message(Box<Message>),
    /// A commit.
    Handshake(Box<Handshake>),
    /// Something that will never be archived, with the reason.
    Malformed(&'static str),
}

/// A message whose encoding and sizes are in order.
#[derive(Debug, Clone)]
pub struct Message {
    /// The envelope.
    pub envelope: Envelope,
    /// Its wraps, as received.
    pub wraps: Vec<pb::Wrap>,
    /// Its ciphertext.
    pub ciphertext: Bytes,
    /// The MLS message that carries the seed.
    pub mls_message: Vec<u8>,
    /// What that says of itself.
    pub carrier: Carrier,
    /// The sender's certificate, not verified.
    pub cert: Signed<pb::DeviceCert>,
}

/// A commit whose frame is in order.
#[derive(Debug, Clone)]
pub struct Handshake {
    /// Exact bytes of the PublicMessage.
    pub public_message: Bytes,
    /// Who sent it.
    pub sender: DeviceId,
    /// The disclosure in force after it, not verified.
    pub disclosure: Signed<pb::Disclosure>,
}

impl Entry {
    /// Takes a request in.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for what no relay of ours sends: no place for it can be found, or no entry.
    pub fn parse(request: api::IngestRequest) -> Result<Self, ServiceError> {
        let conversation = ConversationId::try_from(request.conversation.as_slice())
            .map_err(|_| invalid("conversation: 16 bytes"))?;
        if request.sequence == 0 {
            return Err(invalid("sequence: counts from 1"));
        }
        let (members, member_set) = members(request.participants)?;
        let (subject, kind) = match request.entry {
            Some(api::ingest_request::Entry::Message(message)) => {
                let envelope = message.envelope.clone().unwrap_or_default();
                (envelope_digest(&envelope.body), Kind::message(message))
            }
            Some(api::ingest_request::Entry::Handshake(handshake)) => (
                handshake_digest(&handshake.public_message),
                Kind::handshake(handshake, &conversation),
            ),
            None => return Err(invalid("entry: a message or a handshake")),
        };
        Ok(Self {
            conversation,
            sequence: request.sequence,
            fence: request.fence,
            subject,
            kind,
            members,
            member_set,
        })
    }
}

impl Kind {
    fn message(message: api::IngestMessage) -> Self {
        let Ok(envelope) = Envelope::decode(message.envelope.unwrap_or_default()) else {
            return Self::Malformed("ENVELOPE_MALFORMED");
        };
        let Ok(cert) = Signed::decode(message.device_cert.unwrap_or_default()) else {
            return Self::Malformed("CERTIFICATE_INVALID");
        };
        let Ok(frame) = Frame::parse(&message.mls_message) else {
            return Self::Malformed("MLS_MESSAGE_MALFORMED");
        };
        let FrameKind::Application { envelope: named } = frame.kind else {
            return Self::Malformed("MLS_MESSAGE_MALFORMED");
        };
        Self::Message(Box::new(Message {
            envelope,
            wraps: message.wraps,
            ciphertext: message.ciphertext.into(),
            mls_message: message.mls_message,
            carrier: Carrier {
                conversation: frame.conversation,
                epoch: frame.epoch,
                envelope: named,
            },
            cert,
        }))
    }

    fn handshake(handshake: api::IngestHandshake, conversation: &ConversationId) -> Self {
        let frame = Frame::parse(&handshake.public_message);
        let fits = frame.is_ok_and(|frame| {
            frame.conversation == *conversation && matches!(frame.kind, FrameKind::Handshake { .. })
        });
        if !fits {
            return Self::Malformed("HANDSHAKE_MALFORMED");
        }
        let Ok(sender) = DeviceId::try_from(handshake.sender_device.as_slice()) else {
            return Self::Malformed("HANDSHAKE_MALFORMED");
        };
        let Ok(disclosure) = Signed::decode(handshake.disclosure.unwrap_or_default()) else {
            return Self::Malformed("DISCLOSURE_INVALID");
        };
        Self::Handshake(Box::new(Handshake {
            public_message: handshake.public_message.into(),
            sender,
            disclosure,
        }))
    }
}

/// Members, sorted, and `H("member-set" || (LP user || device)*)`, which names them.
fn members(
    participants: Vec<api::Participant>,
) -> Result<(Vec<(String, DeviceId)>, Digest), ServiceError> {
    if participants.len() > MAX_PARTICIPANTS {
        return Err(invalid("participants: too many"));
    }
    let mut members = Vec::with_capacity(participants.len());
    for participant in participants {
        if UserId::new(participant.user.as_str()).is_err() {
            return Err(invalid("participants.user: not a user's name"));
        }
        let device = DeviceId::try_from(participant.device.as_slice())
            .map_err(|_| invalid("participants.device: 16 bytes"))?;
        members.push((participant.user, device));
    }
    members.sort();
    let mut bytes = Vec::new();
    for (user, device) in &members {
        bytes.extend(lp(user.as_bytes()));
        bytes.extend(device.as_bytes());
    }
    Ok((members, hash("member-set", &[&bytes])))
}
