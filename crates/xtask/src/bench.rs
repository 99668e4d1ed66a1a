//! `cargo xtask bench`: measures, and keeps the tables in `deploy/BENCHMARKS.md`.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::shell;

const REPORT: &str = "deploy/BENCHMARKS.md";

/// Builds what is measured and what measures, and runs it with the arguments.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    shell::build()?;
    let target = std::env::current_exe()?;
    let bench = target.with_file_name("greffe-bench");
    let revision = revision()?;
    let mut command = Command::new(&bench);
    command
        .args(arguments)
        .arg("--revision")
        .arg(&revision)
        .current_dir(shell::root());
    let kept = is_kept(arguments);
    if kept {
        command.args(["--out", REPORT]);
    }
    let status = command
        .status()
        .with_context(|| format!("{} cannot be started", bench.display()))?;
    ensure!(status.success(), "greffe-bench ended with {status}");
    if kept {
        eprintln!("written: {REPORT}");
    }
    Ok(())
}

/// What was built. That the report itself has changed, as it does with every table, is nothing that is measured.
fn revision() -> Result<String> {
    let head = shell::read("git", &["rev-parse", "--short", "HEAD"])?;
    let mut revision = String::from_utf8_lossy(&head).trim().to_owned();
    let others = [
        "diff",
        "--quiet",
        "HEAD",
        "--",
        ".",
        ":!deploy/BENCHMARKS.md",
    ];
    if shell::read("git", &others).is_err() {
        revision.push_str("-dirty");
    }
    Ok(revision)
}

/// What was measured in earnest is kept in the report, which says of each table when that was.
fn is_kept(arguments: &[String]) -> bool {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--runs" {
            arguments.next();
        } else if argument.starts_with('-') {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_measured_in_earnest_is_kept() {
        let kept = |arguments: &[&str]| {
            is_kept(
                &arguments
                    .iter()
                    .map(|a| (*a).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert!(kept(&[]));
        assert!(kept(&["--runs", "1"]));
        assert!(kept(&["growth"]));
        assert!(kept(&["--runs", "1", "growth", "orders"]));
        assert!(!kept(&["--quick"]));
        assert!(!kept(&["growth", "--quick"]));
        assert!(!kept(&["--records", "1000"]));
    }
}
