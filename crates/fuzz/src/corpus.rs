//! What fuzzing starts from: the published vectors, the packs, the settings of deploy/.

use std::io;
use std::path::Path;

use serde_json::Value;

/// Every string of hexadecimal digits in a vector file.
fn collect(value: &Value, into: &mut Vec<Vec<u8>>) {
    match value {
        Value::String(text) if text.len() >= 16 && text.len().is_multiple_of(2) => {
            let bytes: Option<Vec<u8>> = text
                .as_bytes()
                .chunks(2)
                .map(|pair| {
                    let pair = core::str::from_utf8(pair).ok()?;
                    u8::from_str_radix(pair, 16).ok()
                })
                .collect();
            into.extend(bytes);
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, into)),
        Value::Object(values) => values.values().for_each(|value| collect(value, into)),
        _ => {}
    }
}

/// What inputs are made of, first what is not text.
///
/// # Errors
/// When a file of the repository is not there or is not what it should be.
pub fn corpus() -> io::Result<[Vec<Vec<u8>>; 2]> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut corpus = vec![Vec::new()];
    for file in std::fs::read_dir(root.join("crates/envelope/vectors"))? {
        let text = std::fs::read_to_string(file?.path())?;
        collect(&serde_json::from_str(&text)?, &mut corpus);
    }
    let packs = greffe_policy::Pack::all_embedded();
    corpus.extend(packs.iter().map(|pack| pack.canonical().to_vec()));
    let mut texts = Vec::new();
    for text in [
        "policies/access/callers.toml",
        "policies/packs/us-broker-dealer/pack.toml",
        "deploy/config/relay.toml",
        "deploy/config/archive.toml",
    ] {
        texts.push(std::fs::read(root.join(text))?);
    }
    let hash = "dGhpcyBpcyBhIGhhc2ggb2YgMzIgYnl0ZXMgISEhISE=";
    let note = format!("example.org/log\n7\n{hash}\n\n— example.org/log {hash}\n");
    texts.push(format!("old 3\n{hash}\n{hash}\n\n{note}").into_bytes());
    texts.push(note.into_bytes());
    Ok([corpus, texts])
}
