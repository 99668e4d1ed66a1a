//! `greffe demo`: the life of a message with the same binary, library and methods as everybody else, on a sample or real input.

mod cast;
mod chat;
mod input;
mod mail;
mod opening;
mod play;
mod summary;

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::args::DemoArguments;
use crate::fail::{Failure, Result};
use crate::layout::Layout;
use crate::output::{Output, narrate, print};
use crate::up::{Options, Up};
use cast::Cast;
use input::Input;
use summary::Summary;

/// Runs the demonstration and prints its summary.
pub(crate) async fn run(arguments: DemoArguments, output: Output) -> Result<()> {
    let started = Instant::now();
    let options = Options::new(&arguments.identity)?;
    let input = match &arguments.input {
        Some(path) => input::read(path)?,
        None => input::sample(),
    };
    let folder = Folder::choose(arguments.data.as_deref(), arguments.keep)?;
    narrate(format_args!(
        "{} messages in {} conversations, {} refused",
        input.messages(),
        input.conversations.len(),
        input.refusals.len()
    ));
    let summary = perform(&folder.path, &options, input).await;
    let summary = folder.settle(summary)?;
    let summary = Summary {
        elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        kept: arguments.keep,
        ..summary
    };
    print(output, &summary, Summary::text)
}

async fn perform(folder: &Path, options: &Options, input: Input) -> Result<Summary> {
    let early = async {
        // That signals cannot be caught shows below.
        let _ = tokio::signal::ctrl_c().await;
    };
    let up = Up::start(folder, options, early).await?;
    let outcome = tokio::select! {
        outcome = scenes(&up.layout, input) => outcome,
        _ = tokio::signal::ctrl_c() => Err(interrupted()),
    };
    up.stop().await;
    outcome
}

fn interrupted() -> Failure {
    Failure::failed("INTERRUPTED", "the demonstration was interrupted")
}

async fn scenes(layout: &Layout, input: Input) -> Result<Summary> {
    let cast = Cast::assemble(layout).await?;
    let played = play::play(cast, input).await?;
    opening::open(layout, played).await
}

/// Where the demonstration writes.
struct Folder {
    path: PathBuf,
    /// What is removed when something fails, or at the end unless it is to be kept.
    keep: bool,
    made: bool,
}

impl Folder {
    fn choose(data: Option<&Path>, keep: bool) -> Result<Self> {
        let Some(path) = data else {
            let path = tempfile::Builder::new()
                .prefix("greffe-demo-")
                .tempdir()
                .map_err(|error| Failure::io("make a folder in", &std::env::temp_dir(), &error))?
                .keep();
            return Ok(Self {
                path,
                keep,
                made: true,
            });
        };
        let path = std::path::absolute(path).map_err(|error| Failure::io("find", path, &error))?;
        let made = match std::fs::read_dir(&path) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(Failure::refused(
                        "DATA_FOLDER_NOT_EMPTY",
                        format_args!(
                            "{} is not empty: name a new or empty folder",
                            path.display()
                        ),
                    ));
                }
                false
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(error) => return Err(Failure::io("open the folder", &path, &error)),
        };
        Ok(Self { path, keep, made })
    }

    /// Leaves the production and the root's public key, or everything; after a failure nothing, unless it is to be kept.
    fn settle<T>(&self, outcome: Result<T>) -> Result<T> {
        if self.keep {
            return outcome;
        }
        if outcome.is_err() {
            self.empty(&[]);
            if self.made {
                // It may hold what could not be removed; the failure that is reported is the first one.
                let _ = std::fs::remove_dir(&self.path);
            }
            return outcome;
        }
        self.empty(&[summary::PRODUCTION, "root.pub"]);
        outcome
    }

    /// Removes everything but some names.
    fn empty(&self, but: &[&str]) {
        let entries = std::fs::read_dir(&self.path)
            .into_iter()
            .flatten()
            .flatten();
        for entry in entries {
            if but.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed = if folder {
                std::fs::remove_dir_all(entry.path())
            } else {
                std::fs::remove_file(entry.path())
            };
            if let Err(error) = removed {
                narrate(format_args!(
                    "{} could not be removed: {error}",
                    entry.path().display()
                ));
            }
        }
    }
}
