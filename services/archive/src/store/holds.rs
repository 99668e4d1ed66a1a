//! Holds: which of them there are, and which bear on a record. A hold binds what its query matches, now and later.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Row};
use std::collections::BTreeMap;

use greffe_api::archive as api;
use greffe_policy::{HoldSet, StandingHold};
use greffe_types::{ActId, MatterId, Millis};
use prost::Message as _;

use super::search::{Filter, Summary};
use super::{Scope, damaged, int, uint};

/// A hold.
#[derive(Debug, Clone)]
pub struct Hold {
    /// Its id.
    pub id: ActId,
    /// Its matter.
    pub matter: MatterId,
    /// Which records.
    pub query: api::RecordQuery,
    /// The same, checked.
    pub filter: Filter,
    /// Why.
    pub reason: String,
    /// Who placed it.
    pub placed_by: String,
    /// When.
    pub placed_at: Millis,
    /// From when it no longer holds; none while nobody has released it.
    pub free_from: Option<Millis>,
}

impl Hold {
    /// Whether it holds at an instant.
    pub fn stands(&self, now: Millis) -> bool {
        self.free_from.is_none_or(|free| now < free)
    }
}

fn hold(row: &Row) -> sqlx::Result<Hold> {
    let bytes: Vec<u8> = row.get("query")?;
    let unreadable = |what: &'static str| sqlx::Error::Decode(what.into());
    let query =
        api::RecordQuery::decode(bytes.as_slice()).map_err(|_| unreadable("a hold's query"))?;
    Ok(Hold {
        id: row
            .get::<Vec<u8>>("hold")?
            .as_slice()
            .try_into()
            .map_err(damaged)?,
        matter: row
            .get::<Vec<u8>>("matter")?
            .as_slice()
            .try_into()
            .map_err(damaged)?,
        filter: Filter::parse(&query).map_err(unreadable)?,
        query,
        reason: row.get("reason")?,
        placed_by: row.get("placed_by")?,
        placed_at: Millis::new(uint(row.get("placed_at")?)),
        free_from: row
            .get::<Option<i64>>("free_from")?
            .map(|at| Millis::new(uint(at))),
    })
}

/// Places a hold; false when its id is taken.
pub async fn place(conn: &mut Connection, scope: &Scope, new: &Hold) -> sqlx::Result<bool> {
    let done = sql::query(
        "INSERT INTO holds (tenant, hold, matter, number, query, reason, placed_by, placed_at, fence)
         SELECT $1, $2, $3, COALESCE(MAX(number), 0) + 1, $4, $5, $6, $7, $8 FROM holds WHERE tenant = $1
         ON CONFLICT (tenant, hold) DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(new.id.as_bytes().as_slice())
    .bind(new.matter.as_bytes().as_slice())
    .bind(new.query.encode_to_vec())
    .bind(&new.reason)
    .bind(&new.placed_by)
    .bind(int(new.placed_at.get()))
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A hold by id.
pub async fn get(conn: &mut Connection, scope: &Scope, id: &ActId) -> sqlx::Result<Option<Hold>> {
    sql::query("SELECT * FROM holds WHERE tenant = $1 AND hold = $2")
        .bind(scope.tenant())
        .bind(id.as_bytes().as_slice())
        .fetch_optional(conn)
        .await?
        .map(|row| hold(&row))
        .transpose()
}

/// Releases a hold from an instant on; a second release never makes it earlier.
pub async fn release(
    conn: &mut Connection,
    scope: &Scope,
    id: &ActId,
    free_from: Millis,
) -> sqlx::Result<()> {
    sql::query(
        "UPDATE holds SET free_from = CASE WHEN free_from > $3 THEN free_from ELSE $3 END, fence = $4
         WHERE tenant = $1 AND hold = $2",
    )
    .bind(scope.tenant())
    .bind(id.as_bytes().as_slice())
    .bind(int(free_from.get()))
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(())
}

/// Every hold, standing or released, by placing.
pub async fn all(conn: &mut Connection, scope: &Scope) -> sqlx::Result<Vec<Hold>> {
    sql::query("SELECT * FROM holds WHERE tenant = $1 ORDER BY number")
        .bind(scope.tenant())
        .fetch_all(conn)
        .await?
        .iter()
        .map(hold)
        .collect()
}

/// The holds of a matter, by placing.
pub async fn of_matter(
    conn: &mut Connection,
    scope: &Scope,
    matter: &[u8],
) -> sqlx::Result<Vec<Hold>> {
    sql::query("SELECT * FROM holds WHERE tenant = $1 AND matter = $2 ORDER BY number")
        .bind(scope.tenant())
        .bind(matter)
        .fetch_all(conn)
        .await?
        .iter()
        .map(hold)
        .collect()
}

/// The holds that bear on a record, standing or released: read it in the transaction that decides.
pub async fn on(conn: &mut Connection, scope: &Scope, record: u64) -> sqlx::Result<HoldSet> {
    let mut set = HoldSet::default();
    for hold in all(conn, scope).await? {
        if hold.filter.matches(conn, scope, record).await? {
            set.add(StandingHold {
                id: hold.id,
                matter: hold.matter,
                release_effective_at: hold.free_from,
            });
        }
    }
    Ok(set)
}

/// How many holds stand on each of some records, which are in order.
pub async fn standing(
    conn: &mut Connection,
    scope: &Scope,
    now: Millis,
    records: &[Summary],
) -> sqlx::Result<BTreeMap<u64, u32>> {
    let mut counts = BTreeMap::new();
    let (Some(first), Some(last)) = (records.first(), records.last()) else {
        return Ok(counts);
    };
    let span = (first.record, last.record);
    let times = || records.iter().map(|record| record.archived_at);
    let time = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    for hold in all(conn, scope).await?.iter().filter(|h| h.stands(now)) {
        for record in hold.filter.matching(conn, scope, span, time).await? {
            *counts.entry(record).or_default() += 1;
        }
    }
    Ok(counts)
}
