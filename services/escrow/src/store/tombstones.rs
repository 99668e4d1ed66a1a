//! Records that were disposed of.

use std::collections::HashSet;

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Builder};
use greffe_types::Digest;

use super::{ROWS, Scope, digest, int, push_list};

/// Remembers one for ever.
pub async fn insert(
    conn: &mut Connection,
    scope: &Scope,
    envelope: &Digest,
    log_index: u64,
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO tombstone (tenant, envelope, log_index, fence) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(envelope.as_bytes().as_slice())
    .bind(int(log_index))
    .bind(scope.fence())
    .execute(conn)
    .await?;
    Ok(())
}

/// Which of these records were disposed of.
pub async fn among(
    conn: &mut Connection,
    scope: &Scope,
    envelopes: &[Digest],
) -> sqlx::Result<HashSet<Digest>> {
    let mut found = HashSet::new();
    for some in envelopes.chunks(ROWS) {
        let mut sql = Builder::new("SELECT envelope FROM tombstone WHERE tenant = ");
        sql.push_bind(scope.tenant()).push(" AND envelope IN ");
        push_list(&mut sql, some);
        let rows: Vec<Vec<u8>> = sql.build_query_scalar().fetch_all(&mut *conn).await?;
        for row in rows {
            found.insert(digest(&row)?);
        }
    }
    Ok(found)
}
