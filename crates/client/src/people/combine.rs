//! Combining: the nodes' answers for a record, each verified, a quorum of them interpolated, the content opened.

use greffe_envelope::ceremony::ShareHolders;
use greffe_envelope::derive::Cek;
use greffe_envelope::message::open_with_cek;
use greffe_envelope::opening::{AnswerContext, Opener};
use greffe_envelope::pb;
use greffe_envelope::trust::TrustState;
use greffe_envelope::wrap::WrapView;
use greffe_types::Digest;

use super::record::Record;
use crate::error::{ClientError, Result};

/// A record that was opened, with everything that a production needs.
#[derive(Debug, Clone)]
pub struct OpenedRecord {
    /// Envelope digest.
    pub digest: Digest,
    /// The record, verified.
    pub record: Record,
    /// Its wraps, as signed.
    pub wraps: Vec<pb::Wrap>,
    /// Its ciphertext.
    pub ciphertext: Vec<u8>,
    /// What it says; the commitment was checked before anything was decrypted.
    pub content: pb::Content,
    /// Nodes whose answers were combined or would have been.
    pub opened_by: Vec<String>,
    /// Nodes that answered wrongly or refused, and why.
    pub blamed: Vec<(String, String)>,
    pub(super) cek: Cek,
    pub(super) core: Digest,
}

/// A record that was not opened.
#[derive(Debug)]
pub struct NotOpened {
    /// Envelope digest.
    pub digest: Digest,
    /// Why.
    pub error: ClientError,
    /// What each node said.
    pub blamed: Vec<(String, String)>,
}

/// A record on its way: fetched and verified.
pub(super) struct Fetched {
    pub(super) digest: Digest,
    pub(super) record: Record,
    pub(super) wrap: pb::Wrap,
    pub(super) wraps: Vec<pb::Wrap>,
    pub(super) ciphertext: Vec<u8>,
    pub(super) request: pb::OpeningRecord,
}

/// A node's word on a record: its sealed answer, or why not.
pub(super) type Answer = Result<Vec<u8>, String>;

impl OpenedRecord {
    /// The content key: whoever has it opens this one record, and nothing else.
    pub const fn key(&self) -> &Cek {
        &self.cek
    }
}

impl NotOpened {
    pub(super) fn new(digest: Digest, error: ClientError) -> Self {
        Self {
            digest,
            error,
            blamed: Vec::new(),
        }
    }
}

/// Verifies the nodes' answers, combines a quorum and decrypts.
pub(super) fn combine(
    state: &TrustState,
    person: &crate::person::Person,
    order: Digest,
    one: Fetched,
    holders: &ShareHolders,
    given: Vec<(String, Answer)>,
) -> Result<OpenedRecord, NotOpened> {
    let digest = one.digest;
    let (mut opened_by, mut blamed) = (Vec::new(), Vec::new());
    let outcome = (|| {
        let malformed = || ClientError::Answer("a malformed wrap");
        let view = WrapView::parse(&one.wrap.sealed).map_err(|_| malformed())?;
        let key_id = holders.key_id();
        let key = state.key(&key_id).ok_or_else(malformed)?;
        let context = AnswerContext {
            tenant: key.tenant().to_owned(),
            order,
            envelope: digest,
            key_id,
            encapsulation: view.enc().try_into().map_err(|_| malformed())?,
        };
        let mut opener = Opener::new(
            context,
            holders,
            *key.public_key(),
            one.record.envelope.record_digest(),
            view.ct().try_into().map_err(|_| malformed())?,
        );
        for (node, answer) in given {
            let sealed = match answer {
                Ok(sealed) => sealed,
                Err(reason) => {
                    blamed.push((node, reason));
                    continue;
                }
            };
            let node_key = state.bundle().node(&node).map(|node| &node.signing_key);
            let Ok(node_key) = node_key else { continue };
            match opener.add(person.reader()?, &node, node_key, &sealed) {
                Ok(_) => opened_by.push(node),
                Err(error) => blamed.push((node, error.to_string())),
            }
        }
        let opened = opener.open().map_err(|error| {
            ClientError::refused(
                "RECORD_NOT_OPENED",
                format!("{error}: see what each node said"),
            )
        })?;
        for node in opened.wrong_secrets {
            opened_by.retain(|name| *name != node);
            blamed.push((node, "WRONG_SECRET".to_owned()));
        }
        let cek = Cek::from_bytes(*opened.key);
        let tenant = &one.record.cert.tenant;
        Ok(open_with_cek(
            &cek,
            tenant,
            &one.record.envelope,
            &one.ciphertext,
        )?)
    })();
    match outcome {
        Ok(opened) => Ok(OpenedRecord {
            digest,
            record: one.record,
            wraps: one.wraps,
            ciphertext: one.ciphertext,
            content: opened.content,
            opened_by,
            blamed,
            cek: opened.cek,
            core: opened.core,
        }),
        Err(error) => Err(NotOpened {
            digest,
            error,
            blamed,
        }),
    }
}
