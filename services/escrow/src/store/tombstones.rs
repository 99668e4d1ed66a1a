//! Records that were disposed of.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Executor};
use greffe_types::Digest;

use super::{Scope, int};

/// Remembers one for ever.
pub async fn insert(
    conn: &mut Connection,
    scope: &Scope,
    envelope: &Digest,
    log_index: u64,
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO tombstone (tenant, envelope, log_index, fence) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(envelope.as_bytes().as_slice())
    .bind(int(log_index))
    .bind(scope.fence())
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether a record was disposed of.
pub async fn exists(
    conn: impl Executor<'_>,
    scope: &Scope,
    envelope: &Digest,
) -> sqlx::Result<bool> {
    let row: Option<i64> =
        sql::query_scalar("SELECT 1 FROM tombstone WHERE tenant = $1 AND envelope = $2")
            .bind(scope.tenant())
            .bind(envelope.as_bytes().as_slice())
            .fetch_optional(conn)
            .await?;
    Ok(row.is_some())
}
