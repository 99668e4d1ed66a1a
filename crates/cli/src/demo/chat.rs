//! Chat logs: `[HH:MM] <nick> text`, `[HH:MM] -nick:channel- text`, `[HH:MM] (nick/channel) text`, `[HH:MM]  * nick text`;
//! lines that begin with `===` are joins, parts and modes, which are no messages.

use super::input::{Input, Message, Refusal, user_name};

/// Whether bytes are a chat log: the first line that says anything has one of the forms.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    let first = bytes.split(|b| *b == b'\n').find(|line| !line.is_empty());
    first.is_some_and(|line| line.starts_with(b"===") || time(line).is_some())
}

/// Reads a log: one conversation.
pub(crate) fn read(name: &str, bytes: &[u8]) -> Input {
    let mut messages = Vec::new();
    let mut refusals = Vec::new();
    let mut lines = bytes.split(|b| *b == b'\n').zip(1_u64..).peekable();
    while let Some((line, number)) = lines.next() {
        // What follows the last line's end is no line.
        if line.is_empty() && lines.peek().is_none() {
            break;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let item = format!("{name}:{number}");
        if line.starts_with(b"===") {
            continue;
        }
        match message(line) {
            Some((nick, text)) if !nick.is_empty() => messages.push(Message {
                item,
                sender: user_name(nick),
                unknown_sender: false,
                is_mail: false,
                subject: String::new(),
                text: text.to_vec(),
                files: Vec::new(),
            }),
            _ => refusals.push(Refusal {
                item,
                reason: "LINE_NOT_A_MESSAGE".to_owned(),
            }),
        }
    }
    Input {
        conversations: vec![(name.to_owned(), messages)],
        refusals,
    }
}

/// What follows `[HH:MM] `.
fn time(line: &[u8]) -> Option<&[u8]> {
    let digit = |i: usize| line.get(i).is_some_and(u8::is_ascii_digit);
    let shape = line.first() == Some(&b'[')
        && digit(1)
        && digit(2)
        && line.get(3) == Some(&b':')
        && digit(4)
        && digit(5);
    let rest = line.get(6..)?.strip_prefix(b"]")?;
    if shape { rest.strip_prefix(b" ") } else { None }
}

/// Nick and text.
fn message(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = time(line)?;
    let (nick, text) = if let Some(rest) = rest.strip_prefix(b"<") {
        split(rest, b">")?
    } else if let Some(rest) = rest.strip_prefix(b"-") {
        let (who, text) = split(rest, b"- ")?;
        (split(who, b":")?.0, text)
    } else if let Some(rest) = rest.strip_prefix(b"(") {
        let (who, text) = split(rest, b")")?;
        (split(who, b"/")?.0, text)
    } else {
        let rest = rest.strip_prefix(b" * ")?;
        split(rest, b" ").unwrap_or((rest, b""))
    };
    Some((nick, text.strip_prefix(b" ").unwrap_or(text)))
}

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let position = bytes.windows(at.len()).position(|window| window == at)?;
    Some((&bytes[..position], &bytes[position + at.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_line_is_read_and_no_other() {
        let log = b"=== a joined\n[09:01] <a> hello\n[09:01] <b>\n[09:02] <b> \n[09:02]  * a waves \xff\n[09:03] -c:#x- note\n[09:04] (d/#x) see\nnot a line\n\n[09:05] <a>  two spaces \n";
        let input = read("log", log);
        let found: Vec<(&str, &[u8])> = input.conversations[0]
            .1
            .iter()
            .map(|m| (m.sender.as_str(), m.text.as_slice()))
            .collect();
        let expected: [(&str, &[u8]); 7] = [
            ("a", b"hello"),
            ("b", b""),
            ("b", b""),
            ("a", b"waves \xff"),
            ("c", b"note"),
            ("d", b"see"),
            ("a", b" two spaces "),
        ];
        assert_eq!(found, expected);
        let refused: Vec<&str> = input.refusals.iter().map(|r| r.item.as_str()).collect();
        assert_eq!(refused, ["log:8", "log:9"]);
        assert!(looks_like(log) && !looks_like(b"From: a@b\n"));
    }
}
