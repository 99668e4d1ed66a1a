//! `cargo xtask test`: everything that has to pass.

use anyhow::Result;

use crate::shell;

/// Runs every test in the one profile that is also shipped.
pub(crate) fn run() -> Result<()> {
    shell::run("cargo", &["test", "--release", "--workspace"])
}
