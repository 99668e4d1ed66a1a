//! How instants, texts and contents are read from the command line and shown.

use core::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use greffe_envelope::content::Kind;
use greffe_envelope::pb;
use greffe_types::{Digest, Millis, to_hex};
use serde::Serialize;

/// An instant on the command line: `2026-03-02`, which is its beginning in UTC, or RFC 3339 such as `2026-03-02T09:30:00Z`.
pub(crate) fn instant(text: &str) -> Result<Millis, String> {
    let wrong = || {
        format!("{text:?} is no date such as 2026-03-02 and no time such as 2026-03-02T09:30:00Z")
    };
    let at = match text.parse::<jiff::Timestamp>() {
        Ok(at) => at,
        Err(_) => text
            .parse::<jiff::civil::Date>()
            .ok()
            .and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC).ok())
            .map(|zoned| zoned.timestamp())
            .ok_or_else(wrong)?,
    };
    u64::try_from(at.as_millisecond())
        .map(Millis::new)
        .map_err(|_| wrong())
}

/// A duration on the command line: `90m`, `24h`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 90m, 24h or 7d");
    let (number, unit) = text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = number.parse().map_err(|_| wrong())?;
    if number == 0 {
        return Err(wrong());
    }
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

/// RFC 3339 in UTC, to the millisecond.
pub(crate) fn time(at: u64) -> String {
    i64::try_from(at)
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .map_or_else(|| format!("{at} ms"), |at| format!("{at:.3}"))
}

/// As [`time`]; none for 0, which stands for no instant.
pub(crate) fn time_or_none(at: u64) -> Option<String> {
    (at != 0).then(|| time(at))
}

/// What somebody else wrote, for a terminal: its controls would be obeyed.
pub(crate) fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text)
        .chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// As [`printable`], on one line.
pub(crate) fn one_line(text: &str) -> String {
    printable(text.as_bytes()).replace(['\n', '\t'], " ")
}

/// Bytes of an identifier or digest.
pub(crate) fn hex(bytes: &[u8]) -> String {
    to_hex(bytes)
}

/// What a message says.
#[derive(Debug, Serialize)]
pub(crate) struct ContentView {
    /// "text", "mail", "edit", "retraction", "reaction", "reaction-removal", or "unknown": a newer client's.
    pub(crate) kind: &'static str,
    /// The number of a kind that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kind_number: Option<i32>,
    /// Envelope digest of the message that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
    /// Subject line; empty for chat.
    pub(crate) subject: String,
    /// The text, when it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    /// Otherwise its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text_base64: Option<String>,
    /// Envelope digest of the message it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reply_to: Option<String>,
    /// The sender of the original had no name.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub(crate) unknown_sender: bool,
    /// Attachments.
    pub(crate) attachments: Vec<AttachmentView>,
}

/// An attachment.
#[derive(Debug, Serialize)]
pub(crate) struct AttachmentView {
    /// File name as the sender gave it.
    pub(crate) name: String,
    /// Media type.
    pub(crate) media_type: String,
    /// Bytes.
    pub(crate) size: u64,
    /// Where it was saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) saved: Option<String>,
}

impl ContentView {
    /// Of a content.
    pub(crate) fn new(content: &pb::Content) -> Self {
        let (text, text_base64) = text_or_base64(&content.text);
        let reply = Digest::try_from(content.reply_to.as_slice()).ok();
        let target = Digest::try_from(content.target.as_slice()).ok();
        let kind = Kind::of(content).unwrap_or(Kind::Unknown(content.kind));
        Self {
            kind: kind.name(),
            kind_number: match kind {
                Kind::Unknown(number) => Some(number),
                _ => None,
            },
            target: target.map(|digest| digest.to_string()),
            subject: content.subject.clone(),
            text,
            text_base64,
            reply_to: reply.map(|digest| digest.to_string()),
            unknown_sender: content.unknown_sender,
            attachments: content
                .attachments
                .iter()
                .map(|attachment| AttachmentView {
                    name: attachment.name.clone(),
                    media_type: attachment.media_type.clone(),
                    size: attachment.size,
                    saved: None,
                })
                .collect(),
        }
    }

    /// For a terminal: subject, text, attachments.
    pub(crate) fn lines(&self, text: &[u8]) -> String {
        let mut lines = String::new();
        if let Some(number) = self.kind_number {
            lines.push_str(&format!(
                "(of kind {number}, which this version does not know) "
            ));
        }
        lines + &said(&self.subject, text) + &self.attached()
    }

    /// The attachments, a line each.
    pub(crate) fn attached(&self) -> String {
        let mut lines = String::new();
        for attachment in &self.attachments {
            let saved = attachment.saved.as_deref();
            lines.push_str(&format!(
                "\n    attached: {:?}, {} bytes{}",
                attachment.name,
                attachment.size,
                saved.map_or_else(String::new, |path| format!(", saved as {path}"))
            ));
        }
        lines
    }
}

/// Subject and text for a terminal.
pub(crate) fn said(subject: &str, text: &[u8]) -> String {
    let text = printable(text);
    if subject.is_empty() {
        text
    } else {
        format!("[{}] {text}", one_line(subject))
    }
}

/// A text when it is UTF-8, else its bytes.
pub(crate) fn text_or_base64(text: &[u8]) -> (Option<String>, Option<String>) {
    core::str::from_utf8(text).map_or_else(
        |_| (None, Some(STANDARD.encode(text))),
        |text| (Some(text.to_owned()), None),
    )
}

/// A file name of an attachment: what the sender called it, harmless, behind what makes it unique.
pub(crate) fn file_name(unique: &str, name: &str) -> String {
    let safe: String = name
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || matches!(c, '.' | '-' | '_') {
                c
            } else {
                '_'
            }
        })
        .take(50)
        .collect();
    if safe.is_empty() {
        unique.to_owned()
    } else {
        format!("{unique}-{safe}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_and_durations_are_read_strictly() {
        assert_eq!(instant("1970-01-02"), Ok(Millis::new(86_400_000)));
        assert_eq!(instant("1970-01-01T00:00:01.5Z"), Ok(Millis::new(1500)));
        assert!(instant("yesterday").is_err() && instant("1969-12-31").is_err());
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        assert!(
            ["", "h", "0h", "5", "5w", "-1h", "4é"]
                .iter()
                .all(|text| duration(text).is_err())
        );
        assert_eq!(time(1500), "1970-01-01T00:00:01.500Z");
    }

    #[test]
    fn what_others_wrote_does_not_reach_the_terminal_or_other_folders() {
        assert_eq!(printable(b"a\x1b[2Jb\nc\xff"), "a\u{fffd}[2Jb\nc\u{fffd}");
        assert_eq!(
            file_name("1-0", "../../etc/pass wd"),
            "1-0-.._.._etc_pass_wd"
        );
    }
}
