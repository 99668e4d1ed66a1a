//! What runs beside the calls.

pub mod batches;
pub mod disposition;
pub mod follow;
pub mod months;
pub mod outbox;
pub mod proofs;
pub mod scrub;
pub mod sweep;
pub mod trusted_time;
pub mod wake;
