//! `cargo xtask fuzz`: the decoders of messages, log and policy that meet foreign bytes, under libFuzzer and the address sanitizer.
//!
//! Needs a nightly compiler, which `rustup toolchain install nightly` brings. The inputs that were found to reach new code stay
//! in fuzz/corpus/, which is not committed: it begins anew from the published vectors.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::shell::{self, root};

const CARGO_FUZZ: &str = "0.13.1";
/// Another version, another folder.
const SECONDS: u32 = 20;
const TOOL: &str = "target/fuzz-tool-0.13.1";

/// Runs the targets named, or all, each for `--seconds N`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let mut seconds = SECONDS;
    let mut wanted = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--seconds" {
            let given = rest.next().and_then(|given| given.parse().ok());
            seconds = given.context("--seconds takes a number of seconds for each target")?;
        } else {
            wanted.push(argument.clone());
        }
    }
    let corpus = root().join("fuzz/corpus");
    let seeds = corpus.join("seeds");
    let seeds = seeds.to_string_lossy();
    let listed = shell::read(
        "cargo",
        &[
            "run",
            "--release",
            "--quiet",
            "--package=greffe-fuzz",
            "--example=corpus",
            "--",
            &seeds,
        ],
    )?;
    let known: Vec<String> = String::from_utf8(listed)?
        .lines()
        .map(str::to_owned)
        .collect();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(name)) {
        bail!("no target {unknown}; there are {}", known.join(", "));
    }
    let targets = if wanted.is_empty() { known } else { wanted };
    tool()?;
    fuzz(&["build", "decoders"], "")?;
    for target in &targets {
        let own = corpus.join(target);
        fs::create_dir_all(&own)?;
        let most = format!("-max_total_time={seconds}");
        let own = own.to_string_lossy();
        let arguments = [
            "run",
            "decoders",
            &own,
            &seeds,
            "--",
            &most,
            "-max_len=8192",
        ];
        fuzz(&arguments, target).with_context(|| {
            format!("{target} has a finding: the input is in fuzz/artifacts/decoders/")
        })?;
    }
    eprintln!(
        "fuzz: {} targets, {seconds} s each, no finding",
        targets.len()
    );
    Ok(())
}

/// Installs cargo-fuzz below target/, once.
fn tool() -> Result<()> {
    if root().join(TOOL).join("bin/cargo-fuzz").exists() {
        return Ok(());
    }
    shell::run(
        "cargo",
        &[
            "install",
            "cargo-fuzz",
            "--version",
            CARGO_FUZZ,
            "--locked",
            "--root",
            TOOL,
        ],
    )
}

fn fuzz(arguments: &[&str], target: &str) -> Result<()> {
    let root = root().canonicalize()?;
    let status = Command::new(root.join(TOOL).join("bin/cargo-fuzz"))
        .arg(arguments.first().unwrap_or(&"build"))
        .args(["--fuzz-dir", "fuzz"])
        .args(arguments.get(1..).unwrap_or_default())
        .env("RUSTUP_TOOLCHAIN", "nightly")
        .env("GREFFE_FUZZ", target)
        .current_dir(&root)
        .status()
        .context("cargo-fuzz cannot be started")?;
    ensure!(status.success(), "cargo-fuzz ended with {status}");
    Ok(())
}
