//! The fence: which archive process writes.

use greffe_types::TenantId;
use sqlx::SqliteConnection;

use super::{Scope, uint};
use crate::error::ArchiveError;

/// Takes over: every process that wrote before is refused from now on.
pub async fn take(conn: &mut SqliteConnection, tenant: &TenantId) -> sqlx::Result<Scope> {
    let epoch: i64 = sqlx::query_scalar(
        "INSERT INTO fences (tenant, epoch) VALUES ($1, 1)
         ON CONFLICT (tenant) DO UPDATE SET epoch = fences.epoch + 1 RETURNING epoch",
    )
    .bind(tenant.as_str())
    .fetch_one(conn)
    .await?;
    Ok(Scope {
        tenant: tenant.clone(),
        fence: uint(epoch),
    })
}

/// Refuses when another process has taken over.
///
/// # Errors
/// [`ArchiveError::Fenced`].
pub async fn check(conn: &mut SqliteConnection, scope: &Scope) -> Result<(), ArchiveError> {
    let epoch: Option<i64> = sqlx::query_scalar("SELECT epoch FROM fences WHERE tenant = $1")
        .bind(scope.tenant())
        .fetch_optional(conn)
        .await?;
    if epoch.map(uint) == Some(scope.fence) {
        Ok(())
    } else {
        Err(ArchiveError::Fenced)
    }
}
