//! SQL, one function a query. Every statement runs unchanged on SQLite and PostgreSQL.
//!
//! Functions that write take a connection inside a transaction; functions that only read take any executor.

pub mod acknowledgements;
pub mod answers;
pub mod attachments;
pub mod commits;
pub mod conversations;
pub mod devices;
pub mod items;
pub mod key_packages;
pub mod members;
pub mod standing;
pub mod statements;

use greffe_service_kit::db::Connection;
use greffe_types::{ConversationId, DeviceId, Digest, IdError, TenantId};

/// Whose rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The tenant.
    pub tenant: TenantId,
}

impl Scope {
    fn tenant(&self) -> &str {
        self.tenant.as_str()
    }
}

/// The `fence` of what a transaction writes: the lease epoch that it runs in.
fn epoch(conn: &Connection) -> i64 {
    int(conn.epoch())
}

/// A number as SQL keeps it. Sequence numbers, sizes and times stay far below 2^63; one above is kept as the highest.
pub(crate) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A number from SQL; a negative one, which nothing writes, reads as 0.
pub(crate) fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A row that does not parse: the database was changed by something else.
fn damaged(error: IdError) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

fn digest(bytes: &[u8]) -> sqlx::Result<Digest> {
    Digest::try_from(bytes).map_err(damaged)
}

fn device(bytes: &[u8]) -> sqlx::Result<DeviceId> {
    DeviceId::try_from(bytes).map_err(damaged)
}

fn conversation(bytes: &[u8]) -> sqlx::Result<ConversationId> {
    ConversationId::try_from(bytes).map_err(damaged)
}

#[cfg(test)]
mod tests;
