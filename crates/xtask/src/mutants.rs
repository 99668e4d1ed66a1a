//! `cargo xtask mutants`: every small change of what decides, one at a time, which a test of its package has to notice.
//!
//! cargo-mutants makes the mutants and runs the package's own tests on each. What no test notices has to be explained in
//! `crates/xtask/mutants.tsv`, a line for each mutant: its name without line and column, how many of that name there are, and why it
//! is no defect. Anything that survives without a line fails the command, and so does a line whose mutant is noticed by now.
//! What was noticed is kept below target/mutants for as long as its file is what it was: a run that was stopped goes on where it
//! was, and what no test noticed is tried again. Tests are taken to get more, not fewer: remove target/mutants when they do not. `--at-once N` has N builds and their tests run beside each other.

mod kept;
mod known;
mod table;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::shell::{self, root};
use kept::Kept;
use known::Known;
use table::Table;

const VERSION: &str = "27.1.0";
/// Another version, another folder.
const TOOL: &str = "target/mutants-tool-27.1.0";
/// KiB of addresses that a build or a test may have.
const MEMORY: u32 = 8 << 20;
/// Examples in documentation are not run: each of them is compiled anew for every mutant.
const TARGETS: [&str; 3] = ["--lib", "--bins", "--tests"];

/// A package that is mutated.
#[derive(Clone, Copy)]
struct Subject {
    package: &'static str,
    /// Seconds after which a test counts as one that never ends: many times what all of them take.
    longest: u32,
    /// The files that decide, all if none are named.
    files: &'static [&'static str],
}

const SUBJECTS: [Subject; 4] = [
    Subject {
        package: "greffe-policy",
        longest: 40,
        files: &[],
    },
    Subject {
        package: "greffe-tlog",
        longest: 40,
        files: &[],
    },
    Subject {
        package: "greffe-escrow",
        longest: 300,
        files: &[
            "services/escrow/src/app/order.rs",
            "services/escrow/src/app/record.rs",
            "services/escrow/src/app/release.rs",
            "services/escrow/src/app/log.rs",
            "services/escrow/src/app/open.rs",
            "services/escrow/src/follow.rs",
        ],
    },
    Subject {
        package: "greffe-envelope",
        longest: 120,
        files: &[],
    },
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
    /// At which they were tried.
    commits: BTreeSet<String>,
}

/// Mutates the packages named, or all.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (at_once, arguments) = at_once(arguments)?;
    let names = SUBJECTS.map(|subject| subject.package);
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
    let trees = (0..at_once)
        .map(|number| shell::checkout(&format!("target/mutants/tree-{number}"), &commit))
        .collect::<Result<Vec<_>>>()?;
    let mut table = Table::read();
    let mut wrong = Vec::new();
    for subject in SUBJECTS {
        let package = subject.package;
        if !arguments.is_empty() && !arguments.iter().any(|name| name == package) {
            continue;
        }
        let found = mutate(&trees, &commit, subject)?;
        eprintln!(
            "mutants: {package}: {} noticed, {} endless, {} do not compile, {} survive",
            found.caught,
            found.endless,
            found.unviable,
            found.missed.len()
        );
        let unexplained = known.compare(package, &found.missed);
        if unexplained.is_empty() {
            table.add(package, &found);
            table.write(&known)?;
        }
        wrong.extend(unexplained);
    }
    ensure!(wrong.is_empty(), "mutants:\n  {}", wrong.join("\n  "));
    Ok(())
}

/// How many builds run beside each other, and the other arguments.
fn at_once(arguments: &[String]) -> Result<(usize, &[String])> {
    match arguments {
        [option, number, rest @ ..] if option == "--at-once" => {
            let number = number
                .parse()
                .ok()
                .filter(|number| (1..=16).contains(number));
            Ok((
                number.context("--at-once takes a number from 1 to 16")?,
                rest,
            ))
        }
        [option, ..] if option.starts_with('-') => {
            bail!("usage: cargo xtask mutants [--at-once N] [PACKAGE...]")
        }
        _ => Ok((1, arguments)),
    }
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

/// All mutants of a package, those left of an earlier run, a share of them in each tree.
fn mutate(trees: &[PathBuf], commit: &str, subject: Subject) -> Result<Found> {
    let package = subject.package;
    let folder = root().join("target/mutants").join(package);
    let mut kept = Kept::open(&folder, package, commit)?;
    let shares: Vec<PathBuf> = (0..trees.len())
        .map(|number| kept.share(number))
        .collect::<Result<_>>()?;
    std::thread::scope(|scope| {
        let runs: Vec<_> = trees
            .iter()
            .zip(&shares)
            .enumerate()
            .map(|(number, (tree, share))| {
                let part = format!("{number}/{}", trees.len());
                scope.spawn(move || mutate_share(tree, subject, &part, share))
            })
            .collect();
        runs.into_iter().try_for_each(|run| {
            run.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    kept.take_in()?;
    Ok(kept.found())
}

fn mutate_share(tree: &Path, subject: Subject, part: &str, results: &Path) -> Result<()> {
    let package = subject.package;
    let tests = [
        "test",
        "--quiet",
        "--profile",
        "mutants",
        "--package",
        package,
    ];
    let status = Command::new("cargo")
        .args(tests)
        .args(TARGETS)
        .current_dir(tree)
        .status()?;
    ensure!(status.success(), "{package} fails its tests as it is");
    let program: PathBuf = root().canonicalize()?.join(TOOL).join("bin/cargo-mutants");
    // Some mutants take memory until there is none: they end sooner, and alone.
    let limited = format!("ulimit -v {MEMORY}; exec \"$@\"");
    let mut command = Command::new("sh");
    command
        .args(["-c", &limited, "sh"])
        .arg(program)
        .args([
            "mutants",
            "--in-place",
            "--iterate",
            "--baseline=skip",
            "--colors=never",
        ])
        .args([
            "--profile=mutants",
            "--timeout",
            &subject.longest.to_string(),
        ])
        .args(["--shard", part, "--package", package])
        .arg("--output")
        .arg(results)
        .current_dir(tree);
    for file in subject.files {
        command.args(["--file", file]);
    }
    let status = command
        .arg("--")
        .args(TARGETS)
        .status()
        .context("cargo-mutants cannot be started")?;
    // 2: something was missed. 3: a test did not end.
    ensure!(
        matches!(status.code(), Some(0 | 2 | 3)),
        "cargo-mutants ended with {status}"
    );
    Ok(())
}
