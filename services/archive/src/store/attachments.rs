//! Attachments: complete or on their way, named by records or not yet.

use std::collections::HashMap;

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Builder, Executor};
use greffe_types::{ConversationId, Digest, Millis};

use super::{Scope, digest, int, removals, uint};

/// Notes that an upload has begun; false while the object is being removed. One that was complete stays complete and lives on
/// from now.
pub async fn begin(
    conn: &mut Connection,
    scope: &Scope,
    attachment: &Digest,
    size: u64,
    conversation: &ConversationId,
    now: Millis,
) -> sqlx::Result<bool> {
    if removals::under_way(&mut *conn, scope, attachment).await? {
        return Ok(false);
    }
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
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(true)
}

/// Notes that an upload is durable and was read back; false when it was removed meanwhile, or is being so.
pub async fn complete(
    conn: &mut Connection,
    scope: &Scope,
    attachment: &Digest,
    size: u64,
    now: Millis,
) -> sqlx::Result<bool> {
    let done = sql::query(
        "UPDATE attachments SET complete = 1, size = $3, stored_at = $4, fence = $5
         WHERE tenant = $1 AND digest = $2
         AND NOT EXISTS (SELECT 1 FROM removals m WHERE m.tenant = $1 AND m.object = $2)",
    )
    .bind(scope.tenant())
    .bind(attachment.as_bytes().as_slice())
    .bind(int(size))
    .bind(int(now.get()))
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes that an attachment which was complete is not there: it has to be uploaded again.
pub async fn lost(conn: &mut Connection, scope: &Scope, attachment: &Digest) -> sqlx::Result<()> {
    sql::query("UPDATE attachments SET complete = 0, fence = $3 WHERE tenant = $1 AND digest = $2")
        .bind(scope.tenant())
        .bind(attachment.as_bytes().as_slice())
        .bind(int(conn.epoch()))
        .execute(conn)
        .await?;
    Ok(())
}

/// Sizes of complete attachments; none for one that is not there, not complete, or being removed.
pub async fn sizes(
    conn: &mut Connection,
    scope: &Scope,
    attachments: &[Digest],
) -> sqlx::Result<HashMap<Digest, u64>> {
    let mut found = HashMap::new();
    for some in sql::groups(attachments, |_| 0) {
        let mut sql = Builder::new("SELECT digest, size FROM attachments a WHERE tenant = ");
        sql.push_bind(scope.tenant())
            .push(" AND complete = 1 AND digest IN ")
            .push_list(some.iter().map(Digest::as_bytes))
            .push(
                " AND NOT EXISTS (SELECT 1 FROM removals m WHERE m.tenant = a.tenant AND m.object = a.digest)",
            );
        let rows: Vec<(Vec<u8>, i64)> = sql.build_query_as().fetch_all(&mut *conn).await?;
        for (attachment, size) in rows {
            found.insert(digest(&attachment)?, uint(size));
        }
    }
    Ok(found)
}

/// A record that names an attachment at a place of its header.
#[derive(Debug, Clone, Copy)]
pub struct Naming<'a> {
    /// The record.
    pub record: u64,
    /// Place in its header, from 0.
    pub position: u64,
    /// The attachment.
    pub attachment: &'a Digest,
}

/// Notes that records name attachments.
pub async fn name(
    conn: &mut Connection,
    scope: &Scope,
    namings: &[Naming<'_>],
) -> sqlx::Result<()> {
    let fence = int(conn.epoch());
    for some in sql::groups(namings, |_| 0) {
        let mut sql = Builder::new(
            "INSERT INTO record_attachments (tenant, record, position, digest, fence) ",
        );
        sql.push_values(some, |row, naming| {
            row.push_bind(scope.tenant())
                .push_bind(int(naming.record))
                .push_bind(int(naming.position))
                .push_bind(naming.attachment.as_bytes())
                .push_bind(fence);
        });
        sql.build().execute(&mut *conn).await?;
    }
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

/// Attachments after one, in the order of their names, that no record names and whose upload is older than an instant.
pub async fn unnamed_before(
    conn: impl Executor<'_>,
    scope: &Scope,
    before: Millis,
    after: Option<&Digest>,
    limit: u32,
) -> sqlx::Result<Vec<Digest>> {
    let rows: Vec<Vec<u8>> = sql::query_scalar(
        "SELECT digest FROM attachments a WHERE tenant = $1 AND stored_at < $2 AND digest > $3
         AND NOT EXISTS (SELECT 1 FROM record_attachments r WHERE r.tenant = a.tenant AND r.digest = a.digest)
         ORDER BY digest LIMIT $4",
    )
    .bind(scope.tenant())
    .bind(int(before.get()))
    .bind(after.map_or(&[][..], |after| after.as_bytes().as_slice()))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| digest(row)).collect()
}

/// Decides that an attachment is nobody's; false when a record has come to name it, or an upload has begun, since an instant.
pub async fn abandon(
    conn: &mut Connection,
    scope: &Scope,
    attachment: &Digest,
    before: Millis,
) -> sqlx::Result<bool> {
    let unnamed: i64 = sql::query_scalar(
        "SELECT COUNT(*) FROM attachments a WHERE tenant = $1 AND digest = $2 AND stored_at < $3
         AND NOT EXISTS (SELECT 1 FROM record_attachments r WHERE r.tenant = a.tenant AND r.digest = a.digest)",
    )
    .bind(scope.tenant())
    .bind(attachment.as_bytes().as_slice())
    .bind(int(before.get()))
    .fetch_one(&mut *conn)
    .await?;
    if unnamed > 0 {
        removals::decide(conn, scope, attachment).await?;
    }
    Ok(unnamed > 0)
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
