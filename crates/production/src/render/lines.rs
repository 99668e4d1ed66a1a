//! `messages.jsonl`: one JSON object a record, for programs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use greffe_envelope::history::Why;
use serde::Serialize;

use super::{attachment_path, conversation, digest, mode, time};
use crate::history::{Histories, unknown};
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
    // What follows is of version 2 of the format, and only of records that it concerns.
    /// Of a kind that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind_number: Option<i32>,
    /// All of its content, of which some may not be understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_base64: Option<String>,
    #[serde(flatten)]
    about: Option<About>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<Became<'a>>,
}

/// What an edit, a retraction or a reaction is about, and what it came to.
#[derive(Serialize)]
struct About {
    target: String,
    target_number: Option<usize>,
    applied: bool,
    not_applied: Option<&'static str>,
}

/// What became of a message.
#[derive(Serialize)]
struct Became<'a> {
    versions: Vec<Said<'a>>,
    retracted: Option<Said<'a>>,
    reactions: Vec<Reaction<'a>>,
    acts: Vec<ActLine<'a>>,
}

#[derive(Serialize)]
struct Said<'a> {
    number: usize,
    sequence: u64,
    sender: &'a str,
    sent_at: String,
    archived_at: String,
    subject: &'a str,
    text: Option<&'a str>,
    text_base64: Option<String>,
}

#[derive(Serialize)]
struct Reaction<'a> {
    text: &'a str,
    by: Vec<&'a str>,
}

#[derive(Serialize)]
struct ActLine<'a> {
    kind: &'static str,
    #[serde(flatten)]
    said: Said<'a>,
    applied: bool,
    not_applied: Option<&'static str>,
}

#[derive(Serialize)]
struct Attachment<'a> {
    name: &'a str,
    media_type: &'a str,
    size: usize,
    sha256: String,
    path: String,
}

pub(super) fn all(records: &[Opened], histories: &Histories) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    for place in 0..records.len() {
        let line = line(place, records, histories);
        serde_json::to_writer(&mut out, &line).map_err(|e| e.to_string())?;
        out.push(b'\n');
    }
    Ok(out)
}

fn line<'a>(place: usize, records: &'a [Opened], histories: &'a Histories) -> Line<'a> {
    let (number, record) = (place + 1, &records[place]);
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
        kind: record.kind().name(),
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
        kind_number: unknown(record.kind()),
        content_base64: unknown(record.kind()).map(|_| STANDARD.encode(&record.unread)),
        about: about(place, record, histories),
        history: became(place, records, histories),
    }
}

fn about(place: usize, record: &Opened, histories: &Histories) -> Option<About> {
    let verdict = histories.verdict(place)?;
    Some(About {
        target: digest(&record.content.target),
        target_number: histories.target(place).map(|target| target + 1),
        applied: verdict.is_ok(),
        not_applied: verdict.err().map(Why::reason),
    })
}

fn became<'a>(place: usize, records: &'a [Opened], histories: &'a Histories) -> Option<Became<'a>> {
    let message = histories.message(place, &records[place])?;
    let record = |sequence: &u64| histories.at(place, *sequence).map(|at| said(at, records));
    let reactions = message.reactions.iter();
    Some(Became {
        versions: message.versions.iter().filter_map(record).collect(),
        retracted: message.retracted.as_ref().and_then(record),
        reactions: reactions
            .map(|(text, who)| Reaction {
                text,
                by: who.keys().map(|(_, user)| user.as_str()).collect(),
            })
            .collect(),
        acts: message
            .acts
            .iter()
            .filter_map(|act| {
                Some(ActLine {
                    kind: act.kind.name(),
                    said: record(&act.sequence)?,
                    applied: act.verdict.is_ok(),
                    not_applied: act.verdict.err().map(Why::reason),
                })
            })
            .collect(),
    })
}

fn said(place: usize, records: &[Opened]) -> Said<'_> {
    let record = &records[place];
    let text = core::str::from_utf8(&record.content.text).ok();
    Said {
        number: place + 1,
        sequence: record.receipt.sequence,
        sender: &record.header().sender_user,
        sent_at: time(record.header().sent_at),
        archived_at: time(record.receipt.archived_at),
        subject: &record.content.subject,
        text,
        text_base64: text
            .is_none()
            .then(|| STANDARD.encode(&record.content.text)),
    }
}
