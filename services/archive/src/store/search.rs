//! Which records a query matches: one condition in SQL, used by searches, by holds and by counts alike.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Builder, FromRow, Row};
use std::collections::{BTreeMap, BTreeSet};

use greffe_api::archive as api;
use greffe_envelope::limits::{MAX_RECORD_CLASS, MAX_USER};
use greffe_envelope::pb;
use greffe_types::{ConversationId, Digest};

use super::months::MonthError;
use super::spans::{self, Time};
use super::{Scope, conversation, digest, int, keys, months, uint};

/// Records that are looked through for a participant's before the indexes are asked.
const WALK: u64 = 2048;
/// Member sets that one statement looks for the records of.
const SETS: usize = 64;

/// A query whose fields are well formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    participant: Option<String>,
    conversation: Option<ConversationId>,
    from: u64,
    until: u64,
    mode: Option<i32>,
    record_class: Option<String>,
    sender: Option<String>,
}

impl Filter {
    /// Takes a query in.
    ///
    /// # Errors
    /// The name of the field that is malformed.
    pub fn parse(query: &api::RecordQuery) -> Result<Self, &'static str> {
        let text = |field, value: &str, max| match value {
            "" => Ok(None),
            value if value.len() > max || value.contains(char::is_control) => Err(field),
            value => Ok(Some(value.to_owned())),
        };
        let conversation = match query.conversation.as_slice() {
            [] => None,
            bytes => Some(ConversationId::try_from(bytes).map_err(|_| "query.conversation")?),
        };
        let mode = match pb::Mode::try_from(query.mode) {
            Ok(pb::Mode::Unspecified) => None,
            Ok(mode) => Some(mode.into()),
            Err(_) => return Err("query.mode"),
        };
        if query.until != 0 && query.until <= query.from {
            return Err("query.until");
        }
        Ok(Self {
            participant: text("query.participant", &query.participant, MAX_USER)?,
            conversation,
            from: query.from,
            until: query.until,
            mode,
            record_class: text("query.record_class", &query.record_class, MAX_RECORD_CLASS)?,
            sender: text("query.sender", &query.sender, MAX_USER)?,
        })
    }

    /// Adds the condition over `records r`, which is there already with its tenant.
    fn push(&self, sql: &mut Builder, scope: &Scope) {
        if let Some(conversation) = &self.conversation {
            sql.push(" AND r.conversation = ")
                .push_bind(conversation.to_vec());
        }
        if let Some(sender) = &self.sender {
            sql.push(" AND r.sender = ").push_bind(sender.clone());
        }
        if let Some(participant) = &self.participant {
            sql.push(" AND (r.sender = ")
                .push_bind(participant.clone())
                .push(
                    " OR r.member_set IN (SELECT m.member_set FROM member_sets m WHERE m.tenant = ",
                )
                .push_bind(scope.tenant().to_owned())
                .push(" AND m.member = ")
                .push_bind(participant.clone())
                .push("))");
        }
        if self.from != 0 {
            sql.push(" AND (r.archived_at >= ")
                .push_bind(int(self.from))
                .push(" OR r.sent_at >= ")
                .push_bind(int(self.from))
                .push(")");
        }
        if self.until != 0 {
            sql.push(" AND r.archived_at < ").push_bind(int(self.until));
        }
        if let Some(mode) = self.mode {
            sql.push(" AND r.mode = ").push_bind(i64::from(mode));
        }
        if let Some(class) = &self.record_class {
            sql.push(" AND r.record_class = ").push_bind(class.clone());
        }
    }

    fn select(&self, columns: &'static str, scope: &Scope) -> Builder {
        let mut sql = Builder::new("");
        self.push_select(&mut sql, columns, scope);
        sql
    }

    fn push_select(&self, sql: &mut Builder, columns: &'static str, scope: &Scope) {
        sql.push("SELECT ")
            .push(columns)
            .push(" FROM records r WHERE r.tenant = ")
            .push_bind(scope.tenant().to_owned());
        self.push(sql, scope);
    }

    /// Whether it matches one record.
    pub async fn matches(
        &self,
        conn: &mut Connection,
        scope: &Scope,
        record: u64,
    ) -> sqlx::Result<bool> {
        let Some(key) = keys::by_number(&mut *conn, scope, record).await? else {
            return Ok(false);
        };
        let mut sql = self.select("COUNT(*)", scope);
        sql.push(" AND r.record = ")
            .push_bind(int(record))
            .push(" AND r.archived_at = ")
            .push_bind(int(key.archived_at));
        let found: i64 = sql.build_query_scalar().fetch_one(conn).await?;
        Ok(found > 0)
    }

    /// Which records between two numbers, archived between two instants, all included, it matches, in the archive's own order.
    pub async fn matching(
        &self,
        conn: &mut Connection,
        scope: &Scope,
        (first, last): (u64, u64),
        (from, to): (u64, u64),
    ) -> sqlx::Result<Vec<u64>> {
        let mut sql = self.select("r.record", scope);
        sql.push(" AND r.record >= ")
            .push_bind(int(first))
            .push(" AND r.record <= ")
            .push_bind(int(last))
            .push(" AND r.archived_at >= ")
            .push_bind(int(from))
            .push(" AND r.archived_at <= ")
            .push_bind(int(to))
            .push(" ORDER BY r.record");
        let found: Vec<i64> = sql.build_query_scalar().fetch_all(conn).await?;
        Ok(found.into_iter().map(uint).collect())
    }

    const fn time(&self) -> Time {
        Time {
            from: self.from,
            until: self.until,
        }
    }

    /// Refuses while a month is detached that a matching record after a number may be in: there would be fewer than there are.
    async fn complete(&self, conn: &mut Connection, scope: &Scope, after: u64) -> sqlx::Result<()> {
        let earliest = match self.from {
            0 => Some(0),
            // What was sent after it may have been archived any time before, by the sender's clock.
            _ => spans::earliest(&mut *conn, scope, self.time(), after).await?,
        };
        let Some(earliest) = earliest else {
            return Ok(());
        };
        match months::detached(conn, earliest, self.until).await? {
            Some(month) => Err(sqlx::Error::Decode(Box::new(MonthError::Detached(month)))),
            None => Ok(()),
        }
    }

    /// How many records it matches that have not been disposed of. An error while a month of its time is detached.
    pub async fn count(&self, conn: &mut Connection, scope: &Scope) -> sqlx::Result<u64> {
        self.complete(&mut *conn, scope, 0).await?;
        let mut sql = self.select("COUNT(*)", scope);
        sql.push(" AND r.disposal = 0");
        let found: i64 = sql.build_query_scalar().fetch_one(conn).await?;
        Ok(uint(found))
    }

    /// The matching records after one, in the archive's own order. An error while a month of its time is detached.
    pub async fn page(
        &self,
        conn: &mut Connection,
        scope: &Scope,
        mut after: u64,
        limit: u32,
    ) -> sqlx::Result<Vec<Summary>> {
        self.complete(&mut *conn, scope, after).await?;
        let limit = limit as usize;
        if self.from == 0 && self.until == 0 {
            return self.within(conn, scope, (after, u64::MAX), limit).await;
        }
        let mut found = Vec::new();
        loop {
            let runs = spans::runs(&mut *conn, scope, self.time(), after).await?;
            if runs.is_empty() {
                return Ok(found);
            }
            for (first, last) in runs {
                let bounds = (first.saturating_sub(1), last);
                let left = limit - found.len();
                found.extend(self.within(&mut *conn, scope, bounds, left).await?);
                if found.len() >= limit {
                    return Ok(found);
                }
                after = last;
            }
        }
    }

    /// The first matching records after one number and up to another.
    async fn within(
        &self,
        conn: &mut Connection,
        scope: &Scope,
        bounds: (u64, u64),
        limit: usize,
    ) -> sqlx::Result<Vec<Summary>> {
        let participant = match &self.participant {
            // A conversation has few others, and a sender's records an index of their own.
            Some(participant) if self.conversation.is_none() && self.sender.is_none() => {
                participant
            }
            _ => return self.walk(conn, scope, bounds, limit).await,
        };
        // Whoever takes part in much is found on the way; nobody's many conversations are gone through for that.
        let (after, last) = bounds;
        let near = after.saturating_add(WALK).min(last);
        let mut found = self.walk(&mut *conn, scope, (after, near), limit).await?;
        if found.len() < limit && near < last {
            let left = limit - found.len();
            let bounds = (near, last);
            found.extend(
                self.of_participant(conn, scope, participant, bounds, left)
                    .await?,
            );
        }
        Ok(found)
    }

    async fn walk(
        &self,
        conn: &mut Connection,
        scope: &Scope,
        bounds: (u64, u64),
        limit: usize,
    ) -> sqlx::Result<Vec<Summary>> {
        let mut sql = self.select(COLUMNS, scope);
        in_order(&mut sql, bounds, limit);
        sql.build_query_as().fetch_all(conn).await
    }

    /// The first records of whoever sent them or was a member. An index has those of a sender in order, and those of a member set;
    /// asked for both at once a database looks through the records of everybody.
    async fn of_participant(
        &self,
        conn: &mut Connection,
        scope: &Scope,
        participant: &str,
        (after, mut last): (u64, u64),
        limit: usize,
    ) -> sqlx::Result<Vec<Summary>> {
        let anybody = Self {
            participant: None,
            ..self.clone()
        };
        let mut sql = anybody.select(COLUMNS, scope);
        sql.push(" AND r.sender = ")
            .push_bind(participant.to_owned());
        in_order(&mut sql, (after, last), limit);
        let sent: Vec<Summary> = sql.build_query_as().fetch_all(&mut *conn).await?;
        let mut found: BTreeMap<u64, Summary> = sent.into_iter().map(|s| (s.record, s)).collect();
        let sets = sets_of(&mut *conn, scope, participant, (after, last)).await?;
        for sets in sets.chunks(SETS) {
            if found.len() == limit
                && let Some((highest, _)) = found.last_key_value()
            {
                last = *highest;
            }
            // They are by their first record. It may be one that is not asked for, so that all sets may have to be gone through.
            if sets.first().is_none_or(|(_, first)| *first > last) {
                break;
            }
            let mut sql = Builder::new("");
            for (n, (set, first)) in sets.iter().filter(|(_, first)| *first <= last).enumerate() {
                sql.push(match n {
                    0 => "SELECT * FROM (",
                    _ => " UNION ALL SELECT * FROM (",
                });
                anybody.push_select(&mut sql, COLUMNS, scope);
                sql.push(" AND r.member_set = ").push_bind(set.clone());
                in_order(&mut sql, (first.saturating_sub(1), last), limit);
                sql.push(") s");
            }
            let named: Vec<Summary> = sql.build_query_as().fetch_all(&mut *conn).await?;
            found.extend(named.into_iter().map(|s| (s.record, s)));
            while found.len() > limit {
                found.pop_last();
            }
        }
        Ok(found.into_values().collect())
    }
}

/// Ends a statement: the first records after one number and up to another.
fn in_order(sql: &mut Builder, (after, last): (u64, u64), limit: usize) {
    sql.push(" AND r.record > ")
        .push_bind(int(after))
        .push(" AND r.record <= ")
        .push_bind(int(last))
        .push(" ORDER BY r.record LIMIT ")
        .push_bind(int(limit as u64));
}

/// The sets that a user is a member of, each with its first record after one number and up to another, by that record.
async fn sets_of(
    conn: &mut Connection,
    scope: &Scope,
    user: &str,
    (after, last): (u64, u64),
) -> sqlx::Result<Vec<(Vec<u8>, u64)>> {
    let rows: Vec<(Vec<u8>, i64)> = sql::query_as(
        "SELECT member_set, first FROM (
           SELECT m.member_set, (SELECT MIN(r.record) FROM records r WHERE r.tenant = $1 AND r.member_set = m.member_set
             AND r.record > $3 AND r.record <= $4) AS first
           FROM (SELECT DISTINCT member_set FROM member_sets WHERE tenant = $1 AND member = $2) m) s
         WHERE first IS NOT NULL ORDER BY first",
    )
    .bind(scope.tenant())
    .bind(user)
    .bind(int(after))
    .bind(int(last))
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(set, first)| (set, uint(first)))
        .collect())
}

/// What is selected for a [`Summary`].
pub const COLUMNS: &str = "r.record, r.conversation, r.sequence, r.kind, r.digest, r.sender, r.sent_at, r.archived_at, \
     r.retain_until, r.mode, r.record_class, r.size, r.member_set, r.disposal";

/// A record's header, as searches give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The archive's own number.
    pub record: u64,
    /// The conversation.
    pub conversation: ConversationId,
    /// Its number there.
    pub sequence: u64,
    /// `EntryKind`.
    pub kind: i32,
    /// What the chain took in.
    pub digest: Digest,
    /// The sender.
    pub sender: String,
    /// The sender's clock.
    pub sent_at: u64,
    /// The archive's clock.
    pub archived_at: u64,
    /// End of retention.
    pub retain_until: u64,
    /// `Mode`.
    pub mode: i32,
    /// Record class.
    pub record_class: String,
    /// Bytes of ciphertext.
    pub size: u64,
    /// Who was a member.
    pub member_set: Option<Vec<u8>>,
    /// How far its disposal has come.
    pub disposal: i64,
}

impl FromRow for Summary {
    fn from_row(row: &Row) -> sqlx::Result<Self> {
        let number = |column| row.get::<i64>(column).map(uint);
        let small = |column| row.get::<i32>(column);
        Ok(Self {
            record: number("record")?,
            conversation: conversation(&row.get::<Vec<u8>>("conversation")?)?,
            sequence: number("sequence")?,
            kind: small("kind")?,
            digest: digest(&row.get::<Vec<u8>>("digest")?)?,
            sender: row.get("sender")?,
            sent_at: number("sent_at")?,
            archived_at: number("archived_at")?,
            retain_until: number("retain_until")?,
            mode: small("mode")?,
            record_class: row.get("record_class")?,
            size: number("size")?,
            member_set: row.get("member_set")?,
            disposal: row.get("disposal")?,
        })
    }
}

/// Users of the member sets of some records, sorted, by set.
pub async fn members(
    conn: &mut Connection,
    scope: &Scope,
    summaries: &[Summary],
) -> sqlx::Result<BTreeMap<Vec<u8>, Vec<String>>> {
    let sets: BTreeSet<&Vec<u8>> = summaries
        .iter()
        .filter_map(|s| s.member_set.as_ref())
        .collect();
    if sets.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut between = "";
    let mut sql = Builder::new("SELECT member_set, member FROM member_sets WHERE tenant = ");
    sql.push_bind(scope.tenant().to_owned())
        .push(" AND member_set IN (");
    for set in sets {
        sql.push(between).push_bind(set.clone());
        between = ", ";
    }
    sql.push(")");
    let rows: Vec<(Vec<u8>, String)> = sql.build_query_as().fetch_all(conn).await?;
    // Sorted here: for the order of the database SQLite would read an index of all members instead. A user has several devices.
    let mut users: BTreeMap<Vec<u8>, BTreeSet<String>> = BTreeMap::new();
    for (set, user) in rows {
        users.entry(set).or_default().insert(user);
    }
    Ok(users
        .into_iter()
        .map(|(set, users)| (set, users.into_iter().collect()))
        .collect())
}
