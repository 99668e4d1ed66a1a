//! Single records for people: their statements, their way into the log, and the numbers of a conversation.

use greffe_envelope::pb;
use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, FromRow as _, Row};
use greffe_types::{ConversationId, Digest};

use super::keys::{self, Key, by_record};
use super::search::Summary;
use super::{Scope, int, months, uint};

/// A record with everything that its row holds.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its header.
    pub summary: Summary,
    /// `EnvelopeBody` bytes; none once disposed of.
    pub body: Option<Vec<u8>>,
    /// The sender's signature; none once disposed of.
    pub signature: Option<Vec<u8>>,
    /// Digest of the sender's certificate.
    pub certificate: Option<Vec<u8>>,
    /// Name of the object with its ciphertext.
    pub content: Option<Vec<u8>>,
    /// The pack its retention was computed by.
    pub policy_digest: Option<Vec<u8>>,
    /// `SignedStatement` "receipt".
    pub receipt: Vec<u8>,
}

fn record(row: &Row) -> sqlx::Result<Record> {
    Ok(Record {
        summary: Summary::from_row(row)?,
        body: row.get("body")?,
        signature: row.get("signature")?,
        certificate: row.get("certificate")?,
        content: row.get("content")?,
        policy_digest: row.get("policy_digest")?,
        receipt: row.get("receipt")?,
    })
}

/// All columns of the record `$2` of the tenant `$1`, archived at `$3`.
pub const BY_KEY: &str =
    "SELECT * FROM records WHERE tenant = $1 AND record = $2 AND archived_at = $3";

/// The record of a key, all columns.
async fn at(conn: &mut Connection, scope: &Scope, key: Key) -> sqlx::Result<Row> {
    sql::query(BY_KEY)
        .bind(scope.tenant())
        .bind(int(key.record))
        .bind(int(key.archived_at))
        .fetch_optional(conn)
        .await?
        .ok_or_else(|| months::away(key.archived_at))
}

/// A record by envelope or handshake digest. Voids have none of their own: they may repeat.
pub async fn by_digest(
    conn: &mut Connection,
    scope: &Scope,
    digest: &Digest,
) -> sqlx::Result<Option<Record>> {
    match keys::by_digest(&mut *conn, scope, digest).await? {
        Some(key) => Ok(Some(record(&at(conn, scope, key).await?)?)),
        None => Ok(None),
    }
}

/// A record by the archive's own number.
pub async fn by_number(
    conn: &mut Connection,
    scope: &Scope,
    number: u64,
) -> sqlx::Result<Option<Record>> {
    match keys::by_number(&mut *conn, scope, number).await? {
        Some(key) => Ok(Some(record(&at(conn, scope, key).await?)?)),
        None => Ok(None),
    }
}

/// Whether a digest is a message's that has not been disposed of, and by which pack it is kept.
pub async fn live_pack(
    conn: &mut Connection,
    scope: &Scope,
    digest: &Digest,
) -> sqlx::Result<Option<Vec<u8>>> {
    let found = by_digest(conn, scope, digest).await?;
    let live = found.filter(|found| {
        found.summary.kind == i32::from(pb::EntryKind::Message) && found.summary.disposal == 0
    });
    Ok(live.and_then(|live| live.policy_digest))
}

/// The certificate of that digest, as a `SignedStatement`.
pub async fn certificate(
    conn: &mut Connection,
    scope: &Scope,
    digest: &[u8],
) -> sqlx::Result<Option<Vec<u8>>> {
    sql::query_scalar("SELECT statement FROM certificates WHERE tenant = $1 AND digest = $2")
        .bind(scope.tenant())
        .bind(digest)
        .fetch_optional(conn)
        .await
}

/// The highest number of a conversation; none when the archive does not know it.
pub async fn highest(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &ConversationId,
) -> sqlx::Result<Option<u64>> {
    let found: Option<i64> = sql::query_scalar(
        "SELECT sequence FROM conversations WHERE tenant = $1 AND conversation = $2",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    Ok(found.map(uint))
}

/// The receipt of a number, as a `SignedStatement`.
pub async fn receipt_of(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &ConversationId,
    sequence: u64,
) -> sqlx::Result<Option<Vec<u8>>> {
    match keys::by_place(&mut *conn, scope, conversation, sequence).await? {
        Some(key) => at(conn, scope, key).await?.get("receipt").map(Some),
        None => Ok(None),
    }
}

/// Moves the retention of the record `$2` of the tenant `$1` from `$3` to `$4`; the writer is `$5`.
pub const EXTEND: &str = by_record!(
    "UPDATE records SET retain_until = $4, fence = $5",
    " AND retain_until = $3 AND disposal = 0"
);

/// Moves a record's retention to a later date, if it still stands where the decision saw it.
pub async fn extend(
    conn: &mut Connection,
    scope: &Scope,
    record: u64,
    (from, to): (u64, u64),
) -> sqlx::Result<bool> {
    let done = sql::query(EXTEND)
        .bind(scope.tenant())
        .bind(int(record))
        .bind(int(from))
        .bind(int(to))
        .bind(int(conn.epoch()))
        .execute(conn)
        .await?;
    Ok(done.rows_affected() == 1)
}
