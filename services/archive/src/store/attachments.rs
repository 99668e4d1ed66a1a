//! Attachments: complete or on their way, named by records or not yet.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Executor};
use greffe_types::{ConversationId, Digest, Millis};

use super::{Scope, digest, int, uint};

/// Notes that an upload has begun. One that was complete stays complete and lives on from now.
pub async fn begin(
    conn: &mut Connection,
    scope: &Scope,
    attachment: &Digest,
    size: u64,
    conversation: &ConversationId,
    now: Millis,
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO attachments (tenant, digest, size, conversation, stored_at, complete, fence)
         VALUES ($1, $2, $3, $4, $5, 0, $6)
         ON CONFLICT (tenant, digest) DO UPDATE SET stored_at = excluded.stored_at, fence = excluded.fence",
    )
    .bind(scope.tenant())
    .bind(attachment.as_bytes().as_slice())
    .bind(int(size))
    .bind(conversation.as_bytes().as_slice())
    .bind(int(now.get()))
    .bind(scope.fence())
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that an upload is durable and was read back.
pub async fn complete(
    conn: &mut Connection,
    scope: &Scope,
    attachment: &Digest,
    size: u64,
    now: Millis,
) -> sqlx::Result<bool> {
    let done = sql::query(
        "UPDATE attachments SET complete = 1, size = $3, stored_at = $4, fence = $5
         WHERE tenant = $1 AND digest = $2",
    )
    .bind(scope.tenant())
    .bind(attachment.as_bytes().as_slice())
    .bind(int(size))
    .bind(int(now.get()))
    .bind(scope.fence())
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Size of a complete attachment; none when it is not there or not complete.
pub async fn size(
    conn: impl Executor<'_>,
    scope: &Scope,
    attachment: &Digest,
) -> sqlx::Result<Option<u64>> {
    let size: Option<i64> = sql::query_scalar(
        "SELECT size FROM attachments WHERE tenant = $1 AND digest = $2 AND complete = 1",
    )
    .bind(scope.tenant())
    .bind(attachment.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    Ok(size.map(uint))
}

/// Notes that a record names an attachment.
pub async fn name(
    conn: &mut Connection,
    scope: &Scope,
    record: u64,
    position: u64,
    attachment: &Digest,
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO record_attachments (tenant, record, position, digest, fence) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(scope.tenant())
    .bind(int(record))
    .bind(int(position))
    .bind(attachment.as_bytes().as_slice())
    .bind(scope.fence())
    .execute(conn)
    .await?;
    Ok(())
}

/// Attachments of a record, in the order of its header.
pub async fn of_record(
    conn: impl Executor<'_>,
    scope: &Scope,
    record: u64,
) -> sqlx::Result<Vec<Digest>> {
    let rows: Vec<Vec<u8>> = sql::query_scalar(
        "SELECT digest FROM record_attachments WHERE tenant = $1 AND record = $2 ORDER BY position",
    )
    .bind(scope.tenant())
    .bind(int(record))
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| digest(row)).collect()
}

/// Attachments that no record names and whose upload is older than an instant.
pub async fn unnamed_before(
    conn: impl Executor<'_>,
    scope: &Scope,
    before: Millis,
    limit: u32,
) -> sqlx::Result<Vec<Digest>> {
    let rows: Vec<Vec<u8>> = sql::query_scalar(
        "SELECT digest FROM attachments a WHERE tenant = $1 AND stored_at < $2
         AND NOT EXISTS (SELECT 1 FROM record_attachments r WHERE r.tenant = a.tenant AND r.digest = a.digest)
         LIMIT $3",
    )
    .bind(scope.tenant())
    .bind(int(before.get()))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| digest(row)).collect()
}

/// Forgets an attachment that no record names.
pub async fn forget(conn: &mut Connection, scope: &Scope, attachment: &Digest) -> sqlx::Result<()> {
    sql::query("DELETE FROM attachments WHERE tenant = $1 AND digest = $2")
        .bind(scope.tenant())
        .bind(attachment.as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(())
}
