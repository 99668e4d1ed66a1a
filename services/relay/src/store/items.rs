//! What took a number, its bytes, and the outbox: items without a receipt.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Builder, Executor};
use greffe_types::{ConversationId, DeviceId, Digest, MessageId};

use super::{
    Scope, conversation as conversation_id, device as device_id, digest, epoch, int, uint,
};

/// What an item is, as the proto numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An envelope.
    Message = 1,
    /// A commit.
    Handshake = 2,
    /// What the archive refused.
    Void = 3,
}

impl Kind {
    pub(super) fn from_sql(value: i64) -> sqlx::Result<Self> {
        match value {
            1 => Ok(Self::Message),
            2 => Ok(Self::Handshake),
            3 => Ok(Self::Void),
            _ => Err(sqlx::Error::Decode("an item of unknown kind".into())),
        }
    }
}

/// An item to sequence.
#[derive(Debug, Clone)]
pub struct NewItem {
    /// The conversation.
    pub conversation: ConversationId,
    /// Its number.
    pub sequence: u64,
    /// Message or handshake.
    pub kind: Kind,
    /// Envelope or handshake digest.
    pub digest: Digest,
    /// The header's message id.
    pub message_id: Option<MessageId>,
    /// The sending device.
    pub device: DeviceId,
    /// Its certificate.
    pub certificate: Digest,
    /// MLS epoch it was made in.
    pub epoch: u64,
    /// Disclosure in force when it was made.
    pub disclosure: Digest,
}

/// Gives items their numbers, in their order, each with its bytes; false when a digest, message id, number or epoch's commit is
/// taken. One alone changes nothing then; of several, some may be there, and the transaction has to be given up.
pub async fn insert(
    conn: &mut Connection,
    scope: &Scope,
    items: &[(NewItem, &[u8])],
) -> sqlx::Result<bool> {
    let fence = epoch(conn);
    for some in sql::groups(items, |(_, payload)| payload.len()) {
        let mut sql = Builder::new(
            "INSERT INTO item
               (tenant, conversation, sequence, kind, digest, message_id, device, certificate, epoch,
                disclosure, size, fence) ",
        );
        sql.push_values(some, |row, (item, payload)| {
            row.push_bind(scope.tenant())
                .push_bind(item.conversation.as_bytes())
                .push_bind(int(item.sequence))
                .push_bind(item.kind as i64)
                .push_bind(item.digest.as_bytes())
                .push_bind(item.message_id.as_ref().map(MessageId::as_bytes))
                .push_bind(item.device.as_bytes())
                .push_bind(item.certificate.as_bytes())
                .push_bind(int(item.epoch))
                .push_bind(item.disclosure.as_bytes())
                .push_bind(int(payload.len() as u64))
                .push_bind(fence);
        });
        sql.push(" ON CONFLICT DO NOTHING");
        let done = sql.build().execute(&mut *conn).await?;
        if done.rows_affected() < some.len() as u64 {
            return Ok(false);
        }
        let mut sql =
            Builder::new("INSERT INTO payload (tenant, conversation, sequence, payload, fence) ");
        sql.push_values(some, |row, (item, payload)| {
            row.push_bind(scope.tenant())
                .push_bind(item.conversation.as_bytes())
                .push_bind(int(item.sequence))
                .push_bind(*payload)
                .push_bind(fence);
        });
        sql.build().execute(&mut *conn).await?;
    }
    Ok(true)
}

/// An item that was sequenced before, as a retry finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequenced {
    /// The conversation.
    pub conversation: ConversationId,
    /// Its number.
    pub sequence: u64,
    /// Who sent it.
    pub device: DeviceId,
    /// The receipt, once there.
    pub receipt: Option<Vec<u8>>,
    /// The void, when the archive refused.
    pub void: Option<Vec<u8>>,
}

/// Finds an item by its envelope or handshake digest.
pub async fn by_digest(
    conn: impl Executor<'_>,
    scope: &Scope,
    item: &Digest,
) -> sqlx::Result<Option<Sequenced>> {
    type Columns = (Vec<u8>, i64, Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>);
    let row: Option<Columns> = sql::query_as(
        "SELECT conversation, sequence, device, receipt, void FROM item
         WHERE tenant = $1 AND digest = $2",
    )
    .bind(scope.tenant())
    .bind(item.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    row.map(|(conversation, sequence, device, receipt, void)| {
        Ok(Sequenced {
            conversation: conversation_id(&conversation)?,
            sequence: uint(sequence),
            device: device_id(&device)?,
            receipt,
            void,
        })
    })
    .transpose()
}

/// The chain head at a number; none when it has no receipt yet.
pub async fn head_at(
    conn: impl Executor<'_>,
    scope: &Scope,
    conversation: &ConversationId,
    sequence: u64,
) -> sqlx::Result<Option<Digest>> {
    let found: Option<Option<Vec<u8>>> = sql::query_scalar(
        "SELECT head FROM item WHERE tenant = $1 AND conversation = $2 AND sequence = $3",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(int(sequence))
    .fetch_optional(conn)
    .await?;
    found.flatten().map(|bytes| digest(&bytes)).transpose()
}

/// An item on its way to the archive.
#[derive(Debug, Clone)]
pub struct OutboxRow {
    /// The relay's own order.
    pub id: u64,
    /// The conversation.
    pub conversation: ConversationId,
    /// Its number.
    pub sequence: u64,
    /// Message or handshake.
    pub kind: Kind,
    /// The sending device.
    pub device: DeviceId,
    /// Its certificate.
    pub certificate: Digest,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// Items without a receipt after a place in the relay's own order, in that order.
pub async fn outbox(
    conn: impl Executor<'_>,
    scope: &Scope,
    after: u64,
    limit: u32,
) -> sqlx::Result<Vec<OutboxRow>> {
    type Columns = (i64, Vec<u8>, i64, i64, Vec<u8>, Vec<u8>, Vec<u8>);
    let rows: Vec<Columns> = sql::query_as(
        "SELECT i.id, i.conversation, i.sequence, i.kind, i.device, i.certificate, p.payload
         FROM item i JOIN payload p
           ON p.tenant = i.tenant AND p.conversation = i.conversation AND p.sequence = i.sequence
         WHERE i.tenant = $1 AND i.receipt IS NULL AND i.id > $2 ORDER BY i.id LIMIT $3",
    )
    .bind(scope.tenant())
    .bind(int(after))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(
            |(id, conversation, sequence, kind, device, certificate, payload)| {
                Ok(OutboxRow {
                    id: uint(id),
                    conversation: conversation_id(&conversation)?,
                    sequence: uint(sequence),
                    kind: Kind::from_sql(kind)?,
                    device: device_id(&device)?,
                    certificate: digest(&certificate)?,
                    payload,
                })
            },
        )
        .collect()
}

/// What waits for the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// How many items.
    pub items: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The first of them in the relay's own order, and the last.
    pub ids: (u64, u64),
}

/// What waits for the archive, whichever replica sequenced it.
pub async fn backlog(conn: impl Executor<'_>, scope: &Scope) -> sqlx::Result<Backlog> {
    let (count, size, first, last): (i64, i64, i64, i64) = sql::query_as(
        "SELECT COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT), COALESCE(MIN(id), 0),
           COALESCE(MAX(id), 0)
         FROM item WHERE tenant = $1 AND receipt IS NULL",
    )
    .bind(scope.tenant())
    .fetch_one(conn)
    .await?;
    Ok(Backlog {
        items: uint(count),
        bytes: uint(size),
        ids: (uint(first), uint(last)),
    })
}

/// An item that was released.
#[derive(Debug, Clone)]
pub struct Released {
    /// Its place in the order of release: dense, over all conversations.
    pub place: u64,
    /// Envelope or handshake digest.
    pub digest: Digest,
    /// Whether it was given a number as a commit: only those have no message id.
    pub commit: bool,
    /// As a retry finds it.
    pub item: Sequenced,
}

/// Place of the item released last; 0 before the first.
pub async fn last_released(conn: impl Executor<'_>, scope: &Scope) -> sqlx::Result<u64> {
    let last: i64 = sql::query_scalar(
        "SELECT COALESCE(MAX(release_id), 0) FROM item WHERE tenant = $1 AND release_id IS NOT NULL",
    )
    .bind(scope.tenant())
    .fetch_one(conn)
    .await?;
    Ok(uint(last))
}

/// Items released after a place, in the order of release.
pub async fn released_after(
    conn: impl Executor<'_>,
    scope: &Scope,
    place: u64,
    limit: u32,
) -> sqlx::Result<Vec<Released>> {
    type Columns = (
        i64,
        Vec<u8>,
        i64,
        Vec<u8>,
        i64,
        Vec<u8>,
        Option<Vec<u8>>,
        Option<Vec<u8>>,
    );
    let rows: Vec<Columns> = sql::query_as(
        "SELECT release_id, digest, CASE WHEN message_id IS NULL THEN 1 ELSE 0 END, conversation,
           sequence, device, receipt, void
         FROM item WHERE tenant = $1 AND release_id > $2 ORDER BY release_id LIMIT $3",
    )
    .bind(scope.tenant())
    .bind(int(place))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(
            |(place, entry, commit, conversation, sequence, device, receipt, void)| {
                Ok(Released {
                    place: uint(place),
                    digest: digest(&entry)?,
                    commit: commit == 1,
                    item: Sequenced {
                        conversation: conversation_id(&conversation)?,
                        sequence: uint(sequence),
                        device: device_id(&device)?,
                        receipt,
                        void,
                    },
                })
            },
        )
        .collect()
}

/// The receipt of an item that the archive took in; none while there is none, or when it was refused.
pub async fn receipt(
    conn: impl Executor<'_>,
    scope: &Scope,
    conversation: &ConversationId,
    sequence: u64,
) -> sqlx::Result<Option<Vec<u8>>> {
    sql::query_scalar(
        "SELECT receipt FROM item WHERE tenant = $1 AND conversation = $2 AND sequence = $3
         AND receipt IS NOT NULL AND void IS NULL",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(int(sequence))
    .fetch_optional(conn)
    .await
}

/// An item as a mailbox reads it.
#[derive(Debug, Clone)]
pub struct MailRow {
    /// Its number.
    pub sequence: u64,
    /// What it is.
    pub kind: Kind,
    /// Disclosure in force when it was made.
    pub disclosure: Digest,
    /// Protobuf of the receipt.
    pub receipt: Vec<u8>,
    /// Protobuf of the void.
    pub void: Option<Vec<u8>>,
    /// Its bytes; none once every member had taken it in.
    pub payload: Option<Vec<u8>>,
}

/// Numbers and sizes of items with a receipt after a number and up to another, in order.
pub async fn sizes(
    conn: impl Executor<'_>,
    scope: &Scope,
    conversation: &ConversationId,
    after: u64,
    until: u64,
    limit: u32,
) -> sqlx::Result<Vec<(u64, u64)>> {
    let rows: Vec<(i64, i64)> = sql::query_as(
        "SELECT sequence, size FROM item
         WHERE tenant = $1 AND conversation = $2 AND sequence > $3 AND sequence <= $4
           AND receipt IS NOT NULL ORDER BY sequence LIMIT $5",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(int(after))
    .bind(int(until))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    let rows = rows.into_iter();
    Ok(rows.map(|(n, size)| (uint(n), uint(size))).collect())
}

/// Items with a receipt after a number and up to another, in order.
pub async fn mail(
    conn: impl Executor<'_>,
    scope: &Scope,
    conversation: &ConversationId,
    after: u64,
    until: u64,
    limit: u32,
) -> sqlx::Result<Vec<MailRow>> {
    type Columns = (i64, i64, Vec<u8>, Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>);
    let rows: Vec<Columns> = sql::query_as(
        "SELECT i.sequence, i.kind, i.disclosure, i.receipt, i.void, p.payload
         FROM item i LEFT JOIN payload p
           ON p.tenant = i.tenant AND p.conversation = i.conversation AND p.sequence = i.sequence
         WHERE i.tenant = $1 AND i.conversation = $2 AND i.sequence > $3 AND i.sequence <= $4
           AND i.receipt IS NOT NULL ORDER BY i.sequence LIMIT $5",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(int(after))
    .bind(int(until))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(sequence, kind, disclosure, receipt, void, payload)| {
            Ok(MailRow {
                sequence: uint(sequence),
                kind: Kind::from_sql(kind)?,
                disclosure: digest(&disclosure)?,
                receipt,
                void,
                payload,
            })
        })
        .collect()
}

/// Drops the bytes of archived items up to a number; gives how many.
pub async fn drop_payloads(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &ConversationId,
    until: u64,
) -> sqlx::Result<u64> {
    let done = sql::query(
        "DELETE FROM payload WHERE tenant = $1 AND conversation = $2 AND sequence <= $3
         AND sequence <= (SELECT released FROM conversation WHERE tenant = $1 AND conversation = $2)",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(int(until))
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Number of the commit that has no receipt yet, when there is one.
pub async fn pending_commit(
    conn: impl Executor<'_>,
    scope: &Scope,
    conversation: &ConversationId,
) -> sqlx::Result<Option<u64>> {
    let found: Option<i64> = sql::query_scalar(
        "SELECT sequence FROM item WHERE tenant = $1 AND conversation = $2 AND kind = 2
         AND receipt IS NULL",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    Ok(found.map(uint))
}

/// Whether something of a conversation was made while a disclosure was in force.
pub async fn made_under(
    conn: impl Executor<'_>,
    scope: &Scope,
    conversation: &ConversationId,
    disclosure: &Digest,
) -> sqlx::Result<bool> {
    let found: Option<i64> = sql::query_scalar(
        "SELECT 1 FROM item WHERE tenant = $1 AND conversation = $2 AND disclosure = $3 LIMIT 1",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(disclosure.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    Ok(found.is_some())
}
