//! The erasable store: wraps and the MLS messages that carry seeds. A database of its own.

use greffe_envelope::pb;
use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Executor};
use greffe_types::{Digest, Millis};

use super::{Scope, int};

/// Stores an envelope's wraps and MLS message; false when they were destroyed, after which they never come back. What is
/// there already stays.
pub async fn insert(
    conn: &mut Connection,
    scope: &Scope,
    envelope: &Digest,
    wraps: &[pb::Wrap],
    mls_message: &[u8],
) -> sqlx::Result<bool> {
    if is_destroyed(&mut *conn, scope, envelope).await? {
        return Ok(false);
    }
    for (position, wrap) in wraps.iter().enumerate() {
        sql::query(
            "INSERT INTO wraps (tenant, envelope, position, key_tenant, key_id, sealed, fence)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant, envelope, position) DO NOTHING",
        )
        .bind(scope.tenant())
        .bind(envelope.as_bytes().as_slice())
        .bind(int(position as u64))
        .bind(&wrap.tenant)
        .bind(&wrap.key_id)
        .bind(&wrap.sealed)
        .bind(int(conn.epoch()))
        .execute(&mut *conn)
        .await?;
    }
    sql::query(
        "INSERT INTO mls_messages (tenant, envelope, message, fence) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant, envelope) DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(envelope.as_bytes().as_slice())
    .bind(mls_message)
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(true)
}

/// An envelope's wraps, in its order; none once destroyed.
pub async fn load(
    conn: impl Executor<'_>,
    scope: &Scope,
    envelope: &Digest,
) -> sqlx::Result<Vec<pb::Wrap>> {
    let rows: Vec<(String, Vec<u8>, Vec<u8>)> = sql::query_as(
        "SELECT key_tenant, key_id, sealed FROM wraps WHERE tenant = $1 AND envelope = $2 ORDER BY position",
    )
    .bind(scope.tenant())
    .bind(envelope.as_bytes().as_slice())
    .fetch_all(conn)
    .await?;
    let wrap = |(tenant, key_id, sealed)| pb::Wrap {
        tenant,
        key_id,
        sealed,
    };
    Ok(rows.into_iter().map(wrap).collect())
}

/// Whether any wrap of a journaling key is there. Asked when a key is retired, and at no other time: it reads the whole store.
pub async fn is_used(
    conn: impl Executor<'_>,
    scope: &Scope,
    key_id: &Digest,
) -> sqlx::Result<bool> {
    let found: Option<i64> =
        sql::query_scalar("SELECT 1 FROM wraps WHERE tenant = $1 AND key_id = $2 LIMIT 1")
            .bind(scope.tenant())
            .bind(key_id.as_bytes().as_slice())
            .fetch_optional(conn)
            .await?;
    Ok(found.is_some())
}

/// The MLS message of an envelope; none once destroyed.
pub async fn mls_message(
    conn: impl Executor<'_>,
    scope: &Scope,
    envelope: &Digest,
) -> sqlx::Result<Option<Vec<u8>>> {
    sql::query_scalar("SELECT message FROM mls_messages WHERE tenant = $1 AND envelope = $2")
        .bind(scope.tenant())
        .bind(envelope.as_bytes().as_slice())
        .fetch_optional(conn)
        .await
}

/// Whether an envelope's wraps were destroyed.
pub async fn is_destroyed(
    conn: impl Executor<'_>,
    scope: &Scope,
    envelope: &Digest,
) -> sqlx::Result<bool> {
    let found: i64 =
        sql::query_scalar("SELECT COUNT(*) FROM destroyed WHERE tenant = $1 AND envelope = $2")
            .bind(scope.tenant())
            .bind(envelope.as_bytes().as_slice())
            .fetch_one(conn)
            .await?;
    Ok(found > 0)
}

/// Destroys an envelope's wraps and MLS message: no query finds them again, and they are never stored anew.
/// [`greffe_service_kit::db::Database::scrub_deleted`] says what stays of the bytes, and for how long.
pub async fn destroy(
    conn: &mut Connection,
    scope: &Scope,
    envelope: &Digest,
    at: Millis,
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO destroyed (tenant, envelope, destroyed_at, fence) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant, envelope) DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(envelope.as_bytes().as_slice())
    .bind(int(at.get()))
    .bind(int(conn.epoch()))
    .execute(&mut *conn)
    .await?;
    for sql in [
        "DELETE FROM wraps WHERE tenant = $1 AND envelope = $2",
        "DELETE FROM mls_messages WHERE tenant = $1 AND envelope = $2",
    ] {
        sql::query(sql)
            .bind(scope.tenant())
            .bind(envelope.as_bytes().as_slice())
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}
