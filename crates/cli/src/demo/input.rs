//! What a demonstration is fed: a chat log, a mail or a folder of mails, as conversations of messages.

use std::collections::BTreeMap;
use std::path::Path;

use super::{chat, mail};
use crate::fail::{Failure, Result};

/// A file that belongs to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Its name; may be empty.
    pub(crate) name: String,
    /// Its media type.
    pub(crate) media_type: String,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
}

/// One message, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Where it stands in the input, such as `2006-06-01.log.txt:12`.
    pub(crate) item: String,
    /// Who speaks.
    pub(crate) sender: String,
    /// The input named nobody.
    pub(crate) unknown_sender: bool,
    /// A mail, whose raw bytes are the first file.
    pub(crate) is_mail: bool,
    /// Subject; empty for chat.
    pub(crate) subject: String,
    /// The text, not necessarily UTF-8.
    pub(crate) text: Vec<u8>,
    /// Attachments.
    pub(crate) files: Vec<File>,
}

/// What could not be taken as a message, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Refusal {
    /// Where it stands in the input.
    pub(crate) item: String,
    /// Stable reason.
    pub(crate) reason: String,
}

/// Everything that was read.
#[derive(Debug, Default)]
pub(crate) struct Input {
    /// Conversations in the order in which they begin, each with its messages in order.
    pub(crate) conversations: Vec<(String, Vec<Message>)>,
    /// What is no message.
    pub(crate) refusals: Vec<Refusal>,
}

impl Input {
    /// How many messages there are.
    pub(crate) fn messages(&self) -> usize {
        self.conversations
            .iter()
            .map(|(_, messages)| messages.len())
            .sum()
    }

    /// Adds another input behind this one.
    fn extend(&mut self, other: Self) {
        self.conversations.extend(other.conversations);
        self.refusals.extend(other.refusals);
    }
}

/// Reads a path: a folder of mails, a chat log, or one mail.
pub(crate) fn read(path: &Path) -> Result<Input> {
    let failed = |error: std::io::Error| Failure::io("read the input", path, &error);
    if path.is_dir() {
        let mut mails = BTreeMap::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().map_err(failed)?.is_file() {
                let name = entry.file_name().to_string_lossy().into_owned();
                mails.insert(name, std::fs::read(entry.path()).map_err(failed)?);
            }
        }
        // What goes with mails but is none, such as a licence, is recognised by its name.
        mails.retain(|name, _| name.to_ascii_lowercase().ends_with(".eml"));
        if mails.is_empty() {
            return Err(Failure::usage(
                "INPUT_EMPTY",
                format_args!(
                    "{} holds no .eml file: name a chat log, a mail or a folder of mails",
                    path.display()
                ),
            ));
        }
        return Ok(mail::read(mails));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    if chat::looks_like(&bytes) {
        Ok(chat::read(&name, &bytes))
    } else {
        Ok(mail::read(BTreeMap::from([(name, bytes)])))
    }
}

/// The project's own sample.
pub(crate) fn sample() -> Input {
    let mut input = chat::read(
        "2026-03-02.log.txt",
        include_bytes!("../../sample/2026-03-02.log.txt"),
    );
    let mails = [
        (
            "limit-change.eml",
            include_bytes!("../../sample/limit-change.eml").as_slice(),
        ),
        (
            "limit-change-answer.eml",
            include_bytes!("../../sample/limit-change-answer.eml").as_slice(),
        ),
    ];
    let mails = mails.map(|(name, bytes)| (name.to_owned(), bytes.to_vec()));
    input.extend(mail::read(mails.into()));
    input
}

/// A user's name from bytes of the input: at most 255 bytes of UTF-8 without control characters and outer spaces; what
/// cannot be part of one is written as `%` and two hexadecimal digits.
pub(crate) fn user_name(bytes: &[u8]) -> String {
    let mut name = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                let mut utf8 = [0; 4];
                escape(&mut name, character.encode_utf8(&mut utf8).as_bytes());
            } else {
                name.push(character);
            }
        }
        escape(&mut name, chunk.invalid());
    }
    // No name begins or ends with a space, whatever the log says.
    let inner = name.trim();
    let lead = name.len() - name.trim_start().len();
    let mut kept = String::new();
    escape(&mut kept, &name.as_bytes()[..lead]);
    kept.push_str(inner);
    escape(&mut kept, &name.as_bytes()[lead + inner.len()..]);
    while kept.len() > 255 {
        kept.pop();
    }
    kept
}

fn escape(name: &mut String, bytes: &[u8]) {
    for byte in bytes {
        name.push_str(&format!("%{byte:02X}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_give_a_user_name() {
        assert_eq!(user_name("Zoé".as_bytes()), "Zoé");
        assert_eq!(user_name(b"a\xff\nb"), "a%FF%0Ab");
        assert_eq!(user_name(b" zcat[1] "), "%20zcat[1]%20");
        assert_eq!(user_name(&[b'x'; 300]).len(), 255);
    }

    #[test]
    fn the_sample_has_chat_and_mail_and_no_refusal() {
        let input = sample();
        assert!(input.refusals.is_empty(), "{:?}", input.refusals);
        assert!(input.messages() >= 20);
        let all = || {
            input
                .conversations
                .iter()
                .flat_map(|(_, messages)| messages)
        };
        assert!(all().any(|m| m.text.is_empty()));
        assert!(all().any(|m| core::str::from_utf8(&m.text).is_err()));
        assert!(all().any(|m| m.is_mail && m.files.len() > 1));
    }
}
