//! Orders to open records: their lists, approvals, and where they stand in the log.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Row};
use greffe_types::{Digest, OrderId};

use super::{Scope, int, months, uint};

/// An order as it is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its id.
    pub id: Vec<u8>,
    /// Order of filing.
    pub number: u64,
    /// Order digest.
    pub digest: Vec<u8>,
    /// `SignedStatement` "order".
    pub statement: Vec<u8>,
    /// First instant at which it no longer stands.
    pub expiry: u64,
    /// Id in the outbox, once the approvals suffice.
    pub append: Option<Vec<u8>>,
    /// Salt of its leaf, when sealed.
    pub salt: Option<Vec<u8>>,
    /// Index of its leaf, once there.
    pub log_index: Option<u64>,
}

const SELECT: &str = "SELECT r.id, r.number, r.digest, r.statement, r.expiry, r.append, r.salt, o.log_index
     FROM orders r LEFT JOIN outbox o ON o.tenant = r.tenant AND o.id = r.append WHERE r.tenant = $1";

fn stored(row: &Row) -> sqlx::Result<Stored> {
    Ok(Stored {
        id: row.get("id")?,
        number: uint(row.get("number")?),
        digest: row.get("digest")?,
        statement: row.get("statement")?,
        expiry: uint(row.get("expiry")?),
        append: row.get("append")?,
        salt: row.get("salt")?,
        log_index: row.get::<Option<i64>>("log_index")?.map(uint),
    })
}

/// An order to file.
#[derive(Debug, Clone, Copy)]
pub struct New<'a> {
    /// Its id.
    pub id: OrderId,
    /// Order digest.
    pub digest: Digest,
    /// `SignedStatement` "order".
    pub statement: &'a [u8],
    /// When it is filed.
    pub filed_at: u64,
    /// First instant at which it no longer stands.
    pub expiry: u64,
    /// Its records, sorted.
    pub records: &'a [Digest],
}

/// Files an order and its list; false when its id or digest is taken.
pub async fn file(conn: &mut Connection, scope: &Scope, new: &New<'_>) -> sqlx::Result<bool> {
    let done = sql::query(
        "INSERT INTO orders (tenant, id, number, digest, statement, filed_at, expiry, fence)
         SELECT $1, $2, COALESCE(MAX(number), 0) + 1, $3, $4, $5, $6, $7 FROM orders WHERE tenant = $1
         ON CONFLICT DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(new.id.as_bytes().as_slice())
    .bind(new.digest.as_bytes().as_slice())
    .bind(new.statement)
    .bind(int(new.filed_at))
    .bind(int(new.expiry))
    .bind(int(conn.epoch()))
    .execute(&mut *conn)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    for (position, record) in (0_i64..).zip(new.records) {
        sql::query(
            "INSERT INTO order_records (tenant, id, position, digest, fence) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(scope.tenant())
        .bind(new.id.as_bytes().as_slice())
        .bind(position)
        .bind(record.as_bytes().as_slice())
        .bind(int(conn.epoch()))
        .execute(&mut *conn)
        .await?;
    }
    Ok(true)
}

/// An order by id.
pub async fn by_id(
    conn: &mut Connection,
    scope: &Scope,
    id: &[u8],
) -> sqlx::Result<Option<Stored>> {
    one(conn, scope, "r.id", id).await
}

/// An order by digest.
pub async fn by_digest(
    conn: &mut Connection,
    scope: &Scope,
    digest: &[u8],
) -> sqlx::Result<Option<Stored>> {
    one(conn, scope, "r.digest", digest).await
}

async fn one(
    conn: &mut Connection,
    scope: &Scope,
    column: &'static str,
    value: &[u8],
) -> sqlx::Result<Option<Stored>> {
    let sql = format!("{SELECT} AND {column} = $2");
    sql::query(sqlx::AssertSqlSafe(sql))
        .bind(scope.tenant())
        .bind(value)
        .fetch_optional(conn)
        .await?
        .map(|row| stored(&row))
        .transpose()
}

/// Orders after one, by filing.
pub async fn page(
    conn: &mut Connection,
    scope: &Scope,
    after: u64,
    limit: u32,
) -> sqlx::Result<Vec<Stored>> {
    let sql = format!("{SELECT} AND r.number > $2 ORDER BY r.number LIMIT $3");
    sql::query(sqlx::AssertSqlSafe(sql))
        .bind(scope.tenant())
        .bind(int(after))
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
        .iter()
        .map(stored)
        .collect()
}

/// Digests of an order's records, sorted.
pub async fn records(
    conn: &mut Connection,
    scope: &Scope,
    id: &[u8],
) -> sqlx::Result<Vec<Vec<u8>>> {
    sql::query_scalar(
        "SELECT digest FROM order_records WHERE tenant = $1 AND id = $2 ORDER BY position",
    )
    .bind(scope.tenant())
    .bind(id)
    .fetch_all(conn)
    .await
}

/// Whether a record is one of an order's.
pub async fn names(
    conn: &mut Connection,
    scope: &Scope,
    id: &[u8],
    record: &Digest,
) -> sqlx::Result<bool> {
    let found: i64 = sql::query_scalar(
        "SELECT COUNT(*) FROM order_records WHERE tenant = $1 AND id = $2 AND digest = $3",
    )
    .bind(scope.tenant())
    .bind(id)
    .bind(record.as_bytes().as_slice())
    .fetch_one(conn)
    .await?;
    Ok(found > 0)
}

/// The packs that an order's records are kept by, each once. An error while a month of one of them is detached: its pack may ask
/// for more than the others.
pub async fn packs(conn: &mut Connection, scope: &Scope, id: &[u8]) -> sqlx::Result<Vec<Vec<u8>>> {
    let rows: Vec<(Option<Vec<u8>>, Option<i64>)> = sql::query_as(
        "SELECT DISTINCT r.policy_digest, CASE WHEN r.record IS NULL THEN k.archived_at END AS away
         FROM order_records o
         JOIN record_keys k ON k.tenant = o.tenant AND k.digest = o.digest AND k.kind <> 3
         LEFT JOIN records r ON r.tenant = k.tenant AND r.record = k.record AND r.archived_at = k.archived_at
         WHERE o.tenant = $1 AND o.id = $2",
    )
    .bind(scope.tenant())
    .bind(id)
    .fetch_all(conn)
    .await?;
    if let Some(at) = rows.iter().find_map(|(_, away)| *away) {
        return Err(months::away(uint(at)));
    }
    Ok(rows.into_iter().filter_map(|(pack, _)| pack).collect())
}

/// Statements and signers of an order's approvals, sorted by person.
pub async fn approvals(
    conn: &mut Connection,
    scope: &Scope,
    id: &[u8],
) -> sqlx::Result<Vec<(String, Vec<u8>)>> {
    sql::query_as(
        "SELECT person, statement FROM approvals WHERE tenant = $1 AND id = $2 ORDER BY person",
    )
    .bind(scope.tenant())
    .bind(id)
    .fetch_all(conn)
    .await
}

/// Adds an approval; false when the person has approved already.
pub async fn approve(
    conn: &mut Connection,
    scope: &Scope,
    id: &[u8],
    person: &str,
    statement: &[u8],
) -> sqlx::Result<bool> {
    let done = sql::query(
        "INSERT INTO approvals (tenant, id, person, statement, fence) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (tenant, id, person) DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(id)
    .bind(person)
    .bind(statement)
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes out the approval of somebody who may no longer act: what is released is exactly what stands here.
pub async fn withdraw(
    conn: &mut Connection,
    scope: &Scope,
    id: &[u8],
    person: &str,
) -> sqlx::Result<()> {
    sql::query("DELETE FROM approvals WHERE tenant = $1 AND id = $2 AND person = $3")
        .bind(scope.tenant())
        .bind(id)
        .bind(person)
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes that the approvals suffice and which append tells the log.
pub async fn release(
    conn: &mut Connection,
    scope: &Scope,
    id: &[u8],
    append: &[u8],
    salt: Option<&[u8]>,
) -> sqlx::Result<()> {
    sql::query(
        "UPDATE orders SET append = $3, salt = $4, fence = $5
         WHERE tenant = $1 AND id = $2 AND append IS NULL",
    )
    .bind(scope.tenant())
    .bind(id)
    .bind(append)
    .bind(salt)
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(())
}

/// The matter of some order that names a record and has not run out: the case that the record may be read for.
pub async fn matter_statement(
    conn: &mut Connection,
    scope: &Scope,
    record: &Digest,
    now: u64,
) -> sqlx::Result<Option<Vec<u8>>> {
    sql::query_scalar(
        "SELECT r.statement FROM orders r JOIN order_records o ON o.tenant = r.tenant AND o.id = r.id
         WHERE r.tenant = $1 AND o.digest = $2 AND r.expiry > $3 LIMIT 1",
    )
    .bind(scope.tenant())
    .bind(record.as_bytes().as_slice())
    .bind(int(now))
    .fetch_optional(conn)
    .await
}
