//! `greffe-simulate`: many seeds on every core; the first that breaks a promise is printed with the fewest steps that do it.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use greffe_simulation::{Done, Origin, draw, run, shrink};

/// Every so many seeds, one runs twice and has to leave the same trace.
const TWICE: u64 = 1000;
/// A seed that takes longer, by the machine's clock, hangs.
const HANGS: Duration = Duration::from_secs(120);

/// Simulates the whole system from seeds.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Seeds at a time; 0 for as many as there are cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Run one seed and print what happened.
    #[arg(long)]
    one: Option<u64>,
    /// What the services say in it, by the filter of tracing.
    #[arg(long)]
    log: Option<String>,
    /// Begin with this folder instead of making one.
    #[arg(long)]
    origin: Option<PathBuf>,
}

fn main() -> ExitCode {
    match simulate(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("simulate: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn simulate(arguments: &Arguments) -> Result<bool> {
    let origin = match &arguments.origin {
        Some(folder) => Origin::open(folder)?,
        None => Origin::make()?,
    };
    if let Some(filter) = &arguments.log {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .init();
    }
    if let Some(seed) = arguments.one {
        return one(&origin, seed);
    }
    many(&origin, arguments)
}

#[expect(clippy::print_stdout, reason = "the trace is what was asked for")]
fn one(origin: &Origin, seed: u64) -> Result<bool> {
    let outcome = run(origin, seed, &draw(seed))?;
    for line in &outcome.trace {
        println!("{line}");
    }
    if let Some((step, broken)) = &outcome.broken {
        println!("step {step}: {broken}");
    }
    Ok(outcome.broken.is_none())
}

struct Progress {
    next: AtomicU64,
    running: Mutex<Vec<(u64, Instant)>>,
    done: Mutex<Done>,
    failed: Mutex<Vec<u64>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn many(origin: &Origin, arguments: &Arguments) -> Result<bool> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let threads = if arguments.threads == 0 {
        cores
    } else {
        arguments.threads
    };
    let end = arguments.from + arguments.seeds;
    let progress = Progress {
        next: AtomicU64::new(arguments.from),
        running: Mutex::default(),
        done: Mutex::default(),
        failed: Mutex::default(),
    };
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| work(origin, &progress, end)))
            .collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(200));
            let running = locked(&progress.running);
            if let Some((seed, _)) = running.iter().find(|(_, begun)| begun.elapsed() > HANGS) {
                eprintln!("seed {seed} hangs: `greffe-simulate --one {seed}` shows where");
                std::process::exit(1);
            }
        }
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked")))
    })?;
    let took = begun.elapsed();
    let done = *locked(&progress.done);
    let failed = locked(&progress.failed).len();
    eprintln!(
        "{} seeds in {:.1} s, {:.1} a second; {failed} broke a promise; {} messages sent, {} shown, {} records opened, {} disposed of",
        arguments.seeds,
        took.as_secs_f64(),
        arguments.seeds as f64 / took.as_secs_f64(),
        done.sent,
        done.shown,
        done.opened,
        done.disposed,
    );
    Ok(failed == 0)
}

fn work(origin: &Origin, progress: &Progress, end: u64) -> Result<()> {
    loop {
        let seed = progress.next.fetch_add(1, Ordering::Relaxed);
        // The first findings are enough to work on.
        if seed >= end || locked(&progress.failed).len() >= 5 {
            return Ok(());
        }
        locked(&progress.running).push((seed, Instant::now()));
        let outcome = run(origin, seed, &draw(seed)).with_context(|| format!("seed {seed}"))?;
        locked(&progress.running).retain(|(running, _)| *running != seed);
        *locked(&progress.done) += outcome.done;
        if let Some((step, broken)) = outcome.broken {
            locked(&progress.failed).push(seed);
            eprintln!("seed {seed}, after step {step}: {broken}");
            print_fewest(origin, seed, &broken);
        } else if seed.is_multiple_of(TWICE) {
            twice(origin, seed)?;
        }
    }
}

fn print_fewest(origin: &Origin, seed: u64, broken: &str) {
    let fewest = shrink(draw(seed), broken, |steps: &[_]| {
        let outcome = run(origin, seed, steps).ok()?;
        outcome.broken.map(|(_, broken)| broken)
    });
    for step in fewest {
        eprintln!("  {step}");
    }
}

/// In processes of their own: what a process has done before is part of its chance.
fn twice(origin: &Origin, seed: u64) -> Result<()> {
    let trace = || -> Result<Vec<u8>> {
        let output = Command::new(std::env::current_exe()?)
            .arg("--one")
            .arg(seed.to_string())
            .arg("--origin")
            .arg(origin.folder())
            .output()?;
        Ok(output.stdout)
    };
    let (first, second) = (trace()?, trace()?);
    if first == second && !first.is_empty() {
        return Ok(());
    }
    let (first, second) = (String::from_utf8(first)?, String::from_utf8(second)?);
    let differs = first
        .lines()
        .zip(second.lines())
        .find(|(first, second)| first != second);
    let (first, second) = differs.unwrap_or(("the end", "the end"));
    bail!("seed {seed} ran twice and differs:\n  {first}\n  {second}")
}
