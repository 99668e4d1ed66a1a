//! Objects that are being removed. The decision and every use of a name are transactions of one database that lets one in after
//! the other, whichever process each is of: a name is used before its removal is decided, and then it is not decided, or after it
//! is over.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Builder};
use greffe_types::Digest;

use super::{Scope, int};

/// Notes that an object is nobody's and will be removed.
pub async fn decide(conn: &mut Connection, scope: &Scope, object: &Digest) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO removals (tenant, object, fence) VALUES ($1, $2, $3) ON CONFLICT (tenant, object) DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(object.as_bytes().as_slice())
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether an object is being removed.
pub async fn under_way(
    conn: &mut Connection,
    scope: &Scope,
    object: &Digest,
) -> sqlx::Result<bool> {
    let found: i64 =
        sql::query_scalar("SELECT COUNT(*) FROM removals WHERE tenant = $1 AND object = $2")
            .bind(scope.tenant())
            .bind(object.as_bytes().as_slice())
            .fetch_one(conn)
            .await?;
    Ok(found > 0)
}

/// Whether any object is being removed.
pub async fn any(conn: &mut Connection, scope: &Scope) -> sqlx::Result<bool> {
    let found: i64 = sql::query_scalar("SELECT COUNT(*) FROM removals WHERE tenant = $1")
        .bind(scope.tenant())
        .fetch_one(conn)
        .await?;
    Ok(found > 0)
}

/// Whether any of these objects is being removed.
pub async fn any_of(
    conn: &mut Connection,
    scope: &Scope,
    objects: &[Digest],
) -> sqlx::Result<bool> {
    for some in sql::groups(objects, |_| 0) {
        let mut sql = Builder::new("SELECT COUNT(*) FROM removals WHERE tenant = ");
        sql.push_bind(scope.tenant())
            .push(" AND object IN ")
            .push_list(some.iter().map(Digest::as_bytes));
        let found: i64 = sql.build_query_scalar().fetch_one(&mut *conn).await?;
        if found > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Notes that a removal is over, or was not to be.
pub async fn over(conn: &mut Connection, scope: &Scope, object: &Digest) -> sqlx::Result<()> {
    sql::query("DELETE FROM removals WHERE tenant = $1 AND object = $2")
        .bind(scope.tenant())
        .bind(object.as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(())
}
