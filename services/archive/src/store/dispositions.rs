//! Decided dispositions and how far they have come; a step is only ever taken from the one before it.

use greffe_types::Digest;

use super::keys::by_record;
use super::{Scope, attachments, int, months, removals, uint};
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
    "SELECT d.record, k.digest, k.archived_at AS at, r.content, r.disposal, d.decided_at, d.append, d.acts, o.log_index
     FROM dispositions d JOIN record_keys k ON k.tenant = d.tenant AND k.record = d.record
     LEFT JOIN records r ON r.tenant = k.tenant AND r.record = k.record AND r.archived_at = k.archived_at
     LEFT JOIN outbox o ON o.tenant = d.tenant AND o.id = d.append WHERE d.tenant = $1";

fn disposition(row: &Row) -> sqlx::Result<Disposition> {
    let at = uint(row.get("at")?);
    let disposal: Option<i64> = row.get("disposal")?;
    Ok(Disposition {
        record: uint(row.get("record")?),
        digest: row.get("digest")?,
        content: row.get("content")?,
        step: Step::from_sql(disposal.ok_or_else(|| months::away(at))?)?,
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

/// Writes a decision down and moves the record from live to decided; false when it was not live. A decision that is there
/// already stands: the record's month was restored from a copy that did not know of it.
pub async fn decide(conn: &mut Connection, scope: &Scope, new: &New<'_>) -> sqlx::Result<bool> {
    if !advance(conn, scope, new.record, Step::Live, Step::Decided).await? {
        return Ok(false);
    }
    sql::query(
        "INSERT INTO dispositions (tenant, record, decided_at, backups_expire_at, append, acts, fence)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant, record) DO NOTHING",
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

/// A record's disposition, if one was decided. An error while the record's month is detached: nobody knows how far it is.
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

/// Records whose disposal has begun and can go on: while a month is detached, objects wait.
pub async fn unfinished(conn: &mut Connection, scope: &Scope) -> sqlx::Result<Vec<u64>> {
    let waits = months::detached(&mut *conn, 0, 0).await?.is_some();
    let found: Vec<i64> = sql::query_scalar(
        "SELECT record FROM records WHERE tenant = $1 AND disposal IN (1, 2, 3) AND disposal <> $2 ORDER BY record",
    )
    .bind(scope.tenant())
    .bind(if waits { Step::Logged as i64 } else { Step::Gone as i64 })
    .fetch_all(conn)
    .await?;
    Ok(found.into_iter().map(uint).collect())
}

/// Forgets what only the record needed, and decides on the removal of the objects that no other record needs: these are given.
/// None while a month is detached, since the records in it may need them: what their content is only their rows say.
pub async fn release_objects(
    conn: &mut Connection,
    scope: &Scope,
    disposition: &Disposition,
) -> sqlx::Result<Option<Vec<Digest>>> {
    let free = unneeded(&mut *conn, scope, disposition).await?;
    // Asked afterwards: a month that goes away meanwhile is one that was not looked into.
    if months::detached(&mut *conn, 0, 0).await?.is_some() {
        return Ok(None);
    }
    for name in &free {
        attachments::forget(&mut *conn, scope, name).await?;
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
    Ok(Some(free))
}

/// The objects of a record that no other one needs: none names it, as content or attachment, that is not logged as disposed of.
/// Of a record of a detached month its attachments are known, and count as needed; its content is not.
pub async fn unneeded(
    conn: &mut Connection,
    scope: &Scope,
    disposition: &Disposition,
) -> sqlx::Result<Vec<Digest>> {
    let mut names = attachments::of_record(&mut *conn, scope, disposition.record).await?;
    if let Some(content) = &disposition.content {
        names.push(super::digest(content)?);
    }
    names.sort_unstable();
    names.dedup();
    let mut free = Vec::new();
    for name in names {
        let needed: bool = sql::query_scalar::<i64>(
            "SELECT CAST(CASE WHEN EXISTS (SELECT 1 FROM records r
                 WHERE r.tenant = $1 AND r.content = $2 AND r.record <> $3 AND r.disposal < 3)
               OR EXISTS (SELECT 1 FROM record_attachments b
                 JOIN record_keys k ON k.tenant = b.tenant AND k.record = b.record
                 LEFT JOIN records r ON r.tenant = k.tenant AND r.record = k.record AND r.archived_at = k.archived_at
                 WHERE b.tenant = $1 AND b.digest = $2 AND b.record <> $3 AND COALESCE(r.disposal, 0) < 3)
             THEN 1 ELSE 0 END AS BIGINT)",
        )
        .bind(scope.tenant())
        .bind(name.as_bytes().as_slice())
        .bind(int(disposition.record))
        .fetch_one(&mut *conn)
        .await?
            != 0;
        if !needed {
            free.push(name);
        }
    }
    Ok(free)
}
