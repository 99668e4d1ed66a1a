//! The archive over mutual TLS, with a log in memory and a clock set by hand.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::too_many_lines
)]

mod attachments;
mod batches;
mod buckets;
mod detached;
mod ingest;
mod ingest_refusals;
mod key_unused;
mod log;
mod months;
mod people;
mod people_acts;
mod people_disposition;
mod people_orders;
mod people_reads;
mod receipts;
mod replicas;
mod searches;
mod shred;
mod support;
mod world;
