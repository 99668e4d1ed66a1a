//! `cargo xtask bench`: measures, and writes `deploy/BENCHMARKS.md` when everything was measured.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::shell;

const REPORT: &str = "deploy/BENCHMARKS.md";

/// Builds what is measured and what measures, and runs it with the arguments.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    shell::build()?;
    let target = std::env::current_exe()?;
    let bench = target.with_file_name("greffe-bench");
    let revision = shell::read("git", &["describe", "--always", "--dirty"])?;
    let mut command = Command::new(&bench);
    command
        .args(arguments)
        .arg("--revision")
        .arg(String::from_utf8_lossy(&revision).trim())
        .current_dir(shell::root());
    let whole = is_whole(arguments);
    if whole {
        command.args(["--out", REPORT]);
    }
    let status = command
        .status()
        .with_context(|| format!("{} cannot be started", bench.display()))?;
    ensure!(status.success(), "greffe-bench ended with {status}");
    if whole {
        eprintln!("written: {REPORT}");
    }
    Ok(())
}

/// Only what measured everything replaces the report; how often is said in it.
fn is_whole(arguments: &[String]) -> bool {
    match arguments {
        [] => true,
        [runs, _number] => runs == "--runs",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_of_it_replaces_no_report() {
        let whole = |arguments: &[&str]| {
            is_whole(
                &arguments
                    .iter()
                    .map(|a| (*a).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert!(whole(&[]));
        assert!(whole(&["--runs", "1"]));
        assert!(!whole(&["--quick"]));
        assert!(!whole(&["growth"]));
        assert!(!whole(&["--runs", "1", "growth"]));
        assert!(!whole(&["--records", "1000"]));
    }
}
