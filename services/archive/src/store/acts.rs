//! Acts of people, by nonce: a second use is a retry.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql;
use greffe_types::{ActId, Digest};

use super::{Scope, int};

/// The statement digest of an act that was done, and the append that answers it.
pub async fn done(
    conn: &mut Connection,
    scope: &Scope,
    nonce: &ActId,
) -> sqlx::Result<Option<(Vec<u8>, Vec<u8>)>> {
    sql::query_as("SELECT digest, append FROM acts WHERE tenant = $1 AND nonce = $2")
        .bind(scope.tenant())
        .bind(nonce.as_bytes().as_slice())
        .fetch_optional(conn)
        .await
}

/// Remembers an act; false when its nonce is taken.
pub async fn remember(
    conn: &mut Connection,
    scope: &Scope,
    nonce: &ActId,
    digest: &Digest,
    append: &[u8],
) -> sqlx::Result<bool> {
    let done = sql::query(
        "INSERT INTO acts (tenant, nonce, digest, append, fence) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (tenant, nonce) DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(nonce.as_bytes().as_slice())
    .bind(digest.as_bytes().as_slice())
    .bind(append)
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}
