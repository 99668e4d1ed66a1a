//! Decided dispositions and how far they have come; a step is only ever taken from the one before it.

use greffe_types::Digest;

use super::keys::by_record;
use super::{Scope, int, removals, uint};
use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Row};

/// How far a record's disposal has come, as its row numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Nothing is decided.
    Live = 0,
    /// Decided: no hold binds it any more.
    Decided = 1,
    /// Its wraps are gone from the erasable store and from its journal.
    WrapsDestroyed = 2,
    /// Its tombstone is in the log.
    Logged = 3,
    /// Its objects are gone.
    Gone = 4,
}

impl Step {
    fn from_sql(value: i64) -> sqlx::Result<Self> {
        [
            Self::Live,
            Self::Decided,
            Self::WrapsDestroyed,
            Self::Logged,
            Self::Gone,
        ]
        .into_iter()
        .find(|step| *step as i64 == value)
        .ok_or_else(|| sqlx::Error::Decode("a disposal of unknown step".into()))
    }
}

/// A disposition under way.
#[derive(Debug, Clone)]
pub struct Disposition {
    /// The record.
    pub record: u64,
    /// Its envelope digest.
    pub digest: Vec<u8>,
    /// Name of the object with its ciphertext.
    pub content: Option<Vec<u8>>,
    /// How far it has come.
    pub step: Step,
    /// The trusted time of the decision.
    pub decided_at: u64,
    /// Id in the outbox of its tombstone.
    pub append: Vec<u8>,
    /// `Tombstone` bytes.
    pub tombstone: Vec<u8>,
    /// Index of the tombstone's leaf, once there.
    pub log_index: Option<u64>,
}

const SELECT: &str =
    "SELECT d.record, r.digest, r.content, r.disposal, d.decided_at, d.append, d.acts, o.log_index
     FROM dispositions d JOIN record_keys k ON k.tenant = d.tenant AND k.record = d.record
     JOIN records r ON r.tenant = k.tenant AND r.record = k.record AND r.archived_at = k.archived_at
     LEFT JOIN outbox o ON o.tenant = d.tenant AND o.id = d.append WHERE d.tenant = $1";

fn disposition(row: &Row) -> sqlx::Result<Disposition> {
    Ok(Disposition {
        record: uint(row.get("record")?),
        digest: row.get("digest")?,
        content: row.get("content")?,
        step: Step::from_sql(row.get("disposal")?)?,
        decided_at: uint(row.get("decided_at")?),
        append: row.get("append")?,
        tombstone: row.get("acts")?,
        log_index: row.get::<Option<i64>>("log_index")?.map(uint),
    })
}

/// A decision to write down.
#[derive(Debug, Clone, Copy)]
pub struct New<'a> {
    /// The record.
    pub record: u64,
    /// The trusted time of the decision.
    pub decided_at: u64,
    /// When the last backup of the wrap store will have expired.
    pub backups_expire_at: u64,
    /// Id in the outbox of its tombstone, which is written later.
    pub append: &'a [u8],
    /// `Tombstone` bytes.
    pub tombstone: &'a [u8],
}

/// Writes a decision down and moves the record from live to decided; false when it was not live.
pub async fn decide(conn: &mut Connection, scope: &Scope, new: &New<'_>) -> sqlx::Result<bool> {
    if !advance(conn, scope, new.record, Step::Live, Step::Decided).await? {
        return Ok(false);
    }
    sql::query(
        "INSERT INTO dispositions (tenant, record, decided_at, backups_expire_at, append, acts, fence)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(scope.tenant())
    .bind(int(new.record))
    .bind(int(new.decided_at))
    .bind(int(new.backups_expire_at))
    .bind(new.append)
    .bind(new.tombstone)
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(true)
}

/// Moves a record's disposal from one step to the next; false when it stood elsewhere.
pub async fn advance(
    conn: &mut Connection,
    scope: &Scope,
    record: u64,
    from: Step,
    to: Step,
) -> sqlx::Result<bool> {
    let done = sql::query(by_record!(
        "UPDATE records SET disposal = $4, fence = $5",
        " AND disposal = $3"
    ))
    .bind(scope.tenant())
    .bind(int(record))
    .bind(from as i64)
    .bind(to as i64)
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A record's disposition, if one was decided.
pub async fn get(
    conn: &mut Connection,
    scope: &Scope,
    record: u64,
) -> sqlx::Result<Option<Disposition>> {
    let sql = format!("{SELECT} AND d.record = $2");
    sql::query(sqlx::AssertSqlSafe(sql))
        .bind(scope.tenant())
        .bind(int(record))
        .fetch_optional(conn)
        .await?
        .map(|row| disposition(&row))
        .transpose()
}

/// Records whose disposal has begun and is not over.
pub async fn unfinished(conn: &mut Connection, scope: &Scope) -> sqlx::Result<Vec<u64>> {
    let found: Vec<i64> = sql::query_scalar(
        "SELECT record FROM records WHERE tenant = $1 AND disposal IN (1, 2, 3) ORDER BY record",
    )
    .bind(scope.tenant())
    .fetch_all(conn)
    .await?;
    Ok(found.into_iter().map(uint).collect())
}

/// Forgets what only the record needed, and decides on the removal of the objects that no other record needs: these are given.
pub async fn release_objects(
    conn: &mut Connection,
    scope: &Scope,
    disposition: &Disposition,
) -> sqlx::Result<Vec<Digest>> {
    let mut free: Vec<Vec<u8>> = Vec::new();
    if let Some(content) = &disposition.content {
        let others: i64 = sql::query_scalar(
            "SELECT COUNT(*) FROM records
             WHERE tenant = $1 AND content = $2 AND record <> $3 AND disposal < 3",
        )
        .bind(scope.tenant())
        .bind(content)
        .bind(int(disposition.record))
        .fetch_one(&mut *conn)
        .await?;
        if others == 0 {
            free.push(content.clone());
        }
    }
    let attachments: Vec<Vec<u8>> = sql::query_scalar(
        "SELECT DISTINCT a.digest FROM record_attachments a WHERE a.tenant = $1 AND a.record = $2
         AND NOT EXISTS (SELECT 1 FROM record_attachments b
             JOIN record_keys k ON k.tenant = b.tenant AND k.record = b.record
             JOIN records r ON r.tenant = k.tenant AND r.record = k.record AND r.archived_at = k.archived_at
             WHERE b.tenant = a.tenant AND b.digest = a.digest AND b.record <> a.record AND r.disposal < 3)",
    )
    .bind(scope.tenant())
    .bind(int(disposition.record))
    .fetch_all(&mut *conn)
    .await?;
    for digest in attachments {
        sql::query("DELETE FROM attachments WHERE tenant = $1 AND digest = $2")
            .bind(scope.tenant())
            .bind(&digest)
            .execute(&mut *conn)
            .await?;
        free.push(digest);
    }
    let free = free
        .iter()
        .map(|name| super::digest(name))
        .collect::<sqlx::Result<Vec<_>>>()?;
    for name in &free {
        removals::decide(&mut *conn, scope, name).await?;
    }
    sql::query(by_record!(
        "UPDATE records SET body = NULL, signature = NULL, fence = $3",
        ""
    ))
    .bind(scope.tenant())
    .bind(int(disposition.record))
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(free)
}
