//! What became of the messages of a production: edits, retractions and reactions put to them, and what of it the order left out.

use std::collections::{BTreeMap, HashMap};

use greffe_envelope::content::Kind;
use greffe_envelope::history::{Act, History, Message, Said, Why};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_types::Digest;

use crate::evidence::Production;
use crate::opened::Opened;

/// Who sent something: tenant and user, as the device certificate names them.
type Author = (String, String);

/// Number of every message of the conversations, by conversation and envelope digest, as the archive's ranges have them.
type Numbers = HashMap<(Vec<u8>, Digest), u64>;

/// Histories of the records, which are in the order of conversation and number. Records are named by their places, from 0.
pub(crate) struct Histories {
    /// Of each record: what has its conversation.
    conversation: Vec<usize>,
    conversations: Vec<Conversation>,
    verdicts: Vec<Option<Result<(), Why>>>,
    targets: Vec<Option<usize>>,
}

struct Conversation {
    history: History<Author>,
    /// Records by their numbers in the conversation.
    places: BTreeMap<u64, usize>,
}

impl Histories {
    /// Of opened records.
    pub(crate) fn new(production: &Production, records: &[Opened]) -> Result<Self, String> {
        let numbers = if records.iter().any(|record| record.kind().is_act()) {
            numbers(production)?
        } else {
            Numbers::new()
        };
        let by_digest: HashMap<Digest, usize> = (0..)
            .zip(records)
            .map(|(place, record)| (record.envelope.digest(), place))
            .collect();
        let mut all = Self {
            conversation: Vec::with_capacity(records.len()),
            conversations: Vec::new(),
            verdicts: Vec::with_capacity(records.len()),
            targets: Vec::with_capacity(records.len()),
        };
        let mut last = None;
        for (place, record) in records.iter().enumerate() {
            let id = &record.receipt.conversation;
            if last != Some(id) {
                all.conversations.push(Conversation {
                    history: History::default(),
                    places: BTreeMap::new(),
                });
                last = Some(id);
            }
            all.take(place, record, &numbers, &by_digest);
        }
        Ok(all)
    }

    fn take(
        &mut self,
        place: usize,
        record: &Opened,
        numbers: &Numbers,
        by_digest: &HashMap<Digest, usize>,
    ) {
        let index = self.conversations.len() - 1;
        let one = &mut self.conversations[index];
        let sequence = record.receipt.sequence;
        let earlier = |digest: &Digest| {
            let key = (record.receipt.conversation.clone(), *digest);
            numbers.get(&key).is_some_and(|number| *number < sequence)
        };
        let said = Said {
            sequence,
            envelope: record.envelope.digest(),
            author: (
                record.certificate.tenant.clone(),
                record.header().sender_user.clone(),
            ),
            content: &record.content,
        };
        let verdict = one.history.take(&said, earlier);
        one.places.insert(sequence, place);
        self.conversation.push(index);
        self.verdicts.push(verdict);
        let target = Digest::try_from(record.content.target.as_slice()).ok();
        // A record of another conversation is not what it is about, whatever its digest.
        let target = target
            .filter(|_| verdict.is_some())
            .and_then(|digest| by_digest.get(&digest).copied())
            .filter(|target| self.conversation.get(*target) == Some(&index));
        self.targets.push(target);
    }

    /// What became of a message; none of what is no text or mail, and when nothing is about it.
    pub(crate) fn message(&self, place: usize, record: &Opened) -> Option<&Message<Author>> {
        let message = self
            .conversation(place)?
            .history
            .message(&record.envelope.digest())?;
        (!message.is_plain()).then_some(message)
    }

    /// Whether an edit, a retraction or a reaction has effect; none of anything else.
    pub(crate) fn verdict(&self, place: usize) -> Option<Result<(), Why>> {
        self.verdicts.get(place).copied().flatten()
    }

    /// The record that it is about, when the order opened it.
    pub(crate) fn target(&self, place: usize) -> Option<usize> {
        self.targets.get(place).copied().flatten()
    }

    /// The record of a number in the same conversation.
    pub(crate) fn at(&self, place: usize, sequence: u64) -> Option<usize> {
        self.conversation(place)?.places.get(&sequence).copied()
    }

    fn conversation(&self, place: usize) -> Option<&Conversation> {
        self.conversations.get(*self.conversation.get(place)?)
    }
}

/// Whether and why not, in a word.
pub(crate) fn effect(verdict: Result<(), Why>) -> &'static str {
    verdict.map_or_else(Why::reason, |()| "applied")
}

/// An act in a few words: kind, and the reason when it has no effect.
pub(crate) fn named(act: &Act) -> String {
    match act.verdict {
        Ok(()) => act.kind.name().to_owned(),
        Err(why) => format!("{}, no effect: {}", act.kind.name(), why.reason()),
    }
}

/// The number of a kind that is not known.
pub(crate) fn unknown(kind: Kind) -> Option<i32> {
    match kind {
        Kind::Unknown(number) => Some(number),
        _ => None,
    }
}

fn numbers(production: &Production) -> Result<Numbers, String> {
    let mut numbers = Numbers::new();
    for raw in &production.ranges {
        let range = Signed::<pb::RangeStatement>::decode(raw.clone()).map_err(|e| e.to_string())?;
        for (number, entry) in (range.first..).zip(&range.entries) {
            if entry.kind() == pb::EntryKind::Message
                && let Ok(digest) = Digest::try_from(entry.digest.as_slice())
            {
                numbers.insert((range.conversation.clone(), digest), number);
            }
        }
    }
    Ok(numbers)
}
