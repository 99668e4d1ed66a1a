//! The header: strict encoding and every structural limit.

use greffe_types::{ConversationId, DeviceId, Digest, MessageId, Millis, TenantId, UserId};
use prost::Message as _;

use crate::label::hash;
use crate::limits::{
    MAX_ATTACHMENT_CIPHERTEXT, MAX_ATTACHMENTS, MAX_CLASSIFICATION, MAX_HEADER, MAX_KEYS,
    MAX_RECORD_CLASS, MAX_TENANTS,
};
use crate::padding::is_padded_len;
use crate::pb;
use crate::statement::{StatementError, decode_strict};
use crate::stream::plaintext_len;

/// Why a header was refused.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// Longer than [`MAX_HEADER`].
    #[error("the header is too large")]
    TooLarge,
    /// Not deterministic protobuf.
    #[error("the header's encoding is refused")]
    Encoding(#[source] StatementError),
    /// A field is malformed, unsorted, too long or too many.
    #[error("the field {0} of the header is malformed")]
    Field(&'static str),
    /// Two fields contradict each other.
    #[error("the field {0} contradicts {1}")]
    Contradiction(&'static str, &'static str),
}

/// A header within all limits, with its exact bytes.
#[derive(Clone)]
pub struct Header {
    bytes: Vec<u8>,
    message: pb::Header,
    digest: Digest,
}

impl Header {
    /// Encodes and checks.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn build(message: &pb::Header) -> Result<Self, HeaderError> {
        Self::decode(&message.encode_to_vec())
    }

    /// Takes a header in.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        if bytes.len() > MAX_HEADER {
            return Err(HeaderError::TooLarge);
        }
        let message: pb::Header = decode_strict("header", bytes).map_err(HeaderError::Encoding)?;
        check(&message)?;
        Ok(Self {
            bytes: bytes.to_vec(),
            digest: hash("header", &[bytes]),
            message,
        })
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The fields.
    pub const fn message(&self) -> &pb::Header {
        &self.message
    }

    /// `hd = H("header" || header bytes)`.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The mode, never unspecified.
    pub fn mode(&self) -> pb::Mode {
        self.message.mode()
    }

    /// The conversation.
    pub fn conversation(&self) -> ConversationId {
        id(&self.message.conversation)
    }

    /// The message's id.
    pub fn message_id(&self) -> MessageId {
        id(&self.message.message_id)
    }

    /// The sending device.
    pub fn device(&self) -> DeviceId {
        id(&self.message.sender_device)
    }

    /// Digest of the device's certificate.
    pub fn device_cert(&self) -> Digest {
        id(&self.message.device_cert)
    }

    /// Digest of the device's previous envelope in the conversation; zero for the first.
    pub fn previous(&self) -> Digest {
        id(&self.message.previous)
    }

    /// Digest of the policy pack.
    pub fn policy_digest(&self) -> Digest {
        id(&self.message.policy_digest)
    }

    /// Chain head at `seen_seq`.
    pub fn seen_head(&self) -> Digest {
        id(&self.message.seen_head)
    }

    /// The sender's clock.
    pub const fn sent_at(&self) -> Millis {
        Millis::new(self.message.sent_at)
    }

    /// The journaling keys, sorted.
    pub fn key_ids(&self) -> Vec<Digest> {
        self.message.key_ids.iter().map(|key| id(key)).collect()
    }
}

impl core::fmt::Debug for Header {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Header({})", self.digest)
    }
}

/// Every rule that needs the header alone.
fn check(h: &pb::Header) -> Result<(), HeaderError> {
    use HeaderError::{Contradiction, Field};
    let require = |holds: bool, field| if holds { Ok(()) } else { Err(Field(field)) };
    require(
        (1..=MAX_TENANTS).contains(&h.tenants.len())
            && h.tenants.is_sorted_by(|a, b| a < b)
            && h.tenants.iter().all(|t| TenantId::new(t.as_str()).is_ok()),
        "tenants",
    )?;
    require(h.conversation.len() == 16, "conversation")?;
    require(h.message_id.len() == 16, "message_id")?;
    require(
        pb::Mode::try_from(h.mode).is_ok_and(|mode| mode != pb::Mode::Unspecified),
        "mode",
    )?;
    require(UserId::new(h.sender_user.as_str()).is_ok(), "sender_user")?;
    require(h.sender_device.len() == 16, "sender_device")?;
    require(h.device_cert.len() == 32, "device_cert")?;
    require(
        !h.record_class.is_empty() && is_text(&h.record_class, MAX_RECORD_CLASS),
        "record_class",
    )?;
    require(
        is_text(&h.classification, MAX_CLASSIFICATION),
        "classification",
    )?;
    require(
        h.key_ids.len() <= MAX_KEYS
            && h.key_ids.iter().all(|key| key.len() == 32)
            && h.key_ids.is_sorted_by(|a, b| a < b),
        "key_ids",
    )?;
    require(h.policy_digest.len() == 32, "policy_digest")?;
    require(
        h.attachments.len() <= MAX_ATTACHMENTS && h.attachments.iter().all(is_attachment),
        "attachments",
    )?;
    require(h.device_counter >= 1, "device_counter")?;
    require(h.previous.len() == 32, "previous")?;
    require(h.seen_head.len() == 32, "seen_head")?;
    let private = h.mode() == pb::Mode::Private;
    if private != h.key_ids.is_empty() {
        return Err(Contradiction("key_ids", "mode"));
    }
    if (h.device_counter == 1) != is_zero(&h.previous) {
        return Err(Contradiction("previous", "device_counter"));
    }
    if (h.seen_seq == 0) != is_zero(&h.seen_head) {
        return Err(Contradiction("seen_head", "seen_seq"));
    }
    Ok(())
}

fn is_attachment(attachment: &pb::AttachmentRef) -> bool {
    attachment.digest.len() == 32
        && attachment.size <= MAX_ATTACHMENT_CIPHERTEXT
        && plaintext_len(attachment.size).is_some_and(is_padded_len)
}

fn is_text(text: &str, max: usize) -> bool {
    text.len() <= max && !text.contains(char::is_control)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// A field whose length was checked on the way in.
fn id<'a, T: TryFrom<&'a [u8], Error: core::fmt::Debug>>(bytes: &'a [u8]) -> T {
    bytes
        .try_into()
        .expect("the length was checked when the header was decoded")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::limits::MAX_ATTACHMENT;
    use crate::padding::padded_len;
    use crate::stream::ciphertext_len;

    pub(crate) fn header() -> pb::Header {
        pb::Header {
            tenants: vec!["acme".into(), "bank".into()],
            conversation: vec![1; 16],
            message_id: vec![2; 16],
            mode: pb::Mode::Journaled.into(),
            sender_user: "alice".into(),
            sender_device: vec![3; 16],
            device_cert: vec![4; 32],
            mls_epoch: 1,
            sent_at: 1,
            record_class: "communication".into(),
            classification: String::new(),
            key_ids: vec![vec![1; 32], vec![2; 32]],
            policy_digest: vec![5; 32],
            attachments: vec![],
            device_counter: 1,
            previous: vec![0; 32],
            seen_seq: 0,
            seen_head: vec![0; 32],
        }
    }

    #[test]
    fn headers_keep_their_bytes() {
        let built = Header::build(&header()).unwrap();
        let back = Header::decode(built.bytes()).unwrap();
        assert_eq!(back.digest(), built.digest());
        assert_eq!(back.conversation(), ConversationId::new([1; 16]));
        assert_eq!(back.key_ids().len(), 2);
        assert_eq!(back.mode(), pb::Mode::Journaled);
        let mut loose = built.bytes().to_vec();
        loose.extend_from_slice(&[0x98, 0x06, 0x01]);
        assert!(matches!(
            Header::decode(&loose),
            Err(HeaderError::Encoding(_))
        ));
        assert!(matches!(
            Header::decode(&[0; MAX_HEADER + 1]),
            Err(HeaderError::TooLarge)
        ));
    }

    #[test]
    fn the_largest_attachment_is_accepted() {
        let mut message = header();
        message.attachments.push(pb::AttachmentRef {
            digest: vec![0; 32],
            size: ciphertext_len(padded_len(MAX_ATTACHMENT)),
        });
        assert!(Header::build(&message).is_ok());
    }

    #[test]
    fn each_rule_refuses() {
        type Change = fn(&mut pb::Header);
        let fields: &[(&str, Change)] = &[
            ("tenants", |h| h.tenants.clear()),
            ("tenants", |h| h.tenants.reverse()),
            ("tenants", |h| h.tenants[1] = "acme".into()),
            ("tenants", |h| h.tenants[0] = "Acme".into()),
            ("tenants", |h| {
                h.tenants = (10..40).map(|i| i.to_string()).collect();
            }),
            ("conversation", |h| h.conversation.push(0)),
            ("message_id", |h| h.message_id.clear()),
            ("mode", |h| h.mode = 0),
            ("mode", |h| h.mode = 4),
            ("sender_user", |h| h.sender_user = "a\nb".into()),
            ("sender_device", |h| h.sender_device.clear()),
            ("device_cert", |h| h.device_cert.clear()),
            ("record_class", |h| h.record_class.clear()),
            ("record_class", |h| h.record_class = "x".repeat(65)),
            ("classification", |h| h.classification = "x".repeat(65)),
            ("classification", |h| h.classification = "\u{7}".into()),
            ("key_ids", |h| h.key_ids.reverse()),
            ("key_ids", |h| h.key_ids[1] = h.key_ids[0].clone()),
            ("key_ids", |h| h.key_ids[0] = vec![0; 31]),
            ("policy_digest", |h| h.policy_digest.clear()),
            ("attachments", |h| {
                h.attachments.push(pb::AttachmentRef {
                    digest: vec![0; 32],
                    size: 15,
                });
            }),
            ("attachments", |h| {
                h.attachments.push(pb::AttachmentRef {
                    digest: vec![0; 31],
                    size: 24,
                });
            }),
            ("attachments", |h| {
                h.attachments.push(pb::AttachmentRef {
                    digest: vec![0; 32],
                    // The next size that padding gives.
                    size: ciphertext_len(padded_len(MAX_ATTACHMENT + (64 << 20))),
                });
            }),
            ("attachments", |h| {
                h.attachments = vec![
                    pb::AttachmentRef {
                        digest: vec![0; 32],
                        size: 24
                    };
                    65
                ];
            }),
            ("device_counter", |h| h.device_counter = 0),
            ("previous", |h| h.previous.clear()),
            ("seen_head", |h| h.seen_head.clear()),
        ];
        for (field, change) in fields {
            let mut message = header();
            change(&mut message);
            let error = Header::build(&message).unwrap_err();
            assert!(
                matches!(error, HeaderError::Field(found) if found == *field),
                "{field}: {error}"
            );
        }
        let contradictions: &[(&str, Change)] = &[
            ("key_ids", |h| h.mode = pb::Mode::Private.into()),
            ("key_ids", |h| h.key_ids.clear()),
            ("previous", |h| h.device_counter = 2),
            ("previous", |h| h.previous = vec![1; 32]),
            ("seen_head", |h| h.seen_seq = 1),
            ("seen_head", |h| h.seen_head = vec![1; 32]),
        ];
        for (field, change) in contradictions {
            let mut message = header();
            change(&mut message);
            let error = Header::build(&message).unwrap_err();
            assert!(
                matches!(error, HeaderError::Contradiction(found, _) if found == *field),
                "{field}"
            );
        }
    }
}
