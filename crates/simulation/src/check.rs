//! The promises, checked after every step against what the services have on their disks.

mod stores;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::{Signed, decode_strict};
use greffe_types::{ConversationId, Digest};
use sha2::{Digest as _, Sha256};

use crate::clock;
use crate::ledger::{Item, Told};
use stores::{Record, Stores};

/// What was seen so far.
pub(crate) struct Checker {
    base: PathBuf,
    stores: Stores,
    /// Leaves of the log, by hash: they never change.
    leaves: Vec<Digest>,
    /// Orders in the log, by digest.
    released: BTreeSet<Digest>,
    /// Order and record of each opening in the log, with the node.
    opened: BTreeSet<(Digest, Digest, String)>,
    /// Records whose end has begun.
    ending: BTreeSet<Digest>,
    tombstones: BTreeSet<Digest>,
    /// Batches of receipts in the log: the first record of each, and how many there are.
    batches: BTreeMap<u64, u64>,
    /// Holds that stood at the last check.
    held: Vec<[u8; 16]>,
}

impl Checker {
    /// Over the folder of a seed.
    ///
    /// # Errors
    /// When a database cannot be opened.
    pub(crate) fn open(base: &Path) -> Result<Self> {
        Ok(Self {
            base: base.to_owned(),
            stores: Stores::open(base)?,
            leaves: Vec::new(),
            released: BTreeSet::new(),
            opened: BTreeSet::new(),
            ending: BTreeSet::new(),
            tombstones: BTreeSet::new(),
            batches: BTreeMap::new(),
            held: Vec::new(),
        })
    }

    /// Everything that has to hold at any time. Gives the first promise that does not.
    ///
    /// # Errors
    /// When a database cannot be read.
    pub(crate) fn at_any_time(&mut self, told: &Told) -> Result<Option<String>> {
        if let Some(broken) = told.broken.first() {
            return Ok(Some(broken.clone()));
        }
        self.stores.look()?;
        if let Some(broken) = self.log()? {
            return Ok(Some(broken));
        }
        let records = &self.stores.records;
        let broken = archived(told, records)
            .or_else(|| dense(records))
            .or_else(|| opened_as_sent(told))
            .or_else(|| self.kept(told))
            .or_else(|| self.openings());
        Ok(broken)
    }

    /// P7: leaves are dense and stay as they are.
    fn log(&mut self) -> Result<Option<String>> {
        if !self.stores.log_has_changed() {
            return Ok(None);
        }
        let known = self.leaves.len() as u64;
        for (index, leaf) in self.stores.leaves(known.saturating_sub(1))? {
            let hash = Digest::new(Sha256::digest(&leaf).into());
            if index < known {
                if self.leaves.last() != Some(&hash) {
                    return Ok(Some(format!("P7: leaf {index} of the log has changed")));
                }
                continue;
            }
            if index != self.leaves.len() as u64 {
                return Ok(Some(format!(
                    "P7: leaf {} of the log is missing",
                    self.leaves.len()
                )));
            }
            self.leaves.push(hash);
            let entry: pb::LogEntry = decode_strict("log-entry", &leaf)?;
            self.learn(entry.event)?;
        }
        if self.stores.log_size()? != self.leaves.len() as u64 {
            return Ok(Some("P7: the log has become shorter".to_owned()));
        }
        Ok(None)
    }

    fn learn(&mut self, event: Option<Event>) -> Result<()> {
        match event {
            Some(Event::ReleasedOrder(released)) => {
                let order = Signed::<pb::Order>::decode(released.order.unwrap_or_default())?;
                self.released.insert(order.digest());
            }
            Some(Event::Opened(opened)) => {
                let order = Digest::try_from(opened.order.as_slice())?;
                let envelope = Digest::try_from(opened.envelope.as_slice())?;
                self.opened.insert((order, envelope, opened.node));
            }
            Some(Event::Tombstone(tombstone)) => {
                self.tombstones
                    .insert(Digest::try_from(tombstone.envelope.as_slice())?);
            }
            Some(Event::Receipts(batch)) => {
                self.batches.insert(batch.first, batch.count);
            }
            _ => {}
        }
        Ok(())
    }

    /// P6: what was acknowledged is there, and goes only when it may.
    fn kept(&mut self, told: &Told) -> Option<String> {
        let Stores { records, wraps, .. } = &self.stores;
        let standing = |hold: &[u8; 16]| {
            let mut known = told.holds.iter();
            known.any(|one| one.id == *hold && !one.ending)
        };
        for record in records.iter().filter(|record| record.kind == 1) {
            let digest = record.digest;
            if record.disposal == 0 {
                if !wraps.contains(&digest) {
                    return Some(format!("P6: the wraps of {digest} are gone"));
                }
                if let Some(content) = &record.content
                    && !object(&self.base, content).exists()
                {
                    return Some(format!("P6: the content of {digest} is gone"));
                }
                continue;
            }
            if !self.ending.insert(digest) {
                continue;
            }
            if record.retain_until > clock::now().get() {
                return Some(format!("P6: {digest} is disposed of before its time"));
            }
            if !told.disposals.contains_key(&digest) {
                return Some(format!("P6: nobody asked for the end of {digest}"));
            }
            if self.held.iter().any(standing) {
                return Some(format!("P6: {digest} is disposed of under a hold"));
            }
        }
        let holds = told.holds.iter().filter(|hold| !hold.ending);
        self.held = holds.map(|hold| hold.id).collect();
        None
    }

    /// P5: a node has answered only for what the log orders, and after the log had its word on it.
    fn openings(&self) -> Option<String> {
        let nodes = ["escrow-1", "escrow-2", "escrow-3"];
        for (node, openings) in nodes.into_iter().zip(&self.stores.openings) {
            for (order, envelope, answered) in openings {
                if !self.released.contains(order) {
                    return Some(format!("P5: {node} opened {envelope} without an order"));
                }
                let word = (*order, *envelope, node.to_owned());
                if *answered && !self.opened.contains(&word) {
                    return Some(format!(
                        "P5: {node} answered for {envelope} without a trace"
                    ));
                }
            }
        }
        None
    }

    /// What has to hold once everything works again and is quiet.
    ///
    /// # Errors
    /// When a database cannot be read.
    pub(crate) fn at_the_end(&self) -> Result<Option<String>> {
        let records = &self.stores.records;
        let count = records.len() as u64;
        let batched = self.batched();
        if batched < count {
            return Ok(Some(format!(
                "P7: the log has receipts of {batched} records of {count}"
            )));
        }
        let tombstone = |record: &&Record| !self.tombstones.contains(&record.digest);
        let mut ended = records.iter().filter(|record| record.disposal > 0);
        if let Some(record) = ended.find(tombstone) {
            return Ok(Some(format!(
                "P6: {} ended without a tombstone",
                record.digest
            )));
        }
        let live = records.iter().filter(|record| record.disposal == 0);
        for content in live.filter_map(|record| record.content.as_ref()) {
            let bytes = std::fs::read(object(&self.base, content)).unwrap_or_default();
            if Sha256::digest(&bytes).as_slice() != content.as_bytes() {
                return Ok(Some(format!("P6: object {content} is damaged")));
            }
        }
        let waiting = self.stores.relay_waits()?;
        if waiting > 0 {
            return Ok(Some(format!(
                "P6: {waiting} items were accepted and never archived"
            )));
        }
        Ok(None)
    }

    /// The record up to which the log has every receipt.
    fn batched(&self) -> u64 {
        let batches = self.batches.iter();
        batches.fold(0, |until, (first, count)| {
            if *first == until + 1 {
                until + count
            } else {
                until
            }
        })
    }

    /// The highest number of a conversation in the archive.
    pub(crate) fn head(&self, conversation: &ConversationId) -> u64 {
        let records = self.stores.records.iter();
        records
            .filter(|record| record.conversation == *conversation)
            .map(|record| record.sequence)
            .max()
            .unwrap_or(0)
    }

    /// Messages whose time is not over, by the archive.
    ///
    /// # Errors
    /// When a database cannot be read.
    pub(crate) fn messages(&mut self) -> Result<Vec<Digest>> {
        self.stores.look()?;
        let records = self.stores.records.iter();
        Ok(records
            .filter(|record| record.kind == 1)
            .map(|record| record.digest)
            .collect())
    }

    /// What a user has sealed and does not know to be archived.
    ///
    /// # Errors
    /// When a database cannot be read.
    pub(crate) fn unsent(&self, user: &str) -> Result<u64> {
        self.stores.outbox(user)
    }
}

fn object(base: &Path, content: &Digest) -> PathBuf {
    let name = content.to_string();
    let folder = base.join("archive/objects").join(&name[..2]);
    folder.join(&name[2..])
}

/// P2 and P6: what anybody was shown or told is sent is archived, in that place.
fn archived(told: &Told, records: &[Record]) -> Option<String> {
    let known: BTreeSet<Item> = records
        .iter()
        .map(|record| Item {
            conversation: record.conversation,
            sequence: record.sequence,
            envelope: record.digest,
        })
        .collect();
    let shown = told.shown.iter().find(|(_, item, _)| !known.contains(item));
    if let Some((who, item, text)) = shown {
        let place = item.sequence;
        return Some(format!(
            "P2: {who} was shown {text:?} at {place}, which is not archived"
        ));
    }
    let sent = told.sent.iter().find(|(item, _)| !known.contains(item));
    sent.map(|(item, text)| {
        let place = item.sequence;
        format!("P6: {text:?} was acknowledged at {place} and is not archived")
    })
}

/// P7: every conversation's numbers begin with 1 and have no gap, and no message has two.
fn dense(records: &[Record]) -> Option<String> {
    let mut numbers: BTreeMap<ConversationId, BTreeSet<u64>> = BTreeMap::new();
    let mut envelopes = BTreeSet::new();
    for record in records {
        numbers
            .entry(record.conversation)
            .or_default()
            .insert(record.sequence);
        if record.kind != 3 && !envelopes.insert(record.digest) {
            return Some(format!("P7: {} is archived twice", record.digest));
        }
    }
    numbers.into_iter().find_map(|(conversation, numbers)| {
        let dense = numbers.iter().zip(1..).all(|(number, due)| *number == due);
        (!dense).then(|| format!("P7: the numbers of {conversation} have a gap"))
    })
}

/// P4: what a reader opens is what was sent.
fn opened_as_sent(told: &Told) -> Option<String> {
    let shown = told
        .shown
        .iter()
        .map(|(_, item, text)| (item.envelope, text));
    let sent = told.sent.iter().map(|(item, text)| (item.envelope, text));
    let texts: BTreeMap<Digest, &String> = shown.chain(sent).collect();
    let wrong = told
        .opened
        .iter()
        .find(|(envelope, text)| texts.get(envelope).is_some_and(|sent| *sent != text));
    wrong.map(|(envelope, text)| format!("P4: {envelope} was opened as {text:?}"))
}
