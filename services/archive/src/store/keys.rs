//! The names of every record, and its month: unique over the tenant and kept for ever. On PostgreSQL, where records are in a
//! partition for each month, what is read by one of its names is looked up here first, so that one partition is read.

use std::collections::HashSet;

use greffe_envelope::pb;
use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Builder, Executor, Row};
use greffe_types::{ConversationId, Digest};

use super::{Scope, digest, int, uint};

/// Which record, and when it was archived: in which month it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The archive's own number.
    pub record: u64,
    /// The archive's clock, in milliseconds.
    pub archived_at: u64,
}

/// For what changes a record of a number, `$2`: which record it is, and the one partition that it is in.
macro_rules! by_record {
    ($head:literal, $tail:literal) => {
        concat!(
            $head,
            " WHERE tenant = $1 AND record = $2 AND archived_at =
               (SELECT k.archived_at FROM record_keys k WHERE k.tenant = $1 AND k.record = $2)",
            $tail
        )
    };
}
pub(super) use by_record;

fn key(row: &Row) -> sqlx::Result<Key> {
    Ok(Key {
        record: uint(row.get("record")?),
        archived_at: uint(row.get("archived_at")?),
    })
}

/// By envelope or handshake digest. Voids have none of their own: they may repeat.
pub async fn by_digest(
    conn: impl Executor<'_>,
    scope: &Scope,
    digest: &Digest,
) -> sqlx::Result<Option<Key>> {
    sql::query(
        "SELECT record, archived_at FROM record_keys WHERE tenant = $1 AND digest = $2 AND kind <> 3",
    )
    .bind(scope.tenant())
    .bind(digest.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?
    .map(|row| key(&row))
    .transpose()
}

/// Which of these envelope or handshake digests a record has.
pub async fn known(
    conn: &mut Connection,
    scope: &Scope,
    digests: &[Digest],
) -> sqlx::Result<HashSet<Digest>> {
    let mut found = HashSet::new();
    for some in sql::groups(digests, |_| 0) {
        let mut sql = Builder::new("SELECT digest FROM record_keys WHERE tenant = ");
        sql.push_bind(scope.tenant())
            .push(" AND kind <> 3 AND digest IN ")
            .push_list(some.iter().map(Digest::as_bytes));
        let rows: Vec<Vec<u8>> = sql.build_query_scalar().fetch_all(&mut *conn).await?;
        for row in rows {
            found.insert(digest(&row)?);
        }
    }
    Ok(found)
}

/// By the archive's own number.
pub async fn by_number(
    conn: impl Executor<'_>,
    scope: &Scope,
    number: u64,
) -> sqlx::Result<Option<Key>> {
    sql::query("SELECT record, archived_at FROM record_keys WHERE tenant = $1 AND record = $2")
        .bind(scope.tenant())
        .bind(int(number))
        .fetch_optional(conn)
        .await?
        .map(|row| key(&row))
        .transpose()
}

/// By a number of a conversation.
pub async fn by_place(
    conn: impl Executor<'_>,
    scope: &Scope,
    conversation: &ConversationId,
    sequence: u64,
) -> sqlx::Result<Option<Key>> {
    sql::query(
        "SELECT record, archived_at FROM record_keys
         WHERE tenant = $1 AND conversation = $2 AND sequence = $3",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(int(sequence))
    .fetch_optional(conn)
    .await?
    .map(|row| key(&row))
    .transpose()
}

/// The highest record number; 0 for none.
pub async fn last(conn: impl Executor<'_>, scope: &Scope) -> sqlx::Result<u64> {
    let last: Option<i64> =
        sql::query_scalar("SELECT MAX(record) FROM record_keys WHERE tenant = $1")
            .bind(scope.tenant())
            .fetch_one(conn)
            .await?;
    Ok(last.map_or(0, uint))
}

/// What the chain took in for a record.
pub async fn digest_of(
    conn: impl Executor<'_>,
    scope: &Scope,
    record: u64,
) -> sqlx::Result<Option<Digest>> {
    let found: Option<Vec<u8>> =
        sql::query_scalar("SELECT digest FROM record_keys WHERE tenant = $1 AND record = $2")
            .bind(scope.tenant())
            .bind(int(record))
            .fetch_optional(conn)
            .await?;
    found.as_deref().map(digest).transpose()
}

/// What took each number of a conversation between two, both included, in order.
pub async fn entries(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &ConversationId,
    (first, last): (u64, u64),
) -> sqlx::Result<Vec<pb::RangeEntry>> {
    let rows: Vec<(i32, Vec<u8>)> = sql::query_as(
        "SELECT kind, digest FROM record_keys
         WHERE tenant = $1 AND conversation = $2 AND sequence >= $3 AND sequence <= $4
         ORDER BY sequence",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(int(first))
    .bind(int(last))
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(kind, digest)| pb::RangeEntry { kind, digest })
        .collect())
}
