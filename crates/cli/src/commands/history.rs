//! A message with what became of it, and what is about a message: as users and readers are shown them, in text and in JSON.

use greffe_envelope::content::Kind;
use greffe_envelope::history::{Act, Message, Why};
use greffe_envelope::pb;
use greffe_types::Digest;
use serde::Serialize;

use super::form::{ContentView, one_line, said, text_or_base64, time};

/// An item that was opened, whoever opened it.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// Its number in the conversation.
    pub(crate) sequence: u64,
    /// Envelope digest.
    pub(crate) digest: Digest,
    /// Who sent it.
    pub(crate) sender: &'a str,
    /// The sender's clock.
    pub(crate) sent_at: u64,
    /// The archive's.
    pub(crate) archived_at: u64,
    /// What it says.
    pub(crate) content: &'a pb::Content,
}

/// What became of a message; only of those that something is about.
#[derive(Debug, Serialize)]
pub(crate) struct HistoryView {
    /// What it said, one after the other: the message itself first, last what is in force unless it was retracted.
    versions: Vec<SaidView>,
    /// Its retraction.
    retracted: Option<SaidView>,
    /// Reactions that stand.
    reactions: Vec<ReactionView>,
    /// Everything about it in order, what has no effect too.
    acts: Vec<ActView>,
}

#[derive(Debug, Serialize)]
struct SaidView {
    sequence: u64,
    digest: String,
    sender: String,
    sent_at: String,
    archived_at: String,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text_base64: Option<String>,
    #[serde(skip)]
    bytes: Vec<u8>,
}

#[derive(Debug, Serialize)]
struct ReactionView {
    text: String,
    by: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ActView {
    kind: &'static str,
    #[serde(flatten)]
    said: SaidView,
    applied: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_applied: Option<&'static str>,
}

/// What an edit, a retraction or a reaction came to.
#[derive(Debug, Serialize)]
pub(crate) struct AboutView {
    /// Envelope digest of what it is about.
    target: Option<String>,
    /// Its number, when it is here.
    target_sequence: Option<u64>,
    applied: bool,
    /// Stable reason why it has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_applied: Option<&'static str>,
    #[serde(skip)]
    kind: Kind,
}

impl SaidView {
    fn new(entry: Entry<'_>) -> Self {
        let (text, text_base64) = text_or_base64(&entry.content.text);
        Self {
            sequence: entry.sequence,
            digest: entry.digest.to_string(),
            sender: entry.sender.to_owned(),
            sent_at: time(entry.sent_at),
            archived_at: time(entry.archived_at),
            subject: entry.content.subject.clone(),
            text,
            text_base64,
            bytes: entry.content.text.clone(),
        }
    }

    fn line(&self) -> String {
        said(&self.subject, &self.bytes)
    }
}

impl HistoryView {
    /// None when nothing is about the message. `at` finds the item of a number.
    pub(crate) fn new<'a>(
        message: &Message<String>,
        at: impl Fn(u64) -> Option<Entry<'a>>,
    ) -> Option<Self> {
        if message.is_plain() {
            return None;
        }
        let view = |sequence: &u64| at(*sequence).map(SaidView::new);
        let act = |act: &Act| {
            Some(ActView {
                kind: act.kind.name(),
                said: view(&act.sequence)?,
                applied: act.verdict.is_ok(),
                not_applied: act.verdict.err().map(Why::reason),
            })
        };
        let reactions = message.reactions.iter();
        Some(Self {
            versions: message.versions.iter().filter_map(view).collect(),
            retracted: message.retracted.as_ref().and_then(view),
            reactions: reactions
                .map(|(text, who)| ReactionView {
                    text: text.clone(),
                    by: who.keys().cloned().collect(),
                })
                .collect(),
            acts: message.acts.iter().filter_map(act).collect(),
        })
    }

    /// For a terminal, after the sender: the version in force, that it is one of several, who reacted. `attached` are the lines of
    /// the attachments. With `all`, every version and act.
    pub(crate) fn lines(&self, attached: &str, all: bool) -> String {
        let mut lines = match (&self.retracted, self.versions.last()) {
            (Some(retracted), _) => {
                let hint = if all {
                    ""
                } else {
                    "; --history shows what it said"
                };
                format!("(retracted {}{hint})", retracted.archived_at)
            }
            (None, Some(version)) => {
                let edited = if self.versions.len() > 1 {
                    format!(" (edited, {} versions)", self.versions.len())
                } else {
                    String::new()
                };
                version.line() + &edited + attached
            }
            (None, None) => String::new(),
        };
        for reaction in &self.reactions {
            let who: Vec<String> = reaction.by.iter().map(|user| one_line(user)).collect();
            lines.push_str(&format!(
                "\n    {} {}",
                one_line(&reaction.text),
                who.join(", ")
            ));
        }
        if !all {
            return lines;
        }
        if self.retracted.is_some() {
            lines.push_str(attached);
        }
        for (number, version) in (1..).zip(&self.versions) {
            lines.push_str(&format!(
                "\n    version {number}, #{} {}: {}",
                version.sequence,
                version.archived_at,
                version.line()
            ));
        }
        for act in &self.acts {
            let sender = one_line(&act.said.sender);
            lines.push_str(&format!(
                "\n    #{} {} {} by {sender}{}{}",
                act.said.sequence,
                act.said.archived_at,
                act.kind,
                if act.said.bytes.is_empty() { "" } else { ": " },
                act.said.line(),
            ));
            lines.push_str(&no_effect(act.not_applied));
        }
        lines
    }
}

impl AboutView {
    /// Of an edit, a retraction, a reaction or its removal; none of anything else. `target` is the number of what it is about.
    pub(crate) fn new(
        content: &pb::Content,
        target: Option<u64>,
        verdict: Option<Result<(), Why>>,
    ) -> Option<Self> {
        let kind = Kind::of(content).filter(|kind| kind.is_act())?;
        let digest = Digest::try_from(content.target.as_slice()).ok();
        let not_applied = match verdict {
            Some(Ok(())) => None,
            Some(Err(why)) => Some(why.reason()),
            None => Some(Why::TargetUnknown.reason()),
        };
        Some(Self {
            target: digest.map(|digest| digest.to_string()),
            target_sequence: target,
            applied: not_applied.is_none(),
            not_applied,
            kind,
        })
    }

    /// For a terminal.
    pub(crate) fn line(&self, sender: &str, subject: &str, text: &[u8]) -> String {
        let about = match (self.target_sequence, &self.target) {
            (Some(number), _) => format!("#{number}"),
            (None, Some(digest)) => format!("{digest}, which is not here"),
            (None, None) => "nothing that is named".to_owned(),
        };
        let text = said(subject, text);
        let done = match self.kind {
            Kind::Edit => format!("edited {about}: {text}"),
            Kind::Retraction => format!("retracted {about}"),
            Kind::Reaction => format!("reacted to {about} with {text}"),
            _ => format!("took back {text} from {about}"),
        };
        format!("* {sender} {done}{}", no_effect(self.not_applied))
    }
}

/// A content for a terminal, with what became of it or what it came to.
pub(crate) fn says(
    content: &ContentView,
    about: Option<&AboutView>,
    history: Option<&HistoryView>,
    (sender, text): (&str, &[u8]),
    all: bool,
) -> String {
    match (about, history) {
        (Some(about), _) => about.line(sender, &content.subject, text) + &content.attached(),
        (None, Some(history)) => format!("<{sender}> {}", history.lines(&content.attached(), all)),
        (None, None) => format!("<{sender}> {}", content.lines(text)),
    }
}

fn no_effect(reason: Option<&'static str>) -> String {
    reason.map_or_else(String::new, |reason| format!(" (no effect: {reason})"))
}
