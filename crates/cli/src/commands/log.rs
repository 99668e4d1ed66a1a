//! `greffe log`: the audit log, proved under a witnessed checkpoint that continues all that was seen here before.

use clap::{Args, Subcommand};
use futures::{StreamExt as _, TryStreamExt as _};
use greffe_client::Client;
use greffe_client::log::{Included, VerifiedCheckpoint};
use greffe_envelope::label::sha256;
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::decode_strict;
use greffe_tlog::Note;
use greffe_types::Digest;
use serde::Serialize;
use serde_json::Value;

use super::access::Access;
use super::details::details;
use super::form::{hex, one_line, time};
use super::reads::{self, ReadsArguments};
use crate::fail::{Failure, Result};
use crate::monitor::{self, WatchLogArguments};
use crate::output::{Output, print};

/// Proofs that are asked for at the same time.
const AT_ONCE: usize = 8;
/// Entries looked through at once.
const PAGE: u32 = 1000;

/// `greffe log`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  greffe log checkpoint")]
pub(crate) struct LogArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The newest checkpoint, witnessed, continuing the last one seen here.
    #[command(after_help = "Example:\n  greffe log checkpoint")]
    Checkpoint(Access),
    /// An entry with its proof of inclusion.
    #[command(after_help = "Example:\n  greffe log entry 0 --output json")]
    Entry {
        /// Its index, from 0.
        index: u64,
        #[command(flatten)]
        access: Access,
    },
    /// Entries, each proved.
    #[command(
        after_help = "Example:\n  greffe log list                 the newest\n  greffe log list --start 0 --count 50"
    )]
    List {
        /// First index; without it, the newest entries.
        #[arg(long)]
        start: Option<u64>,
        /// How many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        count: u32,
        #[command(flatten)]
        access: Access,
    },
    /// Where a signed statement stands: a disclosure, acknowledgement, certificate, act, key record, by its digest.
    #[command(after_help = "Example:\n  greffe log statement DIGEST")]
    Statement {
        /// SHA-256 of the statement's bytes, as `greffe tenant show` and others print it.
        digest: Digest,
        #[command(flatten)]
        access: Access,
    },
    /// What people read in the archive, and were refused: the log only commits to what it was.
    Reads(ReadsArguments),
    /// Follow the log, print what happens, and alarm when it does not hold: forks, missing witnesses, openings without order.
    Watch(WatchLogArguments),
}

#[derive(Serialize)]
struct CheckpointView {
    size: u64,
    root: String,
    witnessed_at: String,
    signed_by: Vec<String>,
    note: String,
}

impl CheckpointView {
    fn new(checkpoint: &VerifiedCheckpoint) -> Self {
        let note = Note::parse(&checkpoint.bytes).ok();
        let signatures = note.iter().flat_map(|note| note.signatures());
        Self {
            size: checkpoint.head.size,
            root: checkpoint.head.root.to_string(),
            witnessed_at: time(checkpoint.as_of.get()),
            signed_by: signatures.map(|s| s.name().to_owned()).collect(),
            note: String::from_utf8_lossy(&checkpoint.bytes).into_owned(),
        }
    }
}

/// What an entry says.
#[derive(Serialize)]
pub(crate) struct EntryView {
    index: u64,
    at: String,
    recorded_by: String,
    kind: &'static str,
    details: Value,
}

#[derive(Serialize)]
struct ProvedView {
    #[serde(flatten)]
    entry: EntryView,
    leaf: String,
    path: Vec<String>,
    checkpoint: CheckpointView,
}

#[derive(Serialize)]
struct List {
    entries: Vec<EntryView>,
    checkpoint: CheckpointView,
}

/// Does what was asked.
pub(crate) async fn run(arguments: LogArguments, output: Output) -> Result<()> {
    match arguments.what {
        What::Checkpoint(access) => {
            let newest = newest(&access.client().await?).await?;
            print(output, &CheckpointView::new(&newest), |view| {
                view.note.clone()
            })
        }
        What::Entry { index, access } => {
            let client = access.client().await?;
            entry(&client, &newest(&client).await?, index, output).await
        }
        What::List {
            start,
            count,
            access,
        } => list(&access.client().await?, start, count, output).await,
        What::Reads(arguments) => reads::run(arguments, output).await,
        What::Watch(arguments) => monitor::run(arguments, output).await,
        What::Statement { digest, access } => {
            let client = access.client().await?;
            let checkpoint = newest(&client).await?;
            let index = find(&client, &checkpoint, &digest).await?;
            entry(&client, &checkpoint, index, output).await
        }
    }
}

async fn newest(client: &Client) -> Result<VerifiedCheckpoint> {
    let trust = client.trust()?;
    Ok(client.log().checkpoint(trust.bundle(), 0).await?)
}

async fn entry(
    client: &Client,
    checkpoint: &VerifiedCheckpoint,
    index: u64,
    output: Output,
) -> Result<()> {
    if index >= checkpoint.head.size {
        return Err(Failure::refused(
            "ENTRY_UNKNOWN",
            format_args!(
                "the log has {} entries, the first is 0: there is no entry {index}",
                checkpoint.head.size
            ),
        ));
    }
    let included = client.log().included("entry", checkpoint, index).await?;
    let view = ProvedView {
        entry: EntryView::new(index, &included.entry),
        leaf: hex(&included.leaf),
        path: included.path.iter().map(ToString::to_string).collect(),
        checkpoint: CheckpointView::new(checkpoint),
    };
    print(output, &view, |view| {
        format!(
            "{}proved by {} hashes under the checkpoint of {} entries\n",
            view.entry.line(),
            view.path.len(),
            view.checkpoint.size
        )
    })
}

async fn list(client: &Client, start: Option<u64>, count: u32, output: Output) -> Result<()> {
    let checkpoint = newest(client).await?;
    let size = checkpoint.head.size;
    let start = start.unwrap_or_else(|| size.saturating_sub(u64::from(count)));
    let end = start.saturating_add(u64::from(count)).min(size);
    let proofs = futures::stream::iter(start..end)
        .map(|index| client.log().included("entry", &checkpoint, index))
        .buffered(AT_ONCE);
    let entries: Vec<Included> = proofs.try_collect().await?;
    let view = List {
        entries: entries
            .iter()
            .map(|included| EntryView::new(included.index, &included.entry))
            .collect(),
        checkpoint: CheckpointView::new(&checkpoint),
    };
    print(output, &view, |view| {
        view.entries.iter().map(EntryView::line).collect()
    })
}

/// Looks a statement up; whoever finds it has it proved next.
async fn find(client: &Client, checkpoint: &VerifiedCheckpoint, digest: &Digest) -> Result<u64> {
    if let Some(index) = client.trust()?.log_index(digest).filter(|index| *index > 0) {
        return Ok(index);
    }
    let mut start = 0;
    while start < checkpoint.head.size {
        let leaves = client.log().entries(start, PAGE).await?;
        if leaves.is_empty() {
            break;
        }
        for (leaf, index) in leaves.iter().zip(start..) {
            let entry: pb::LogEntry = decode_strict("log entry", leaf).map_err(|error| {
                Failure::because("ANSWER_INVALID", "an entry of the log", &error)
            })?;
            if let Some(Event::Statement(statement)) = &entry.event
                && sha256(&statement.statement) == *digest
            {
                return Ok(index);
            }
        }
        start += leaves.len() as u64;
    }
    Err(Failure::refused(
        "STATEMENT_UNKNOWN",
        format_args!(
            "no statement {digest} is among the {} entries of the log: orders and receipts are not statements of their own there",
            checkpoint.head.size
        ),
    ))
}

impl EntryView {
    /// Of an entry and its index.
    pub(crate) fn new(index: u64, entry: &pb::LogEntry) -> Self {
        let (kind, details) = entry
            .event
            .as_ref()
            .map_or(("unknown", Value::Null), details);
        Self {
            index,
            at: time(entry.at),
            recorded_by: entry.recorded_by.clone(),
            kind,
            details,
        }
    }

    /// For people. What others wrote stays on the entry's own line: a monitor prints what nobody has vouched for yet.
    pub(crate) fn line(&self) -> String {
        let Self {
            index, at, kind, ..
        } = self;
        let by = one_line(&self.recorded_by);
        let details = one_line(&self.details.to_string());
        format!("{index} {at} {by} {kind} {details}\n")
    }
}
