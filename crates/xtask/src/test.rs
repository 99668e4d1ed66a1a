//! `cargo xtask test`: everything that has to pass.

use anyhow::Result;

use crate::{oracle, parts, shell};

/// Installs the parts, runs every test in the one profile that is also shipped, then the vectors against the oracle.
pub(crate) fn run() -> Result<()> {
    parts::run()?;
    shell::run("cargo", &["test", "--release", "--workspace"])?;
    oracle::run()
}
