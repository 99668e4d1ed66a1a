//! `messages.jsonl`: one JSON object a message, for programs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::{attachment_path, conversation, digest, mode, time};
use crate::layout;
use crate::manifest::sha256;
use crate::opened::Opened;

#[derive(Serialize)]
struct Line<'a> {
    number: usize,
    envelope: String,
    conversation: String,
    sequence: u64,
    mode: &'static str,
    record_class: &'a str,
    classification: &'a str,
    sender: &'a str,
    sender_device: String,
    unknown_sender: bool,
    sent_at: String,
    archived_at: String,
    retain_until: String,
    kind: &'static str,
    subject: &'a str,
    /// The text when it is UTF-8.
    text: Option<&'a str>,
    /// Its exact bytes when it is not.
    text_base64: Option<String>,
    reply_to: Option<String>,
    attachments: Vec<Attachment<'a>>,
    eml: String,
}

#[derive(Serialize)]
struct Attachment<'a> {
    name: &'a str,
    media_type: &'a str,
    size: usize,
    sha256: String,
    path: String,
}

pub(super) fn all(records: &[Opened]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    for (number, record) in (1..).zip(records) {
        serde_json::to_writer(&mut out, &line(number, record)).map_err(|e| e.to_string())?;
        out.push(b'\n');
    }
    Ok(out)
}

fn line(number: usize, record: &Opened) -> Line<'_> {
    let (header, content) = (record.header(), &record.content);
    let text = core::str::from_utf8(&content.text).ok();
    let attachments = content
        .attachments
        .iter()
        .zip(&record.attachments)
        .enumerate();
    Line {
        number,
        envelope: record.envelope.digest().to_string(),
        conversation: conversation(&header.conversation),
        sequence: record.receipt.sequence,
        mode: mode(record),
        record_class: &header.record_class,
        classification: &header.classification,
        sender: &header.sender_user,
        sender_device: greffe_types::to_hex(&header.sender_device),
        unknown_sender: content.unknown_sender,
        sent_at: time(header.sent_at),
        archived_at: time(record.receipt.archived_at),
        retain_until: time(record.receipt.retain_until),
        kind: match content.kind() {
            greffe_envelope::pb::ContentKind::Mail => "mail",
            _ => "text",
        },
        subject: &content.subject,
        text,
        text_base64: text.is_none().then(|| STANDARD.encode(&content.text)),
        reply_to: (!content.reply_to.is_empty()).then(|| digest(&content.reply_to)),
        attachments: attachments
            .map(|(index, (inside, bytes))| Attachment {
                name: &inside.name,
                media_type: &inside.media_type,
                size: bytes.len(),
                sha256: sha256(bytes).to_string(),
                path: attachment_path(number, record, index),
            })
            .collect(),
        eml: layout::eml(number),
    }
}
