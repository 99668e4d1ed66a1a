//! `cargo xtask helm`: the chart and what else is in `deploy/`, checked by Helm, Kubernetes's schemas, a scanner and promtool.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::parts;
use crate::shell::{self, root};

const VENV: &str = "target/helm-venv";
const REQUIREMENTS: &str = "helm/tests/requirements.txt";

/// Runs every check, or with `readme` writes the chart's README.md from its values. The checks ask the binary of this
/// workspace whether it understands what is rendered; it is built when it is not current.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    install()?;
    let python = root().join(VENV).join("bin/python");
    if arguments.first().is_some_and(|first| first == "readme") {
        return shell::run(&python, &["-B", "helm/tests/readme.py"]);
    }
    let greffe = binary()?;
    let checks = ["-B", "-m", "pytest", "-q", "-p", "no:cacheprovider"];
    let status = Command::new(&python)
        .args(checks)
        .args(["helm/tests", "deploy/tests"])
        .current_dir(root())
        .env("GREFFE_BIN", greffe)
        .status()
        .with_context(|| format!("{} cannot be started", python.display()))?;
    ensure!(status.success(), "the chart or deploy/ has failed a check");
    Ok(())
}

/// What the checks run on: a Python environment below the workspace's folder, promtool, and buildah for the image.
pub(crate) fn install() -> Result<()> {
    parts::apt(&["python3-venv", "prometheus", "buildah"])?;
    let venv = root().join(VENV);
    let wanted = root().join(REQUIREMENTS);
    let wanted =
        fs::read(&wanted).with_context(|| format!("{} cannot be read", wanted.display()))?;
    // Written last, so an installation that was cut off is begun anew.
    let stamp = venv.join("installed.txt");
    if fs::read(&stamp).ok().as_ref() == Some(&wanted) {
        return Ok(());
    }
    shell::run("python3", &["-m", "venv", "--clear", VENV])?;
    let pip = ["-m", "pip", "install", "--quiet", "--require-hashes"];
    let from = ["--disable-pip-version-check", "--requirement", REQUIREMENTS];
    shell::run(venv.join("bin/python"), &[&pip[..], &from].concat())?;
    fs::write(&stamp, &wanted).with_context(|| format!("{} cannot be written", stamp.display()))
}

/// The program that is deployed: what `GREFFE_BIN` names, or that of this workspace's only profile.
fn binary() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("GREFFE_BIN") {
        return Ok(PathBuf::from(given));
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| OsString::from("target"));
    let path = root().join(Path::new(&target)).join("release/greffe");
    shell::build()?;
    path.canonicalize()
        .with_context(|| format!("{} is not there", path.display()))
}
