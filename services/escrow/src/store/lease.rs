//! The lease: which process writes.

use greffe_types::TenantId;
use sqlx::{SqliteConnection, SqliteExecutor};

use super::{Scope, uint};

/// Another process has taken the lease: this one may write no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another process has taken this node's database over")]
pub struct Fenced;

/// Takes the lease: every process that held it before is fenced off from now on.
pub async fn take(conn: &mut SqliteConnection, tenant: &TenantId) -> sqlx::Result<Scope> {
    let fence: i64 = sqlx::query_scalar(
        "INSERT INTO lease (tenant, fence) VALUES ($1, 1)
         ON CONFLICT (tenant) DO UPDATE SET fence = lease.fence + 1 RETURNING fence",
    )
    .bind(tenant.as_str())
    .fetch_one(conn)
    .await?;
    Ok(Scope {
        tenant: tenant.clone(),
        fence: uint(fence),
    })
}

/// Refuses unless this process still holds the lease: the first statement of every transaction that writes.
pub async fn check(conn: impl SqliteExecutor<'_>, scope: &Scope) -> sqlx::Result<()> {
    let fence: Option<i64> = sqlx::query_scalar("SELECT fence FROM lease WHERE tenant = $1")
        .bind(scope.tenant())
        .fetch_optional(conn)
        .await?;
    if fence.map(uint) == Some(scope.fence) {
        Ok(())
    } else {
        Err(sqlx::Error::Decode(Box::new(Fenced)))
    }
}
