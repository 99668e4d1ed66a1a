//! SQL, one function a query. Every statement runs unchanged on SQLite and PostgreSQL.
//!
//! Functions that write take a connection inside a transaction; functions that only read take any executor.

pub mod access;
pub mod acts;
pub mod attachments;
pub mod batches;
pub mod conversations;
pub mod dispositions;
pub mod followed;
pub mod holds;
pub mod kem_uses;
pub mod keys;
pub mod matters;
pub mod months;
pub mod orders;
pub mod outbox;
pub mod reads;
pub mod records;
pub mod removals;
pub mod search;
pub mod spans;
pub mod verify;
pub mod wraps;

use greffe_service_kit::db::Migrations;
use greffe_types::{ConversationId, Digest, IdError, TenantId};
use sqlx::migrate::Migrator;

/// Migrations of the main database.
pub const MAIN: Migrations = Migrations {
    sqlite: &MAIN_SQLITE,
    postgres: Some(&MAIN_POSTGRES),
};
static MAIN_SQLITE: Migrator = sqlx::migrate!("./migrations/sqlite");
static MAIN_POSTGRES: Migrator = sqlx::migrate!("./migrations/postgres");
/// Migrations of the erasable store.
pub const WRAPS: Migrations = Migrations {
    sqlite: &WRAPS_SQLITE,
    postgres: Some(&WRAPS_POSTGRES),
};
static WRAPS_SQLITE: Migrator = sqlx::migrate!("./migrations/wraps/sqlite");
static WRAPS_POSTGRES: Migrator = sqlx::migrate!("./migrations/wraps/postgres");

/// Whose rows. Each says of what fencing epoch its writer was: that of the lease while the transaction ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The tenant.
    pub tenant: TenantId,
}

impl Scope {
    /// As SQL keeps it.
    pub fn tenant(&self) -> &str {
        self.tenant.as_str()
    }
}

/// A number as SQL keeps it. Numbers, sizes and times stay far below 2^63; one above is kept as the highest.
pub(crate) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A number from SQL; a negative one, which nothing writes, reads as 0.
pub(crate) fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A row that does not parse: the database was changed by something else.
pub(crate) fn damaged(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

pub(crate) fn digest(bytes: &[u8]) -> sqlx::Result<Digest> {
    Digest::try_from(bytes).map_err(|e: IdError| damaged(e))
}

pub(crate) fn conversation(bytes: &[u8]) -> sqlx::Result<ConversationId> {
    ConversationId::try_from(bytes).map_err(|e: IdError| damaged(e))
}

/// Decodes what a row holds as protobuf.
pub(crate) fn decode<M: prost::Message + Default>(bytes: &[u8]) -> sqlx::Result<M> {
    M::decode(bytes).map_err(damaged)
}
