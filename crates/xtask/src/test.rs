//! `cargo xtask test`: everything that has to pass.

use anyhow::Result;

use crate::{oracle, shell};

/// Runs every test in the one profile that is also shipped, then the vectors against the oracle.
pub(crate) fn run() -> Result<()> {
    shell::run("cargo", &["test", "--release", "--workspace"])?;
    oracle::run()
}
