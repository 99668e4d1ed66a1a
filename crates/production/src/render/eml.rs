//! Messages as mails (RFC 5322, MIME): nothing in them depends on when or where they are written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use greffe_envelope::pb;
use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address;
use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::date::Date;
use mail_builder::headers::text::Text;
use mail_builder::mime::{BodyPart, MimePart};

use super::{conversation, digest, mode, time};
use crate::history::{Histories, effect, named, unknown};
use crate::layout;
use crate::opened::Opened;

/// A domain that never resolves (RFC 2606): these addresses are names, nobody receives mail there.
const DOMAIN: &str = "greffe.invalid";

pub(super) fn message(
    number: usize,
    record: &Opened,
    histories: &Histories,
) -> Result<Vec<u8>, String> {
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
        mail = mail.subject(one_line(&content.subject));
    }
    let answered = [&content.reply_to, &content.target];
    if let Some(other) = answered.into_iter().find(|other| !other.is_empty()) {
        mail = mail.in_reply_to(format!("{}@{DOMAIN}", digest(other)));
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
    for (name, value) in facts.into_iter().chain(became(number, record, histories)) {
        mail = mail.header(name, Text::new(value));
    }
    mail.body(body(content, &record.attachments, &envelope))
        .write_to_vec()
        .map_err(|e| e.to_string())
}

/// What a record is about and came to, or what is about it; nothing of a text or mail that nothing is about.
fn became(number: usize, record: &Opened, histories: &Histories) -> Vec<(&'static str, String)> {
    let (place, kind) = (number - 1, record.kind());
    let mut facts = Vec::new();
    if !kind.is_message() {
        let number = unknown(kind).map_or_else(String::new, |number| format!(" {number}"));
        facts.push(("X-Greffe-Kind", format!("{}{number}", kind.name())));
    }
    if let Some(verdict) = histories.verdict(place) {
        facts.push(("X-Greffe-Target", digest(&record.content.target)));
        facts.push(("X-Greffe-Effect", effect(verdict).to_owned()));
    }
    for act in histories
        .message(place, record)
        .iter()
        .flat_map(|m| &m.acts)
    {
        let at = histories.at(place, act.sequence).map_or(0, |at| at + 1);
        facts.push((
            "X-Greffe-History",
            format!("{} {}", layout::eml(at), named(act)),
        ));
    }
    facts
}

fn body(content: &pb::Content, attachments: &[Vec<u8>], envelope: &str) -> MimePart<'static> {
    let charset = if core::str::from_utf8(&content.text).is_ok() {
        "utf-8"
    } else {
        "unknown-8bit"
    };
    let kind = ContentType::new("text/plain").attribute("charset", charset);
    let text = encoded(kind, &content.text);
    if attachments.is_empty() {
        return text;
    }
    let mut parts = vec![text];
    for (inside, bytes) in content.attachments.iter().zip(attachments) {
        // A message inside another may not be encoded (RFC 2046, section 5.2.1), and its bytes have to stay as they were.
        let composite = ["message/", "multipart/"]
            .iter()
            .any(|kind| inside.media_type.to_ascii_lowercase().starts_with(kind));
        let kind = if is_media_type(&inside.media_type) && !composite {
            inside.media_type.clone()
        } else {
            "application/octet-stream".to_owned()
        };
        let part = encoded(ContentType::new(kind), bytes);
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

/// Base64, whatever it is: the builder would choose other encodings for text, which change line ends.
fn encoded(kind: ContentType<'static>, bytes: &[u8]) -> MimePart<'static> {
    let base64 = STANDARD.encode(bytes);
    let mut lines = String::with_capacity(base64.len() + base64.len() / 38 + 2);
    for line in base64.as_bytes().chunks(76) {
        // Base64 is ASCII: every piece of it is text.
        lines.push_str(core::str::from_utf8(line).unwrap_or_default());
        lines.push_str("\r\n");
    }
    MimePart::new(kind, BodyPart::Text(lines.into())).transfer_encoding("base64")
}

/// Without what would end a header: the subject as it was is in `messages.jsonl`.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
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

#[cfg(test)]
mod tests {
    use mail_parser::{MessageParser, MimeHeaders as _};

    use super::*;

    /// Bytes of a part, by its transfer encoding alone.
    fn bytes(mail: &mail_parser::Message<'_>, part: usize) -> Vec<u8> {
        let part = &mail.parts[part];
        let encoding = part.content_transfer_encoding();
        assert_eq!(encoding, Some("base64"));
        let raw =
            &mail.raw_message[part.raw_body_offset() as usize..part.raw_end_offset() as usize];
        let text: Vec<u8> = raw
            .iter()
            .copied()
            .filter(|b| !b.is_ascii_whitespace())
            .collect();
        STANDARD.decode(text).unwrap()
    }

    fn odd() -> Vec<Vec<u8>> {
        vec![
            Vec::new(),
            b"plain".to_vec(),
            b"\n".to_vec(),
            b"bare\nline\rends\r\nand trailing   \n\t\n".to_vec(),
            b"\xff\xfe not UTF-8 \x80".to_vec(),
            "d\u{e9}j\u{e0} vu \u{1f512} \u{feff}\u{202e}"
                .as_bytes()
                .to_vec(),
            b".\r\n..\r\nFrom here\r\n--greffe-aa--\r\n".to_vec(),
            [b"long ".repeat(4000), b"\r\n".to_vec()].concat(),
            (0..=255).collect(),
            b"=3D=20=\r\n soft".to_vec(),
        ]
    }

    #[test]
    fn every_text_and_attachment_parses_back_to_its_bytes() {
        let names = [
            "",
            "a.txt",
            "\u{e9}t\u{e9} \"2\"; x=1.csv",
            "..\\..\r\nX-Evil: 1",
            "n".repeat(300).leak(),
        ];
        let kinds = [
            "text/plain",
            "text/html",
            "message/rfc822",
            "MULTIPART/mixed",
            "not a type",
            "image/png",
            "",
        ];
        for text in odd() {
            for attached in 0..=odd().len() {
                let files: Vec<Vec<u8>> = odd().into_iter().take(attached).collect();
                let content = pb::Content {
                    text: text.clone(),
                    attachments: (0..attached)
                        .map(|n| pb::ContentAttachment {
                            name: names[n % names.len()].to_owned(),
                            media_type: kinds[n % kinds.len()].to_owned(),
                            ..Default::default()
                        })
                        .collect(),
                    ..Default::default()
                };
                let mail = MessageBuilder::new()
                    .message_id("a@greffe.invalid")
                    .date(Date::new(0))
                    .subject(one_line("caf\u{e9}\r\nX-Evil: 1"))
                    .body(body(&content, &files, &"a".repeat(64)))
                    .write_to_vec()
                    .unwrap();
                let mail = MessageParser::default().parse(&mail).unwrap();
                assert!(mail.header("X-Evil").is_none());
                assert!(
                    mail.raw_message
                        .split(|b| *b == b'\n')
                        .all(|line| line.len() <= 998)
                );
                assert_eq!(
                    mail.parts.len(),
                    if attached == 0 { 1 } else { attached + 2 }
                );
                let first = usize::from(attached > 0);
                assert_eq!(bytes(&mail, first), text);
                for (n, file) in files.iter().enumerate() {
                    assert_eq!(bytes(&mail, first + 1 + n), *file);
                    let expected: String = names[n % names.len()]
                        .chars()
                        .filter(|c| !c.is_control())
                        .collect();
                    let expected = if expected.is_empty() {
                        "unnamed".to_owned()
                    } else {
                        expected
                    };
                    assert_eq!(
                        mail.parts[first + 1 + n].attachment_name(),
                        Some(expected.as_str())
                    );
                }
            }
        }
    }
}
