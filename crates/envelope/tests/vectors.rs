//! The files in `vectors/` are what the crate makes today, byte for byte, and nothing else lies there.
#![allow(
    unreachable_pub,
    reason = "modules shared with the command that makes the vectors"
)]
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are outside test functions"
)]

#[path = "vectors/make.rs"]
mod make;

use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn every_vector_is_what_the_crate_makes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let made = make::all();
    for (name, text) in &made {
        let found = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        let line = text.lines().zip(found.lines()).position(|(a, b)| a != b);
        assert!(
            *text == found,
            "vectors/{name} is not what the crate makes (first difference in line {:?}): either a format has changed, which \
             breaks everything archived, or the file has; `cargo xtask vectors` makes it again",
            line.map(|n| n + 1)
        );
    }
    let names: BTreeSet<_> = made.iter().map(|(name, _)| (*name).to_owned()).collect();
    let files = std::fs::read_dir(&folder).unwrap();
    let found: BTreeSet<_> = files
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, names);
}

#[test]
fn the_same_vectors_are_made_twice() {
    assert!(make::all() == make::all());
}
