//! Batches of receipts, and each receipt's way into the log.

use greffe_envelope::pb;
use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Builder, Executor, Row};
use greffe_types::Digest;

use super::records::Proof;
use super::{Scope, decode, digest, int, months, uint};

/// A record that has a receipt and is in no batch yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Unbatched {
    /// The record.
    pub record: u64,
    /// When it was archived.
    pub archived_at: u64,
    /// What the chain took in: for a message, its envelope digest.
    pub digest: Digest,
    /// Exact bytes of the receipt statement.
    pub receipt: Vec<u8>,
    /// Whether there are proofs to check.
    pub proof: Proof,
    /// `EnvelopeBody` and signature, for a message.
    pub envelope: Option<pb::SealedEnvelope>,
}

/// The first record that is in no batch.
pub async fn next(conn: impl Executor<'_>, scope: &Scope) -> sqlx::Result<u64> {
    let next: Option<i64> = sql::query_scalar(
        "SELECT first + count FROM batches WHERE tenant = $1 ORDER BY first DESC LIMIT 1",
    )
    .bind(scope.tenant())
    .fetch_optional(conn)
    .await?;
    Ok(next.map_or(1, uint))
}

/// Records from a number on, in order.
pub async fn unbatched(
    conn: impl Executor<'_>,
    scope: &Scope,
    first: u64,
    limit: u32,
) -> sqlx::Result<Vec<Unbatched>> {
    let rows = sql::query(
        "SELECT k.record AS number, k.archived_at AS at, k.digest AS entry, r.receipt, r.proof, r.body, r.signature
         FROM record_keys k
         LEFT JOIN records r ON r.tenant = k.tenant AND r.record = k.record AND r.archived_at = k.archived_at
         WHERE k.tenant = $1 AND k.record >= $2 ORDER BY k.record LIMIT $3",
    )
    .bind(scope.tenant())
    .bind(int(first))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.iter().map(unbatched_row).collect()
}

fn unbatched_row(row: &Row) -> sqlx::Result<Unbatched> {
    let bytes = |name| row.get::<Option<Vec<u8>>>(name);
    let archived_at = uint(row.get("at")?);
    let receipt = bytes("receipt")?.ok_or_else(|| months::away(archived_at))?;
    let receipt: pb::SignedStatement = decode(&receipt)?;
    Ok(Unbatched {
        record: uint(row.get("number")?),
        archived_at,
        digest: digest(&row.get::<Vec<u8>>("entry")?)?,
        receipt: receipt.statement,
        proof: match row.get::<i64>("proof")? {
            0 => Proof::None,
            2 => Proof::Verified,
            3 => Proof::Failed,
            _ => Proof::Unchecked,
        },
        envelope: bytes("body")?
            .zip(bytes("signature")?)
            .map(|(body, signature)| pb::SealedEnvelope { body, signature }),
    })
}

/// Notes a batch; `append` is its id in the outbox.
pub async fn insert(
    conn: &mut Connection,
    scope: &Scope,
    first: u64,
    count: u64,
    append: &[u8; 16],
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO batches (tenant, first, count, append, fence) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(scope.tenant())
    .bind(int(first))
    .bind(int(count))
    .bind(append.as_slice())
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps receipts' paths in their batch, each with its record.
pub async fn keep_paths(
    conn: &mut Connection,
    scope: &Scope,
    first: u64,
    paths: &[(u64, Vec<Digest>)],
) -> sqlx::Result<()> {
    let fence = int(conn.epoch());
    for some in sql::groups(paths, |_| 0) {
        let mut sql =
            Builder::new("INSERT INTO receipt_paths (tenant, record, first, path, fence) ");
        sql.push_values(some, |row, (record, path)| {
            row.push_bind(scope.tenant())
                .push_bind(int(*record))
                .push_bind(int(first))
                .push_bind(path.iter().flat_map(Digest::to_vec).collect::<Vec<u8>>())
                .push_bind(fence);
        });
        sql.build().execute(&mut *conn).await?;
    }
    Ok(())
}

/// A receipt's way into the log; none until its batch is there.
pub async fn receipt_proof(
    conn: impl Executor<'_>,
    scope: &Scope,
    record: u64,
) -> sqlx::Result<Option<pb::ReceiptProof>> {
    type Place = (i64, i64, Vec<u8>, i64, Vec<u8>);
    let row: Option<Place> = sql::query_as(
        "SELECT p.first, b.count, p.path, o.log_index, o.leaf
         FROM receipt_paths p
         JOIN batches b ON b.tenant = p.tenant AND b.first = p.first
         JOIN outbox o ON o.tenant = b.tenant AND o.id = b.append
         WHERE p.tenant = $1 AND p.record = $2 AND o.log_index IS NOT NULL AND o.leaf IS NOT NULL",
    )
    .bind(scope.tenant())
    .bind(int(record))
    .fetch_optional(conn)
    .await?;
    let Some((first, count, path, log_index, leaf)) = row else {
        return Ok(None);
    };
    Ok(Some(pb::ReceiptProof {
        batch_index: record.saturating_sub(uint(first)),
        batch_size: uint(count),
        batch_path: path.chunks(32).map(<[u8]>::to_vec).collect(),
        log_index: uint(log_index),
        log_entry: leaf,
    }))
}
