//! What people and programs read, made from the evidence: the same evidence gives the same bytes, always.

mod custody;
mod eml;
mod html;
mod lines;

use std::collections::BTreeMap;

use greffe_types::{ConversationId, Digest, to_hex};

use crate::evidence::Production;
use crate::history::Histories;
use crate::layout;
use crate::manifest::Version;
use crate::opened::Opened;

/// The description of every file, by version.
const FORMATS: [&str; 2] = [
    include_str!("../format-v1.md"),
    include_str!("../format.md"),
];

/// The first version that can show every one of the records.
pub(crate) fn version(records: &[Opened]) -> Version {
    if records.iter().all(|record| record.kind().is_message()) {
        Version::V1
    } else {
        Version::V2
    }
}

/// Every file that follows from the evidence, by path.
pub(crate) fn all(
    production: &Production,
    records: &[Opened],
) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut files = BTreeMap::new();
    let format = match version(records) {
        Version::V1 => FORMATS[0],
        Version::V2 => FORMATS[1],
    };
    let history = Histories::new(production, records)?;
    files.insert(layout::FORMAT.to_owned(), format.as_bytes().to_vec());
    files.insert(
        layout::INDEX.to_owned(),
        html::index(production, records, &history)?.into_bytes(),
    );
    files.insert(layout::MESSAGES.to_owned(), lines::all(records, &history)?);
    files.insert(
        layout::CUSTODY.to_owned(),
        custody::all(production, records)?,
    );
    for (number, record) in (1..).zip(records) {
        files.insert(layout::eml(number), eml::message(number, record, &history)?);
        for (index, bytes) in record.attachments.iter().enumerate() {
            files.insert(attachment_path(number, record, index), bytes.clone());
        }
    }
    Ok(files)
}

/// Where an attachment of a record is.
pub(crate) fn attachment_path(number: usize, record: &Opened, index: usize) -> String {
    let name = record
        .content
        .attachments
        .get(index)
        .map_or("", |a| a.name.as_str());
    layout::attachment(number, index, name)
}

/// UTC, RFC 3339 with milliseconds; the number itself when no calendar has it.
fn time(millis: u64) -> String {
    i64::try_from(millis)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(
            || millis.to_string(),
            |at| at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
        )
}

fn digest(bytes: &[u8]) -> String {
    Digest::try_from(bytes).map_or_else(|_| to_hex(bytes), |digest| digest.to_string())
}

fn conversation(bytes: &[u8]) -> String {
    ConversationId::try_from(bytes).map_or_else(|_| to_hex(bytes), |id| id.to_string())
}

fn mode(record: &Opened) -> &'static str {
    match record.envelope.header().mode() {
        greffe_envelope::pb::Mode::Private => "private",
        greffe_envelope::pb::Mode::Journaled => "journaled",
        greffe_envelope::pb::Mode::Supervised => "supervised",
        greffe_envelope::pb::Mode::Unspecified => "unspecified",
    }
}

#[cfg(test)]
mod tests;
