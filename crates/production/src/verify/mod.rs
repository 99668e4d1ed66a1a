//! The offline verifier: from a folder or zip and the tenant root's public key to everything that does not hold.

mod bundles;
mod files;
mod order;
mod parse;
mod ranges;
mod record;

use std::collections::BTreeMap;
use std::path::Path;

use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::RootKey;
use greffe_types::Millis;
use serde::Serialize;

use crate::layout;
use crate::manifest::{File, Manifest, Version, sha256};
use crate::opened::{Opened, why};
use crate::render;
use crate::zip;
use bundles::Anchors;
pub use order::approved;

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which file, or which record.
    pub item: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What a verification arrived at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Files looked at.
    pub files: usize,
    /// Records whose evidence was verified.
    pub records: usize,
    /// Size of the log that the paths lead to.
    pub log_size: u64,
    /// Everything that does not hold; the production is good when this is empty.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether everything holds.
    pub fn holds(&self) -> bool {
        self.findings.is_empty()
    }

    pub(crate) fn add(&mut self, item: impl Into<String>, problem: impl Into<String>) {
        let finding = Finding {
            item: item.into(),
            problem: problem.into(),
        };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }
}

/// Verifies a production, a folder or a zip. Everything is looked at, whatever was found before, so that the report names every
/// item. A zip is read where it is: nothing is unpacked.
pub fn verify(production: &Path, root: &RootKey) -> Report {
    let mut report = Report::default();
    let files = if production.is_dir() {
        files::read(production, &mut report)
    } else {
        zip::read(production, &mut report)
    };
    report.files = files.len();
    let format = manifest(&files, &mut report);
    let Some(anchors) = bundles::verify(&files, root, &mut report) else {
        return report;
    };
    let statement = statement(&files, &anchors, &mut report);
    let at = Millis::new(statement.as_ref().map_or(0, |statement| statement.at));
    let Some(production) = parse::production(&files, &mut report) else {
        return report;
    };
    let head = order::checkpoint(&production, &anchors, at, &mut report);
    report.log_size = head.map_or(0, |head| head.size);
    let disclosures = bundles::disclosures(&production, &anchors, &mut report);
    let mut opened = Vec::with_capacity(production.records.len());
    for (number, evidence) in (1..).zip(&production.records) {
        let item = format!("record {number}");
        match Opened::new(evidence) {
            Ok(view) => {
                record::verify(
                    &item,
                    evidence,
                    &view,
                    &anchors,
                    &disclosures,
                    head,
                    &mut report,
                );
                opened.push(view);
            }
            Err(problem) => report.add(item, problem),
        }
    }
    report.records = opened.len();
    if opened.len() != production.records.len() {
        return report;
    }
    if !opened.is_sorted_by(|a, b| a.place() < b.place()) {
        report.add(
            "evidence/records",
            "records are not in the order of conversation and number",
        );
    }
    order::verify(&production, &opened, &anchors, head, &mut report);
    if let Some(statement) = &statement {
        order::stated(&production, statement, &mut report);
    }
    ranges::verify(&production, &opened, &anchors, &mut report);
    let needed = render::version(&opened);
    if format.is_some_and(|format| format != needed) {
        report.add(
            layout::MANIFEST,
            "its format is not the one that can show these records",
        );
    }
    derived(&files, &production, &opened, &mut report);
    report
}

/// Every file is named by the manifest with its size and digest, and no other is there; gives its format.
fn manifest(files: &BTreeMap<String, Vec<u8>>, report: &mut Report) -> Option<Version> {
    let Some(bytes) = files.get(layout::MANIFEST) else {
        report.add(layout::MANIFEST, "it is missing");
        return None;
    };
    let manifest = match Manifest::decode(bytes) {
        Ok(manifest) => manifest,
        Err(problem) => {
            report.add(layout::MANIFEST, problem);
            return None;
        }
    };
    let own = [layout::MANIFEST, layout::STATEMENT];
    for (path, expected) in &manifest.files {
        match files.get(path) {
            None => report.add(path, "the manifest names it, but it is missing"),
            Some(bytes) if File::of(bytes) != *expected => {
                report.add(path, "its bytes are not those that the manifest names");
            }
            Some(_) => {}
        }
    }
    for path in files.keys() {
        if !manifest.files.contains_key(path) && !own.contains(&path.as_str()) {
            report.add(path, "the manifest does not name it");
        }
    }
    Some(manifest.format)
}

/// The reader signed this very manifest; gives what they said.
fn statement(
    files: &BTreeMap<String, Vec<u8>>,
    anchors: &Anchors,
    report: &mut Report,
) -> Option<Signed<pb::ProductionStatement>> {
    let Some(bytes) = files.get(layout::STATEMENT) else {
        report.add(layout::STATEMENT, "it is missing");
        return None;
    };
    let signed = match Signed::<pb::ProductionStatement>::decode_bytes(bytes) {
        Ok(signed) => signed,
        Err(error) => {
            report.add(layout::STATEMENT, why("it is refused", &error));
            return None;
        }
    };
    let at = Millis::new(signed.at);
    if signed.signers().count() != 1 {
        report.add(
            layout::STATEMENT,
            "it carries other signatures than its reader's",
        );
    }
    if let Err(error) = anchors
        .current()
        .verify_person(&signed, &signed.reader, &["reader"], at)
    {
        report.add(layout::STATEMENT, why("its signature is refused", &error));
    }
    let manifest = files.get(layout::MANIFEST).map(|bytes| sha256(bytes));
    if manifest.is_none_or(|digest| signed.manifest != digest.as_bytes()) {
        report.add(
            layout::MANIFEST,
            "it is not the manifest that the reader signed",
        );
    }
    if signed.tenant != anchors.current().tenant().as_str() {
        report.add(layout::STATEMENT, "it is another tenant's");
    }
    Some(signed)
}

/// What people read follows from the evidence, and nothing else is there.
fn derived(
    files: &BTreeMap<String, Vec<u8>>,
    production: &crate::Production,
    opened: &[Opened],
    report: &mut Report,
) {
    let expected = match crate::write::files(production, opened) {
        Ok(expected) => expected,
        Err(problem) => return report.add("evidence", problem),
    };
    for (path, bytes) in &expected {
        match files.get(path) {
            None => report.add(path, "it is missing"),
            Some(found) if found != bytes => {
                report.add(path, "it is not what follows from the evidence");
            }
            Some(_) => {}
        }
    }
    for path in files.keys() {
        let own = path == layout::MANIFEST || path == layout::STATEMENT;
        if !own && !expected.contains_key(path) {
            report.add(path, "no such file belongs to this production");
        }
    }
}
