//! From judged entries to what has to be stored for each: objects, wraps, rows, and the signed answer.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use greffe_api::archive as api;
use greffe_envelope::chain::void_digest;
use greffe_envelope::label::sha256;
use greffe_envelope::pb;
use greffe_service_kit::errors::{Reason, ServiceError};
use greffe_types::{ConversationId, DeviceId, Digest, Millis};
use prost::Message as _;
use tonic::Code;

use super::entry::{Entry, Kind, Message};
use super::judge::{Accepted, Court, Known, POLICY_PACK_MISSING, Verdict};
use crate::error::FENCED;
use crate::receipt::ReceiptKey;
use crate::store::conversations::Conversation;
use crate::store::kem_uses::KemUse;
use crate::store::records::{Answered, NewRecord, Proof};

/// Another entry has the number.
pub const SEQUENCE_TAKEN: Reason = Reason::new("SEQUENCE_TAKEN");

/// What the database says of an entry's number.
#[derive(Debug, Clone)]
pub(super) enum Looked {
    /// It was answered before.
    Answered(Box<Answered>),
    /// Not yet.
    New(Known),
}

/// What becomes of an entry.
#[derive(Debug)]
pub(super) enum Outcome {
    /// An answer that needs nothing stored.
    Answer(Box<api::IngestResponse>),
    /// A refusal that ends the stream.
    Refuse(Refusal),
    /// Its number is being stored in this very batch: it is looked at again afterwards.
    Defer,
    /// To be stored, then answered.
    Store(Box<Planned>),
}

/// A refusal, with whom it is about for the log.
#[derive(Debug)]
pub(super) struct Refusal {
    /// For the caller.
    pub(super) error: ServiceError,
    /// The entry.
    pub(super) subject: Digest,
}

/// Everything to store for one number.
#[derive(Debug)]
pub(super) struct Planned {
    /// Its row.
    pub(super) record: NewRecord,
    /// Bytes of its object.
    pub(super) object: Bytes,
    /// Attachments to lock.
    pub(super) attachments: Vec<Digest>,
    /// For the erasable store: wraps and MLS message.
    pub(super) erasable: Option<(Vec<pb::Wrap>, Vec<u8>)>,
    /// ML-KEM ciphertexts to remember.
    pub(super) kem: Vec<KemUse>,
    /// The sender's certificate.
    pub(super) certificate: Option<pb::SignedStatement>,
    /// Who is a member.
    pub(super) members: Vec<(String, DeviceId)>,
    /// The conversation after it.
    pub(super) conversation: Conversation,
}

impl Planned {
    /// The relay's answer, once everything is stored.
    pub(super) fn answer(&self) -> api::IngestResponse {
        api::IngestResponse {
            conversation: self.record.conversation.to_vec(),
            sequence: self.record.sequence,
            receipt: Some(self.record.receipt.clone()),
            void: self.record.void.clone(),
            retry_reason: String::new(),
        }
    }
}

/// Plans a batch, in order; keeps what earlier entries of it change for later ones.
pub(super) struct Planner<'a> {
    /// What entries are judged by.
    pub(super) court: Court<'a>,
    /// Signs.
    pub(super) key: &'a ReceiptKey,
    /// The name it signs under.
    pub(super) signer: &'a str,
    /// Conversations of the batch.
    pub(super) conversations: HashMap<ConversationId, Conversation>,
    /// Highest fencing epoch of the relay seen.
    pub(super) relay_fence: u64,
    /// The next record number.
    pub(super) next_record: u64,
    /// ML-KEM ciphertexts of the batch.
    pub(super) kem: HashSet<KemUse>,
    /// Entries of the batch.
    pub(super) subjects: HashSet<Digest>,
}

impl Planner<'_> {
    /// Decides about one entry.
    pub(super) fn plan(&mut self, entry: Entry, looked: Looked) -> Outcome {
        if entry.fence < self.relay_fence {
            return refuse(
                &entry,
                Code::Aborted,
                FENCED,
                "a newer relay has taken over",
            );
        }
        self.relay_fence = entry.fence;
        let mut known = match looked {
            Looked::Answered(answered) if answered.subject() == entry.subject => {
                return Outcome::Answer(Box::new(api::IngestResponse {
                    conversation: entry.conversation.to_vec(),
                    sequence: entry.sequence,
                    receipt: Some(answered.receipt),
                    void: answered.void,
                    retry_reason: String::new(),
                }));
            }
            Looked::Answered(_) => {
                return refuse(
                    &entry,
                    Code::FailedPrecondition,
                    SEQUENCE_TAKEN,
                    "another entry has this number; a number is never given twice",
                );
            }
            Looked::New(known) => known,
        };
        let conversation = *self
            .conversations
            .entry(entry.conversation)
            .or_insert_with(|| Conversation::start(entry.conversation));
        let next = conversation.chain.sequence + 1;
        if entry.sequence > next {
            return retry(&entry, "SEQUENCE_GAP");
        }
        if entry.sequence < next {
            return Outcome::Defer;
        }
        known.duplicate |= self.subjects.contains(&entry.subject);
        known.kem_used |= known.kem.iter().any(|used| self.kem.contains(used));
        let planned = match self.court.judge(&entry, &known, &conversation) {
            Verdict::Retry(reason) => return retry(&entry, reason),
            Verdict::Void(reason) => match self.court.void_retention(&conversation) {
                Some(retain_until) => self.void(entry, reason, retain_until, &conversation),
                None => return retry(&entry, POLICY_PACK_MISSING),
            },
            Verdict::Archive(accepted) => {
                self.subjects.insert(entry.subject);
                self.kem.extend(known.kem.iter().cloned());
                self.archive(entry, known, &accepted, &conversation)
            }
        };
        self.conversations.insert(
            planned.conversation.chain.conversation,
            planned.conversation,
        );
        self.next_record += 1;
        Outcome::Store(Box::new(planned))
    }

    fn archive(
        &self,
        entry: Entry,
        known: Known,
        accepted: &Accepted,
        before: &Conversation,
    ) -> Planned {
        let disclosed = accepted.disclosure.message();
        let mut record = self.record(&entry, accepted.retain_until);
        record.mode = disclosed.mode;
        record.policy_digest = Some(disclosed.policy_digest.clone());
        let mut planned = Planned {
            record,
            object: Bytes::new(),
            attachments: Vec::new(),
            erasable: None,
            kem: known.kem,
            certificate: None,
            members: entry.members,
            conversation: Conversation {
                disclosure: Some(accepted.disclosure.digest()),
                ..*before
            },
        };
        match entry.kind {
            Kind::Message(message) => planned.take_message(*message),
            Kind::Handshake(handshake) => {
                let sender = planned.members.iter().find(|(_, d)| *d == handshake.sender);
                planned.record.sender = sender.map_or_else(String::new, |(user, _)| user.clone());
                planned.record.kind = pb::EntryKind::Handshake;
                planned.record.record_class = "handshake".to_owned();
                planned.object = handshake.public_message;
            }
            Kind::Malformed(_) => {}
        }
        self.finish(planned, before)
    }

    /// The void that takes a number instead of what was refused.
    fn void(
        &self,
        entry: Entry,
        reason: &str,
        retain_until: Millis,
        before: &Conversation,
    ) -> Planned {
        let void = self.key.sign(
            self.signer,
            pb::Void {
                tenant: self.court.trust.root().tenant().to_string(),
                conversation: entry.conversation.to_vec(),
                sequence: entry.sequence,
                refused_digest: entry.subject.to_vec(),
                reason: reason.to_owned(),
                at: self.court.at.get(),
            },
        );
        tracing::warn!(
            conversation = %entry.conversation, sequence = entry.sequence, subject = %entry.subject, reason,
            "a void takes the number"
        );
        let mut record = self.record(&entry, retain_until);
        record.kind = pb::EntryKind::Void;
        record.record_class = "void".to_owned();
        record.digest = void_digest(&entry.subject, reason);
        record.refused = Some(entry.subject);
        record.void = Some(void.raw().clone());
        let planned = Planned {
            record,
            object: void.into_raw().encode_to_vec().into(),
            attachments: Vec::new(),
            erasable: None,
            kem: Vec::new(),
            certificate: None,
            members: entry.members,
            conversation: *before,
        };
        self.finish(planned, before)
    }

    /// A record with what every kind has; the rest is filled in.
    fn record(&self, entry: &Entry, retain_until: Millis) -> NewRecord {
        NewRecord {
            record: self.next_record,
            conversation: entry.conversation,
            sequence: entry.sequence,
            kind: pb::EntryKind::Message,
            digest: entry.subject,
            refused: None,
            sender: String::new(),
            sent_at: 0,
            archived_at: self.court.at,
            retain_until,
            mode: 0,
            record_class: String::new(),
            policy_digest: None,
            size: 0,
            member_set: entry.member_set,
            content: Digest::ZERO,
            envelope: None,
            certificate: None,
            receipt: pb::SignedStatement::default(),
            void: None,
            proof: Proof::None,
        }
    }

    /// Names the object, extends the chain, signs the receipt.
    fn finish(&self, mut planned: Planned, before: &Conversation) -> Planned {
        let record = &mut planned.record;
        record.content = sha256(&planned.object);
        if record.kind != pb::EntryKind::Message {
            record.size = planned.object.len() as u64;
        }
        let chain = before.chain.next(&record.digest);
        planned.conversation.chain = chain;
        planned.conversation.relay_fence = self.relay_fence;
        let receipt = pb::Receipt {
            tenant: self.court.trust.root().tenant().to_string(),
            conversation: record.conversation.to_vec(),
            sequence: chain.sequence,
            kind: record.kind.into(),
            entry_digest: record.digest.to_vec(),
            previous_head: before.chain.head.to_vec(),
            head: chain.head.to_vec(),
            archived_at: record.archived_at.get(),
            retain_until: record.retain_until.get(),
            bundle_version: self.court.trust.bundle().version(),
        };
        record.receipt = self.key.sign(self.signer, receipt).into_raw();
        planned
    }
}

impl Planned {
    fn take_message(&mut self, message: Message) {
        let header = message.envelope.header().message();
        let attached: u64 = header.attachments.iter().map(|a| a.size).sum();
        self.attachments = header
            .attachments
            .iter()
            .filter_map(|a| Digest::try_from(a.digest.as_slice()).ok())
            .collect();
        let record = &mut self.record;
        record.sender.clone_from(&header.sender_user);
        record.sent_at = header.sent_at;
        record.record_class.clone_from(&header.record_class);
        record.size = attached + message.ciphertext.len() as u64;
        record.certificate = Some(message.cert.digest());
        record.proof = if message.wraps.is_empty() {
            Proof::None
        } else {
            Proof::Unchecked
        };
        record.envelope = Some(message.envelope.into_raw());
        self.certificate = Some(message.cert.into_raw());
        self.object = message.ciphertext;
        self.erasable = Some((message.wraps, message.mls_message));
    }
}

/// Nothing was archived; the relay tries again.
pub(super) fn retry(entry: &Entry, reason: &str) -> Outcome {
    Outcome::Answer(Box::new(retry_response(
        &entry.conversation,
        entry.sequence,
        reason,
    )))
}

/// As an answer.
pub(super) fn retry_response(
    conversation: &ConversationId,
    sequence: u64,
    reason: &str,
) -> api::IngestResponse {
    api::IngestResponse {
        conversation: conversation.to_vec(),
        sequence,
        retry_reason: reason.to_owned(),
        ..Default::default()
    }
}

fn refuse(entry: &Entry, code: Code, reason: Reason, message: &'static str) -> Outcome {
    Outcome::Refuse(Refusal {
        error: ServiceError::new(code, reason, message),
        subject: entry.subject,
    })
}
