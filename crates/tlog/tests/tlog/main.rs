//! The log's arithmetic against published vectors, other implementations, and attacks.

#![allow(clippy::unwrap_used, reason = "tests")]

mod checkpoint;
mod merkle;
mod note;
mod oracle;
mod tile;
mod witness;
