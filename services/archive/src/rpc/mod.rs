//! What the relay calls. What people call is in [`crate::people`].

mod ingest;

pub use ingest::IngestRpc;
