//! The outside of a message: what can be known, and refused, before any library decodes it.

use greffe_types::{ConversationId, Digest};

use crate::reader::Reader;
use crate::{Refusal, limits};

/// MLS 1.0.
const VERSION: u16 = 1;
const PUBLIC_MESSAGE: u16 = 1;
const PRIVATE_MESSAGE: u16 = 2;
const CONTENT_APPLICATION: u8 = 1;
const CONTENT_COMMIT: u8 = 3;
const SENDER_MEMBER: u8 = 1;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A commit in a PublicMessage.
    Handshake {
        /// Leaf index of the member who sends it.
        leaf: u32,
    },
    /// An application message in a PrivateMessage.
    Application {
        /// Envelope digest, from the authenticated data. Authenticated only once a member has decrypted the message.
        envelope: Digest,
    },
}

/// A message's header (RFC 9420 section 6), parsed without decoding the message. Nothing in it is authenticated yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The group id.
    pub conversation: ConversationId,
    /// The epoch it was made in.
    pub epoch: u64,
    /// What it is.
    pub kind: FrameKind,
}

impl Frame {
    /// Reads the header of a handshake or application message; refuses what conversations never carry: other versions
    /// and kinds, senders that are not members, loose proposals, encrypted handshakes, authenticated data where there
    /// should be none or of another length than a digest, and anything over its size limit.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        match Reader::new(bytes, "message").header()? {
            PUBLIC_MESSAGE => handshake(bytes).map(|(frame, _)| frame),
            PRIVATE_MESSAGE => application(bytes),
            _ => Err(Refusal::Unexpected("kind of message")),
        }
    }
}

impl Reader<'_> {
    /// Version and wire format; the wire format is returned.
    pub(crate) fn header(&mut self) -> Result<u16, Refusal> {
        if self.u16()? != VERSION {
            return Err(Refusal::Unexpected("MLS version"));
        }
        self.u16()
    }
}

/// A PublicMessage's header; the reader stands at the commit.
pub(crate) fn handshake(bytes: &[u8]) -> Result<(Frame, Reader<'_>), Refusal> {
    check_size("handshake", limits::HANDSHAKE, bytes)?;
    let mut reader = Reader::new(bytes, "handshake");
    if reader.header()? != PUBLIC_MESSAGE {
        return Err(Refusal::Unexpected("kind of message"));
    }
    let conversation = conversation(&mut reader)?;
    let epoch = reader.u64()?;
    if reader.u8()? != SENDER_MEMBER {
        return Err(Refusal::NotAMember);
    }
    let leaf = reader.u32()?;
    let data = reader.vector()?;
    if !data.is_empty() {
        return Err(Refusal::AuthenticatedData(data.len()));
    }
    match reader.u8()? {
        CONTENT_COMMIT => {}
        CONTENT_APPLICATION => return Err(Refusal::Unexpected("kind of message")),
        _ => return Err(Refusal::LooseProposal),
    }
    let frame = Frame {
        conversation,
        epoch,
        kind: FrameKind::Handshake { leaf },
    };
    Ok((frame, reader))
}

fn application(bytes: &[u8]) -> Result<Frame, Refusal> {
    check_size("application message", limits::APPLICATION, bytes)?;
    let mut reader = Reader::new(bytes, "application message");
    reader.header()?;
    let conversation = conversation(&mut reader)?;
    let epoch = reader.u64()?;
    if reader.u8()? != CONTENT_APPLICATION {
        return Err(Refusal::Unexpected("encrypted handshake"));
    }
    let data = reader.vector()?;
    let envelope = Digest::try_from(data).map_err(|_| Refusal::AuthenticatedData(data.len()))?;
    let _sender_data = reader.vector()?;
    let _ciphertext = reader.vector()?;
    reader.end()?;
    Ok(Frame {
        conversation,
        epoch,
        kind: FrameKind::Application { envelope },
    })
}

/// Refuses what is longer than its limit.
pub(crate) const fn check_size(
    what: &'static str,
    limit: usize,
    bytes: &[u8],
) -> Result<(), Refusal> {
    let found = bytes.len();
    if found > limit {
        return Err(Refusal::TooLarge { what, limit, found });
    }
    Ok(())
}

fn conversation(reader: &mut Reader<'_>) -> Result<ConversationId, Refusal> {
    ConversationId::try_from(reader.vector()?)
        .map_err(|_| Refusal::Malformed("group id: it has 16 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn application_message(version: u8, content: u8, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, version, 0, 2, 16];
        bytes.extend([7; 16]);
        bytes.extend(5_u64.to_be_bytes());
        bytes.push(content);
        bytes.push(data.len() as u8);
        bytes.extend(data);
        bytes.extend([1, 0, 1, 0]);
        bytes
    }

    #[test]
    fn the_header_of_an_application_message_is_read() {
        let frame = Frame::parse(&application_message(1, 1, &[9; 32])).unwrap();
        assert_eq!(frame.conversation, ConversationId::new([7; 16]));
        assert_eq!(frame.epoch, 5);
        let envelope = Digest::new([9; 32]);
        assert_eq!(frame.kind, FrameKind::Application { envelope });
    }

    #[test]
    fn what_conversations_never_carry_is_refused() {
        let code = |bytes: &[u8]| Frame::parse(bytes).unwrap_err().code();
        assert_eq!(code(&application_message(2, 1, &[9; 32])), "unexpected");
        assert_eq!(code(&application_message(1, 3, &[9; 32])), "unexpected");
        assert_eq!(
            code(&application_message(1, 1, &[9; 31])),
            "authenticated-data"
        );
        assert_eq!(code(&application_message(1, 1, &[])), "authenticated-data");
        let mut trailing = application_message(1, 1, &[9; 32]);
        trailing.push(0);
        assert_eq!(code(&trailing), "malformed");
        let mut long = application_message(1, 1, &[9; 32]);
        long.resize(limits::APPLICATION + 1, 0);
        assert_eq!(code(&long), "too-large");
    }
}
