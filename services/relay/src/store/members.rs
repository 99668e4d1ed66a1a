//! Who takes part in a conversation, and how far each device has taken its mailbox in.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Builder, Executor};
use greffe_types::{ConversationId, DeviceId, Digest};

use super::{
    Scope, conversation as conversation_id, device as device_id, digest, epoch, int, uint,
};

/// A device's stay in a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRow {
    /// The conversation.
    pub conversation: ConversationId,
    /// The device.
    pub device: DeviceId,
    /// Its user.
    pub user: String,
    /// Certificate of its MLS leaf.
    pub certificate: Digest,
    /// Number of the commit that added it; 0 for the creator.
    pub from_seq: u64,
    /// Number of the commit that removed it.
    pub until_seq: Option<u64>,
    /// device_counter of its last sequenced message.
    pub counter: u64,
    /// Envelope digest of that message.
    pub previous: Digest,
    /// Everything up to here is taken in; `from_seq - 1` while the Welcome waits.
    pub cursor: u64,
}

impl MemberRow {
    /// Whether the device has not taken its stay in up to its end: a commit that removed it is of its stay.
    pub fn has_more(&self) -> bool {
        self.until_seq.is_none_or(|until| self.cursor < until)
    }
}

type Columns = (
    Vec<u8>,
    Vec<u8>,
    String,
    Vec<u8>,
    i64,
    Option<i64>,
    i64,
    Vec<u8>,
    i64,
);

fn row(columns: Columns) -> sqlx::Result<MemberRow> {
    let (conversation, device, user, certificate, from_seq, until_seq, counter, previous, cursor) =
        columns;
    Ok(MemberRow {
        conversation: conversation_id(&conversation)?,
        device: device_id(&device)?,
        user,
        certificate: digest(&certificate)?,
        from_seq: uint(from_seq),
        until_seq: until_seq.map(uint),
        counter: uint(counter),
        previous: digest(&previous)?,
        cursor: uint(cursor),
    })
}

/// Lets a device in. It keeps counter and previous digest of an earlier stay.
pub async fn insert(conn: &mut Connection, scope: &Scope, row: &MemberRow) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO member
           (tenant, conversation, device, from_seq, user_name, certificate, cursor, counter, previous, fence)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(scope.tenant())
    .bind(row.conversation.as_bytes().as_slice())
    .bind(row.device.as_bytes().as_slice())
    .bind(int(row.from_seq))
    .bind(&row.user)
    .bind(row.certificate.as_bytes().as_slice())
    .bind(int(row.cursor))
    .bind(int(row.counter))
    .bind(row.previous.as_bytes().as_slice())
    .bind(epoch(conn))
    .execute(conn)
    .await?;
    Ok(())
}

/// The members now, by device.
pub async fn present(
    conn: impl Executor<'_>,
    scope: &Scope,
    conversation: &ConversationId,
) -> sqlx::Result<Vec<MemberRow>> {
    let rows: Vec<Columns> = sql::query_as(
        "SELECT conversation, device, user_name, certificate, from_seq, until_seq, counter, previous, cursor
         FROM member WHERE tenant = $1 AND conversation = $2 AND until_seq IS NULL ORDER BY device",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(row).collect()
}

/// Those who take part at a number, by device: the commit that adds or removes a device counts as its own.
pub async fn at(
    conn: impl Executor<'_>,
    scope: &Scope,
    conversation: &ConversationId,
    sequence: u64,
) -> sqlx::Result<Vec<(String, DeviceId)>> {
    let rows: Vec<(String, Vec<u8>)> = sql::query_as(
        "SELECT user_name, device FROM member WHERE tenant = $1 AND conversation = $2
         AND from_seq <= $3 AND (until_seq IS NULL OR until_seq >= $3) ORDER BY device",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(int(sequence))
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(user, device)| Ok((user, device_id(&device)?)))
        .collect()
}

/// Every stay of a device, over all conversations or in one, earlier ones first.
pub async fn stays(
    conn: impl Executor<'_>,
    scope: &Scope,
    device: &DeviceId,
    conversation: Option<&ConversationId>,
) -> sqlx::Result<Vec<MemberRow>> {
    let rows: Vec<Columns> = sql::query_as(
        "SELECT conversation, device, user_name, certificate, from_seq, until_seq, counter, previous, cursor
         FROM member WHERE tenant = $1 AND device = $2 AND ($3 IS NULL OR conversation = $3)
         ORDER BY conversation, from_seq",
    )
    .bind(scope.tenant())
    .bind(device.as_bytes().as_slice())
    .bind(conversation.map(|c| c.as_bytes().as_slice()))
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(row).collect()
}

/// Every conversation that a device is or was in.
pub async fn conversations_with(
    conn: impl Executor<'_>,
    scope: &Scope,
    device: &DeviceId,
) -> sqlx::Result<Vec<ConversationId>> {
    let rows: Vec<Vec<u8>> = sql::query_scalar(
        "SELECT DISTINCT conversation FROM member WHERE tenant = $1 AND device = $2",
    )
    .bind(scope.tenant())
    .bind(device.as_bytes().as_slice())
    .fetch_all(conn)
    .await?;
    rows.iter().map(|bytes| conversation_id(bytes)).collect()
}

/// A page of the conversations a device is in now, after one of them.
pub async fn conversations_of(
    conn: impl Executor<'_>,
    scope: &Scope,
    device: &DeviceId,
    after: (u64, Option<ConversationId>),
    limit: u32,
) -> sqlx::Result<Vec<(u64, ConversationId)>> {
    let rows: Vec<(i64, Vec<u8>)> = sql::query_as(
        "SELECT c.log_index, c.conversation FROM member m
         JOIN conversation c ON c.tenant = m.tenant AND c.conversation = m.conversation
         WHERE m.tenant = $1 AND m.device = $2 AND m.until_seq IS NULL
           AND (c.log_index > $3 OR (c.log_index = $3 AND c.conversation > $4))
         ORDER BY c.log_index, c.conversation LIMIT $5",
    )
    .bind(scope.tenant())
    .bind(device.as_bytes().as_slice())
    .bind(int(after.0))
    .bind(after.1.map(|c| c.to_vec()).unwrap_or_default())
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(log_index, id)| Ok((uint(log_index), conversation_id(&id)?)))
        .collect()
}

/// The stays that have not ended of these devices, each in a conversation.
pub async fn present_of(
    conn: &mut Connection,
    scope: &Scope,
    asked: &[(ConversationId, DeviceId)],
) -> sqlx::Result<Vec<MemberRow>> {
    let mut found = Vec::new();
    for some in sql::groups(asked, |_| 0) {
        let sql = present_among(scope, some);
        let rows: Vec<Columns> = sql.build_query_as().fetch_all(&mut *conn).await?;
        for columns in rows {
            found.push(row(columns)?);
        }
    }
    Ok(found)
}

pub(super) fn present_among(scope: &Scope, asked: &[(ConversationId, DeviceId)]) -> Builder {
    let mut sql = Builder::new("WITH asked (conversation, device) AS (");
    sql.push_values(asked, |row, (id, device)| {
        row.push_bind(id.as_bytes()).push_bind(device.as_bytes());
    })
    .push(
        ") SELECT m.conversation, m.device, m.user_name, m.certificate, m.from_seq, m.until_seq, m.counter,
           m.previous, m.cursor
         FROM asked a CROSS JOIN member m
         WHERE m.conversation = a.conversation AND m.device = a.device
           AND m.until_seq IS NULL AND m.tenant = ",
    )
    .push_bind(scope.tenant())
    .push(" ORDER BY m.from_seq");
    sql
}

/// The last message that a member had sequenced.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// The conversation.
    pub conversation: ConversationId,
    /// The member.
    pub device: DeviceId,
    /// device_counter of the message.
    pub counter: u64,
    /// Its envelope digest.
    pub previous: Digest,
}

/// Remembers the last messages that members had sequenced.
pub async fn set_counters(conn: &mut Connection, scope: &Scope, sent: &[Sent]) -> sqlx::Result<()> {
    let fence = epoch(conn);
    for some in sql::groups(sent, |_| 0) {
        let sql = set_all_counters(scope, fence, some);
        sql.build().execute(&mut *conn).await?;
    }
    Ok(())
}

pub(super) fn set_all_counters(scope: &Scope, fence: i64, sent: &[Sent]) -> Builder {
    let mut sql = Builder::new("WITH sent (tenant, conversation, device, counter, previous) AS (");
    sql.push_values(sent, |row, sent| {
        row.push_bind(scope.tenant())
            .push_bind(sent.conversation.as_bytes())
            .push_bind(sent.device.as_bytes())
            .push_bind(int(sent.counter))
            .push_bind(sent.previous.as_bytes());
    })
    .push(") UPDATE member SET counter = sent.counter, previous = sent.previous, fence = ")
    .push_bind(fence)
    .push(
        " FROM sent WHERE member.tenant = sent.tenant AND member.conversation = sent.conversation
           AND member.device = sent.device AND member.until_seq IS NULL",
    );
    sql
}

/// Moves a device's cursors forward; one that would go back, or past the end of a stay, stays where it is.
pub async fn set_cursor(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &ConversationId,
    device: &DeviceId,
    sequence: u64,
) -> sqlx::Result<()> {
    sql::query(
        "UPDATE member SET cursor = CASE WHEN until_seq < $4 THEN until_seq ELSE $4 END, fence = $5
         WHERE tenant = $1 AND conversation = $2 AND device = $3 AND from_seq <= $4
           AND cursor < CASE WHEN until_seq < $4 THEN until_seq ELSE $4 END",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .bind(int(sequence))
    .bind(epoch(conn))
    .execute(conn)
    .await?;
    Ok(())
}

/// Lets a device out, with the commit of this number.
pub async fn close(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &ConversationId,
    device: &DeviceId,
    sequence: u64,
) -> sqlx::Result<()> {
    sql::query(
        "UPDATE member SET until_seq = $4, fence = $5
         WHERE tenant = $1 AND conversation = $2 AND device = $3 AND until_seq IS NULL",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .bind(int(sequence))
    .bind(epoch(conn))
    .execute(conn)
    .await?;
    Ok(())
}

/// Replaces the certificate of a member's leaf.
pub async fn set_certificate(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &ConversationId,
    device: &DeviceId,
    certificate: &Digest,
) -> sqlx::Result<()> {
    sql::query(
        "UPDATE member SET certificate = $4, fence = $5
         WHERE tenant = $1 AND conversation = $2 AND device = $3 AND until_seq IS NULL",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .bind(certificate.as_bytes().as_slice())
    .bind(epoch(conn))
    .execute(conn)
    .await?;
    Ok(())
}

/// Undoes the comings and goings of a commit that the archive refused.
pub async fn undo(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &ConversationId,
    sequence: u64,
) -> sqlx::Result<()> {
    sql::query("DELETE FROM member WHERE tenant = $1 AND conversation = $2 AND from_seq = $3")
        .bind(scope.tenant())
        .bind(conversation.as_bytes().as_slice())
        .bind(int(sequence))
        .execute(&mut *conn)
        .await?;
    sql::query(
        "UPDATE member SET until_seq = NULL, fence = $4
         WHERE tenant = $1 AND conversation = $2 AND until_seq = $3",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(int(sequence))
    .bind(epoch(conn))
    .execute(conn)
    .await?;
    Ok(())
}

/// The number up to which every device has taken a conversation in: nobody will ask for those payloads again.
pub async fn taken_in_by_all(
    conn: impl Executor<'_>,
    scope: &Scope,
    conversation: &ConversationId,
) -> sqlx::Result<Option<u64>> {
    let least: Option<i64> = sql::query_scalar(
        "SELECT MIN(cursor) FROM member WHERE tenant = $1 AND conversation = $2
         AND (until_seq IS NULL OR cursor < until_seq)",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .fetch_one(conn)
    .await?;
    Ok(least.map(uint))
}
