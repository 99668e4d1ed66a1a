//! `cargo xtask test`: everything that has to pass.

use anyhow::Result;

use crate::{buf, helm, oracle, parts, shell};

/// Installs the parts, judges the contracts, runs every test in the one profile that is also shipped, then checks the chart
/// with the binary that these have built, and the vectors against the oracle.
pub(crate) fn run() -> Result<()> {
    parts::run()?;
    buf::run(&[])?;
    shell::run("cargo", &["test", "--release", "--workspace"])?;
    helm::run(&[])?;
    oracle::run()
}
