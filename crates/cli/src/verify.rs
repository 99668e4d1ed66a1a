//! `greffe verify`: a production against the tenant root's public key, with no network, server or clock; or an archive's stores
//! against the log.

use core::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use greffe_envelope::trust::RootKey;
use greffe_production::{Report, is_zip, verify};
use serde::Serialize;

use crate::args::VerifyArguments;
use crate::fail::{Exit, Failure, Result, chain};
use crate::layout::read_text;
use crate::output::{Output, print};
use crate::serve::{read, settings};

#[derive(Serialize)]
struct Outcome<'a> {
    verified: bool,
    #[serde(flatten)]
    report: &'a Report,
}

/// Prints what was found; anything that does not hold makes the command fail.
pub(crate) async fn run(arguments: &VerifyArguments, output: Output) -> Result<()> {
    match (&arguments.archive, &arguments.production, &arguments.root) {
        (Some(config), _, _) => archive(config, &arguments.set, output).await,
        (None, Some(folder), Some(root)) => production(folder, root, output),
        // clap asks for them.
        (None, _, _) => Err(Failure::usage(
            "NOTHING_TO_VERIFY",
            "name a production and --root, or --archive",
        )),
    }
}

/// Looks through everything that an archive holds.
async fn archive(config: &Path, set: &[String], output: Output) -> Result<()> {
    let config: greffe_archive::Config = read(&settings(config, set)?)?;
    let begun = Instant::now();
    let report = greffe_archive::verify::verify(config)
        .await
        .map_err(|error| Failure::new(Exit::Unavailable, error.reason(), chain(&error)))?;
    let outcome = ArchiveOutcome {
        verified: report.holds(),
        elapsed_ms: begun.elapsed().as_millis(),
        report: &report,
    };
    print(output, &outcome, archive_text)?;
    match report.findings.first() {
        None => Ok(()),
        Some(first) => Err(Failure::unverified(
            "ARCHIVE_INVALID",
            format_args!(
                "{} things do not hold, among them {}: {}; restore the copies that belong together",
                report.failures, first.item, first.problem
            ),
        )),
    }
}

#[derive(Serialize)]
struct ArchiveOutcome<'a> {
    verified: bool,
    elapsed_ms: u128,
    #[serde(flatten)]
    report: &'a greffe_archive::verify::Report,
}

fn archive_text(outcome: &ArchiveOutcome<'_>) -> String {
    let report = outcome.report;
    let mut text = String::new();
    for finding in &report.findings {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}: {}", finding.item, finding.problem);
    }
    let _ = writeln!(
        text,
        "{}: {} records of {} conversations, {} objects of {} bytes, wraps of {} messages, {} disposed of, in {} ms\n\
         records: root {}, {} in the log, {} on their way\n\
         log:     root {} over {} leaves",
        if outcome.verified {
            "verified"
        } else {
            "not verified"
        },
        report.records,
        report.conversations,
        report.objects,
        report.object_bytes,
        report.wraps,
        report.disposed,
        outcome.elapsed_ms,
        report.records_root,
        report.receipts_logged,
        report.receipts_waiting,
        report.log_root,
        report.log_size,
    );
    text
}

/// A production, by the root's public key alone.
fn production(folder: &Path, root: &Path, output: Output) -> Result<()> {
    let root = root_key(root)?;
    if !folder.is_dir() && !is_zip(folder) {
        return Err(Failure::usage(
            "PRODUCTION_NOT_FOUND",
            format_args!(
                "{} is neither a folder nor a zip: name the production's",
                folder.display()
            ),
        ));
    }
    let report = verify(folder, &root);
    let outcome = Outcome {
        verified: report.holds(),
        report: &report,
    };
    print(output, &outcome, |_| text(&report))?;
    if report.holds() {
        return Ok(());
    }
    let first = &report.findings[0];
    Err(Failure::unverified(
        "PRODUCTION_INVALID",
        format_args!(
            "{} of the production's items do not hold, among them {}: {}; ask for it again",
            report.findings.len(),
            first.item,
            first.problem
        ),
    ))
}

/// Reads a tenant root's public key.
pub(crate) fn root_key(path: &Path) -> Result<RootKey> {
    RootKey::parse(&read_text(path)?).map_err(|error| {
        Failure::usage(
            "ROOT_KEY",
            format_args!(
                "{} is not a root key, one line `greffe-root-v1 TENANT HEX`: {}",
                path.display(),
                chain(&error)
            ),
        )
    })
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}: {}", finding.item, finding.problem);
    }
    if report.holds() {
        let _ = writeln!(
            text,
            "verified: {} records, {} files, under a log of {} entries",
            report.records, report.files, report.log_size
        );
    }
    text
}
