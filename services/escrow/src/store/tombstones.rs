//! Records that were disposed of.

use greffe_types::Digest;
use sqlx::{SqliteConnection, SqliteExecutor};

use super::{Scope, int};

/// Remembers one for ever.
pub async fn insert(
    conn: &mut SqliteConnection,
    scope: &Scope,
    envelope: &Digest,
    log_index: u64,
) -> sqlx::Result<()> {
    sqlx::query(
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
    conn: impl SqliteExecutor<'_>,
    scope: &Scope,
    envelope: &Digest,
) -> sqlx::Result<bool> {
    let row: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM tombstone WHERE tenant = $1 AND envelope = $2")
            .bind(scope.tenant())
            .bind(envelope.as_bytes().as_slice())
            .fetch_optional(conn)
            .await?;
    Ok(row.is_some())
}
