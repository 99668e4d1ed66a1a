//! Completeness: the archive's signed ranges show where each record stands, and that no number is missing.

use std::collections::BTreeMap;

use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::verify_range;
use greffe_types::{ConversationId, Digest};
use prost::Message as _;

use super::Report;
use super::bundles::Anchors;
use crate::evidence::Production;
use crate::layout;
use crate::opened::{Opened, why};

/// Clocks of archive and log may differ by this much: ten minutes.
const SKEW_MS: u64 = 600_000;

type Ranges = BTreeMap<Vec<u8>, Vec<Signed<pb::RangeStatement>>>;

/// Each conversation of a record is covered from its first number to its last, and the record is where it says.
pub(super) fn verify(
    production: &Production,
    records: &[Opened],
    anchors: &Anchors,
    report: &mut Report,
) {
    let released_at = released_at(production);
    let mut ranges = Ranges::new();
    for raw in &production.ranges {
        match Signed::<pb::RangeStatement>::decode(raw.clone()) {
            Ok(range) => {
                let path = path(&range);
                let signed = anchors
                    .newest_first()
                    .any(|bundle| verify_range(&range, bundle).is_ok());
                if !signed {
                    let error = verify_range(&range, anchors.current()).map(drop);
                    let problem = error
                        .err()
                        .map_or_else(String::new, |e| why("it is refused", &e));
                    report.add(path, problem);
                }
                ranges
                    .entry(range.conversation.clone())
                    .or_default()
                    .push(range);
            }
            Err(error) => report.add("evidence/ranges", why("a range is refused", &error)),
        }
    }
    for (conversation, ranges) in &mut ranges {
        ranges.sort_by_key(|range| range.first);
        if let Err(problem) = covers(ranges).and_then(|()| recent(ranges, released_at)) {
            report.add(format!("conversation {}", name(conversation)), problem);
        }
        if !records
            .iter()
            .any(|r| r.receipt.conversation == *conversation)
        {
            report.add(
                format!("conversation {}", name(conversation)),
                "a range of it is here, but no record",
            );
        }
    }
    for (number, record) in (1..).zip(records) {
        if !stands(record, ranges.get(&record.receipt.conversation)) {
            report.add(
                format!("record {number}"),
                "range: no signed range has it at its number",
            );
        }
    }
}

/// From 1 to the end of the conversation, each range going on where the one before ended.
fn covers(ranges: &[Signed<pb::RangeStatement>]) -> Result<(), String> {
    let (mut next, mut head) = (1, Digest::ZERO.to_vec());
    for range in ranges {
        if range.first != next || range.previous_head != head {
            return Err(format!("the ranges leave out number {next}"));
        }
        next = range.last + 1;
        head.clone_from(&range.head);
    }
    match ranges.last() {
        Some(last) if last.complete => Ok(()),
        _ => Err("the ranges do not reach the end of the conversation".to_owned()),
    }
}

/// The end that the ranges reach is the conversation's end no earlier than the order: a statement from before says nothing of
/// what came since.
fn recent(ranges: &[Signed<pb::RangeStatement>], released_at: u64) -> Result<(), String> {
    match ranges.last() {
        Some(last) if last.at.saturating_add(SKEW_MS) < released_at => {
            Err("the ranges are older than the order: more may have been said since".to_owned())
        }
        _ => Ok(()),
    }
}

/// When the order was logged; a leaf that cannot be read is named elsewhere.
fn released_at(production: &Production) -> u64 {
    pb::LogEntry::decode(production.order_proof.leaf.as_slice()).map_or(0, |entry| entry.at)
}

fn stands(record: &Opened, ranges: Option<&Vec<Signed<pb::RangeStatement>>>) -> bool {
    let sequence = record.receipt.sequence;
    let entry = ranges.into_iter().flatten().find_map(|range| {
        let index = usize::try_from(sequence.checked_sub(range.first)?).ok()?;
        range.entries.get(index)
    });
    entry.is_some_and(|entry| {
        entry.kind() == pb::EntryKind::Message
            && entry.digest == record.envelope.digest().as_bytes()
    })
}

fn path(range: &pb::RangeStatement) -> String {
    layout::range(&name(&range.conversation), range.first)
}

fn name(conversation: &[u8]) -> String {
    ConversationId::try_from(conversation)
        .map_or_else(|_| "of a malformed id".to_owned(), |id| id.to_string())
}
