//! Writes the vectors: `cargo xtask vectors`, or `cargo run --example vectors -- FOLDER`.
#![allow(
    unreachable_pub,
    reason = "modules shared with the test of the vectors"
)]
#![allow(
    clippy::unwrap_used,
    reason = "a vector that cannot be made is a fault of the crate"
)]

#[path = "../tests/vectors/make.rs"]
mod make;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(folder), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: vectors FOLDER");
        return ExitCode::from(2);
    };
    let folder = PathBuf::from(folder);
    for (name, text) in make::all() {
        let path = folder.join(name);
        if let Err(error) = std::fs::write(&path, text) {
            eprintln!("vectors: {} cannot be written: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
