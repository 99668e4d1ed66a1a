//! `greffe verify`: a production against the tenant root's public key, with no network, server or clock.

use core::fmt::Write as _;
use std::path::Path;

use greffe_envelope::trust::RootKey;
use greffe_production::{Report, verify};
use serde::Serialize;

use crate::args::VerifyArguments;
use crate::fail::{Failure, Result, chain};
use crate::layout::read_text;
use crate::output::{Output, print};

#[derive(Serialize)]
struct Outcome<'a> {
    verified: bool,
    #[serde(flatten)]
    report: &'a Report,
}

/// Prints what was found; anything that does not hold makes the command fail.
pub(crate) fn run(arguments: &VerifyArguments, output: Output) -> Result<()> {
    let root = root_key(&arguments.root)?;
    if !arguments.production.is_dir() {
        return Err(Failure::usage(
            "PRODUCTION_NOT_FOUND",
            format_args!(
                "{} is not a folder: name the production's folder",
                arguments.production.display()
            ),
        ));
    }
    let report = verify(&arguments.production, &root);
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
