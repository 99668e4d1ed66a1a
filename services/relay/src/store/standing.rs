//! What jobs are decided on: read once for a message that comes in, and once for all jobs of a transaction.

use std::collections::{HashMap, HashSet};

use greffe_service_kit::db::sql::{self, Builder};
use greffe_service_kit::db::{Connection, Reader};
use greffe_types::{ConversationId, DeviceId, Digest, MessageId};

use super::conversations::{self, ConversationRow};
use super::items::Sequenced;
use super::{Scope, conversation as conversation_id, device as device_id, digest, int, uint};

/// A message that comes in.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Its envelope.
    pub envelope: &'a Digest,
    /// The conversation.
    pub conversation: &'a ConversationId,
    /// Who sends it.
    pub device: &'a DeviceId,
    /// The header's message id.
    pub message_id: &'a MessageId,
    /// The number up to which the sender has seen the conversation.
    pub seen: u64,
}

/// How the database stands to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its conversation.
    pub conversation: ConversationRow,
    /// Whether the envelope has a number.
    pub known: bool,
    /// Certificate of the sender's leaf; none when it takes no part.
    pub certificate: Option<Digest>,
    /// Whether the sender has acknowledged the disclosure in force.
    pub acknowledged: bool,
    /// The envelope that took the message id.
    pub taken_by: Option<Digest>,
    /// The chain head at the number seen; none when that has no receipt yet.
    pub seen: Option<Digest>,
}

/// How the database stands to a message; none when there is no such conversation.
pub async fn of_message(
    reader: &Reader,
    scope: &Scope,
    message: &Message<'_>,
) -> sqlx::Result<Option<Standing>> {
    let row = sql::query(
        "SELECT c.mode, c.disclosure, c.epoch, c.sequence, c.released, c.head, c.origin, c.stalled,
           EXISTS (SELECT 1 FROM item k WHERE k.tenant = $1 AND k.digest = $3),
           (SELECT m.certificate FROM member m WHERE m.tenant = $1 AND m.conversation = $2
              AND m.device = $4 AND m.until_seq IS NULL ORDER BY m.from_seq DESC LIMIT 1),
           EXISTS (SELECT 1 FROM acknowledgement a WHERE a.tenant = $1 AND a.conversation = $2
              AND a.device = $4 AND a.disclosure = c.disclosure),
           (SELECT t.digest FROM item t WHERE t.tenant = $1 AND t.conversation = $2
              AND t.message_id = $5),
           (SELECT s.head FROM item s WHERE s.tenant = $1 AND s.conversation = $2 AND s.sequence = $6)
         FROM conversation c WHERE c.tenant = $1 AND c.conversation = $2",
    )
    .bind(scope.tenant())
    .bind(message.conversation.as_bytes())
    .bind(message.envelope.as_bytes())
    .bind(message.device.as_bytes())
    .bind(message.message_id.as_bytes())
    .bind(int(message.seen))
    .fetch_optional(reader)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let bytes = |at| {
        let bytes: Option<Vec<u8>> = row.at(at)?;
        bytes.as_deref().map(digest).transpose()
    };
    Ok(Some(Standing {
        conversation: conversations::row(&row, 0)?,
        known: row.at(8)?,
        certificate: bytes(9)?,
        acknowledged: row.at(10)?,
        taken_by: bytes(11)?,
        seen: bytes(12)?,
    }))
}

/// Which of these envelope or handshake digests have a number, each as a retry finds it.
pub async fn sequenced(
    conn: &mut Connection,
    scope: &Scope,
    digests: &[Digest],
) -> sqlx::Result<HashMap<Digest, Sequenced>> {
    type Row = (
        Vec<u8>,
        Vec<u8>,
        i64,
        Vec<u8>,
        Option<Vec<u8>>,
        Option<Vec<u8>>,
    );
    let mut found = HashMap::new();
    for some in sql::groups(digests, |_| 0) {
        let mut sql = Builder::new(
            "SELECT digest, conversation, sequence, device, receipt, void FROM item WHERE tenant = ",
        );
        sql.push_bind(scope.tenant())
            .push(" AND digest IN ")
            .push_list(some.iter().map(Digest::as_bytes));
        let rows: Vec<Row> = sql.build_query_as().fetch_all(&mut *conn).await?;
        for (item, conversation, sequence, device, receipt, void) in rows {
            let sequenced = Sequenced {
                conversation: conversation_id(&conversation)?,
                sequence: uint(sequence),
                device: device_id(&device)?,
                receipt,
                void,
            };
            found.insert(digest(&item)?, sequenced);
        }
    }
    Ok(found)
}

/// Which of these message ids an envelope of their conversation has taken.
pub async fn taken(
    conn: &mut Connection,
    scope: &Scope,
    ids: &[(ConversationId, MessageId)],
) -> sqlx::Result<HashSet<(ConversationId, MessageId)>> {
    let mut found = HashSet::new();
    for some in sql::groups(ids, |_| 0) {
        let sql = taken_of(scope, some);
        let rows: Vec<(Vec<u8>, Vec<u8>)> = sql.build_query_as().fetch_all(&mut *conn).await?;
        for (id, message) in rows {
            let message = MessageId::try_from(message.as_slice()).map_err(super::damaged)?;
            found.insert((conversation_id(&id)?, message));
        }
    }
    Ok(found)
}

pub(super) fn taken_of(scope: &Scope, ids: &[(ConversationId, MessageId)]) -> Builder {
    let mut sql = Builder::new("WITH asked (conversation, message_id) AS (");
    sql.push_values(ids, |row, (id, message)| {
        row.push_bind(id.as_bytes()).push_bind(message.as_bytes());
    })
    .push(
        ") SELECT a.conversation, a.message_id FROM asked a CROSS JOIN item i
         WHERE i.conversation = a.conversation AND i.message_id = a.message_id
           AND i.message_id IS NOT NULL AND i.tenant = ",
    )
    .push_bind(scope.tenant());
    sql
}

/// What stands at the end of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// The conversation.
    pub row: ConversationRow,
    /// A commit has no receipt yet.
    pub commit_pending: bool,
    /// A number is taken that the conversation has not given: it gives none any more.
    pub overrun: bool,
}

/// Conversations, with what stands at their ends.
pub async fn tails(
    conn: &mut Connection,
    scope: &Scope,
    conversations: &[ConversationId],
) -> sqlx::Result<HashMap<ConversationId, Tail>> {
    let mut found = HashMap::new();
    for some in sql::groups(conversations, |_| 0) {
        let mut sql = Builder::new(
            "SELECT c.conversation, c.mode, c.disclosure, c.epoch, c.sequence, c.released, c.head, c.origin, c.stalled,
               EXISTS (SELECT 1 FROM item i WHERE i.tenant = c.tenant AND i.conversation = c.conversation
                 AND i.sequence > c.released AND i.kind = 2 AND i.receipt IS NULL),
               EXISTS (SELECT 1 FROM item i WHERE i.tenant = c.tenant AND i.conversation = c.conversation
                 AND i.sequence > c.sequence)
             FROM conversation c WHERE c.tenant = ",
        );
        sql.push_bind(scope.tenant())
            .push(" AND c.conversation IN ")
            .push_list(some.iter().map(ConversationId::as_bytes));
        for row in sql.build().fetch_all(&mut *conn).await? {
            let id = conversation_id(&row.at::<Vec<u8>>(0)?)?;
            let tail = Tail {
                row: conversations::row(&row, 1)?,
                commit_pending: row.at(9)?,
                overrun: row.at(10)?,
            };
            found.insert(id, tail);
        }
    }
    Ok(found)
}
