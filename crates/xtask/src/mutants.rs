//! `cargo xtask mutants`: every small change of what decides, one at a time, which a test of its package has to notice.
//!
//! cargo-mutants makes the mutants and runs the package's own tests on each. What no test notices has to be explained in
//! `crates/xtask/mutants.tsv`, a line for each mutant: its name without line and column, how many of that name there are, and why it
//! is no defect. Anything that survives without a line fails the command, and so does a line whose mutant is noticed by now.
//! Results are kept below target/mutants for the commit: a run that was stopped goes on where it was, and what no test noticed is
//! tried again.

mod known;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::shell::{self, root};
use known::Known;

const VERSION: &str = "27.1.0";
/// Another version, another folder.
const TOOL: &str = "target/mutants-tool-27.1.0";
/// Seconds after which a test that would never end counts as one that noticed.
const LONGEST: &str = "300";

/// What is mutated: packages, and the files of them that decide, all if none are named.
const SUBJECTS: [(&str, &[&str]); 4] = [
    ("greffe-policy", &[]),
    ("greffe-tlog", &[]),
    (
        "greffe-escrow",
        &[
            "services/escrow/src/app/order.rs",
            "services/escrow/src/app/record.rs",
            "services/escrow/src/app/release.rs",
            "services/escrow/src/app/log.rs",
            "services/escrow/src/app/open.rs",
            "services/escrow/src/follow.rs",
        ],
    ),
    ("greffe-envelope", &[]),
];

/// What came of a package's mutants, by name.
#[derive(Debug, Default)]
struct Found {
    caught: usize,
    /// They do not compile.
    unviable: usize,
    /// Tests did not end any more.
    endless: usize,
    missed: Vec<String>,
}

/// Mutates the packages named, or all.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let names = SUBJECTS.map(|(name, _)| name);
    if let Some(unknown) = arguments
        .iter()
        .find(|name| !names.contains(&name.as_str()))
    {
        bail!("{unknown} is not mutated; there are {}", names.join(", "));
    }
    let known = Known::read(&root().join(known::FILE))?;
    tool()?;
    let commit = shell::read("git", &["rev-parse", "--short", "HEAD"])?;
    let commit = String::from_utf8_lossy(&commit).trim().to_owned();
    let tree = shell::checkout("target/mutants/tree", &commit)?;
    let mut found = Vec::new();
    for (package, files) in SUBJECTS {
        if arguments.is_empty() || arguments.iter().any(|name| name == package) {
            let results = root().join("target/mutants").join(&commit).join(package);
            std::fs::create_dir_all(&results)?;
            mutate(&tree, package, files, &results.canonicalize()?)?;
            found.push((package, Found::read(&results.join("mutants.out"))?));
        }
    }
    let missed: Vec<(&str, &[String])> = found
        .iter()
        .map(|(package, found)| (*package, &*found.missed))
        .collect();
    let wrong = known.compare(&missed);
    ensure!(wrong.is_empty(), "mutants:\n  {}", wrong.join("\n  "));
    for (package, found) in &found {
        eprintln!(
            "mutants: {package}: {} noticed, {} endless, {} do not compile, {} explained",
            found.caught,
            found.endless,
            found.unviable,
            found.missed.len()
        );
    }
    if arguments.is_empty() {
        table::write(&commit, &found, &known)?;
    }
    Ok(())
}

/// Installs cargo-mutants below target/, once.
fn tool() -> Result<()> {
    if root().join(TOOL).join("bin/cargo-mutants").exists() {
        return Ok(());
    }
    let what = ["install", "cargo-mutants", "--locked"];
    let which = ["--version", VERSION, "--root", TOOL];
    shell::run("cargo", &[what.as_slice(), &which].concat())
}

/// All mutants of a package, those left of an earlier run.
fn mutate(tree: &Path, package: &str, files: &[&str], results: &Path) -> Result<()> {
    let tests = ["test", "--profile", "mutants", "--package", package];
    let status = Command::new("cargo")
        .args(tests)
        .current_dir(tree)
        .status()?;
    ensure!(status.success(), "{package} fails its tests as it is");
    let program: PathBuf = root().canonicalize()?.join(TOOL).join("bin/cargo-mutants");
    let mut command = Command::new(program);
    command
        .args([
            "mutants",
            "--in-place",
            "--iterate",
            "--baseline=skip",
            "--colors=never",
        ])
        .args(["--profile=mutants", "--timeout", LONGEST])
        .args(["--package", package])
        .arg("--output")
        .arg(results)
        .current_dir(tree);
    for file in files {
        command.args(["--file", file]);
    }
    let status = command
        .status()
        .context("cargo-mutants cannot be started")?;
    // 2: something was missed. 3: a test did not end.
    ensure!(
        matches!(status.code(), Some(0 | 2 | 3)),
        "cargo-mutants ended with {status}"
    );
    Ok(())
}

impl Found {
    fn read(folder: &Path) -> Result<Self> {
        let lines = |file: &str| -> Result<Vec<String>> {
            let path = folder.join(file);
            if !path.exists() {
                return Ok(Vec::new());
            }
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("{} cannot be read", path.display()))?;
            Ok(text.lines().map(known::name).collect())
        };
        let before = lines("previously_caught.txt")?.len();
        Ok(Self {
            caught: before + lines("caught.txt")?.len(),
            unviable: lines("unviable.txt")?.len(),
            endless: lines("timeout.txt")?.len(),
            missed: lines("missed.txt")?,
        })
    }
}
