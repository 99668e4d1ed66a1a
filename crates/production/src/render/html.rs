//! `index.html`: the page to begin with; no script, nothing fetched.

use core::fmt::Write as _;

use super::{attachment_path, conversation, custody, mode, time};
use crate::evidence::Production;
use crate::history::{Histories, named, unknown};
use crate::layout;
use crate::opened::Opened;

/// Characters of a text that the index shows.
const EXCERPT: usize = 240;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1b1f24;background:#fff}\
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.4rem .6rem;border-bottom:1px solid #d8dee4}\
th{background:#f3f5f7;font-weight:600}th:nth-child(4){width:50%}td.n{white-space:nowrap}dl{display:grid;grid-template-columns:10rem 1fr;gap:.2rem 1rem}\
dt{color:#57606a}dd{margin:0;overflow-wrap:anywhere}.t{white-space:pre-wrap;overflow-wrap:anywhere}a{color:#0a58a8}";

pub(super) fn index(
    production: &Production,
    records: &[Opened],
    histories: &Histories,
) -> Result<String, String> {
    let order = custody::order(production)?;
    let mut page = String::new();
    let mut put = |text: &str| page.push_str(text);
    put(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n",
    );
    put(&format!(
        "<title>Production of {} records, {}</title>\n<style>{STYLE}</style>\n",
        records.len(),
        escape(&order.tenant)
    ));
    put(&format!(
        "<h1>Production of {} records of {}</h1>\n<dl>\n",
        records.len(),
        escape(&order.tenant)
    ));
    for (name, value) in [
        ("Purpose", escape(&order.purpose)),
        ("Requested by", escape(&order.requester)),
        ("Approved by", approvers(production)?),
        ("Read by", escape(&order.reader)),
        ("Order", order.digest().to_string()),
        ("Log entry", production.order_proof.index.to_string()),
    ] {
        put(&format!("<dt>{name}</dt><dd>{value}</dd>\n"));
    }
    put(
        "</dl>\n<p>Files: <a href=\"messages.jsonl\">messages.jsonl</a>, <a href=\"custody.json\">custody.json</a>, <a href=\"manifest.json\">manifest.json</a>, <a href=\"FORMAT.md\">FORMAT.md</a>. Verify with <code>greffe verify FOLDER --root root.pub</code>.</p>\n",
    );
    let mut last = None;
    for (number, record) in (1..).zip(records) {
        let of = &record.header().conversation;
        if last.as_ref() != Some(of) {
            if last.is_some() {
                put("</table>\n");
            }
            put(&format!(
                "<h2>Conversation {}</h2>\n<table>\n<tr><th>No.</th><th>Sent (UTC)</th><th>Sender</th><th>Message</th><th>Files</th></tr>\n",
                conversation(of)
            ));
            last = Some(of.clone());
        }
        put(&row(number, records, histories));
    }
    if last.is_some() {
        put("</table>\n");
    }
    put("</html>\n");
    Ok(page)
}

fn row(number: usize, records: &[Opened], histories: &Histories) -> String {
    let record = &records[number - 1];
    let content = &record.content;
    let mut files = format!("<a href=\"{}\">EML</a>", layout::eml(number));
    for (index, inside) in content.attachments.iter().enumerate() {
        let name = if inside.name.is_empty() {
            "unnamed"
        } else {
            &inside.name
        };
        // Writing to a string does not fail.
        let _ = write!(
            files,
            "<br><a href=\"{}\">{}</a>",
            attachment_path(number, record, index),
            escape(name)
        );
    }
    format!(
        "<tr><td class=\"n\">{}</td><td class=\"n\">{}<br>{}</td><td>{}</td><td class=\"t\">{}{}{}</td><td>{files}</td></tr>\n",
        record.receipt.sequence,
        time(record.header().sent_at),
        mode(record),
        escape(&record.header().sender_user),
        about(number, records, histories),
        excerpt(record),
        became(number, records, histories),
    )
}

/// Subject and the beginning of the text.
fn excerpt(record: &Opened) -> String {
    let text = String::from_utf8_lossy(&record.content.text);
    let mut shown: String = text.chars().take(EXCERPT).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    let subject = &record.content.subject;
    if subject.is_empty() {
        escape(&shown)
    } else {
        format!("<strong>{}</strong><br>{}", escape(subject), escape(&shown))
    }
}

/// What a record is about and came to, before what it says; nothing of a text or mail.
fn about(number: usize, records: &[Opened], histories: &Histories) -> String {
    let place = number - 1;
    let kind = records[place].kind();
    if let Some(number) = unknown(kind) {
        return format!("<em>of kind {number}, which this version does not know</em><br>");
    }
    let Some(verdict) = histories.verdict(place) else {
        return String::new();
    };
    let target = histories.target(place).map_or_else(
        || "a message that is not here".to_owned(),
        |target| format!("number {}", records[target].receipt.sequence),
    );
    let effect = match verdict {
        Ok(()) => String::new(),
        Err(why) => format!(", no effect: {}", why.reason()),
    };
    format!("<em>{} of {target}{effect}</em><br>", kind.name())
}

/// What became of a message, after what it said; nothing when nothing is about it.
fn became(number: usize, records: &[Opened], histories: &Histories) -> String {
    let place = number - 1;
    let Some(message) = histories.message(place, &records[place]) else {
        return String::new();
    };
    let mut text = String::new();
    // Writing to a string does not fail.
    if message.retracted.is_some() {
        text.push_str("<br><em>retracted</em>");
    } else if message.versions.len() > 1 {
        let _ = write!(
            text,
            "<br><em>edited, {} versions</em>",
            message.versions.len()
        );
    }
    for (reaction, who) in &message.reactions {
        let who: Vec<String> = who.keys().map(|(_, user)| escape(user)).collect();
        let _ = write!(text, "<br>{} {}", escape(reaction), who.join(", "));
    }
    for act in &message.acts {
        let Some(at) = histories.at(place, act.sequence) else {
            continue;
        };
        let record = &records[at];
        let _ = write!(
            text,
            "<br><small>{} {} <a href=\"{}\">{}</a> by {}: {}</small>",
            act.sequence,
            time(record.header().sent_at),
            layout::eml(at + 1),
            named(act),
            escape(&record.header().sender_user),
            excerpt(record)
        );
    }
    text
}

fn approvers(production: &Production) -> Result<String, String> {
    let mut names = Vec::new();
    for raw in &production.order.approvals {
        let approval = greffe_envelope::statement::Signed::<greffe_envelope::pb::Approval>::decode(
            raw.clone(),
        )
        .map_err(|e| e.to_string())?;
        names.push(escape(&approval.person));
    }
    Ok(names.join(", "))
}

/// Text for HTML; control characters other than line ends become the replacement character.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
