//! `cargo xtask parts`: installs the real servers and tools that the tests run against; quick when all is there.
//!
//! One function a part. A test that misses its part fails and names this command; nothing is skipped.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::helm;
use crate::shell::{self, root};

/// Installs every part.
pub(crate) fn run() -> Result<()> {
    postgres()?;
    ceph()?;
    token()?;
    manuals()?;
    buf()?;
    python()?;
    collector()?;
    helm::install()?;
    eprintln!("parts: all there");
    Ok(())
}

/// The database of the tests; each test process starts a cluster of its own.
fn postgres() -> Result<()> {
    apt(&["postgresql"])
}

/// An object store whose Object Lock really holds: monitor, one storage daemon in memory, and the S3 gateway.
fn ceph() -> Result<()> {
    apt(&["ceph-mon", "ceph-osd", "radosgw", "ceph-common"])
}

/// A PKCS #11 token in software, and the tool that operators make keys with.
fn token() -> Result<()> {
    apt(&["softhsm2", "opensc"])
}

/// What renders manual pages.
fn manuals() -> Result<()> {
    apt(&["groff-base"])
}

/// The linter of the contracts, below the workspace's folder.
pub(crate) const BUF: &str = "target/buf-npm/node_modules/.bin/buf";
const BUF_VERSION: &str = "1.75.0";

/// The linter of the contracts, from npm. Its package's own script is not run: the binary is a package beside it.
pub(crate) fn buf() -> Result<()> {
    let program = root().join(BUF);
    let version = Command::new(&program).arg("--version").output();
    if version.is_ok_and(|version| version.stdout.trim_ascii() == BUF_VERSION.as_bytes()) {
        return Ok(());
    }
    if shell::read("npm", &["--version"]).is_err() {
        apt(&["npm"])?;
    }
    let package = format!("@bufbuild/buf@{BUF_VERSION}");
    let quiet = ["--no-audit", "--no-fund", "--no-save", "--ignore-scripts"];
    shell::run(
        "npm",
        &[
            &["install", "--prefix", "target/buf-npm"],
            &quiet[..],
            &[&package],
        ]
        .concat(),
    )
}

/// The Python that callers' examples run under, below the workspace's folder.
pub(crate) const PYTHON: &str = "target/examples-venv/bin/python";
/// What the examples and their tests need, pinned.
const REQUIREMENTS: &str = "deploy/examples/python/requirements-test.txt";

/// The Python of the examples with what they import, installed once for each version of their requirements.
pub(crate) fn python() -> Result<()> {
    // Clients and certificates of the tests.
    apt(&["curl", "openssl"])?;
    let venv = root().join("target/examples-venv");
    let wanted = root().join("deploy/examples/python");
    let wanted: Vec<u8> = ["requirements.txt", "requirements-test.txt"]
        .iter()
        .map(|name| std::fs::read(wanted.join(name)))
        .collect::<std::io::Result<Vec<_>>>()
        .context("the examples' requirements cannot be read")?
        .concat();
    // Written last, so an installation that was cut off is begun anew.
    let stamp = venv.join("installed.txt");
    if std::fs::read(&stamp).ok().as_ref() == Some(&wanted) {
        return Ok(());
    }
    let make = ["-m", "venv", "--clear", "target/examples-venv"];
    if shell::run("python3", &make).is_err() {
        apt(&["python3-venv"])?;
        shell::run("python3", &make)?;
    }
    let quiet = ["--quiet", "--disable-pip-version-check"];
    shell::run(
        PYTHON,
        &[
            &["-m", "pip", "install"],
            &quiet[..],
            &["--requirement", REQUIREMENTS],
        ]
        .concat(),
    )?;
    std::fs::write(&stamp, &wanted).context("the examples' stamp cannot be written")
}

/// The collector that telemetry is sent to in tests, below the workspace's folder.
const COLLECTOR: &str = "target/collector-venv";
const COLLECTOR_VERSION: &str = "rotel==0.0.1a15";

/// A real OpenTelemetry collector: its program comes in a Python package.
fn collector() -> Result<()> {
    let venv = root().join(COLLECTOR);
    let stamp = venv.join("installed.txt");
    if std::fs::read(&stamp).is_ok_and(|found| found == COLLECTOR_VERSION.as_bytes()) {
        return Ok(());
    }
    let make = ["-m", "venv", "--clear", COLLECTOR];
    if shell::run("python3", &make).is_err() {
        apt(&["python3-venv"])?;
        shell::run("python3", &make)?;
    }
    let quiet = ["--quiet", "--disable-pip-version-check"];
    shell::run(
        venv.join("bin/python"),
        &[&["-m", "pip", "install"], &quiet[..], &[COLLECTOR_VERSION]].concat(),
    )?;
    std::fs::write(&stamp, COLLECTOR_VERSION).context("the collector's stamp cannot be written")
}

/// Installs those Debian packages that are missing, without what they only recommend.
pub(crate) fn apt(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|package| !installed(package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("parts: installing {}", missing.join(" "));
    let install = [
        "install",
        "--yes",
        "--quiet",
        "--no-install-recommends",
        "-o",
        "DPkg::Lock::Timeout=600",
    ];
    let install = [&install[..], &missing].concat();
    // The lists are fetched only when what is there does not do.
    if apt_get(&install).is_err() {
        apt_get(&["update", "--quiet", "-o", "DPkg::Lock::Timeout=600"])?;
        apt_get(&install)?;
    }
    Ok(())
}

fn installed(package: &str) -> bool {
    shell::read(
        "dpkg-query",
        &["--show", "--showformat=${db:Status-Status}", package],
    )
    .is_ok_and(|status| status == b"installed")
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let root = shell::read("id", &["-u"])? == b"0\n";
    let mut command = if root {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args([
            "--non-interactive",
            "--preserve-env=DEBIAN_FRONTEND",
            "apt-get",
        ]);
        sudo
    };
    let status = command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("apt-get cannot be started: the tests' servers are Debian packages")?;
    if !status.success() {
        bail!(
            "apt-get {} ended with {status}; it needs root, or sudo without a password",
            arguments.join(" ")
        );
    }
    Ok(())
}
