//! The archive's answers: held against the items that wait for one, and stored.

use std::collections::HashMap;

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Builder};
use greffe_types::{ConversationId, Digest};

use super::items::Kind;
use super::{Scope, conversation as conversation_id, digest, epoch, int, uint};

/// A number of a conversation.
pub type Place = (ConversationId, u64);

/// What the archive's answer to an item is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Envelope or handshake digest.
    pub digest: Digest,
    /// What it is.
    pub kind: Kind,
    /// Bytes of its payload.
    pub size: u64,
}

/// The items of these numbers that have no receipt yet.
pub async fn unanswered(
    conn: &mut Connection,
    scope: &Scope,
    places: &[Place],
) -> sqlx::Result<HashMap<Place, Entry>> {
    type Row = (Vec<u8>, i64, Vec<u8>, i64, i64);
    let mut found = HashMap::new();
    for some in sql::groups(places, |_| 0) {
        let sql = unanswered_of(scope, some);
        let rows: Vec<Row> = sql.build_query_as().fetch_all(&mut *conn).await?;
        for (id, sequence, entry, kind, size) in rows {
            let entry = Entry {
                digest: digest(&entry)?,
                kind: Kind::from_sql(kind)?,
                size: uint(size),
            };
            found.insert((conversation_id(&id)?, uint(sequence)), entry);
        }
    }
    Ok(found)
}

// A `receipt IS NULL` beside a list PostgreSQL would answer from the index of what waits, and go through all of that for each row: it
// expects one item of a tenant. `length` has no index.
pub(super) fn unanswered_of(scope: &Scope, places: &[Place]) -> Builder {
    let mut sql = Builder::new("WITH asked (conversation, sequence) AS (");
    sql.push_values(places, |row, (id, sequence)| {
        row.push_bind(id.as_bytes()).push_bind(int(*sequence));
    })
    .push(
        ") SELECT i.conversation, i.sequence, i.digest, i.kind, i.size FROM asked a CROSS JOIN item i
         WHERE i.conversation = a.conversation AND i.sequence = a.sequence
           AND length(i.receipt) IS NULL AND i.tenant = ",
    )
    .push_bind(scope.tenant());
    sql
}

/// The archive's answer to an item.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Protobuf of the receipt.
    pub receipt: Vec<u8>,
    /// Protobuf of the void, when the archive refused.
    pub void: Option<Vec<u8>>,
    /// Chain head at the item.
    pub head: Digest,
    /// The item's place in the order of release.
    pub release: u64,
}

/// Stores the archive's answers, but where an item has one; gives how many it has stored.
pub async fn store(
    conn: &mut Connection,
    scope: &Scope,
    answers: &[(Place, Answer)],
) -> sqlx::Result<u64> {
    let fence = epoch(conn);
    let mut stored = 0;
    let bytes = |(_, answer): &(Place, Answer)| {
        answer.receipt.len() + answer.void.as_ref().map_or(0, Vec::len)
    };
    for some in sql::groups(answers, bytes) {
        let sql = store_all(scope, fence, some);
        stored += sql.build().execute(&mut *conn).await?.rows_affected();
    }
    Ok(stored)
}

pub(super) fn store_all(scope: &Scope, fence: i64, answers: &[(Place, Answer)]) -> Builder {
    let mut sql = Builder::new(
        "WITH answered (tenant, conversation, sequence, receipt, void, head, release_id) AS (",
    );
    sql.push_values(answers, |row, ((id, sequence), answer)| {
        row.push_bind(scope.tenant())
            .push_bind(id.as_bytes())
            .push_bind(int(*sequence))
            .push_bind(&answer.receipt)
            .push_bind(&answer.void)
            .push_bind(answer.head.as_bytes())
            .push_bind(int(answer.release));
    })
    .push(
        ") UPDATE item SET receipt = answered.receipt, void = answered.void, head = answered.head,
           kind = CASE WHEN answered.void IS NULL THEN item.kind ELSE 3 END,
           release_id = answered.release_id, fence = ",
    )
    .push_bind(fence)
    .push(
        " FROM answered WHERE item.tenant = answered.tenant AND item.conversation = answered.conversation
           AND item.sequence = answered.sequence AND length(item.receipt) IS NULL",
    );
    sql
}
