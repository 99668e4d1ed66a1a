//! How far the log was followed, and its tree.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Builder, Executor};
use greffe_tlog::Node;
use greffe_types::{Digest, Millis};

use super::{ROWS, Scope, digest, int, uint};

/// How far the log was followed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Followed {
    /// Leaves followed.
    pub size: u64,
    /// Size of the newest checkpoint seen; more than `size` while the node catches up.
    pub head: u64,
    /// The newest checkpoint seen; empty before the first.
    pub checkpoint: Vec<u8>,
    /// When its quorum of witnesses stood by it.
    pub witnessed_at: Millis,
}

/// Reads it; nothing followed when there is no row.
pub async fn get(conn: impl Executor<'_>, scope: &Scope) -> sqlx::Result<Followed> {
    let row: Option<(i64, i64, Vec<u8>, i64)> = sql::query_as(
        "SELECT size, head, checkpoint, witnessed_at FROM followed WHERE tenant = $1",
    )
    .bind(scope.tenant())
    .fetch_optional(conn)
    .await?;
    Ok(
        row.map_or_else(Followed::default, |(size, head, checkpoint, at)| Followed {
            size: uint(size),
            head: uint(head),
            checkpoint,
            witnessed_at: Millis::new(uint(at)),
        }),
    )
}

/// Moves on.
pub async fn set(conn: &mut Connection, scope: &Scope, followed: &Followed) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO followed (tenant, size, head, checkpoint, witnessed_at, fence)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (tenant) DO UPDATE SET size = excluded.size, head = excluded.head,
           checkpoint = excluded.checkpoint, witnessed_at = excluded.witnessed_at, fence = excluded.fence",
    )
    .bind(scope.tenant())
    .bind(int(followed.size))
    .bind(int(followed.head))
    .bind(&followed.checkpoint)
    .bind(int(followed.witnessed_at.get()))
    .bind(scope.fence())
    .execute(conn)
    .await?;
    Ok(())
}

/// Adds hashes that are final.
pub async fn add_nodes(
    conn: &mut Connection,
    scope: &Scope,
    nodes: &[(Node, Digest)],
) -> sqlx::Result<()> {
    for some in nodes.chunks(ROWS) {
        let mut sql = Builder::new("INSERT INTO tree (tenant, level, position, hash, fence) ");
        sql.push_values(some, |row, (node, hash)| {
            row.push_bind(scope.tenant())
                .push_bind(i64::from(node.level))
                .push_bind(int(node.index))
                .push_bind(hash.as_bytes().as_slice())
                .push_bind(scope.fence());
        });
        sql.build().execute(&mut *conn).await?;
    }
    Ok(())
}

/// A hash of the tree.
pub async fn node(
    conn: impl Executor<'_>,
    scope: &Scope,
    node: Node,
) -> sqlx::Result<Option<Digest>> {
    let row: Option<Vec<u8>> = sql::query_scalar(
        "SELECT hash FROM tree WHERE tenant = $1 AND level = $2 AND position = $3",
    )
    .bind(scope.tenant())
    .bind(i64::from(node.level))
    .bind(int(node.index))
    .fetch_optional(conn)
    .await?;
    row.map(|hash| digest(&hash)).transpose()
}
