//! Shares that were destroyed: what the log is told of them.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Executor};
use greffe_types::Digest;

use super::{Scope, digest, int};

/// Keeps the node's word on a share that is destroyed in the same transaction.
pub async fn insert(
    conn: &mut Connection,
    scope: &Scope,
    key_id: &Digest,
    share_epoch: &Digest,
    statement: &[u8],
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO destruction (tenant, key_id, share_epoch, statement, fence) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(key_id.as_bytes().as_slice())
    .bind(share_epoch.as_bytes().as_slice())
    .bind(statement)
    .bind(scope.fence())
    .execute(conn)
    .await?;
    Ok(())
}

/// Those that the log is not known to have: key, share epoch, statement.
pub async fn unlogged(
    conn: impl Executor<'_>,
    scope: &Scope,
) -> sqlx::Result<Vec<(Digest, Digest, Vec<u8>)>> {
    let rows: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> = sql::query_as(
        "SELECT key_id, share_epoch, statement FROM destruction WHERE tenant = $1 AND log_index IS NULL",
    )
    .bind(scope.tenant())
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(key_id, epoch, statement)| Ok((digest(&key_id)?, digest(&epoch)?, statement)))
        .collect()
}

/// The log has one.
pub async fn logged(
    conn: &mut Connection,
    scope: &Scope,
    key_id: &Digest,
    share_epoch: &Digest,
    log_index: u64,
) -> sqlx::Result<()> {
    sql::query(
        "UPDATE destruction SET log_index = $4, fence = $5
         WHERE tenant = $1 AND key_id = $2 AND share_epoch = $3 AND log_index IS NULL",
    )
    .bind(scope.tenant())
    .bind(key_id.as_bytes().as_slice())
    .bind(share_epoch.as_bytes().as_slice())
    .bind(int(log_index))
    .bind(scope.fence())
    .execute(conn)
    .await?;
    Ok(())
}
