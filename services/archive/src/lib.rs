//! The archive: records in write-once storage, their retention, holds, search, orders and disposition.
//!
//! Called by the relay (ingest) and by people (auditors, records managers, legal, approvers, readers). It sees headers,
//! ciphertext and wraps; it must never see content, a content key or a share of a journaling key.
//!
//! Invariants: a receipt is signed only for what is durable and was read back; a conversation's numbers are dense and
//! chained; a wrap's ML-KEM ciphertext is accepted once, for ever; an object is never overwritten, and never removed before
//! its lock has run out.

pub mod objects;
