//! Messages as mails (RFC 5322, MIME): nothing in them depends on when or where they are written.

use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address;
use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::date::Date;
use mail_builder::headers::text::Text;
use mail_builder::mime::{BodyPart, MimePart};

use super::{conversation, digest, mode, time};
use crate::opened::Opened;

/// A domain that never resolves (RFC 2606): these addresses are names, nobody receives mail there.
const DOMAIN: &str = "greffe.invalid";

pub(super) fn message(number: usize, record: &Opened) -> Result<Vec<u8>, String> {
    let (header, content) = (record.header(), &record.content);
    let envelope = record.envelope.digest().to_string();
    let seconds = i64::try_from(header.sent_at / 1000).unwrap_or(i64::MAX);
    let mut mail = MessageBuilder::new()
        .message_id(format!("{envelope}@{DOMAIN}"))
        .from(Address::new_address(
            Some(header.sender_user.as_str()),
            address(&header.sender_user),
        ))
        .date(Date::new(seconds))
        .header("MIME-Version", Text::new("1.0"));
    if !content.subject.is_empty() {
        mail = mail.subject(content.subject.as_str());
    }
    if !content.reply_to.is_empty() {
        mail = mail.in_reply_to(format!("{}@{DOMAIN}", digest(&content.reply_to)));
    }
    let facts = [
        ("X-Greffe-Number", number.to_string()),
        ("X-Greffe-Envelope", envelope.clone()),
        ("X-Greffe-Conversation", conversation(&header.conversation)),
        ("X-Greffe-Sequence", record.receipt.sequence.to_string()),
        ("X-Greffe-Mode", mode(record).to_owned()),
        ("X-Greffe-Sent-At", time(header.sent_at)),
        ("X-Greffe-Archived-At", time(record.receipt.archived_at)),
        ("X-Greffe-Retain-Until", time(record.receipt.retain_until)),
    ];
    for (name, value) in facts {
        mail = mail.header(name, Text::new(value));
    }
    mail.body(body(record, &envelope))
        .write_to_vec()
        .map_err(|e| e.to_string())
}

fn body<'x>(record: &'x Opened, envelope: &str) -> MimePart<'x> {
    let content = &record.content;
    // Base64 throughout: line ends and trailing spaces of the text stay as they were.
    let charset = if core::str::from_utf8(&content.text).is_ok() {
        "utf-8"
    } else {
        "unknown-8bit"
    };
    let text = MimePart::new(
        ContentType::new("text/plain").attribute("charset", charset),
        BodyPart::Binary(content.text.as_slice().into()),
    );
    if record.attachments.is_empty() {
        return text;
    }
    let mut parts = vec![text];
    for (inside, bytes) in content.attachments.iter().zip(&record.attachments) {
        let kind = if is_media_type(&inside.media_type) {
            inside.media_type.as_str()
        } else {
            "application/octet-stream"
        };
        // A message inside another may not be encoded (RFC 2046, section 5.2.1), and its bytes have to stay as they were.
        let kind = if kind.starts_with("message/") || kind.starts_with("multipart/") {
            "application/octet-stream"
        } else {
            kind
        };
        let part = MimePart::new(
            ContentType::new(kind),
            BodyPart::Binary(bytes.as_slice().into()),
        );
        let name: String = inside.name.chars().filter(|c| !c.is_control()).collect();
        parts.push(part.attachment(if name.is_empty() {
            "unnamed".to_owned()
        } else {
            name
        }));
    }
    let boundary = format!("greffe-{}", envelope.get(..40).unwrap_or(envelope));
    let kind = ContentType::new("multipart/mixed").attribute("boundary", boundary);
    MimePart::new(kind, BodyPart::Multipart(parts))
}

/// `type/subtype` of RFC 6838's characters.
fn is_media_type(text: &str) -> bool {
    let name = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    text.split_once('/')
        .is_some_and(|(kind, subtype)| name(kind) && name(subtype))
        && text.len() <= 120
}

/// An address for a user's name: the name itself when it is one, else its bytes in a domain that never resolves.
fn address(user: &str) -> String {
    let atom = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b))
    };
    if let Some((local, domain)) = user.split_once('@')
        && atom(local)
        && atom(domain)
    {
        return user.to_owned();
    }
    let local: String = user
        .bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b == b'-' || b == b'_' {
                char::from(b).to_string()
            } else {
                format!("={b:02X}")
            }
        })
        .collect();
    format!("{local}@{DOMAIN}")
}
