//! `cargo xtask test`: everything that has to pass, with what it needs installed first.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shell::{self, root};

/// Programs in another language that recompute what the Rust code writes, and their pinned packages.
const INDEPENDENT: &str = "crates/envelope/vectors/independent";

/// Installs, tests, and recomputes.
pub(crate) fn run() -> Result<()> {
    let python = python()?;
    shell::run("cargo", &["test", "--release", "--workspace"])?;
    recompute(&python)
}

fn recompute(python: &Path) -> Result<()> {
    let folder = root().join(INDEPENDENT);
    let mut programs: Vec<_> = std::fs::read_dir(&folder)
        .with_context(|| format!("{} cannot be read", folder.display()))?
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("check_"))
        })
        .collect();
    programs.sort();
    if programs.is_empty() {
        bail!(
            "no check_*.py in {}: the independent implementation is missing",
            folder.display()
        );
    }
    for program in programs {
        shell::run(python, &[&program.to_string_lossy()])?;
    }
    Ok(())
}

/// A Python with the packages of `requirements.txt`, in a folder of the build.
fn python() -> Result<PathBuf> {
    let venv = root().join("target/python");
    let python = venv.join("bin/python");
    if !python.exists() {
        ensure_python()?;
        shell::run("python3", &["-m", "venv", &venv.to_string_lossy()])?;
    }
    let requirements = root().join(INDEPENDENT).join("requirements.txt");
    shell::run(
        &python,
        &[
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
            &requirements.to_string_lossy(),
        ],
    )?;
    Ok(python)
}

/// Installs Python with apt where it is missing or cannot make virtual environments.
fn ensure_python() -> Result<()> {
    let works = Command::new("python3")
        .args(["-c", "import ensurepip, venv"])
        .status()
        .is_ok_and(|s| s.success());
    if works {
        return Ok(());
    }
    shell::run("apt-get", &["update"])?;
    shell::run(
        "apt-get",
        &[
            "install",
            "--yes",
            "--no-install-recommends",
            "python3",
            "python3-venv",
            "python3-pip",
        ],
    )
}
