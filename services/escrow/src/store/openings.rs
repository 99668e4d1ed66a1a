//! What the node answers, counted before it touches a share.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Executor};
use greffe_types::{Digest, Millis};

use super::{Scope, digest, int, uint};

/// One answer's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Opening {
    /// The order.
    pub order: Digest,
    /// Envelope digest.
    pub envelope: Digest,
    /// The journaling key.
    pub key_id: Digest,
    /// The share epoch that answers.
    pub share_epoch: Digest,
}

/// Different records begun under an order.
pub async fn count_of_order(
    conn: impl Executor<'_>,
    scope: &Scope,
    order: &Digest,
) -> sqlx::Result<u64> {
    let count: i64 = sql::query_scalar(
        "SELECT COUNT(DISTINCT envelope) FROM opening WHERE tenant = $1 AND order_digest = $2",
    )
    .bind(scope.tenant())
    .bind(order.as_bytes().as_slice())
    .fetch_one(conn)
    .await?;
    Ok(uint(count))
}

/// Records counted since an instant.
pub async fn count_since(
    conn: impl Executor<'_>,
    scope: &Scope,
    since: Millis,
) -> sqlx::Result<u64> {
    let count: i64 =
        sql::query_scalar("SELECT COUNT(*) FROM opening WHERE tenant = $1 AND opened_at > $2")
            .bind(scope.tenant())
            .bind(int(since.get()))
            .fetch_one(conn)
            .await?;
    Ok(uint(count))
}

/// Whether a record was begun under an order, with any key.
pub async fn is_begun(
    conn: impl Executor<'_>,
    scope: &Scope,
    order: &Digest,
    envelope: &Digest,
) -> sqlx::Result<bool> {
    let row: Option<i64> = sql::query_scalar(
        "SELECT 1 FROM opening WHERE tenant = $1 AND order_digest = $2 AND envelope = $3 LIMIT 1",
    )
    .bind(scope.tenant())
    .bind(order.as_bytes().as_slice())
    .bind(envelope.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// The stored answer: none when it was never begun, an inner none when it was begun and not answered.
pub async fn get(
    conn: impl Executor<'_>,
    scope: &Scope,
    opening: &Opening,
) -> sqlx::Result<Option<Option<Vec<u8>>>> {
    sql::query_scalar(
        "SELECT answer FROM opening WHERE tenant = $1 AND order_digest = $2 AND envelope = $3
           AND key_id = $4 AND share_epoch = $5",
    )
    .bind(scope.tenant())
    .bind(opening.order.as_bytes().as_slice())
    .bind(opening.envelope.as_bytes().as_slice())
    .bind(opening.key_id.as_bytes().as_slice())
    .bind(opening.share_epoch.as_bytes().as_slice())
    .fetch_optional(conn)
    .await
}

/// Counts a record: from now on it is begun.
pub async fn begin(
    conn: &mut Connection,
    scope: &Scope,
    opening: &Opening,
    at: Millis,
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO opening (tenant, order_digest, envelope, key_id, share_epoch, opened_at, fence)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(scope.tenant())
    .bind(opening.order.as_bytes().as_slice())
    .bind(opening.envelope.as_bytes().as_slice())
    .bind(opening.key_id.as_bytes().as_slice())
    .bind(opening.share_epoch.as_bytes().as_slice())
    .bind(int(at.get()))
    .bind(scope.fence())
    .execute(conn)
    .await?;
    Ok(())
}

/// Stores an answer whose entry is in the log, unless one is stored; gives the stored one.
pub async fn complete(
    conn: &mut Connection,
    scope: &Scope,
    opening: &Opening,
    answer: &[u8],
    log_index: u64,
) -> sqlx::Result<Vec<u8>> {
    sql::query(
        "UPDATE opening SET answer = $6, log_index = $7, fence = $8
         WHERE tenant = $1 AND order_digest = $2 AND envelope = $3 AND key_id = $4 AND share_epoch = $5
           AND answer IS NULL",
    )
    .bind(scope.tenant())
    .bind(opening.order.as_bytes().as_slice())
    .bind(opening.envelope.as_bytes().as_slice())
    .bind(opening.key_id.as_bytes().as_slice())
    .bind(opening.share_epoch.as_bytes().as_slice())
    .bind(answer)
    .bind(int(log_index))
    .bind(scope.fence())
    .execute(&mut *conn)
    .await?;
    match get(conn, scope, opening).await? {
        Some(Some(stored)) => Ok(stored),
        _ => Err(sqlx::Error::RowNotFound),
    }
}

/// The envelope that an ML-KEM ciphertext belongs to: the one given when it was never seen.
pub async fn claim_ciphertext(
    conn: &mut Connection,
    scope: &Scope,
    key_id: &Digest,
    ciphertext: &Digest,
    envelope: &Digest,
) -> sqlx::Result<Digest> {
    sql::query(
        "INSERT INTO kem_use (tenant, key_id, ciphertext, envelope, fence) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(key_id.as_bytes().as_slice())
    .bind(ciphertext.as_bytes().as_slice())
    .bind(envelope.as_bytes().as_slice())
    .bind(scope.fence())
    .execute(&mut *conn)
    .await?;
    let owner: Vec<u8> = sql::query_scalar(
        "SELECT envelope FROM kem_use WHERE tenant = $1 AND key_id = $2 AND ciphertext = $3",
    )
    .bind(scope.tenant())
    .bind(key_id.as_bytes().as_slice())
    .bind(ciphertext.as_bytes().as_slice())
    .fetch_one(conn)
    .await?;
    digest(&owner)
}

/// Answers given with a key.
pub async fn count_of_key(
    conn: impl Executor<'_>,
    scope: &Scope,
    key_id: &Digest,
) -> sqlx::Result<u64> {
    let count: i64 = sql::query_scalar(
        "SELECT COUNT(*) FROM opening WHERE tenant = $1 AND key_id = $2 AND answer IS NOT NULL",
    )
    .bind(scope.tenant())
    .bind(key_id.as_bytes().as_slice())
    .fetch_one(conn)
    .await?;
    Ok(uint(count))
}
