//! `cargo xtask vectors`: makes the vectors of the envelope again; `git diff` then says whether a format has changed.

use anyhow::Result;

use crate::shell;

/// Where the vectors lie.
pub(crate) const FOLDER: &str = "crates/envelope/vectors";

/// Writes every file anew.
pub(crate) fn run() -> Result<()> {
    let example = [
        "run",
        "--quiet",
        "--release",
        "--package=greffe-envelope",
        "--example=vectors",
        "--",
        FOLDER,
    ];
    shell::run("cargo", &example)
}
