//! Who read what: the archive's account of reads, each proved by the log.

use std::collections::BTreeSet;

use futures::{StreamExt as _, TryStreamExt as _};
use greffe_api::archive as api;
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::read::{READ_SALT, read_subject};
use greffe_types::Millis;

use super::{Page, People};
use crate::error::{ClientError, Result};
use crate::log::Included;

/// Proofs asked for at the same time.
const AT_ONCE: usize = 16;

/// A read, or a refusal to read, as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvedRead {
    /// Index of the entry.
    pub index: u64,
    /// When it was logged.
    pub at: Millis,
    /// Who read: the person's name; of a refusal, the caller.
    pub person: String,
    /// "search", "get", "range" or "fetch"; of a refusal, the call.
    pub action: String,
    /// Why it was refused; none for a read.
    pub refused: Option<String>,
    /// Records returned.
    pub count: u64,
    /// What was read or asked for: a query, an envelope's digest, a conversation, an order.
    pub subject: Vec<u8>,
}

impl People {
    /// A page of what people read and were refused to read. Each entry is proved to be in the log, and what was read to be what
    /// the entry commits to.
    ///
    /// # Errors
    /// When the log does not bear the archive's account out.
    pub async fn reads(&self, page_size: u32, page: Option<String>) -> Result<Page<ProvedRead>> {
        let archive = self.archive()?;
        let token = page.unwrap_or_default();
        let request = api::ListReadsRequest {
            page_size,
            page_token: token.clone(),
        };
        let answer = self.unary("ListReads", request, |request| {
            let mut archive = archive.clone();
            async move { archive.list_reads(request).await }
        });
        let answer = answer.await?;
        let indices: BTreeSet<u64> = answer.reads.iter().map(|read| read.log_index).collect();
        if indices.len() != answer.reads.len() {
            return Err(ClientError::Answer("a read given twice"));
        }
        if !token.is_empty() && answer.next_page_token == token {
            return Err(ClientError::Answer("a page that goes on at itself"));
        }
        let needed = answer.reads.iter().map(|read| read.log_index).max();
        let state = self.client.trust()?;
        let log = self.client.log();
        let size = needed.map_or(0, |index| index.saturating_add(1));
        let checkpoint = log.checkpoint(state.bundle(), size).await?;
        let proofs = futures::stream::iter(&answer.reads)
            .map(|read| log.included("read", &checkpoint, read.log_index))
            .buffered(AT_ONCE);
        let proofs: Vec<Included> = proofs.try_collect().await?;
        let reads = answer.reads.iter().zip(&proofs);
        let reads = reads.map(|(read, proof)| proved(read, &proof.leaf, &proof.entry));
        Ok(Page::new(
            reads.collect::<Result<_>>()?,
            answer.next_page_token,
        ))
    }
}

/// A read, held against its leaf as the log has it.
fn proved(read: &api::Read, leaf: &[u8], entry: &pb::LogEntry) -> Result<ProvedRead> {
    if read.leaf != leaf {
        return Err(ClientError::Answer("a read that the log has otherwise"));
    }
    let salt: [u8; READ_SALT] = read
        .salt
        .as_slice()
        .try_into()
        .map_err(|_| ClientError::Answer("a read's salt of another length than 32"))?;
    let (person, action, refused, count, committed) = match &entry.event {
        Some(Event::Access(access)) => (
            &access.person,
            &access.action,
            None,
            access.count,
            &access.subject,
        ),
        Some(Event::Refusal(refusal)) => (
            &refusal.caller,
            &refusal.operation,
            Some(refusal.reason.clone()),
            0,
            &refusal.subject,
        ),
        _ => return Err(ClientError::Answer("a read that is none in the log")),
    };
    if read_subject(&salt, &read.subject).as_bytes() != committed.as_slice() {
        return Err(ClientError::Answer(
            "a read of something else than the log commits to",
        ));
    }
    Ok(ProvedRead {
        index: read.log_index,
        at: Millis::new(entry.at),
        person: person.clone(),
        action: action.clone(),
        refused,
        count,
        subject: read.subject.clone(),
    })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    /// An entry, and a read of "what" that says to be it.
    fn read(event: Event) -> (api::Read, pb::LogEntry) {
        let entry = pb::LogEntry {
            event: Some(event),
            ..Default::default()
        };
        let read = api::Read {
            log_index: 7,
            leaf: entry.encode_to_vec(),
            subject: b"what".to_vec(),
            salt: vec![1; 32],
        };
        (read, entry)
    }

    fn hidden() -> Vec<u8> {
        read_subject(&[1; 32], b"what").to_vec()
    }

    #[test]
    fn the_archives_account_has_to_be_the_logs() {
        let (honest, entry) = read(Event::Access(pb::Access {
            person: "ann".into(),
            action: "get".into(),
            count: 1,
            subject: hidden(),
        }));
        let shown = proved(&honest, &honest.leaf, &entry).unwrap();
        assert_eq!((shown.person.as_str(), shown.count), ("ann", 1));
        assert_eq!(
            (shown.subject.as_slice(), shown.refused),
            (&b"what"[..], None)
        );
        let changes: [fn(&mut api::Read); 4] = [
            |read| read.subject[0] ^= 1,
            |read| read.salt[0] ^= 1,
            |read| read.salt.truncate(31),
            |read| read.leaf[0] ^= 1,
        ];
        for change in changes {
            let mut read = honest.clone();
            change(&mut read);
            assert!(proved(&read, &honest.leaf, &entry).is_err());
        }
        let (other, entry) = read(Event::SealedOrder(vec![1; 32]));
        assert!(proved(&other, &other.leaf, &entry).is_err());
    }

    #[test]
    fn a_refusal_is_shown_with_its_reason() {
        let (refused, entry) = read(Event::Refusal(pb::Refusal {
            reason: "RECORD_UNKNOWN".into(),
            operation: "GetRecord".into(),
            caller: "person:ann".into(),
            subject: hidden(),
        }));
        let shown = proved(&refused, &refused.leaf, &entry).unwrap();
        assert_eq!(shown.refused.as_deref(), Some("RECORD_UNKNOWN"));
        assert_eq!((shown.action.as_str(), shown.count), ("GetRecord", 0));
    }
}
