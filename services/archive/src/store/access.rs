//! What people read and what they were refused, as entries for the log; what was read beside it, as the log only commits to it.

use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::read::{READ_SALT, read_subject};
use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, FromRow, Row};

use super::{Scope, int, outbox, uint};

/// Most bytes of a caller's name or operation in a refusal: names come from outside.
const MAX_TEXT: usize = 255;

/// What somebody wanted to read, and what hides it in the log.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// What it is.
    pub bytes: &'a [u8],
    /// Fresh bytes.
    pub salt: [u8; READ_SALT],
}

impl Subject<'_> {
    /// What the log says of it.
    fn commitment(&self) -> Vec<u8> {
        read_subject(&self.salt, self.bytes).to_vec()
    }
}

/// Writes a read down: committed before its answer leaves.
pub async fn read(
    conn: &mut Connection,
    scope: &Scope,
    id: &[u8; 16],
    mut access: pb::Access,
    subject: Subject<'_>,
) -> sqlx::Result<()> {
    access.subject = subject.commitment();
    outbox::put(conn, scope, id, Event::Access(access), None).await?;
    keep(conn, scope, id, subject).await
}

/// Writes a refusal down: who asked for what, and why not. With a subject, what was asked for is hidden as in a read.
pub async fn refused(
    conn: &mut Connection,
    scope: &Scope,
    id: &[u8; 16],
    mut refusal: pb::Refusal,
    subject: Option<Subject<'_>>,
) -> sqlx::Result<()> {
    for text in [&mut refusal.caller, &mut refusal.operation] {
        *text = text.chars().take(MAX_TEXT / 4).collect();
    }
    if let Some(subject) = subject {
        refusal.subject = subject.commitment();
    }
    outbox::put(conn, scope, id, Event::Refusal(refusal), None).await?;
    match subject {
        Some(subject) => keep(conn, scope, id, subject).await,
        None => Ok(()),
    }
}

async fn keep(
    conn: &mut Connection,
    scope: &Scope,
    id: &[u8; 16],
    subject: Subject<'_>,
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO reads (tenant, number, subject, salt, fence)
         SELECT $1, number, $3, $4, $5 FROM outbox WHERE tenant = $1 AND id = $2",
    )
    .bind(scope.tenant())
    .bind(id.as_slice())
    .bind(subject.bytes)
    .bind(subject.salt.as_slice())
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(())
}

/// A read, or a refusal to read, that is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRead {
    /// Order of writing.
    pub number: u64,
    /// Index of the leaf.
    pub index: u64,
    /// The leaf's exact bytes.
    pub leaf: Vec<u8>,
    /// What was read or asked for.
    pub subject: Vec<u8>,
    /// What the leaf commits to it with.
    pub salt: Vec<u8>,
}

impl FromRow for LoggedRead {
    fn from_row(row: &Row) -> sqlx::Result<Self> {
        let number: i64 = row.get("number")?;
        let index: i64 = row.get("log_index")?;
        Ok(Self {
            number: uint(number),
            index: uint(index),
            leaf: row.get("leaf")?,
            subject: row.get("subject")?,
            salt: row.get("salt")?,
        })
    }
}

/// Reads after one, in the order of writing, up to the first entry that is on its way to the log still: what came after it may
/// have got there earlier, and whoever goes on from there would never be given it.
pub async fn page(
    conn: &mut Connection,
    scope: &Scope,
    after: u64,
    limit: u32,
) -> sqlx::Result<Vec<LoggedRead>> {
    sql::query_as(
        "SELECT r.number, o.log_index, o.leaf, r.subject, r.salt
         FROM reads r JOIN outbox o ON o.tenant = r.tenant AND o.number = r.number
         WHERE r.tenant = $1 AND r.number > $2 AND o.log_index IS NOT NULL AND NOT EXISTS (
             SELECT 1 FROM outbox w
             WHERE w.tenant = r.tenant AND w.number < r.number AND w.log_index IS NULL AND w.failure IS NULL)
         ORDER BY r.number LIMIT $3",
    )
    .bind(scope.tenant())
    .bind(int(after))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await
}
