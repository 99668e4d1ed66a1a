//! Running other programs, loudly when they fail.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs a program in the workspace's folder and fails when it does.
pub(crate) fn run(program: impl AsRef<Path>, arguments: &[&str]) -> Result<()> {
    let program = program.as_ref();
    eprintln!("$ {} {}", program.display(), arguments.join(" "));
    let status = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .status()
        .with_context(|| format!("{} cannot be started: is it installed?", program.display()))?;
    ensure!(
        status.success(),
        "{} {} ended with {status}",
        program.display(),
        arguments.join(" ")
    );
    Ok(())
}

/// Builds every program as the tests do: one chosen by itself would have other features, and be another build.
pub(crate) fn build() -> Result<()> {
    run("cargo", &["test", "--release", "--workspace", "--no-run"])
}

/// Runs a program and takes what it prints.
pub(crate) fn read(program: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .output()
        .with_context(|| format!("{program} cannot be started: is it installed?"))?;
    ensure!(
        output.status.success(),
        "{program} {} ended with {}: {}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

/// Runs git in a folder.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> Result<()> {
    let status = Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .status()
        .context("git cannot be started")?;
    ensure!(
        status.success(),
        "git {} ended with {status}",
        arguments.join(" ")
    );
    Ok(())
}

/// A commit by itself in a folder below target/, so that what is being worked on stays as it is.
pub(crate) fn checkout(folder: &str, commit: &str) -> Result<PathBuf> {
    let tree = root().join(folder);
    if tree.exists() {
        git(&tree, &["reset", "--quiet", "--hard", commit])?;
        git(&tree, &["clean", "--quiet", "-fd"])?;
    } else {
        let path = tree.to_string_lossy().into_owned();
        git(
            &root(),
            &["worktree", "add", "--quiet", "--detach", &path, commit],
        )?;
    }
    tree.canonicalize()
        .with_context(|| format!("{} cannot be found", tree.display()))
}
