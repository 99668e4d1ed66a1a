//! Which records: the filters that searches, holds and orders share, and what a record looks like without its content.

use clap::{Args, ValueEnum};
use greffe_api::archive::{RecordQuery, RecordSummary};
use greffe_client::mode_name;
use greffe_envelope::pb;
use greffe_types::{ConversationId, Millis};
use serde::Serialize;

use super::form::{hex, instant, one_line, time, time_or_none};

/// A mode on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeName {
    /// Only its members read it.
    Private,
    /// A named reader may open single messages under an approved order.
    Journaled,
    /// As journaled, and the supervision desk reads it.
    Supervised,
}

impl ModeName {
    /// As messages carry it.
    pub(crate) const fn mode(self) -> pb::Mode {
        match self {
            Self::Private => pb::Mode::Private,
            Self::Journaled => pb::Mode::Journaled,
            Self::Supervised => pb::Mode::Supervised,
        }
    }
}

/// Filters over headers; all that are given have to fit.
#[derive(Debug, Clone, Args)]
pub(crate) struct Filters {
    /// A user who takes part in the conversation.
    #[arg(long, value_name = "USER")]
    pub(crate) participant: Option<String>,
    /// The user who sent it.
    #[arg(long, value_name = "USER")]
    pub(crate) sender: Option<String>,
    /// The conversation.
    #[arg(long, value_name = "CONVERSATION")]
    pub(crate) conversation: Option<ConversationId>,
    /// Sent or archived at this time or later: 2026-03-02, or 2026-03-02T09:30:00Z.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub(crate) from: Option<Millis>,
    /// Archived before this time.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub(crate) until: Option<Millis>,
    /// The conversation's mode.
    #[arg(long, value_enum)]
    pub(crate) mode: Option<ModeName>,
    /// Record class of the policy pack.
    #[arg(long, value_name = "CLASS")]
    pub(crate) class: Option<String>,
}

impl Filters {
    /// As the archive takes it.
    pub(crate) fn query(&self) -> RecordQuery {
        RecordQuery {
            participant: self.participant.clone().unwrap_or_default(),
            conversation: self.conversation.map_or_else(Vec::new, |id| id.to_vec()),
            from: self.from.map_or(0, Millis::get),
            until: self.until.map_or(0, Millis::get),
            mode: self.mode.map_or(0, |mode| mode.mode() as i32),
            record_class: self.class.clone().unwrap_or_default(),
            sender: self.sender.clone().unwrap_or_default(),
        }
    }

    /// Whether anything is asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.query() == RecordQuery::default()
    }
}

/// A query as it was asked.
#[derive(Debug, Serialize)]
pub(crate) struct QueryView {
    #[serde(skip_serializing_if = "String::is_empty")]
    participant: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    sender: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    conversation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    class: String,
}

impl QueryView {
    /// Of a query.
    pub(crate) fn new(query: &RecordQuery) -> Self {
        let mode = query.mode();
        Self {
            participant: query.participant.clone(),
            sender: query.sender.clone(),
            conversation: hex(&query.conversation),
            from: time_or_none(query.from),
            until: time_or_none(query.until),
            mode: (mode != pb::Mode::Unspecified).then(|| mode_name(mode)),
            class: query.record_class.clone(),
        }
    }

    /// For a person.
    pub(crate) fn words(&self) -> String {
        let parts = [
            ("participant", self.participant.as_str()),
            ("sender", &self.sender),
            ("conversation", &self.conversation),
            ("from", self.from.as_deref().unwrap_or_default()),
            ("until", self.until.as_deref().unwrap_or_default()),
            ("mode", self.mode.unwrap_or_default()),
            ("class", &self.class),
        ];
        let words: Vec<String> = parts
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name} {}", one_line(value)))
            .collect();
        if words.is_empty() {
            "every record".to_owned()
        } else {
            words.join(", ")
        }
    }
}

/// What took a number, in a word.
pub(crate) const fn kind_name(kind: pb::EntryKind) -> &'static str {
    match kind {
        pb::EntryKind::Unspecified => "unspecified",
        pb::EntryKind::Message => "message",
        pb::EntryKind::Handshake => "commit",
        pb::EntryKind::Void => "void",
    }
}

/// A record without content.
#[derive(Debug, Serialize)]
pub(crate) struct RecordView {
    record: u64,
    digest: String,
    conversation: String,
    sequence: u64,
    kind: &'static str,
    pub(crate) sender: String,
    sent_at: Option<String>,
    archived_at: String,
    retain_until: String,
    mode: &'static str,
    class: String,
    size: u64,
    participants: Vec<String>,
    holds: u32,
    disposed: bool,
}

impl RecordView {
    /// Of a summary.
    pub(crate) fn new(summary: &RecordSummary) -> Self {
        Self {
            record: summary.record,
            digest: hex(&summary.digest),
            conversation: hex(&summary.conversation),
            sequence: summary.sequence,
            kind: kind_name(summary.kind()),
            sender: summary.sender.clone(),
            sent_at: time_or_none(summary.sent_at),
            archived_at: time(summary.archived_at),
            retain_until: time(summary.retain_until),
            mode: mode_name(summary.mode()),
            class: summary.record_class.clone(),
            size: summary.size,
            participants: summary.participants.clone(),
            holds: summary.holds,
            disposed: summary.disposed,
        }
    }

    /// One line for a person.
    pub(crate) fn line(&self) -> String {
        let mut line = format!(
            "{} {} {}#{} {} {} {} {} bytes, kept until {}",
            self.digest,
            self.archived_at,
            self.conversation,
            self.sequence,
            self.kind,
            if self.sender.is_empty() {
                "-".to_owned()
            } else {
                one_line(&self.sender)
            },
            self.class,
            self.size,
            self.retain_until
        );
        if self.holds > 0 {
            line.push_str(&format!(", {} holds", self.holds));
        }
        if self.disposed {
            line.push_str(", disposed of");
        }
        line.push('\n');
        line
    }
}
