//! The chain of a conversation: what took each number, from the first to the last.
//!
//! ```text
//! head_n = H("chain" || conversation || be64 n || head_{n-1} || entry digest)      head_0 = 0^32, n from 1
//! entry digest: the envelope digest; H("handshake" || LP PublicMessage); H("void" || refused digest || LP reason)
//! ```

use greffe_types::{ConversationId, Digest};

use crate::label::{hash, lp};
use crate::limits::{MAX_RANGE, MAX_REASON};
use crate::pb;

/// Why a step or a range was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A field is malformed.
    #[error("the field {0} of the statement is malformed")]
    Field(&'static str),
    /// The head does not follow from what came before and the entry.
    #[error("the chain does not continue at number {0}")]
    Broken(u64),
    /// Another number than the next one.
    #[error("number {found} where {expected} was next")]
    Gap {
        /// The next number.
        expected: u64,
        /// The number found.
        found: u64,
    },
}

/// The head after number `n`.
pub fn head(conversation: &ConversationId, n: u64, previous: &Digest, entry: &Digest) -> Digest {
    hash(
        "chain",
        &[
            conversation.as_bytes(),
            &n.to_be_bytes(),
            previous.as_bytes(),
            entry.as_bytes(),
        ],
    )
}

/// What a handshake enters the chain as.
pub fn handshake_digest(public_message: &[u8]) -> Digest {
    hash("handshake", &[&lp(public_message)])
}

/// What a void enters the chain as.
pub fn void_digest(refused: &Digest, reason: &str) -> Digest {
    hash("void", &[refused.as_bytes(), &lp(reason.as_bytes())])
}

/// A place in a conversation's chain, advanced receipt by receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainState {
    /// The conversation.
    pub conversation: ConversationId,
    /// Highest number taken in; 0 at the start.
    pub sequence: u64,
    /// Head at that number; zero at the start.
    pub head: Digest,
}

impl ChainState {
    /// Before the first number.
    pub const fn start(conversation: ConversationId) -> Self {
        Self {
            conversation,
            sequence: 0,
            head: Digest::ZERO,
        }
    }

    /// The state after an entry.
    pub fn next(&self, entry: &Digest) -> Self {
        let sequence = self.sequence + 1;
        Self {
            conversation: self.conversation,
            sequence,
            head: head(&self.conversation, sequence, &self.head, entry),
        }
    }

    /// The state after a receipt whose signature was verified.
    ///
    /// # Errors
    /// [`ChainError`] when the receipt does not continue this chain.
    pub fn accept(&self, receipt: &pb::Receipt) -> Result<Self, ChainError> {
        let next = check_receipt(receipt)?;
        if next.conversation != self.conversation {
            return Err(ChainError::Field("conversation"));
        }
        if next.sequence != self.sequence + 1 {
            return Err(ChainError::Gap {
                expected: self.sequence + 1,
                found: next.sequence,
            });
        }
        if receipt.previous_head != self.head.as_bytes() {
            return Err(ChainError::Broken(next.sequence));
        }
        Ok(next)
    }
}

/// Whether a receipt's head follows from its own fields; gives the state it leads to.
///
/// # Errors
/// [`ChainError`].
pub fn check_receipt(receipt: &pb::Receipt) -> Result<ChainState, ChainError> {
    kind(receipt.kind)?;
    if receipt.sequence == 0 {
        return Err(ChainError::Field("sequence"));
    }
    let before = ChainState {
        conversation: conversation(&receipt.conversation)?,
        sequence: receipt.sequence - 1,
        head: digest("previous_head", &receipt.previous_head)?,
    };
    let after = before.next(&digest("entry_digest", &receipt.entry_digest)?);
    let starts = before.sequence == 0 && before.head != Digest::ZERO;
    if starts || receipt.head != after.head.as_bytes() {
        return Err(ChainError::Broken(receipt.sequence));
    }
    Ok(after)
}

/// Recomputes a range: `last - first + 1` entries that lead from `previous_head` to `head`.
///
/// # Errors
/// [`ChainError`].
pub fn check_range(range: &pb::RangeStatement) -> Result<ChainState, ChainError> {
    let count = range
        .last
        .checked_sub(range.first)
        .and_then(|n| n.checked_add(1));
    if range.first == 0
        || count != Some(range.entries.len() as u64)
        || range.entries.len() > MAX_RANGE
    {
        return Err(ChainError::Field("entries"));
    }
    let mut state = ChainState {
        conversation: conversation(&range.conversation)?,
        sequence: range.first - 1,
        head: digest("previous_head", &range.previous_head)?,
    };
    if state.sequence == 0 && state.head != Digest::ZERO {
        return Err(ChainError::Broken(range.first));
    }
    for entry in &range.entries {
        kind(entry.kind)?;
        state = state.next(&digest("digest", &entry.digest)?);
    }
    if range.head != state.head.as_bytes() {
        return Err(ChainError::Broken(range.last));
    }
    Ok(state)
}

/// Checks a void's fields and gives what it enters the chain as.
///
/// # Errors
/// [`ChainError::Field`].
pub fn check_void(void: &pb::Void) -> Result<Digest, ChainError> {
    conversation(&void.conversation)?;
    if void.sequence == 0 {
        return Err(ChainError::Field("sequence"));
    }
    if void.reason.is_empty() || void.reason.len() > MAX_REASON {
        return Err(ChainError::Field("reason"));
    }
    let refused = digest("refused_digest", &void.refused_digest)?;
    Ok(void_digest(&refused, &void.reason))
}

fn kind(kind: i32) -> Result<pb::EntryKind, ChainError> {
    match pb::EntryKind::try_from(kind) {
        Ok(kind) if kind != pb::EntryKind::Unspecified => Ok(kind),
        _ => Err(ChainError::Field("kind")),
    }
}

fn digest(field: &'static str, bytes: &[u8]) -> Result<Digest, ChainError> {
    Digest::try_from(bytes).map_err(|_| ChainError::Field(field))
}

fn conversation(bytes: &[u8]) -> Result<ConversationId, ChainError> {
    ConversationId::try_from(bytes).map_err(|_| ChainError::Field("conversation"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::sha256;

    fn range(count: u64) -> pb::RangeStatement {
        let conversation = ConversationId::new([1; 16]);
        let mut state = ChainState::start(conversation);
        let mut entries = Vec::new();
        for n in 0..count {
            let entry = sha256(&n.to_be_bytes());
            state = state.next(&entry);
            entries.push(pb::RangeEntry {
                kind: pb::EntryKind::Message.into(),
                digest: entry.to_vec(),
            });
        }
        pb::RangeStatement {
            tenant: "acme".into(),
            conversation: conversation.to_vec(),
            first: 1,
            last: count,
            previous_head: vec![0; 32],
            head: state.head.to_vec(),
            entries,
            complete: true,
            at: 1,
        }
    }

    #[test]
    fn a_range_with_anything_missing_or_moved_is_refused() {
        let good = range(5);
        assert_eq!(check_range(&good).unwrap().sequence, 5);
        let refused = |change: fn(&mut pb::RangeStatement)| {
            let mut range = range(5);
            change(&mut range);
            check_range(&range).unwrap_err()
        };
        assert_eq!(
            refused(|r| {
                r.entries.remove(2);
            }),
            ChainError::Field("entries")
        );
        assert_eq!(
            refused(|r| {
                r.entries.remove(2);
                r.last = 4;
            }),
            ChainError::Broken(4)
        );
        assert_eq!(refused(|r| r.entries.swap(1, 2)), ChainError::Broken(5));
        assert_eq!(refused(|r| r.conversation[0] ^= 1), ChainError::Broken(5));
        assert_eq!(
            refused(|r| {
                r.first = 2;
                r.last = 6;
            }),
            ChainError::Broken(6)
        );
        assert_eq!(refused(|r| r.previous_head[0] = 1), ChainError::Broken(1));
        assert_eq!(refused(|r| r.first = 0), ChainError::Field("entries"));
        assert_eq!(
            refused(|r| r.entries[0].kind = 0),
            ChainError::Field("kind")
        );
    }

    #[test]
    fn receipts_continue_the_chain_or_are_refused() {
        let start = ChainState::start(ConversationId::new([1; 16]));
        let receipt = |state: &ChainState, entry: &Digest| {
            let next = state.next(entry);
            pb::Receipt {
                tenant: "acme".into(),
                conversation: state.conversation.to_vec(),
                sequence: next.sequence,
                kind: pb::EntryKind::Message.into(),
                entry_digest: entry.to_vec(),
                previous_head: state.head.to_vec(),
                head: next.head.to_vec(),
                ..Default::default()
            }
        };
        let first = receipt(&start, &sha256(b"1"));
        let one = start.accept(&first).unwrap();
        let two = one.accept(&receipt(&one, &sha256(b"2"))).unwrap();
        assert_eq!(two.sequence, 2);
        assert!(matches!(
            two.accept(&first),
            Err(ChainError::Gap {
                expected: 3,
                found: 1
            })
        ));
        // A fork: another first entry under the same number.
        let other = start.next(&sha256(b"other"));
        let fork = receipt(&other, &sha256(b"2"));
        assert_eq!(one.accept(&fork), Err(ChainError::Broken(2)));
        let mut lied = receipt(&one, &sha256(b"2"));
        lied.entry_digest = sha256(b"3").to_vec();
        assert_eq!(one.accept(&lied), Err(ChainError::Broken(2)));
    }

    #[test]
    fn kinds_of_entries_cannot_be_confused() {
        let refused = sha256(b"x");
        assert_ne!(void_digest(&refused, "a"), void_digest(&refused, "b"));
        assert_ne!(handshake_digest(b"x"), sha256(b"x"));
        let mut void = pb::Void {
            conversation: vec![1; 16],
            sequence: 1,
            refused_digest: refused.to_vec(),
            reason: "duplicate".into(),
            ..Default::default()
        };
        assert_eq!(check_void(&void), Ok(void_digest(&refused, "duplicate")));
        void.reason.clear();
        assert_eq!(check_void(&void), Err(ChainError::Field("reason")));
    }
}
