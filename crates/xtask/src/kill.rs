//! `cargo xtask kill`: as many rounds of the tests that kill services under load as one wants, ten of each being part of every run.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{shell, test};

const ROUNDS: &str = "100";
/// What both tests end with.
const PASSED: &str = "test result: ok. 2 passed;";

/// Runs `--rounds N` of each, of `--seed N` if one is given.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (mut rounds, mut seed) = (ROUNDS.to_owned(), None);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let number = rest
            .next()
            .filter(|given| given.parse::<u64>().is_ok())
            .cloned();
        match (argument.as_str(), number) {
            ("--rounds", Some(number)) => rounds = number,
            ("--seed", Some(number)) => seed = Some(number),
            ("--rounds" | "--seed", None) => bail!("{argument} takes a number"),
            (other, _) => bail!("no option {other}; there are --rounds N and --seed N"),
        }
    }
    shell::build()?;
    let folder = shell::root().join("crates/cli");
    let built = test::programs()?;
    let program = built.of(&folder)?;
    let mut command = Command::new(program);
    command
        .args(["kill_nine::", "--nocapture", "--test-threads=1"])
        .env("GREFFE_KILL_ROUNDS", &rounds)
        .current_dir(&folder)
        .stdout(Stdio::piped());
    if let Some(seed) = &seed {
        command.env("GREFFE_KILL_SEED", seed);
    }
    eprintln!("$ GREFFE_KILL_ROUNDS={rounds} {program} kill_nine::");
    let mut running = command
        .spawn()
        .with_context(|| format!("{program} cannot be started"))?;
    let said = running.stdout.take().context("no output")?;
    let mut passed = false;
    for line in BufReader::new(said).lines() {
        let line = line?;
        passed |= line.starts_with(PASSED);
        eprintln!("{line}");
    }
    let status = running.wait()?;
    ensure!(status.success(), "the rounds ended with {status}");
    // A name that no test has any more would run nothing, and end well.
    ensure!(
        passed,
        "not both tests have run: kill_nine:: should name two"
    );
    Ok(())
}
