//! `greffe log watch`: follows the log with nothing but the tenant root's public key, prints what happens, and alarms.
//!
//! Nothing that the log hands over is believed: each checkpoint has to continue the last one, be signed by the log's key and by
//! a quorum of witnesses, and be recent; entries have to be those of its tree; keys and witnesses are those of the bundles in
//! the log that the root has signed. What was seen is stored after it was printed: after a crash, some of it is printed again.

mod alarm;
mod book;
mod round;
mod source;
mod state;
#[cfg(test)]
mod tests;
mod topic;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use greffe_service_kit::clock::{Clock as _, SystemClock};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::commands::access::Access;
use crate::commands::form::{duration, one_line};
use crate::commands::log::EntryView;
use crate::fail::{Failure, Result};
use crate::output::{Output, narrate, print};
use alarm::Alarm;
use round::{Monitor, Outcome, Unseen};
use state::State;
use topic::{SHOWN, Topic};

/// How long the log has to answer: a page of entries over a slow line takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// `greffe log watch`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greffe log watch --state /var/lib/greffe-watch --output json
  greffe log watch --state ./watch --once --show orders,openings

The first run reads the log from its beginning. Alarms are lines too, ALARM and a reason, and a run that raised one ends with
its exit code:
  4  LOG_FORKED, LOG_ROLLED_BACK, LOG_ORIGIN, CHECKPOINT_FALSE    the run ends; notes are kept in STATE/evidence
  4  ENTRIES_FALSE, ENTRIES_WITHHELD                              the run ends; the checkpoint is kept there too
  4  WITNESSES_MISSING, COSIGNATURE_FALSE, LOG_STALE              until it passes
  4  OPENING_WITHOUT_ORDER, ORDER_NOT_APPROVED, BUNDLE_REFUSED, ENTRY_MALFORMED
  6  SHARES_CHANGED                                               nothing is false: was it meant?
An order that is sealed shows that there is one, and its openings show which one they belong to; what was opened stays unknown.")]
pub(crate) struct WatchLogArguments {
    /// Folder of what has been seen and of evidence: outside of what it watches over. It is made when it is not there.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// What to print, by what entries are about. Alarms are always printed.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "TOPICS", default_values_t = SHOWN)]
    show: Vec<Topic>,
    /// End once everything there is has been read.
    #[arg(long)]
    once: bool,
    /// How long to wait before the log is asked again.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    interval: Duration,
    /// How old the quorum's newest word may be.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    max_age: Duration,
    #[command(flatten)]
    access: Access,
}

/// A line of what is printed.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Entry(Shown),
    Alarm(Alarm),
}

#[derive(Serialize)]
struct Shown {
    topic: Topic,
    #[serde(flatten)]
    entry: EntryView,
}

impl Line {
    fn text(&self) -> String {
        match self {
            Self::Entry(shown) => shown.entry.line(),
            Self::Alarm(alarm) => alarm.line(),
        }
    }
}

/// Watches until it is told to end, until nothing more can be believed, or once.
pub(crate) async fn run(arguments: WatchLogArguments, output: Output) -> Result<()> {
    let caught =
        |error| Failure::failed("SIGNALS", format_args!("signals cannot be caught: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(caught)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(caught)?;
    let connection = arguments.access.connect()?;
    let shown: BTreeSet<Topic> = arguments.show.iter().copied().collect();
    let state = State::open(&arguments.state, connection.root())?;
    let begun = SystemClock.now();
    let mut monitor = Monitor {
        source: connection.log()?,
        fresh: state.fresh(begun)?,
        state,
        max_age: arguments.max_age,
        patience: PATIENCE.min(arguments.max_age),
        now: || SystemClock.now(),
        show: |line: Line| match &line {
            Line::Entry(entry) if !shown.contains(&entry.topic) => Ok(()),
            _ => print(output, &line, Line::text),
        },
        raised: Vec::new(),
        standing: Vec::new(),
    };
    let watching = async {
        loop {
            let outcome = monitor.round().await;
            match outcome {
                Ok(Outcome::Ended) => return Ok(()),
                Ok(Outcome::More) => continue,
                Ok(Outcome::UpToDate) if arguments.once => return Ok(()),
                Ok(Outcome::UpToDate) => {}
                Err(Unseen::Here(failure)) => return Err(failure),
                Err(Unseen::Log(failure)) if arguments.once => return Err(failure),
                // Whatever the log says of itself: a monitor that ends because of it would alarm about nothing any more.
                Err(Unseen::Log(failure)) => {
                    narrate(one_line(&format!("{failure}; asking again")));
                    monitor.unreachable(&failure)?;
                }
            }
            tokio::time::sleep(arguments.interval).await;
        }
    };
    let ended = tokio::select! {
        ended = watching => ended,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    ended?;
    // What is false weighs more than what somebody has to look at.
    let raised = &monitor.raised;
    let gravest = raised
        .iter()
        .find(|alarm| !alarm.is_true())
        .or_else(|| raised.first());
    match gravest.map(Alarm::failure) {
        None => Ok(()),
        Some(failure) if raised.len() == 1 => Err(failure),
        Some(failure) => Err(failure.and(raised.len() - 1, "alarms")),
    }
}
