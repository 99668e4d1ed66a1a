//! `greffe-bench`: measures the services as they run, beside limits measured in the same run, and prints tables.

mod backend;
mod crypto;
mod device;
mod growth;
mod limits;
mod load;
mod machine;
mod orders;
mod report;
mod stages;
mod stats;
mod telemetry;
mod throughput;
mod up;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};

use report::Section;

/// What can be measured, in the order of the report.
const NAMES: [&str; 5] = ["throughput", "stages", "growth", "orders", "crypto"];

/// Measures the services as they run, beside limits measured in the same run.
#[derive(Debug, Parser)]
#[command(
    name = "greffe-bench",
    after_help = "Examples:\n  greffe-bench                            everything, for about an hour\n  greffe-bench throughput --quick\n  greffe-bench growth --records 100000"
)]
struct Arguments {
    #[command(subcommand)]
    sink: Option<Sink>,
    /// What to measure: throughput, stages, growth, orders, crypto. Without any, everything.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Few messages, one run, SQLite only: shows that everything runs, not how fast.
    #[arg(long)]
    quick: bool,
    /// Runs of each figure; the median is shown.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// Records that growth goes up to.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// The program that is measured; without it, the one beside this.
    #[arg(long, value_name = "FILE")]
    greffe: Option<PathBuf>,
    /// What was built, for the report.
    #[arg(long, default_value = "unknown")]
    revision: String,
    /// Writes the report into this file too.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Sink {
    /// The limit that services are held against: started by this program itself.
    #[command(hide = true)]
    Sink {
        /// Where its table and certificates go.
        folder: PathBuf,
    },
}

/// From this line on, a report is written by hand and stays.
const BY_HAND: &str = "\n## Measured by hand\n";

/// What every measurement is told.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) greffe: PathBuf,
    pub(crate) quick: bool,
    pub(crate) runs: u32,
    pub(crate) records: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    if let Some(Sink::Sink { folder }) = &arguments.sink {
        return match runtime.block_on(limits::sink::serve(folder)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        };
    }
    match runtime.block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "greffe-bench: {error:#}");
    ExitCode::FAILURE
}

/// Says how far it is.
pub(crate) fn narrate(text: std::fmt::Arguments<'_>) {
    // The report does not depend on it.
    let _ = writeln!(std::io::stderr(), "{text}");
}

async fn run(arguments: Arguments) -> Result<()> {
    for name in &arguments.names {
        ensure!(
            NAMES.contains(&name.as_str()),
            "there is nothing called {name:?} to measure: {}",
            NAMES.join(", ")
        );
    }
    let beside = std::env::current_exe()?.with_file_name("greffe");
    let options = Options {
        greffe: arguments.greffe.unwrap_or(beside),
        quick: arguments.quick,
        runs: if arguments.quick { 1 } else { arguments.runs },
        records: arguments.records,
    };
    ensure!(
        options.greffe.exists(),
        "{} is not there: build it with `cargo build --release`",
        options.greffe.display()
    );
    let mut text = preface(&machine::describe(&arguments.revision), options.runs);
    // Each as soon as it is measured: a run takes long, and may be ended early.
    let print = |text: &str| {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())
    };
    print(&text)?;
    for name in NAMES {
        if !arguments.names.is_empty() && !arguments.names.iter().any(|wanted| wanted == name) {
            continue;
        }
        narrate(format_args!("measuring {name}"));
        let sections: Vec<Section> = match name {
            "throughput" => throughput::measure(&options).await?,
            "stages" => stages::measure(&options).await?,
            "growth" => growth::measure(&options).await?,
            "orders" => orders::measure(&options).await?,
            _ => crypto::measure(&options).await?,
        };
        for section in sections {
            let section = format!("\n{}", section.markdown());
            print(&section)?;
            text.push_str(&section);
        }
    }
    if let Some(path) = arguments.out {
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        text.push_str(kept(&before));
        std::fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// What stands at the end of an earlier report and was measured by hand.
fn kept(before: &str) -> &str {
    before.find(BY_HAND).map_or("", |start| &before[start..])
}

fn preface(machine: &[(String, String)], runs: u32) -> String {
    let mut text = String::from(
        "# Benchmarks\n\nMade by `cargo xtask bench`; run it again on your machine. Every service is a process of its own, \
         as in production, and everything shares the one machine: senders, services, databases and buckets. Hence throughput \
         and cryptography stand beside limits that were measured in the same run, in turns with them, and what counts is the ratio; \
         growth, stages and orders are absolute.\n\n",
    );
    for (name, value) in machine {
        text.push_str(&format!("- {name}: {value}\n"));
    }
    text.push_str(&format!(
        "- throughput and cryptography: the median of {runs} runs; stages and orders: one run; growth: one run, reads the median of \
         15\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_by_hand_stays() {
        let before = "# Benchmarks\n\n## Speed\n\n## Measured by hand\n\nOnce.\n";
        assert_eq!(kept(before), "\n## Measured by hand\n\nOnce.\n");
        assert_eq!(kept("# Benchmarks\n"), "");
    }
}
