//! Identifiers, digests and times that every Greffe crate speaks: std and serde only.
//!
//! Everything here is parsed once at the edge; inside, an invalid value has no representation. Ids are 16 bytes, digests
//! are SHA-256 (32 bytes), times are milliseconds since the Unix epoch in UTC.

mod digest;
mod hex;
mod id;
mod name;
mod time;

pub use digest::Digest;
pub use hex::{HexError, from_hex, to_hex};
pub use id::{ActId, ConversationId, DeviceId, IdError, MatterId, MessageId, OrderId, SessionId};
pub use name::{NameError, TenantId, UserId};
pub use time::{Millis, TimeRange};
