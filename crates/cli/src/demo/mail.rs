//! Mails: a thread is a conversation, the sender's address a user, the raw bytes always the first attachment.

use std::collections::BTreeMap;

use mail_parser::{HeaderValue, MessageParser, MimeHeaders as _, PartType};

use super::input::{File, Input, Message, Refusal, user_name};

/// The user that mails without a sender belong to.
const UNKNOWN: &str = "unknown";
/// Attachments a message may have (limits of the envelope), the raw mail included.
const MOST_FILES: usize = greffe_envelope::limits::MAX_ATTACHMENTS;
/// Bytes of text that fit a message beside its subject and names; a longer body is in the raw mail alone.
const MOST_TEXT: usize = 512 << 10;

/// Reads mails by name.
pub(crate) fn read(mails: BTreeMap<String, Vec<u8>>) -> Input {
    let mut threads = Threads::default();
    let mut input = Input::default();
    for (name, raw) in mails {
        if raw.iter().all(u8::is_ascii_whitespace) {
            input.refusals.push(Refusal {
                item: name,
                reason: "MAIL_EMPTY".to_owned(),
            });
            continue;
        }
        let (message, ids) = message(name, raw);
        let place = threads.place(&ids, input.conversations.len());
        match input.conversations.get_mut(place) {
            Some((_, messages)) => messages.push(message),
            None => input
                .conversations
                .push((message.item.clone(), vec![message])),
        }
    }
    input
}

/// Which conversation a message id belongs to.
#[derive(Default)]
struct Threads(BTreeMap<String, usize>);

impl Threads {
    /// The conversation of a mail that names these ids; `next` when it begins one.
    fn place(&mut self, ids: &[String], next: usize) -> usize {
        let place = ids
            .iter()
            .find_map(|id| self.0.get(id).copied())
            .unwrap_or(next);
        for id in ids {
            self.0.entry(id.clone()).or_insert(place);
        }
        place
    }
}

/// A mail as a message, and the ids that tie it to its thread. What cannot be parsed is kept as raw bytes.
fn message(name: String, raw: Vec<u8>) -> (Message, Vec<String>) {
    let mut message = Message {
        item: name,
        sender: UNKNOWN.to_owned(),
        unknown_sender: true,
        is_mail: true,
        subject: String::new(),
        text: Vec::new(),
        files: vec![File {
            name: "message.eml".to_owned(),
            media_type: "message/rfc822".to_owned(),
            bytes: Vec::new(),
        }],
    };
    let mut ids = Vec::new();
    if let Some(mail) = MessageParser::default().parse(&raw) {
        let from = mail.from().and_then(|from| from.first());
        let from = from.and_then(|from| from.address.as_deref().or(from.name.as_deref()));
        if let Some(from) = from.map(str::trim).filter(|from| !from.is_empty()) {
            message.sender = user_name(from.to_lowercase().as_bytes());
            message.unknown_sender = false;
        }
        message.subject = mail
            .subject()
            .unwrap_or_default()
            .chars()
            .take(998)
            .collect();
        if let Some(text) = mail.body_text(0) {
            let fits = text.len() <= MOST_TEXT;
            message.text = if fits {
                text.as_bytes().to_vec()
            } else {
                Vec::new()
            };
        }
        ids.extend(mail.message_id().map(str::to_owned));
        for header in [mail.in_reply_to(), mail.references()] {
            match header {
                HeaderValue::Text(id) => ids.push(id.to_string()),
                HeaderValue::TextList(list) => ids.extend(list.iter().map(ToString::to_string)),
                _ => {}
            }
        }
        for part in mail.attachments().take(MOST_FILES - 1) {
            let bytes = match &part.body {
                PartType::Message(inner) => inner.raw_message().to_vec(),
                _ => part.contents().to_vec(),
            };
            let kind = part.content_type().map(|kind| match kind.subtype() {
                Some(subtype) => format!("{}/{subtype}", kind.ctype()),
                None => kind.ctype().to_owned(),
            });
            message.files.push(File {
                name: part
                    .attachment_name()
                    .unwrap_or_default()
                    .chars()
                    .take(255)
                    .collect(),
                media_type: kind.unwrap_or_else(|| "application/octet-stream".to_owned()),
                bytes,
            });
        }
    }
    message.files[0].bytes = raw;
    (message, ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_one_conversation_and_the_raw_bytes_are_kept() {
        let first =
            b"From: A <a@x.example>\r\nMessage-ID: <1@x>\r\nSubject: one\r\n\r\nhello\r\n".to_vec();
        let answer =
            b"From: b@x.example\r\nMessage-ID: <2@x>\r\nIn-Reply-To: <1@x>\r\n\r\nyes\r\n".to_vec();
        let odd = b"\x00\xff no header at all".to_vec();
        let mails = [
            ("1.eml", &first),
            ("2.eml", &answer),
            ("3.eml", &odd),
            ("4.eml", &b" \n".to_vec()),
        ];
        let input = read(
            mails
                .map(|(name, raw)| (name.to_owned(), raw.clone()))
                .into(),
        );
        assert_eq!(input.conversations.len(), 2);
        let thread = &input.conversations[0].1;
        assert_eq!(
            (thread[0].sender.as_str(), thread[1].sender.as_str()),
            ("a@x.example", "b@x.example")
        );
        assert_eq!(thread[0].files[0].bytes, first);
        let unknown = &input.conversations[1].1[0];
        assert!(unknown.unknown_sender && unknown.files[0].bytes == odd);
        assert_eq!(input.refusals[0].reason, "MAIL_EMPTY");
    }
}
