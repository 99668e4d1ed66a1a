//! Sealed shares.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Executor};
use greffe_types::{Digest, Millis};

use super::{Scope, digest, int};

/// Keeps a sealed share; the first one of a key and share epoch stays.
pub async fn insert(
    conn: &mut Connection,
    scope: &Scope,
    key_id: &Digest,
    share_epoch: &Digest,
    position: u16,
    sealed: &[u8],
    made_at: Millis,
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO share (tenant, key_id, share_epoch, position, sealed, made_at, fence)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(key_id.as_bytes().as_slice())
    .bind(share_epoch.as_bytes().as_slice())
    .bind(i64::from(position))
    .bind(sealed)
    .bind(int(made_at.get()))
    .bind(scope.fence())
    .execute(conn)
    .await?;
    Ok(())
}

/// The sealed share of a key in a share epoch.
pub async fn get(
    conn: impl Executor<'_>,
    scope: &Scope,
    key_id: &Digest,
    share_epoch: &Digest,
) -> sqlx::Result<Option<Vec<u8>>> {
    sql::query_scalar(
        "SELECT sealed FROM share WHERE tenant = $1 AND key_id = $2 AND share_epoch = $3",
    )
    .bind(scope.tenant())
    .bind(key_id.as_bytes().as_slice())
    .bind(share_epoch.as_bytes().as_slice())
    .fetch_optional(conn)
    .await
}

/// Share epochs of a key that shares are held of.
pub async fn epochs(
    conn: impl Executor<'_>,
    scope: &Scope,
    key_id: &Digest,
) -> sqlx::Result<Vec<Digest>> {
    let rows: Vec<Vec<u8>> = sql::query_scalar(
        "SELECT share_epoch FROM share WHERE tenant = $1 AND key_id = $2 ORDER BY share_epoch",
    )
    .bind(scope.tenant())
    .bind(key_id.as_bytes().as_slice())
    .fetch_all(conn)
    .await?;
    rows.iter().map(|epoch| digest(epoch)).collect()
}

/// Destroys a share: its row is gone with the transaction.
pub async fn delete(
    conn: &mut Connection,
    scope: &Scope,
    key_id: &Digest,
    share_epoch: &Digest,
) -> sqlx::Result<()> {
    sql::query("DELETE FROM share WHERE tenant = $1 AND key_id = $2 AND share_epoch = $3")
        .bind(scope.tenant())
        .bind(key_id.as_bytes().as_slice())
        .bind(share_epoch.as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(())
}

/// Key and share epoch of every share held.
pub async fn list(conn: impl Executor<'_>, scope: &Scope) -> sqlx::Result<Vec<(Digest, Digest)>> {
    let rows: Vec<(Vec<u8>, Vec<u8>)> = sql::query_as(
        "SELECT key_id, share_epoch FROM share WHERE tenant = $1 ORDER BY key_id, made_at",
    )
    .bind(scope.tenant())
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|(key_id, epoch)| Ok((digest(key_id)?, digest(epoch)?)))
        .collect()
}
