//! Which records a query matches: one condition in SQL, used by searches, by holds and by counts alike.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Builder, FromRow, Row};
use std::collections::BTreeMap;

use greffe_api::archive as api;
use greffe_envelope::limits::{MAX_RECORD_CLASS, MAX_USER};
use greffe_envelope::pb;
use greffe_types::{ConversationId, Digest};

use super::months::MonthError;
use super::{Scope, conversation, digest, int, keys, months, uint};

/// How far ahead a sender's clock is allowed for where a month is detached: 31 days, in milliseconds.
const SENDER_AHEAD: u64 = 31 * 24 * 3_600_000;

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
        let mut sql = Builder::new("SELECT ");
        sql.push(columns)
            .push(" FROM records r WHERE r.tenant = ")
            .push_bind(scope.tenant().to_owned());
        self.push(&mut sql, scope);
        sql
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

    /// How many records it matches that have not been disposed of.
    pub async fn count(&self, conn: &mut Connection, scope: &Scope) -> sqlx::Result<u64> {
        let mut sql = self.select("COUNT(*)", scope);
        sql.push(" AND r.disposal = 0");
        let found: i64 = sql.build_query_scalar().fetch_one(conn).await?;
        Ok(uint(found))
    }

    /// The matching records after one, in the archive's own order. An error while a month of its time is detached: there would be
    /// fewer than there are.
    pub async fn page(
        &self,
        conn: &mut Connection,
        scope: &Scope,
        after: u64,
        limit: u32,
    ) -> sqlx::Result<Vec<Summary>> {
        // What was sent after `from` may have been archived before it, by a sender's clock; not by more than this.
        let from = self.from.saturating_sub(SENDER_AHEAD);
        if let Some(month) = months::detached(&mut *conn, from, self.until).await? {
            return Err(sqlx::Error::Decode(Box::new(MonthError::Detached(month))));
        }
        let mut sql = self.select(COLUMNS, scope);
        sql.push(" AND r.record > ")
            .push_bind(int(after))
            .push(" ORDER BY r.record LIMIT ")
            .push_bind(i64::from(limit));
        sql.build_query_as().fetch_all(conn).await
    }
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
    let mut users = BTreeMap::new();
    for set in summaries.iter().filter_map(|s| s.member_set.as_ref()) {
        if users.contains_key(set) {
            continue;
        }
        let found: Vec<String> = sql::query_scalar(
            "SELECT DISTINCT member FROM member_sets WHERE tenant = $1 AND member_set = $2
             ORDER BY member",
        )
        .bind(scope.tenant())
        .bind(set)
        .fetch_all(&mut *conn)
        .await?;
        users.insert(set.clone(), found);
    }
    Ok(users)
}
