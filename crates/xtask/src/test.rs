//! `cargo xtask test`: everything that has to pass.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{buf, helm, oracle, parts, shell};

/// Whose tests run on either database, as `GREFFE_TEST_STORE` says.
const SERVICES: [&str; 4] = ["relay", "archive", "audit", "escrow"];

/// Installs the parts, judges the contracts, runs every test in the one profile that is also shipped, then checks the chart
/// with the binary that these have built, and the vectors against the oracle.
pub(crate) fn run() -> Result<()> {
    parts::run()?;
    buf::run(&[])?;
    shell::run("cargo", &["test", "--release", "--workspace"])?;
    on_postgres()?;
    helm::run(&[])?;
    oracle::run()
}

/// The services' integration tests once more, their tables in PostgreSQL. The programs are those that have just run: another
/// choice of packages would be another build.
fn on_postgres() -> Result<()> {
    let built = programs()?;
    for service in SERVICES {
        let folder = shell::root().join("services").join(service);
        let program = built.of(&folder)?;
        eprintln!("$ GREFFE_TEST_STORE=postgres {program}");
        let status = Command::new(program)
            .env("GREFFE_TEST_STORE", "postgres")
            .env("CARGO_MANIFEST_DIR", &folder)
            .current_dir(&folder)
            .status()
            .with_context(|| format!("{program} cannot be started"))?;
        ensure!(
            status.success(),
            "the tests of {service} on PostgreSQL ended with {status}"
        );
    }
    Ok(())
}

/// The integration tests of every package, built as [`run`] builds them.
pub(crate) struct Programs(Vec<Value>);

/// Asks cargo where they are.
pub(crate) fn programs() -> Result<Programs> {
    let built = shell::read(
        "cargo",
        &[
            "test",
            "--release",
            "--workspace",
            "--test=it",
            "--no-run",
            "--message-format=json",
        ],
    )?;
    let lines = built.split(|byte| *byte == b'\n');
    Ok(Programs(
        lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect(),
    ))
}

impl Programs {
    /// The one of the package in a folder.
    pub(crate) fn of(&self, folder: &Path) -> Result<&str> {
        let manifest = folder.join("Cargo.toml").canonicalize()?;
        self.0
            .iter()
            .filter(|message| {
                message["manifest_path"].as_str().map(AsRef::as_ref) == Some(&*manifest)
            })
            .filter(|message| message["target"]["name"] == "it")
            .find_map(|message| message["executable"].as_str())
            .with_context(|| {
                format!(
                    "cargo did not say where the tests of {} are",
                    folder.display()
                )
            })
    }
}
