//! Running the tests that a patch names, and telling a failure from everything else.

use core::fmt;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// The longest that a test may take: a hang shows nothing.
const LONGEST: Duration = Duration::from_secs(600);
/// The package whose tests are seeds.
const SIMULATION: (&str, &str) = ("greffe-simulation", "seed");

/// Tests of one target.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Test {
    package: String,
    target: String,
    filter: String,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    Passed,
    /// The first thing that was said.
    Failed(String),
}

impl Test {
    pub(super) fn parse(line: &str) -> Result<Self> {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [package, target, filter] => Ok(Self {
                package: package.to_owned(),
                target: target.to_owned(),
                filter: filter.to_owned(),
            }),
            _ => bail!("a test is a package, a target and a name: {line}"),
        }
    }

    pub(super) fn is_seed(&self) -> bool {
        (&*self.package, &*self.target) == SIMULATION
    }

    #[cfg(test)]
    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    fn target(&self) -> Vec<String> {
        match &*self.target {
            "lib" => vec!["--lib".to_owned()],
            "bin" => vec!["--bins".to_owned()],
            name => vec!["--test".to_owned(), name.to_owned()],
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} {} {}",
            self.package, self.target, self.filter
        )
    }
}

/// Builds, which has to succeed, and runs.
pub(super) fn run(tree: &Path, test: &Test) -> Result<Came> {
    let mut build = cargo(tree);
    if test.is_seed() {
        build.args(["build", "--release", "--package", &test.package]);
    } else {
        build.args(["test", "--release", "--no-run", "--package", &test.package]);
        build.args(test.target());
        if test.package == "greffe-cli" && test.target != "bin" {
            build.arg("--bins");
        }
    }
    let built = build.output().context("cargo cannot be started")?;
    ensure!(
        built.status.success(),
        "it does not compile:\n{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let mut command = cargo(tree);
    if test.is_seed() {
        command.args(["run", "--release", "--package", &test.package, "--"]);
        command.args(["--seeds", "1", "--from", &test.filter]);
    } else {
        command.args(["test", "--release", "--package", &test.package]);
        command.args(test.target()).args(["--", &test.filter]);
    }
    let (succeeded, said) = within(command, LONGEST)?;
    if !test.is_seed() {
        ensure!(
            !said.contains("\ntest result: ok. 0 passed; 0 failed"),
            "there is no test {test}"
        );
    }
    if succeeded {
        return Ok(Came::Passed);
    }
    ensure!(
        test.is_seed() || said.contains("\ntest result: FAILED."),
        "{test} ended without a result:\n{said}"
    );
    Ok(Came::Failed(first_said(&said)))
}

fn cargo(tree: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.arg("--quiet").current_dir(tree);
    command.env_remove("CARGO_MANIFEST_DIR");
    command
}

/// Whether it succeeded, and everything it said; an error when it is not over in time.
fn within(mut command: Command, longest: Duration) -> Result<(bool, String)> {
    let out = tempfile::tempfile()?;
    let mut child = command
        .process_group(0)
        .stdout(Stdio::from(out.try_clone()?))
        .stderr(Stdio::from(out.try_clone()?))
        .spawn()
        .context("cargo cannot be started")?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > longest {
            // The test itself too, whose parent cargo is.
            let group = format!("-{}", child.id());
            Command::new("kill")
                .args(["-KILL", "--", &group])
                .status()?;
            child.wait()?;
            bail!("it was not over after {} s", longest.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let said = read_again(out)?;
    Ok((status.success(), said))
}

fn read_again(mut file: std::fs::File) -> Result<String> {
    use std::io::{Read as _, Seek as _};
    let mut said = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut said)?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// What the first panic says, or the first line with a word of it.
fn first_said(output: &str) -> String {
    let mut lines = output.lines();
    let panicked = lines
        .by_ref()
        .find(|line| line.contains("panicked at") || line.starts_with("seed "));
    match panicked {
        Some(line) if line.starts_with("seed ") => line.to_owned(),
        Some(_) => {
            let said: Vec<&str> = lines
                .take_while(|line| {
                    !line.is_empty() && !line.starts_with("note:") && !line.starts_with("stack ")
                })
                .map(str::trim)
                .take(3)
                .collect();
            said.join(" ")
        }
        None => "it ended with a failure".to_owned(),
    }
}

#[cfg(test)]
mod checks {
    use super::{Test, first_said};

    #[test]
    fn what_was_said_is_found() {
        let output = "\nrunning 1 test\n\nthread 'a' (1) panicked at x.rs:1:2:\nassertion failed\n  left: 1\n right: 2\nstack backtrace:\n";
        assert_eq!(first_said(output), "assertion failed left: 1 right: 2");
        assert_eq!(first_said("seed 7 breaks: P2\n"), "seed 7 breaks: P2");
    }

    #[test]
    fn a_test_has_three_parts() {
        assert!(Test::parse("greffe-escrow it").is_err());
        assert!(Test::parse("greffe-escrow it attack_29_ more").is_err());
    }
}
