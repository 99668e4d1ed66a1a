//! `greffe-bench`: measures the services as they run, beside limits measured in the same run, and prints tables.

mod backend;
mod crypto;
mod device;
mod groups;
mod growth;
mod limits;
mod load;
mod log;
mod machine;
mod memory;
mod orders;
mod production;
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
const NAMES: [&str; 9] = [
    "throughput",
    "stages",
    "memory",
    "log",
    "growth",
    "orders",
    "production",
    "crypto",
    "groups",
];

/// Measures the services as they run, beside limits measured in the same run.
#[derive(Debug, Parser)]
#[command(
    name = "greffe-bench",
    after_help = "Examples:\n  greffe-bench                            everything, for about an hour\n  greffe-bench throughput --quick\n  greffe-bench growth --records 100000"
)]
struct Arguments {
    #[command(subcommand)]
    sink: Option<Sink>,
    /// What to measure: throughput, stages, memory, log, growth, orders, production, crypto, groups. Without any, everything.
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
    /// Keeps the report in this file: a table that is measured again takes the place of the one there.
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
    let preface = preface(&machine::describe());
    // Each as soon as it is measured: a run takes long, and may be ended early.
    let print = |text: &str| {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())
    };
    print(&preface)?;
    for name in NAMES {
        if !arguments.names.is_empty() && !arguments.names.iter().any(|wanted| wanted == name) {
            continue;
        }
        narrate(format_args!("measuring {name}"));
        let when = machine::when(&arguments.revision, options.runs);
        let sections: Vec<Section> = match name {
            "throughput" => throughput::measure(&options).await?,
            "stages" => stages::measure(&options).await?,
            "memory" => memory::measure(&options).await?,
            "log" => log::measure(&options).await?,
            "growth" => growth::measure(&options).await?,
            "orders" => orders::measure(&options).await?,
            "production" => production::measure(&options).await?,
            "groups" => groups::measure(&options).await?,
            _ => crypto::measure(&options).await?,
        };
        let sections: Vec<String> = sections
            .iter()
            .map(|section| section.markdown(&when))
            .collect();
        for section in &sections {
            print(&format!("\n{section}"))?;
        }
        if let Some(path) = &arguments.out {
            let before = std::fs::read_to_string(path).unwrap_or_default();
            let text = report::merge(&preface, &before, &sections);
            std::fs::write(path, text)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

fn preface(machine: &[(String, String)]) -> String {
    let mut text = String::from(
        "# Benchmarks\n\nMade by `cargo xtask bench`; run it again on your machine, whole or by the name of what is to be measured. \
         Every service is a process of its own, as in production, and everything shares the one machine: senders, services, \
         databases and buckets. Hence throughput, log, productions and cryptography stand beside limits that were measured in the \
         same run, in turns with them, and what counts is the ratio; growth, stages, orders, groups and memory are absolute. Under \
         each table is when it was measured, of which revision, and how loaded the machine was when that began. Runs are those \
         of throughput, log, productions and cryptography, whose median is shown; everything else is one run, and reads the \
         median of 15.\n\n",
    );
    for (name, value) in machine {
        text.push_str(&format!("- {name}: {value}\n"));
    }
    text
}
