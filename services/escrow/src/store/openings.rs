//! What the node answers, counted before it touches a share.

use std::collections::{BTreeMap, HashMap};

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Builder, Executor};
use greffe_types::{Digest, Millis};

use super::{ROWS, Scope, digest, int, push_list, uint};

/// Envelope, key, share epoch, and the answer that was kept.
type Row = (Vec<u8>, Vec<u8>, Vec<u8>, Option<Vec<u8>>);

/// One answer's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Opening {
    /// The order.
    pub order: Digest,
    /// Envelope digest.
    pub envelope: Digest,
    /// The journaling key.
    pub key_id: Digest,
    /// The share epoch that answers.
    pub share_epoch: Digest,
}

/// Different records begun under an order.
pub async fn count_of_order(
    conn: impl Executor<'_>,
    scope: &Scope,
    order: &Digest,
) -> sqlx::Result<u64> {
    let count: i64 = sql::query_scalar(
        "SELECT COUNT(DISTINCT envelope) FROM opening WHERE tenant = $1 AND order_digest = $2",
    )
    .bind(scope.tenant())
    .bind(order.as_bytes().as_slice())
    .fetch_one(conn)
    .await?;
    Ok(uint(count))
}

/// As [`count_of_order`], a record counted for each key that it was begun with: never less, and cheaper.
pub async fn count_at_most(
    conn: impl Executor<'_>,
    scope: &Scope,
    order: &Digest,
) -> sqlx::Result<u64> {
    let count: i64 =
        sql::query_scalar("SELECT COUNT(*) FROM opening WHERE tenant = $1 AND order_digest = $2")
            .bind(scope.tenant())
            .bind(order.as_bytes().as_slice())
            .fetch_one(conn)
            .await?;
    Ok(uint(count))
}

/// Records counted since an instant.
pub async fn count_since(
    conn: impl Executor<'_>,
    scope: &Scope,
    since: Millis,
) -> sqlx::Result<u64> {
    let count: i64 =
        sql::query_scalar("SELECT COUNT(*) FROM opening WHERE tenant = $1 AND opened_at > $2")
            .bind(scope.tenant())
            .bind(int(since.get()))
            .fetch_one(conn)
            .await?;
    Ok(uint(count))
}

/// What was begun of these records under an order, with any key: the answer, none for what was not answered.
pub async fn of_records(
    conn: &mut Connection,
    scope: &Scope,
    order: &Digest,
    envelopes: &[Digest],
) -> sqlx::Result<HashMap<Opening, Option<Vec<u8>>>> {
    let mut found = HashMap::new();
    for some in envelopes.chunks(ROWS) {
        let mut sql = Builder::new(
            "SELECT envelope, key_id, share_epoch, answer FROM opening WHERE tenant = ",
        );
        sql.push_bind(scope.tenant())
            .push(" AND order_digest = ")
            .push_bind(order.as_bytes().as_slice())
            .push(" AND envelope IN ");
        push_list(&mut sql, some);
        let rows: Vec<Row> = sql.build_query_as().fetch_all(&mut *conn).await?;
        for (envelope, key_id, share_epoch, answer) in rows {
            let opening = Opening {
                order: *order,
                envelope: digest(&envelope)?,
                key_id: digest(&key_id)?,
                share_epoch: digest(&share_epoch)?,
            };
            found.insert(opening, answer);
        }
    }
    Ok(found)
}

/// Counts records: from now on they are begun.
pub async fn begin(
    conn: &mut Connection,
    scope: &Scope,
    openings: &[Opening],
    at: Millis,
) -> sqlx::Result<()> {
    for some in openings.chunks(ROWS) {
        let mut sql = Builder::new(
            "INSERT INTO opening (tenant, order_digest, envelope, key_id, share_epoch, opened_at, fence) ",
        );
        sql.push_values(some, |row, opening| {
            row.push_bind(scope.tenant())
                .push_bind(opening.order.as_bytes().as_slice())
                .push_bind(opening.envelope.as_bytes().as_slice())
                .push_bind(opening.key_id.as_bytes().as_slice())
                .push_bind(opening.share_epoch.as_bytes().as_slice())
                .push_bind(int(at.get()))
                .push_bind(scope.fence());
        });
        sql.build().execute(&mut *conn).await?;
    }
    Ok(())
}

/// An answer, and the leaf of its entry in the log.
#[derive(Debug)]
pub struct Made {
    /// What it answers.
    pub opening: Opening,
    /// The answer, sealed to the reader.
    pub answer: Vec<u8>,
    /// Index of the leaf.
    pub log_index: u64,
}

/// Stores answers under one order whose entries are in the log, but where one is stored; gives how many it has stored.
pub async fn complete(
    conn: &mut Connection,
    scope: &Scope,
    order: &Digest,
    made: &[Made],
) -> sqlx::Result<u64> {
    let mut stored = 0;
    for some in made.chunks(ROWS) {
        let mut sql =
            Builder::new("WITH made (envelope, key_id, share_epoch, answer, log_index) AS (");
        sql.push_values(some, |row, made| {
            row.push_bind(made.opening.envelope.as_bytes().as_slice())
                .push_bind(made.opening.key_id.as_bytes().as_slice())
                .push_bind(made.opening.share_epoch.as_bytes().as_slice())
                .push_bind(made.answer.as_slice())
                .push_bind(int(made.log_index));
        });
        sql.push(") UPDATE opening SET answer = made.answer, log_index = made.log_index, fence = ")
            .push_bind(scope.fence())
            .push(" FROM made WHERE opening.tenant = ")
            .push_bind(scope.tenant())
            .push(" AND opening.order_digest = ")
            .push_bind(order.as_bytes().as_slice())
            .push(
                " AND opening.envelope = made.envelope AND opening.key_id = made.key_id
                AND opening.share_epoch = made.share_epoch AND opening.answer IS NULL",
            );
        stored += sql.build().execute(&mut *conn).await?.rows_affected();
    }
    Ok(stored)
}

/// An ML-KEM ciphertext of a journaling key, by its SHA-256.
pub type Ciphertext = (Digest, Digest);

/// The envelopes that ML-KEM ciphertexts were first opened for, of those that were.
pub async fn owners(
    conn: &mut Connection,
    scope: &Scope,
    ciphertexts: &[Ciphertext],
) -> sqlx::Result<HashMap<Ciphertext, Digest>> {
    let mut by_key: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
    for (key_id, ciphertext) in ciphertexts {
        by_key.entry(*key_id).or_default().push(*ciphertext);
    }
    let mut found = HashMap::new();
    for (key_id, ciphertexts) in by_key {
        for some in ciphertexts.chunks(ROWS) {
            let mut sql = Builder::new("SELECT ciphertext, envelope FROM kem_use WHERE tenant = ");
            sql.push_bind(scope.tenant())
                .push(" AND key_id = ")
                .push_bind(key_id.as_bytes().as_slice())
                .push(" AND ciphertext IN ");
            push_list(&mut sql, some);
            let rows: Vec<(Vec<u8>, Vec<u8>)> = sql.build_query_as().fetch_all(&mut *conn).await?;
            for (ciphertext, envelope) in rows {
                found.insert((key_id, digest(&ciphertext)?), digest(&envelope)?);
            }
        }
    }
    Ok(found)
}

/// Keeps which envelopes ML-KEM ciphertexts were first opened for; one that has an envelope keeps it. Gives how many had none.
pub async fn claim(
    conn: &mut Connection,
    scope: &Scope,
    claims: &[(Ciphertext, Digest)],
) -> sqlx::Result<u64> {
    let mut claimed = 0;
    for some in claims.chunks(ROWS) {
        let mut sql =
            Builder::new("INSERT INTO kem_use (tenant, key_id, ciphertext, envelope, fence) ");
        sql.push_values(some, |row, ((key_id, ciphertext), envelope)| {
            row.push_bind(scope.tenant())
                .push_bind(key_id.as_bytes().as_slice())
                .push_bind(ciphertext.as_bytes().as_slice())
                .push_bind(envelope.as_bytes().as_slice())
                .push_bind(scope.fence());
        });
        sql.push(" ON CONFLICT DO NOTHING");
        claimed += sql.build().execute(&mut *conn).await?.rows_affected();
    }
    Ok(claimed)
}

/// Answers given with a key.
pub async fn count_of_key(
    conn: impl Executor<'_>,
    scope: &Scope,
    key_id: &Digest,
) -> sqlx::Result<u64> {
    let count: i64 = sql::query_scalar(
        "SELECT COUNT(*) FROM opening WHERE tenant = $1 AND key_id = $2 AND answer IS NOT NULL",
    )
    .bind(scope.tenant())
    .bind(key_id.as_bytes().as_slice())
    .fetch_one(conn)
    .await?;
    Ok(uint(count))
}
