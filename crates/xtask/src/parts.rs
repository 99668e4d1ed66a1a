//! `cargo xtask parts`: installs the real servers and tools that the tests run against; quick when all is there.
//!
//! One function a part. A test that misses its part fails and names this command; nothing is skipped.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shell;

/// Installs every part.
pub(crate) fn run() -> Result<()> {
    postgres()?;
    ceph()?;
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
