//! SQL, one function a query. Functions that write take a connection inside a transaction.

pub mod destructions;
pub mod followed;
pub mod openings;
pub mod reshares;
pub mod shares;
pub mod statements;
pub mod tombstones;
pub mod witness;

use greffe_service_kit::db::sql::Builder;
use greffe_types::{Digest, IdError, TenantId};

/// Whose rows, and which lease epoch writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The tenant.
    pub tenant: TenantId,
    /// Lease epoch of this process.
    pub fence: u64,
}

impl Scope {
    fn tenant(&self) -> &str {
        self.tenant.as_str()
    }

    fn fence(&self) -> i64 {
        int(self.fence)
    }
}

/// A number as SQL keeps it. Sizes and times stay far below 2^63; one above is kept as the highest.
pub(crate) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A number from SQL; a negative one, which nothing writes, reads as 0.
pub(crate) fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Rows that one statement reads or writes at most: each of them is a turn of the database's thread.
const ROWS: usize = 128;

/// `($1, $2, ...)` of digests.
fn push_list<'a>(sql: &mut Builder, digests: impl IntoIterator<Item = &'a Digest>) {
    sql.push_list(
        digests
            .into_iter()
            .map(|digest| digest.as_bytes().as_slice()),
    );
}

fn digest(bytes: &[u8]) -> sqlx::Result<Digest> {
    // A row that does not parse: the database was changed by something else.
    Digest::try_from(bytes).map_err(|error: IdError| sqlx::Error::Decode(Box::new(error)))
}
