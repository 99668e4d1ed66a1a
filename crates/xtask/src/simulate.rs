//! `cargo xtask simulate`: as many seeds of the simulation as one wants, some dozens being part of every run.

use anyhow::Result;

use crate::shell;

const SEEDS: &str = "--seeds=100000";

/// Runs `--seeds N --from N`, or `--one N` and prints what happened in it.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    shell::build()?;
    let mut given: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let says = |option: &str| {
        arguments
            .iter()
            .any(|argument| argument.starts_with(option))
    };
    if !says("--seeds") && !says("--one") {
        given.push(SEEDS);
    }
    shell::run(shell::root().join("target/release/greffe-simulate"), &given)
}
