//! The outbox to the audit log: written in the transaction of the change it tells of, sent afterwards, in order.

use greffe_envelope::label::hash;
use greffe_envelope::pb::{LogEntry, log_entry::Event};
use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Executor};
use greffe_types::Millis;
use prost::Message as _;

use super::{Scope, decode, int, uint};

/// Where an entry is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Index of the leaf.
    pub index: u64,
    /// Its exact bytes.
    pub leaf: Vec<u8>,
}

/// How far an entry has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not answered yet.
    Waiting,
    /// In the log.
    Logged(Logged),
    /// It is not, and will not be, in the log.
    Failed(String),
}

/// An entry to send.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// Order of writing.
    pub number: u64,
    /// Id of the append.
    pub id: [u8; 16],
    /// What to append.
    pub entry: LogEntry,
    /// Not sent from this instant on.
    pub not_after: Option<Millis>,
}

/// The id of an append that follows from what it tells of: a retry after a crash is the same append.
pub fn append_id(what: &str, parts: &[&[u8]]) -> [u8; 16] {
    let mut named = Vec::with_capacity(parts.len() + 1);
    let what = greffe_envelope::label::lp(what.as_bytes());
    named.push(what.as_slice());
    named.extend_from_slice(parts);
    let digest = hash("archive-append", &named);
    let mut id = [0; 16];
    id.copy_from_slice(&digest.as_bytes()[..16]);
    id
}

/// Adds an entry. The same id again changes nothing.
pub async fn put(
    conn: &mut Connection,
    scope: &Scope,
    id: &[u8; 16],
    event: Event,
    not_after: Option<Millis>,
) -> sqlx::Result<()> {
    let entry = LogEntry {
        tenant: scope.tenant.to_string(),
        event: Some(event),
        ..Default::default()
    };
    sql::query(
        "INSERT INTO outbox (tenant, number, id, entry, not_after, fence)
         SELECT $1, COALESCE(MAX(number), 0) + 1, $2, $3, $4, $5 FROM outbox WHERE tenant = $1
         ON CONFLICT (tenant, id) DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(id.as_slice())
    .bind(entry.encode_to_vec())
    .bind(not_after.map_or(0, |at| int(at.get())))
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(())
}

/// Entries that wait, in order of writing.
pub async fn waiting(
    conn: impl Executor<'_>,
    scope: &Scope,
    limit: u32,
) -> sqlx::Result<Vec<Waiting>> {
    let rows: Vec<(i64, Vec<u8>, Vec<u8>, i64)> = sql::query_as(
        "SELECT number, id, entry, not_after FROM outbox
         WHERE tenant = $1 AND log_index IS NULL AND failure IS NULL ORDER BY number LIMIT $2",
    )
    .bind(scope.tenant())
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(number, id, entry, not_after)| {
            Ok(Waiting {
                number: uint(number),
                id: id.try_into().map_err(|_| {
                    sqlx::Error::Decode("an append id of another length than 16".into())
                })?,
                entry: decode(&entry)?,
                not_after: (not_after > 0).then(|| Millis::new(uint(not_after))),
            })
        })
        .collect()
}

/// Notes how an entry ended.
pub async fn answer(
    conn: &mut Connection,
    scope: &Scope,
    number: u64,
    outcome: &Result<Logged, String>,
) -> sqlx::Result<()> {
    let (logged, failure) = match outcome {
        Ok(logged) => (Some(logged), None),
        Err(reason) => (None, Some(reason.as_str())),
    };
    sql::query(
        "UPDATE outbox SET log_index = $3, leaf = $4, failure = $5
         WHERE tenant = $1 AND number = $2 AND log_index IS NULL AND failure IS NULL",
    )
    .bind(scope.tenant())
    .bind(int(number))
    .bind(logged.map(|logged| int(logged.index)))
    .bind(logged.map(|logged| logged.leaf.as_slice()))
    .bind(failure)
    .execute(conn)
    .await?;
    Ok(())
}

/// How far an entry has come; none when there is no such entry.
pub async fn find(
    conn: impl Executor<'_>,
    scope: &Scope,
    id: &[u8; 16],
) -> sqlx::Result<Option<State>> {
    type Row = (Option<i64>, Option<Vec<u8>>, Option<String>);
    let row: Option<Row> =
        sql::query_as("SELECT log_index, leaf, failure FROM outbox WHERE tenant = $1 AND id = $2")
            .bind(scope.tenant())
            .bind(id.as_slice())
            .fetch_optional(conn)
            .await?;
    Ok(row.map(|row| match row {
        (Some(index), Some(leaf), _) => State::Logged(Logged {
            index: uint(index),
            leaf,
        }),
        (_, _, Some(failure)) => State::Failed(failure),
        _ => State::Waiting,
    }))
}
