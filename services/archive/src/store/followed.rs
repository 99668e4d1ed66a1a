//! How far the log has been followed, and the statements of it that trust stands on.

use greffe_envelope::pb;
use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Executor};
use greffe_service_kit::follow::FollowState;
use prost::Message as _;

use super::{Scope, decode, int, uint};

/// How far it is; the beginning when nothing was followed.
pub async fn state(conn: impl Executor<'_>, scope: &Scope) -> sqlx::Result<FollowState> {
    let row: Option<(i64, Vec<u8>)> =
        sql::query_as("SELECT size, frontier FROM followed WHERE tenant = $1")
            .bind(scope.tenant())
            .fetch_optional(conn)
            .await?;
    let Some((size, frontier)) = row else {
        return Ok(FollowState::default());
    };
    FollowState::from_parts(uint(size), &frontier)
        .ok_or_else(|| sqlx::Error::Decode("a frontier that does not belong to its size".into()))
}

/// Moves on, never back: replicas follow each by itself, and one may be behind.
pub async fn save_state(
    conn: &mut Connection,
    scope: &Scope,
    state: &FollowState,
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO followed (tenant, size, frontier, fence) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant) DO UPDATE SET size = excluded.size, frontier = excluded.frontier, fence = excluded.fence
         WHERE excluded.size > followed.size",
    )
    .bind(scope.tenant())
    .bind(int(state.size))
    .bind(state.frontier_bytes())
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps a statement that was taken in.
pub async fn keep(
    conn: &mut Connection,
    scope: &Scope,
    log_index: u64,
    statement: &pb::SignedStatement,
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO statements (tenant, log_index, statement, fence) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant, log_index) DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(int(log_index))
    .bind(statement.encode_to_vec())
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(())
}

/// Every statement kept, with its leaf, in the log's order.
pub async fn statements(
    conn: impl Executor<'_>,
    scope: &Scope,
) -> sqlx::Result<Vec<(u64, pb::SignedStatement)>> {
    let rows: Vec<(i64, Vec<u8>)> = sql::query_as(
        "SELECT log_index, statement FROM statements WHERE tenant = $1 ORDER BY log_index",
    )
    .bind(scope.tenant())
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|(index, statement)| Ok((uint(*index), decode(statement)?)))
        .collect()
}
