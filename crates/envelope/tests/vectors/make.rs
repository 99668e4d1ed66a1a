//! The vectors of every format, made by the crate itself from fixed seeds: the same bytes on every run.
//!
//! The example `vectors` writes them, the test `vectors` compares them with the files, `oracle/check.py` recomputes them
//! without any of this code.

#[macro_use]
mod json;
mod ceremony;
mod content;
mod derive;
mod keys;
mod message;
mod opening;
mod small;
mod statement;

use serde_json::{Value, json};

/// Name and text of every file.
pub fn all() -> Vec<(&'static str, String)> {
    let files: [(&str, &str, Vec<Value>); 14] = [
        (
            "derive.json",
            "From a seed to every key of a message; ids of journaling keys.",
            derive::cases(),
        ),
        (
            "padding.json",
            "Padded lengths, and data padded to them.",
            small::padding(),
        ),
        (
            "stream.json",
            "STREAM-AES-256-GCM. Byte i of a plaintext is (7 i + 3) mod 256.",
            small::stream(),
        ),
        (
            "curve.json",
            "The second generator, and hashing to the curve.",
            small::curve(),
        ),
        (
            "chain.json",
            "Heads of a conversation's chain, with handshakes and voids.",
            small::chain(),
        ),
        (
            "records.json",
            "Roots and paths of lists of records.",
            small::records(),
        ),
        (
            "sealbox.json",
            "Secrets at rest, with the nonce given.",
            small::sealbox(),
        ),
        (
            "message.json",
            "Whole messages: header, content, attachments, wraps with proofs, body, signature.",
            message::cases(),
        ),
        (
            "content.json",
            "Contents of every kind, what is not sealed, and what is read of a newer client's.",
            content::contents(),
        ),
        (
            "history.json",
            "Conversations and what became of their messages. An envelope digest is here H(be64 number, author, content).",
            content::histories(),
        ),
        (
            "opening.json",
            "A record opened by two of three nodes: shares, partial openings with proofs, answers, combination.",
            opening::cases(),
        ),
        (
            "ceremony.json",
            "Every message of a key generation and of a resharing, and what they arrive at.",
            ceremony::cases(),
        ),
        (
            "statements.json",
            "Every kind of signed statement.",
            statement::cases(),
        ),
        (
            "ed25519.json",
            "What strict verification refuses and accepts.",
            small::ed25519(),
        ),
    ];
    files
        .into_iter()
        .map(|(name, about, cases)| {
            let file = json::sorted(json!({ "about": about, "cases": cases }));
            let text = serde_json::to_string_pretty(&file).expect("JSON of strings and numbers");
            (name, text + "\n")
        })
        .collect()
}
