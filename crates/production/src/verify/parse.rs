//! From files back to evidence, strictly; that every byte was used is seen when the evidence is written out again.

use std::collections::BTreeMap;

use greffe_envelope::pb;
use greffe_envelope::statement::{Signed, Statement, decode_strict};
use greffe_types::{Digest, from_hex};
use prost::Message;
use zeroize::Zeroizing;

use super::Report;
use crate::evidence::{LogProof, Production, Record};
use crate::layout;
use crate::opened::why;

type Files = BTreeMap<String, Vec<u8>>;

/// The whole evidence; none when a part of it cannot be read, which the report then names.
pub(super) fn production(files: &Files, report: &mut Report) -> Option<Production> {
    let before = report.findings.len();
    let mut parts = Parts { files, report };
    let order = parts.message(layout::ORDER);
    let order_proof = parts.proof(layout::ORDER_LEAF, layout::ORDER_PATH);
    let production = Production {
        bundles: parts.all::<pb::TrustBundle>("evidence/bundles/"),
        disclosures: parts.all::<pb::Disclosure>("evidence/disclosures/"),
        ranges: parts.all::<pb::RangeStatement>("evidence/ranges/"),
        order: order.unwrap_or_default(),
        order_proof: order_proof.unwrap_or_default(),
        checkpoint: parts.bytes(layout::CHECKPOINT).unwrap_or_default(),
        records: parts.records(),
    };
    if production.records.is_empty() {
        report.add("evidence/records", "there is no record");
    }
    let unread = report.findings[before..]
        .iter()
        .any(|f| f.item.starts_with("evidence/"));
    (!unread).then_some(production)
}

struct Parts<'a> {
    files: &'a Files,
    report: &'a mut Report,
}

impl Parts<'_> {
    fn bytes(&mut self, path: &str) -> Option<Vec<u8>> {
        let bytes = self.files.get(path).cloned();
        if bytes.is_none() {
            self.report.add(path, "it is missing");
        }
        bytes
    }

    fn message<M: Message + Default>(&mut self, path: &str) -> Option<M> {
        let bytes = self.bytes(path)?;
        match decode_strict("evidence", &bytes) {
            Ok(message) => Some(message),
            Err(error) => {
                self.report.add(path, why("it is refused", &error));
                None
            }
        }
    }

    /// Every statement of one type; what is something else is named by its path here, since later only its bytes are known.
    fn all<M: Statement>(&mut self, prefix: &str) -> Vec<pb::SignedStatement> {
        let paths: Vec<&String> = self
            .files
            .keys()
            .filter(|path| path.starts_with(prefix))
            .collect();
        let mut statements = Vec::with_capacity(paths.len());
        for path in paths {
            let Some(raw) = self.message::<pb::SignedStatement>(path) else {
                continue;
            };
            match Signed::<M>::decode(raw.clone()) {
                Ok(_) => statements.push(raw),
                Err(error) => self.report.add(path, why("it is refused", &error)),
            }
        }
        statements
    }

    /// `index`, `size` when the tree is a batch's, and the hashes.
    fn path(&mut self, path: &str, sized: bool) -> Option<(u64, u64, Vec<Digest>)> {
        let bytes = self.bytes(path)?;
        let parsed = parse_path(&bytes, sized);
        if parsed.is_none() {
            self.report.add(path, "it is not a hash path");
        }
        parsed
    }

    fn proof(&mut self, leaf: &str, path: &str) -> Option<LogProof> {
        let leaf = self.bytes(leaf);
        let (index, _, path) = self.path(path, false)?;
        Some(LogProof {
            index,
            leaf: leaf?,
            path,
        })
    }

    fn records(&mut self) -> Vec<Record> {
        let prefix = "evidence/records/000001/";
        let mut records = Vec::new();
        let mut number = 1;
        // Records are numbered without a gap: the first number that has no file ends them.
        while number == 1 && self.files.keys().any(|p| p.starts_with(prefix))
            || self
                .files
                .contains_key(&layout::record(number, "envelope.pb"))
        {
            if let Some(record) = self.record(number) {
                records.push(record);
            }
            number += 1;
        }
        records
    }

    fn record(&mut self, number: usize) -> Option<Record> {
        let at = |file: &str| layout::record(number, file);
        let envelope = self.message(&at("envelope.pb"));
        let certificate = self.message(&at("certificate.pb"));
        let receipt = self.message(&at("receipt.pb"));
        let batch = self.path(&at("batch-path.txt"), true);
        let log = self.proof(&at("log-leaf.pb"), &at("log-path.txt"));
        let ciphertext = self.bytes(&at("content.bin"));
        let key = self.bytes(&at("content.key"));
        let key = key.and_then(|text| {
            let text = core::str::from_utf8(&text).ok()?.strip_suffix('\n')?;
            from_hex::<32>(text).ok().map(Zeroizing::new)
        });
        if key.is_none() {
            self.report
                .add(at("content.key"), "it is not a key: 64 hexadecimal digits");
        }
        let (batch_index, batch_size, batch_path) = batch?;
        Some(Record {
            envelope: envelope?,
            certificate: certificate?,
            receipt: receipt?,
            batch_index,
            batch_size,
            batch_path,
            log: log?,
            ciphertext: ciphertext?,
            key: key?,
            attachments: self.attachments(number),
        })
    }

    /// In the order of their names, which begin with their places.
    fn attachments(&self, number: usize) -> Vec<Vec<u8>> {
        let prefix = format!("attachments/{number:06}/");
        let mut found: Vec<(usize, &Vec<u8>)> = self
            .files
            .iter()
            .filter_map(|(path, bytes)| {
                let (index, _) = path.strip_prefix(&prefix)?.split_once('-')?;
                Some((index.parse().ok()?, bytes))
            })
            .collect();
        found.sort_by_key(|(index, _)| *index);
        found.into_iter().map(|(_, bytes)| bytes.clone()).collect()
    }
}

fn parse_path(bytes: &[u8], sized: bool) -> Option<(u64, u64, Vec<Digest>)> {
    let text = core::str::from_utf8(bytes).ok()?;
    let mut lines = text.strip_suffix('\n')?.split('\n');
    let number = |line: Option<&str>, word: &str| line?.strip_prefix(word)?.parse::<u64>().ok();
    let index = number(lines.next(), "index ")?;
    let size = if sized {
        number(lines.next(), "size ")?
    } else {
        0
    };
    let hashes = lines.map(|line| line.parse().ok()).collect::<Option<_>>()?;
    Some((index, size, hashes))
}
