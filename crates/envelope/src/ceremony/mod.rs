//! Distributed generation of a journaling key: the P-256 half as shares, the ML-KEM half from commit and reveal.
//!
//! Three rounds of signed messages, carried by anybody: commitments (broadcast), shares and seed parts (sealed to each
//! node), results (broadcast). Every node echoes what it saw in the first round; a node that tells two stories ends the
//! ceremony. The key's scalar exists nowhere at any time.
//!
//! The P-256 half is the key generation of frost-p256 (Komlo and Goldberg, "FROST: Flexible Round-Optimized Schnorr
//! Threshold Signatures", 2020, figure 1), nothing of which is used to sign. Its packages, as rounds 1 and 2 carry them:
//!
//! ```text
//! front   = 0x00 ‖ be32 CRC-32("FROST-P256-SHA256-v1")
//! round 1 = front ‖ t (one byte) ‖ t compressed points, constant term first ‖ 65 (one byte) ‖ R (33) ‖ z (32)
//!           R = zG - c C_0, c = expand_message_xmd(be256 index ‖ C_0 ‖ R, "FROST-P256-SHA256-v1dkg", 48) mod q    RFC 9380 5.3.1
//! round 2 = front ‖ the polynomial's value at the receiver's index (32)
//! ```

pub(crate) mod conclusion;
pub(crate) mod epoch;
pub(crate) mod error;
mod generation;
pub(crate) mod members;
mod plan;
pub(crate) mod poly;
mod proof;
pub(crate) mod share;

pub use conclusion::Conclusion;
pub use epoch::{EpochError, Holder, ShareHolders};
pub use error::{CeremonyError, Fault};
pub use generation::KeyGeneration;
pub use members::{Member, Members, NodeIdentity};
pub use plan::Plan;
pub use poly::PointBytes;
pub use proof::{ShareProofError, prove_share, prove_with_salt, verify_share_proof};
pub use share::{NodeShare, ShareError, ShareInfo, key_id};
