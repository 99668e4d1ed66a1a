//! MLS key packages: each is given once, the last resort excepted.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Executor};
use greffe_types::{DeviceId, Digest, Millis};

use super::{Scope, epoch, int, uint};

/// A key package as published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKeyPackage {
    /// MLS reference.
    pub reference: Vec<u8>,
    /// Certificate its credential names.
    pub certificate: Digest,
    /// Its bytes.
    pub package: Vec<u8>,
    /// Whether it is the one that stays.
    pub last_resort: bool,
    /// First instant at which it no longer serves.
    pub not_after: Millis,
}

/// Publishes one; false when its reference was published before, claimed or not.
pub async fn insert(
    conn: &mut Connection,
    scope: &Scope,
    device: &DeviceId,
    row: &NewKeyPackage,
) -> sqlx::Result<bool> {
    let done = sql::query(
        "INSERT INTO key_package
           (tenant, device, reference, certificate, package, last_resort, not_after, fence)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(device.as_bytes().as_slice())
    .bind(&row.reference)
    .bind(row.certificate.as_bytes().as_slice())
    .bind(&row.package)
    .bind(i64::from(row.last_resort))
    .bind(int(row.not_after.get()))
    .bind(epoch(conn))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Retires the last resorts of a device, all but one.
pub async fn retire_last_resorts(
    conn: &mut Connection,
    scope: &Scope,
    device: &DeviceId,
    but: &[u8],
) -> sqlx::Result<()> {
    sql::query(
        "DELETE FROM key_package
         WHERE tenant = $1 AND device = $2 AND last_resort = 1 AND reference <> $3",
    )
    .bind(scope.tenant())
    .bind(device.as_bytes().as_slice())
    .bind(but)
    .execute(conn)
    .await?;
    Ok(())
}

/// Claims the oldest unused key package of a device under one certificate. It is never given again.
pub async fn claim(
    conn: &mut Connection,
    scope: &Scope,
    device: &DeviceId,
    certificate: &Digest,
    by: &DeviceId,
    now: Millis,
) -> sqlx::Result<Option<Vec<u8>>> {
    sql::query_scalar(
        "UPDATE key_package SET claimed_by = $5, claimed_at = $4, fence = $6
         WHERE tenant = $1 AND claimed_at IS NULL AND reference =
           (SELECT reference FROM key_package
            WHERE tenant = $1 AND device = $2 AND certificate = $3 AND last_resort = 0
              AND claimed_at IS NULL AND not_after > $4
            ORDER BY not_after, reference LIMIT 1)
         RETURNING package",
    )
    .bind(scope.tenant())
    .bind(device.as_bytes().as_slice())
    .bind(certificate.as_bytes().as_slice())
    .bind(int(now.get()))
    .bind(by.as_bytes().as_slice())
    .bind(epoch(conn))
    .fetch_optional(conn)
    .await
}

/// The last resort of a device under one certificate.
pub async fn last_resort(
    conn: impl Executor<'_>,
    scope: &Scope,
    device: &DeviceId,
    certificate: &Digest,
    now: Millis,
) -> sqlx::Result<Option<Vec<u8>>> {
    sql::query_scalar(
        "SELECT package FROM key_package
         WHERE tenant = $1 AND device = $2 AND certificate = $3 AND last_resort = 1
           AND not_after > $4 ORDER BY not_after DESC LIMIT 1",
    )
    .bind(scope.tenant())
    .bind(device.as_bytes().as_slice())
    .bind(certificate.as_bytes().as_slice())
    .bind(int(now.get()))
    .fetch_optional(conn)
    .await
}

/// How many unused ones a device has.
pub async fn available(
    conn: impl Executor<'_>,
    scope: &Scope,
    device: &DeviceId,
    now: Millis,
) -> sqlx::Result<u64> {
    let count: i64 = sql::query_scalar(
        "SELECT COUNT(*) FROM key_package WHERE tenant = $1 AND device = $2 AND last_resort = 0
         AND claimed_at IS NULL AND not_after > $3",
    )
    .bind(scope.tenant())
    .bind(device.as_bytes().as_slice())
    .bind(int(now.get()))
    .fetch_one(conn)
    .await?;
    Ok(uint(count))
}

/// Empties claimed packages and removes unclaimed ones whose time is over; references of claimed ones stay.
pub async fn sweep(conn: &mut Connection, scope: &Scope, now: Millis) -> sqlx::Result<u64> {
    let empty: &[u8] = &[];
    let emptied = sql::query(
        "UPDATE key_package SET package = $2, fence = $3
         WHERE tenant = $1 AND claimed_at IS NOT NULL AND package <> $2",
    )
    .bind(scope.tenant())
    .bind(empty)
    .bind(epoch(conn))
    .execute(&mut *conn)
    .await?;
    let removed = sql::query(
        "DELETE FROM key_package WHERE tenant = $1 AND claimed_at IS NULL AND not_after <= $2",
    )
    .bind(scope.tenant())
    .bind(int(now.get()))
    .execute(conn)
    .await?;
    Ok(emptied.rows_affected() + removed.rows_affected())
}
