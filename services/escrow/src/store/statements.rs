//! Statements that the log showed and the node's trust has taken in.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Executor};
use greffe_types::Digest;

use super::{Scope, int, uint};

/// Keeps one; the same index again is the same statement.
pub async fn insert(
    conn: &mut Connection,
    scope: &Scope,
    log_index: u64,
    kind: &str,
    digest: &Digest,
    statement: &[u8],
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO statement (tenant, log_index, kind, digest, statement, fence)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(int(log_index))
    .bind(kind)
    .bind(digest.as_bytes().as_slice())
    .bind(statement)
    .bind(scope.fence())
    .execute(conn)
    .await?;
    Ok(())
}

/// All of them in the order of the log.
pub async fn all(conn: impl Executor<'_>, scope: &Scope) -> sqlx::Result<Vec<(u64, Vec<u8>)>> {
    let rows: Vec<(i64, Vec<u8>)> = sql::query_as(
        "SELECT log_index, statement FROM statement WHERE tenant = $1 ORDER BY log_index",
    )
    .bind(scope.tenant())
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(index, statement)| (uint(index), statement))
        .collect())
}
