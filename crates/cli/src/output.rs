//! What a command prints: its result on standard output, everything else on standard error.

use core::fmt;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::fail::{Failure, Result};

/// Form of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For a person.
    Text,
    /// One JSON object.
    Json,
}

/// Tells on standard error what is going on.
#[allow(clippy::print_stderr, reason = "this is the one place that narrates")]
pub(crate) fn narrate(line: impl fmt::Display) {
    eprintln!("greffe: {line}");
}

/// Prints a failure: one line, or one JSON object.
#[allow(
    clippy::print_stderr,
    reason = "this is the one place that reports failures"
)]
pub(crate) fn report(output: Output, failure: &Failure) {
    match output {
        Output::Text => eprintln!("greffe: {failure}"),
        Output::Json => {
            let error = serde_json::json!({
                "error": { "reason": failure.reason(), "message": failure.message() }
            });
            eprintln!("{error}");
        }
    }
}

/// Prints a result: as JSON, or as the lines that `text` makes of it.
pub(crate) fn print<T: Serialize>(
    output: Output,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<()> {
    let mut line = match output {
        Output::Json => serde_json::to_string(value).map_err(|error| {
            Failure::because("OUTPUT", "the result cannot be written as JSON", &error)
        })?,
        Output::Text => text(value),
    };
    if !line.ends_with('\n') && !line.is_empty() {
        line.push('\n');
    }
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| {
            Failure::failed(
                "OUTPUT",
                format_args!("standard output cannot be written: {error}"),
            )
        })
}

/// A progress bar on a terminal; nothing elsewhere.
pub(crate) fn progress(length: u64, what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg:>12} {bar:40} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
