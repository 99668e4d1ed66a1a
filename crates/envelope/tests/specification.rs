//! The crate's documentation is the specification: what can be held against the code by a machine is, here.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are outside test functions"
)]

use std::collections::BTreeSet;
use std::path::Path;

/// Every source file that is not a test.
fn sources(folder: &Path, out: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if !path.ends_with("tests.rs") && !path.ends_with("fixture.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            out.push(
                text.split("#[cfg(test)]\nmod tests")
                    .next()
                    .unwrap()
                    .to_owned(),
            );
        }
    }
}

/// Words between two marks, in order.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    let pieces = text.split(start).skip(1);
    pieces.filter_map(|piece| piece.split(end).next()).collect()
}

/// Labels that a source hands to the functions that take one.
fn labels(source: &str) -> BTreeSet<String> {
    let code: String = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{} ", line.trim()))
        .collect();
    let mut found = BTreeSet::new();
    for call in ["hash(", "label(", "expand(", ">(", "signed_bytes("] {
        for rest in code.split(call).skip(1) {
            if let Some(word) = rest.trim_start().strip_prefix('"') {
                found.insert(word.split('"').next().unwrap().to_owned());
            }
        }
    }
    found
}

#[test]
fn the_documentation_lists_every_label_and_none_besides() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&folder, &mut files);
    let used: BTreeSet<String> = files.iter().flat_map(|file| labels(file)).collect();
    let documentation = std::fs::read_to_string(folder.join("lib.rs")).unwrap();
    let section = between(&documentation, "# Labels", "# Errors")[0];
    let listed: BTreeSet<String> = section
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    assert!(used.len() > 25, "the search finds labels: {used:?}");
    assert_eq!(used, listed);
}

#[test]
fn the_documentation_lists_every_type_of_statement() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let code = std::fs::read_to_string(folder.join("statement.rs")).unwrap();
    let table = between(&code, "\nstatements! {", "}")[0];
    let documentation = std::fs::read_to_string(folder.join("lib.rs")).unwrap();
    let section = between(&documentation, "Who signs what:", "# One message")[0];
    let kinds = between(table, "= \"", "\"");
    assert!(kinds.len() >= 20);
    for kind in kinds {
        assert!(section.contains(&format!("`{kind}`")), "{kind}");
    }
}
