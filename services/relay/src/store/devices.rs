//! Device certificates and login challenges.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Executor};
use greffe_types::{DeviceId, Digest, Millis};

use super::{Scope, epoch, int, uint};

/// A certificate as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertRow {
    /// The device.
    pub device: DeviceId,
    /// The user.
    pub user: String,
    /// First valid instant.
    pub not_before: Millis,
    /// First instant no longer valid.
    pub not_after: Millis,
    /// Protobuf of the SignedStatement.
    pub statement: Vec<u8>,
    /// Index of the log's leaf.
    pub log_index: u64,
}

/// Stores a verified, logged certificate; nothing happens when it is there.
pub async fn insert_cert(
    conn: &mut Connection,
    scope: &Scope,
    digest: &Digest,
    row: &CertRow,
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO device_cert
           (tenant, digest, device, user_name, not_before, not_after, statement, log_index, fence)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(digest.as_bytes().as_slice())
    .bind(row.device.as_bytes().as_slice())
    .bind(&row.user)
    .bind(int(row.not_before.get()))
    .bind(int(row.not_after.get()))
    .bind(&row.statement)
    .bind(int(row.log_index))
    .bind(epoch(conn))
    .execute(conn)
    .await?;
    Ok(())
}

/// A certificate's statement and log index.
pub async fn cert(
    conn: impl Executor<'_>,
    scope: &Scope,
    digest: &Digest,
) -> sqlx::Result<Option<(Vec<u8>, u64)>> {
    let row: Option<(Vec<u8>, i64)> = sql::query_as(
        "SELECT statement, log_index FROM device_cert WHERE tenant = $1 AND digest = $2",
    )
    .bind(scope.tenant())
    .bind(digest.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|(statement, log_index)| (statement, uint(log_index))))
}

/// The newest certificate of a device.
pub async fn newest_cert(
    conn: impl Executor<'_>,
    scope: &Scope,
    device: &DeviceId,
) -> sqlx::Result<Option<Vec<u8>>> {
    sql::query_scalar(
        "SELECT statement FROM device_cert WHERE tenant = $1 AND device = $2
         ORDER BY log_index DESC LIMIT 1",
    )
    .bind(scope.tenant())
    .bind(device.as_bytes().as_slice())
    .fetch_optional(conn)
    .await
}

/// The user that a device was first registered for: a device never changes its user.
pub async fn user_of(
    conn: impl Executor<'_>,
    scope: &Scope,
    device: &DeviceId,
) -> sqlx::Result<Option<String>> {
    sql::query_scalar(
        "SELECT user_name FROM device_cert WHERE tenant = $1 AND device = $2
         ORDER BY log_index LIMIT 1",
    )
    .bind(scope.tenant())
    .bind(device.as_bytes().as_slice())
    .fetch_optional(conn)
    .await
}

/// The newest certificate of each device of a user, by device.
pub async fn certs_of_user(
    conn: impl Executor<'_>,
    scope: &Scope,
    user: &str,
) -> sqlx::Result<Vec<Vec<u8>>> {
    sql::query_scalar(
        "SELECT a.statement FROM device_cert a WHERE a.tenant = $1 AND a.user_name = $2
         AND NOT EXISTS (SELECT 1 FROM device_cert b
           WHERE b.tenant = a.tenant AND b.device = a.device AND b.log_index > a.log_index)
         ORDER BY a.device",
    )
    .bind(scope.tenant())
    .bind(user)
    .fetch_all(conn)
    .await
}

/// Every certificate there is.
pub async fn all_certs(conn: impl Executor<'_>, scope: &Scope) -> sqlx::Result<Vec<Vec<u8>>> {
    sql::query_scalar("SELECT statement FROM device_cert WHERE tenant = $1 ORDER BY log_index")
        .bind(scope.tenant())
        .fetch_all(conn)
        .await
}

/// Remembers a challenge.
pub async fn insert_challenge(
    conn: &mut Connection,
    scope: &Scope,
    challenge: &[u8; 32],
    device: &DeviceId,
    expires: Millis,
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO challenge (tenant, challenge, device, expires, fence)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(scope.tenant())
    .bind(challenge.as_slice())
    .bind(device.as_bytes().as_slice())
    .bind(int(expires.get()))
    .bind(epoch(conn))
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes a challenge: true once, when it is this device's and has not run out.
pub async fn take_challenge(
    conn: &mut Connection,
    scope: &Scope,
    challenge: &[u8],
    device: &DeviceId,
    now: Millis,
) -> sqlx::Result<bool> {
    let expires: Option<i64> = sql::query_scalar(
        "DELETE FROM challenge WHERE tenant = $1 AND challenge = $2 AND device = $3
         RETURNING expires",
    )
    .bind(scope.tenant())
    .bind(challenge)
    .bind(device.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    Ok(expires.is_some_and(|expires| now.get() < uint(expires)))
}

/// Forgets challenges that have run out; gives their number.
pub async fn sweep_challenges(
    conn: &mut Connection,
    scope: &Scope,
    now: Millis,
) -> sqlx::Result<u64> {
    let done = sql::query("DELETE FROM challenge WHERE tenant = $1 AND expires <= $2")
        .bind(scope.tenant())
        .bind(int(now.get()))
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}
