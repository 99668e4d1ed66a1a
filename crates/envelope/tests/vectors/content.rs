//! Contents of every kind, what is not sealed, what is not opened, and conversations with all that became of their messages.

use std::collections::BTreeMap;

use greffe_envelope::content::{Kind, check, decode};
use greffe_envelope::history::{History, Said};
use greffe_envelope::label::sha256;
use greffe_envelope::pb::{self, ContentKind as K};
use greffe_types::Digest;
use prost::Message as _;
use serde_json::{Value, json};

use super::json::{Json as _, hex};
use super::keys::Seeded;

/// Contents as they are encoded, with the reason of those that no client of this version seals; then bytes that are read.
pub fn contents() -> Vec<Value> {
    let target = Seeded::new("target").bytes(32);
    let of = |kind: K, text: &str| pb::Content {
        kind: kind.into(),
        text: text.into(),
        target: target.clone(),
        ..Default::default()
    };
    let edit = of(K::Edit, "The limit is 6.");
    let reaction = of(K::Reaction, "👍");
    let cases = [
        (
            "a text that answers another",
            pb::Content {
                reply_to: target.clone(),
                target: Vec::new(),
                ..of(K::Text, "The limit is 5.")
            },
        ),
        ("an edit", edit.clone()),
        (
            "an edit of a mail",
            pb::Content {
                subject: "Limits".into(),
                ..edit.clone()
            },
        ),
        ("a retraction", of(K::Retraction, "")),
        ("a reaction", reaction.clone()),
        ("its removal", of(K::ReactionRemoval, "👍")),
        ("the longest reaction", of(K::Reaction, &"x".repeat(64))),
        (
            "a reaction that is too long",
            of(K::Reaction, &"x".repeat(65)),
        ),
        ("a reaction that says nothing", of(K::Reaction, "")),
        (
            "a reaction with a control character",
            of(K::Reaction, "a\nb"),
        ),
        (
            "a reaction that turns what follows",
            of(K::Reaction, "\u{202e}abc"),
        ),
        (
            "a reaction that is not UTF-8",
            pb::Content {
                text: vec![0xff],
                ..reaction.clone()
            },
        ),
        (
            "a reaction with a subject",
            pb::Content {
                subject: "+".into(),
                ..reaction
            },
        ),
        ("a retraction that says why", of(K::Retraction, "wrong")),
        ("a text about another", of(K::Text, "The limit is 5.")),
        (
            "an edit of nothing",
            pb::Content {
                target: Vec::new(),
                ..edit.clone()
            },
        ),
        (
            "an edit of half a digest",
            pb::Content {
                target: target[..16].to_vec(),
                ..edit.clone()
            },
        ),
        (
            "an edit that answers",
            pb::Content {
                reply_to: target.clone(),
                ..edit
            },
        ),
        ("no kind", of(K::Unspecified, "")),
    ];
    let mut values: Vec<Value> = cases
        .into_iter()
        .map(|(about, content)| {
            let refused = check(&content).err().map_or("", |error| error.reason());
            let bytes = content.encode_to_vec();
            assert_eq!(decode(&bytes).unwrap(), content);
            json!({
                "about": about,
                "content": content.json(),
                "content_bytes": hex(&bytes),
                "refused": refused,
            })
        })
        .collect();
    let newer = [8, 99, 18, 2, b'h', b'i', 122, 1, b'?'];
    for kind in [99, 1, 3, 6, 0] {
        let mut bytes = newer;
        bytes[1] = kind;
        let content = decode(&bytes).ok();
        let text = content.as_ref().map(|content| content.text.clone());
        values.push(json!({
            "about": "a field that this version does not know",
            "bytes": hex(bytes),
            "digest": sha256(&bytes).json(),
            "opened": content.is_some(),
            "text": text.unwrap_or_default().json(),
        }));
    }
    values
}

/// An item of a conversation: who, what, and of an act which item it is about.
type Line = (&'static str, K, usize, &'static str);

/// Items of a conversation in their order. The envelope digest of one is here H(be64 number ‖ author ‖ content), so that
/// targets can be named without sealing; `content` is null where it is not known what an item says.
pub fn histories() -> Vec<Value> {
    let edited: &[Line] = &[
        ("alice", K::Text, 0, "The limit is 5."),
        ("bob", K::Reaction, 1, "👍"),
        ("carol", K::Reaction, 1, "👍"),
        ("alice", K::Edit, 1, "The limit is 6."),
        ("bob", K::ReactionRemoval, 1, "👍"),
        ("bob", K::ReactionRemoval, 1, "👍"),
        ("carol", K::Reaction, 1, "👍"),
        ("carol", K::Reaction, 1, "👀"),
        ("bob", K::Edit, 1, "The limit is 7."),
        ("bob", K::Retraction, 1, ""),
        ("alice", K::Edit, 4, "An edit of an edit"),
        ("alice", K::Edit, 1, "The limit is 8."),
        ("bob", K::Text, 0, "Noted."),
        ("alice", K::Retraction, 1, ""),
        ("alice", K::Edit, 1, "Again"),
        ("bob", K::Reaction, 1, "👀"),
        ("carol", K::ReactionRemoval, 1, "👀"),
        ("bob", K::Retraction, 13, ""),
    ];
    // Number 99 is of another conversation; number 4 is not known here; number 6 is an item of a newer kind.
    let strayed: &[Line] = &[
        ("alice", K::Mail, 0, "A mail"),
        ("alice", K::Edit, 99, "Elsewhere"),
        ("bob", K::Reaction, 99, "👍"),
        ("bob", K::Unspecified, 0, ""),
        ("bob", K::Edit, 4, "What did it say?"),
        ("bob", K::Text, 0, ""),
        ("bob", K::Retraction, 6, ""),
        (
            "bob",
            K::Reaction,
            1,
            "too long to be a reaction, and no client that keeps to rules sends it",
        ),
        ("alice", K::Retraction, 1, "because"),
    ];
    let bomb: Vec<Line> = [("alice", K::Text, 0, "Well?")]
        .into_iter()
        .chain((0..18).map(|n| ("bob", K::Reaction, 1, &"abcdefghijklmnopqr"[n..=n])))
        .chain([
            ("bob", K::ReactionRemoval, 1, "a"),
            ("bob", K::Reaction, 1, "q"),
            ("alice", K::Reaction, 1, "q"),
        ])
        .collect();
    vec![
        history("edited, retracted, reacted to", edited),
        history("about what is not there", strayed),
        history("more reactions than stand", &bomb),
    ]
}

fn history(about: &str, lines: &[Line]) -> Value {
    let elsewhere = Seeded::new("elsewhere").bytes(32);
    let (mut history, mut envelopes, mut items) = (History::default(), Vec::new(), Vec::new());
    let mut unknown: Vec<Digest> = Vec::new();
    for (sequence, (author, kind, target, text)) in (1..).zip(lines) {
        let mut content = pb::Content {
            kind: (*kind).into(),
            text: (*text).into(),
            ..Default::default()
        };
        if *target > 0 {
            let known: Option<&Digest> = envelopes.get(*target - 1);
            content.target = known.map_or_else(|| elsewhere.clone(), |digest| digest.to_vec());
        }
        if *kind == K::Text && text.is_empty() {
            content.kind = 99;
        }
        // No kind stands for an item of which nothing but its digest is known.
        let known = *kind != K::Unspecified;
        let bytes = if known {
            content.encode_to_vec()
        } else {
            Vec::new()
        };
        let parts = [&u64::to_be_bytes(sequence)[..], author.as_bytes(), &bytes];
        let envelope = sha256(&parts.concat());
        let verdict = if known {
            let said = Said {
                sequence,
                envelope,
                author: (*author).to_owned(),
                content: &content,
            };
            match history.take(&said, |digest| unknown.contains(digest)) {
                None if Kind::of(&content).is_some_and(Kind::is_message) => "message",
                None => "newer",
                Some(Ok(())) => "applied",
                Some(Err(why)) => why.reason(),
            }
        } else {
            unknown.push(envelope);
            "unknown"
        };
        envelopes.push(envelope);
        items.push(json!({
            "author": author,
            "content": if known { hex(&bytes) } else { Value::Null },
            "envelope": envelope.json(),
            "sequence": sequence,
            "verdict": verdict,
        }));
    }
    let messages: Vec<Value> = history
        .messages()
        .iter()
        .map(|message| {
            let who = |who: &BTreeMap<String, u64>| who.keys().cloned().collect::<Vec<_>>();
            let reactions: Vec<Value> = message
                .reactions
                .iter()
                .map(|(text, by)| json!({ "text": text, "by": who(by) }))
                .collect();
            let acts: Vec<u64> = message.acts.iter().map(|act| act.sequence).collect();
            json!({
                "sequence": message.sequence,
                "versions": message.versions,
                "retracted": message.retracted.unwrap_or(0),
                "reactions": reactions,
                "acts": acts,
            })
        })
        .collect();
    let strays: Vec<u64> = history.strays().iter().map(|act| act.sequence).collect();
    json!({ "about": about, "items": items, "messages": messages, "strays": strays })
}
