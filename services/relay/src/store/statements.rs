//! Root-signed statements, and how far the log was followed.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Executor};
use greffe_types::Digest;

use super::{Scope, epoch, int, uint};

/// A statement as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementRow {
    /// Its type.
    pub kind: String,
    /// What a later one supersedes.
    pub scope: Vec<u8>,
    /// Version, epoch or serial.
    pub serial: u64,
    /// Protobuf of the SignedStatement.
    pub statement: Vec<u8>,
    /// Index of the log's leaf.
    pub log_index: u64,
}

/// Stores a statement; false when it, or another of its serial, is there.
pub async fn insert(
    conn: &mut Connection,
    scope: &Scope,
    digest: &Digest,
    row: &StatementRow,
) -> sqlx::Result<bool> {
    let done = sql::query(
        "INSERT INTO statement (tenant, digest, kind, scope, serial, statement, log_index, fence)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(digest.as_bytes().as_slice())
    .bind(&row.kind)
    .bind(&row.scope)
    .bind(int(row.serial))
    .bind(&row.statement)
    .bind(int(row.log_index))
    .bind(epoch(conn))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Every statement of the tenant, in the order of the log.
pub async fn all(conn: impl Executor<'_>, scope: &Scope) -> sqlx::Result<Vec<StatementRow>> {
    let rows: Vec<Columns> = sql::query_as(
        "SELECT kind, scope, serial, statement, log_index FROM statement
         WHERE tenant = $1 ORDER BY log_index",
    )
    .bind(scope.tenant())
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(row).collect())
}

type Columns = (String, Vec<u8>, i64, Vec<u8>, i64);

fn row((kind, scope, serial, statement, log_index): Columns) -> StatementRow {
    StatementRow {
        kind,
        scope,
        serial: uint(serial),
        statement,
        log_index: uint(log_index),
    }
}

/// Whether a statement is stored.
pub async fn is_stored(
    conn: impl Executor<'_>,
    scope: &Scope,
    digest: &Digest,
) -> sqlx::Result<bool> {
    let found: Option<i64> =
        sql::query_scalar("SELECT log_index FROM statement WHERE tenant = $1 AND digest = $2")
            .bind(scope.tenant())
            .bind(digest.as_bytes().as_slice())
            .fetch_optional(conn)
            .await?;
    Ok(found.is_some())
}

/// How many statements are stored: whether another replica has taken one in.
pub async fn count(conn: impl Executor<'_>, scope: &Scope) -> sqlx::Result<u64> {
    let count: i64 = sql::query_scalar("SELECT COUNT(*) FROM statement WHERE tenant = $1")
        .bind(scope.tenant())
        .fetch_one(conn)
        .await?;
    Ok(uint(count))
}

/// How far the log was followed: size of the tree, and the hashes of its complete subtrees.
pub async fn followed(
    conn: impl Executor<'_>,
    scope: &Scope,
) -> sqlx::Result<Option<(u64, Vec<u8>)>> {
    let row: Option<(i64, Vec<u8>)> =
        sql::query_as("SELECT next_leaf, frontier FROM follower WHERE tenant = $1")
            .bind(scope.tenant())
            .fetch_optional(conn)
            .await?;
    Ok(row.map(|(next, frontier)| (uint(next), frontier)))
}

/// Remembers it, unless another replica has followed further.
pub async fn set_followed(
    conn: &mut Connection,
    scope: &Scope,
    next: u64,
    frontier: &[u8],
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO follower (tenant, next_leaf, frontier, fence) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant) DO UPDATE
         SET next_leaf = excluded.next_leaf, frontier = excluded.frontier, fence = excluded.fence
         WHERE excluded.next_leaf > follower.next_leaf",
    )
    .bind(scope.tenant())
    .bind(int(next))
    .bind(frontier)
    .bind(epoch(conn))
    .execute(conn)
    .await?;
    Ok(())
}
