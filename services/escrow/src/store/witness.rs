//! The witness's state.

use super::Scope;
use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Executor};

/// Reads it; none when the node was never enrolled, or has lost it.
pub async fn get(conn: impl Executor<'_>, scope: &Scope) -> sqlx::Result<Option<Vec<u8>>> {
    sql::query_scalar("SELECT state FROM witness WHERE tenant = $1")
        .bind(scope.tenant())
        .fetch_optional(conn)
        .await
}

/// Replaces it.
pub async fn set(conn: &mut Connection, scope: &Scope, state: &[u8]) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO witness (tenant, state, fence) VALUES ($1, $2, $3)
         ON CONFLICT (tenant) DO UPDATE SET state = excluded.state, fence = excluded.fence",
    )
    .bind(scope.tenant())
    .bind(state)
    .bind(scope.fence())
    .execute(conn)
    .await?;
    Ok(())
}
