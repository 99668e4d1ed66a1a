//! The relay: MLS delivery service and journaling gate.
//!
//! It sees routing headers and ciphertext; never content, content keys or journaling shares. A message is acknowledged to
//! its sender and delivered to its recipients only with the archive's receipt.

pub mod session;
pub mod store;
