//! The lease: which replica writes.

use greffe_types::TenantId;
use sqlx::{SqliteConnection, SqliteExecutor};

use super::{Scope, uint};

/// Takes the lease: every replica that held it before is fenced off from now on.
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

/// Whether this replica still holds the lease.
pub async fn holds(conn: impl SqliteExecutor<'_>, scope: &Scope) -> sqlx::Result<bool> {
    let fence: Option<i64> = sqlx::query_scalar("SELECT fence FROM lease WHERE tenant = $1")
        .bind(scope.tenant())
        .fetch_optional(conn)
        .await?;
    Ok(fence.map(uint) == Some(scope.fence))
}
