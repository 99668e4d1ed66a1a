//! Distributed generation of a journaling key: the P-256 half as shares, the ML-KEM half from commit and reveal.
//!
//! Three rounds of signed messages, carried by anybody: commitments (broadcast), shares and seed parts (sealed to each
//! node), results (broadcast). Every node echoes what it saw in the first round; a node that tells two stories ends the
//! ceremony. The key's scalar exists nowhere at any time.

pub(crate) mod conclusion;
pub(crate) mod epoch;
pub(crate) mod error;
mod generation;
pub(crate) mod members;
mod plan;
pub(crate) mod poly;
pub(crate) mod share;

pub use conclusion::Conclusion;
pub use epoch::{EpochError, Holder, ShareHolders};
pub use error::{CeremonyError, Fault};
pub use generation::KeyGeneration;
pub use members::{Member, Members, NodeIdentity};
pub use plan::Plan;
pub use poly::PointBytes;
pub use share::{NodeShare, ShareError, ShareInfo, key_id};
