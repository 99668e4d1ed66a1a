//! Conversations: their state and the observer's snapshot.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Builder, Executor, Row};
use greffe_types::{ConversationId, DeviceId, Digest, Millis};

use super::{Scope, digest, epoch, int, uint};

/// A conversation to create.
#[derive(Debug, Clone)]
pub struct NewConversation {
    /// MLS group id.
    pub conversation: ConversationId,
    /// Who creates it.
    pub created_by: DeviceId,
    /// When.
    pub created_at: Millis,
    /// Digest of the group info.
    pub origin: Digest,
    /// Index of the log's leaf.
    pub log_index: u64,
    /// Mode, as the proto numbers it.
    pub mode: i32,
    /// SHA-256 of the disclosure's statement bytes.
    pub disclosure: Digest,
    /// MLS epoch.
    pub epoch: u64,
    /// The observer's snapshot.
    pub observer: Vec<u8>,
}

/// A conversation's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationRow {
    /// Mode, as the proto numbers it.
    pub mode: i32,
    /// SHA-256 of the disclosure's statement bytes.
    pub disclosure: Digest,
    /// MLS epoch.
    pub epoch: u64,
    /// Highest number given.
    pub sequence: u64,
    /// Highest number with a receipt.
    pub released: u64,
    /// Chain head at `released`.
    pub head: Digest,
    /// Digest of the group info it was created from.
    pub origin: Digest,
    /// Whether relay and archive contradict each other: nothing more gets a number.
    pub stalled: bool,
}

impl ConversationRow {
    /// How far it is.
    pub const fn advance(&self, conversation: ConversationId) -> Advance {
        Advance {
            conversation,
            sequence: self.sequence,
            released: self.released,
            head: self.head,
        }
    }
}

/// Creates one; false when the id is taken.
pub async fn insert(
    conn: &mut Connection,
    scope: &Scope,
    new: &NewConversation,
) -> sqlx::Result<bool> {
    let done = sql::query(
        "INSERT INTO conversation
           (tenant, conversation, created_by, created_at, origin, log_index, mode, disclosure,
            epoch, sequence, released, head, observer, stalled, fence)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 0, $10, $11, '', $12) ON CONFLICT DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(new.conversation.as_bytes().as_slice())
    .bind(new.created_by.as_bytes().as_slice())
    .bind(int(new.created_at.get()))
    .bind(new.origin.as_bytes().as_slice())
    .bind(int(new.log_index))
    .bind(i64::from(new.mode))
    .bind(new.disclosure.as_bytes().as_slice())
    .bind(int(new.epoch))
    .bind(Digest::ZERO.as_bytes().as_slice())
    .bind(&new.observer)
    .bind(epoch(conn))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A conversation.
pub async fn get(
    conn: impl Executor<'_>,
    scope: &Scope,
    conversation: &ConversationId,
) -> sqlx::Result<Option<ConversationRow>> {
    let found = sql::query(
        "SELECT mode, disclosure, epoch, sequence, released, head, origin, stalled FROM conversation
         WHERE tenant = $1 AND conversation = $2",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    found.map(|found| row(&found, 0)).transpose()
}

/// Reads a conversation's columns, from `mode` at a place on, in the order of [`get`].
pub(super) fn row(found: &Row, first: usize) -> sqlx::Result<ConversationRow> {
    let bytes = |at: usize| digest(&found.at::<Vec<u8>>(first + at)?);
    let number = |at: usize| found.at(first + at).map(uint);
    Ok(ConversationRow {
        mode: i32::try_from(found.at::<i64>(first)?).unwrap_or_default(),
        disclosure: bytes(1)?,
        epoch: number(2)?,
        sequence: number(3)?,
        released: number(4)?,
        head: bytes(5)?,
        origin: bytes(6)?,
        stalled: !found.at::<String>(first + 7)?.is_empty(),
    })
}

/// How far a conversation is.
#[derive(Debug, Clone, Copy)]
pub struct Advance {
    /// The conversation.
    pub conversation: ConversationId,
    /// Highest number given.
    pub sequence: u64,
    /// Highest number with a receipt.
    pub released: u64,
    /// Chain head at `released`.
    pub head: Digest,
}

/// The observer's snapshot, with its epoch.
pub async fn observer(
    conn: impl Executor<'_>,
    scope: &Scope,
    conversation: &ConversationId,
) -> sqlx::Result<Option<(u64, Vec<u8>)>> {
    let row: Option<(i64, Vec<u8>)> = sql::query_as(
        "SELECT epoch, observer FROM conversation WHERE tenant = $1 AND conversation = $2",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|(epoch, snapshot)| (uint(epoch), snapshot)))
}

/// Writes how far numbers were given and released, and the heads.
pub async fn advance(
    conn: &mut Connection,
    scope: &Scope,
    advances: &[Advance],
) -> sqlx::Result<()> {
    let fence = epoch(conn);
    for some in sql::groups(advances, |_| 0) {
        let sql = advance_all(scope, fence, some);
        sql.build().execute(&mut *conn).await?;
    }
    Ok(())
}

pub(super) fn advance_all(scope: &Scope, fence: i64, advances: &[Advance]) -> Builder {
    let mut sql = Builder::new("WITH moved (tenant, conversation, sequence, released, head) AS (");
    sql.push_values(advances, |row, advance| {
        row.push_bind(scope.tenant())
            .push_bind(advance.conversation.as_bytes())
            .push_bind(int(advance.sequence))
            .push_bind(int(advance.released))
            .push_bind(advance.head.as_bytes());
    })
    .push(
        ") UPDATE conversation SET sequence = moved.sequence, released = moved.released,
           head = moved.head, fence = ",
    )
    .push_bind(fence)
    .push(
        " FROM moved WHERE conversation.tenant = moved.tenant
           AND conversation.conversation = moved.conversation",
    );
    sql
}

/// Stops a conversation, and says why.
pub async fn stall(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &ConversationId,
    why: &str,
) -> sqlx::Result<()> {
    sql::query(
        "UPDATE conversation SET stalled = $3, fence = $4 WHERE tenant = $1 AND conversation = $2",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(why)
    .bind(epoch(conn))
    .execute(conn)
    .await?;
    Ok(())
}

/// Lets every conversation go on that was stopped: whoever compares them with the archive anew stops them again.
pub async fn resume_all(conn: &mut Connection, scope: &Scope) -> sqlx::Result<()> {
    sql::query(
        "UPDATE conversation SET stalled = '', fence = $2 WHERE tenant = $1 AND stalled <> ''",
    )
    .bind(scope.tenant())
    .bind(epoch(conn))
    .execute(conn)
    .await?;
    Ok(())
}

/// What a commit changes of a conversation.
#[derive(Debug, Clone)]
pub struct GroupState {
    /// Epoch after it.
    pub epoch: u64,
    /// The observer's snapshot after it.
    pub observer: Vec<u8>,
    /// Disclosure in force after it.
    pub disclosure: Digest,
    /// Mode after it, as the proto numbers it.
    pub mode: i32,
}

/// Moves a conversation to another group state.
pub async fn set_group(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &ConversationId,
    state: &GroupState,
) -> sqlx::Result<()> {
    sql::query(
        "UPDATE conversation SET epoch = $3, observer = $4, disclosure = $5, mode = $6, fence = $7
         WHERE tenant = $1 AND conversation = $2",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(int(state.epoch))
    .bind(&state.observer)
    .bind(state.disclosure.as_bytes().as_slice())
    .bind(i64::from(state.mode))
    .bind(epoch(conn))
    .execute(conn)
    .await?;
    Ok(())
}
