//! The chain of each conversation, and the disclosure in force in it.

use greffe_envelope::chain::ChainState;
use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Executor};
use greffe_types::{ConversationId, Digest};

use super::{Scope, digest, int, uint};

/// A conversation as the archive has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conversation {
    /// Highest number and chain head.
    pub chain: ChainState,
    /// Digest of the disclosure in force, once known.
    pub disclosure: Option<Digest>,
    /// Highest fencing epoch of the relay seen in it.
    pub relay_fence: u64,
}

impl Conversation {
    /// Before anything is known of it.
    pub const fn start(conversation: ConversationId) -> Self {
        Self {
            chain: ChainState::start(conversation),
            disclosure: None,
            relay_fence: 0,
        }
    }
}

/// A conversation; none before its first entry, or before the log told of its creation.
pub async fn find(
    conn: impl Executor<'_>,
    scope: &Scope,
    conversation: &ConversationId,
) -> sqlx::Result<Option<Conversation>> {
    type Row = (i64, Vec<u8>, Option<Vec<u8>>, i64);
    let row: Option<Row> = sql::query_as(
        "SELECT sequence, head, disclosure, relay_fence FROM conversations
         WHERE tenant = $1 AND conversation = $2",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    let Some((sequence, head, disclosure, relay_fence)) = row else {
        return Ok(None);
    };
    Ok(Some(Conversation {
        chain: ChainState {
            conversation: *conversation,
            sequence: uint(sequence),
            head: digest(&head)?,
        },
        disclosure: disclosure.as_deref().map(digest).transpose()?,
        relay_fence: uint(relay_fence),
    }))
}

/// Moves a conversation on. A disclosure that is known is never forgotten.
pub async fn save(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &Conversation,
) -> sqlx::Result<()> {
    let disclosure = conversation.disclosure;
    sql::query(
        "INSERT INTO conversations (tenant, conversation, sequence, head, disclosure, relay_fence, fence)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (tenant, conversation) DO UPDATE SET sequence = excluded.sequence, head = excluded.head,
           disclosure = COALESCE(excluded.disclosure, conversations.disclosure),
           relay_fence = excluded.relay_fence, fence = excluded.fence",
    )
    .bind(scope.tenant())
    .bind(conversation.chain.conversation.as_bytes().as_slice())
    .bind(int(conversation.chain.sequence))
    .bind(conversation.chain.head.as_bytes().as_slice())
    .bind(disclosure.as_ref().map(|d| d.as_bytes().as_slice()))
    .bind(int(conversation.relay_fence))
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes the creation of a conversation, as the log tells it. One that has entries already keeps what they said.
pub async fn create(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &ConversationId,
    disclosure: &Digest,
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO conversations (tenant, conversation, sequence, head, disclosure, relay_fence, fence)
         VALUES ($1, $2, 0, $3, $4, 0, $5) ON CONFLICT (tenant, conversation) DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(Digest::ZERO.as_bytes().as_slice())
    .bind(disclosure.as_bytes().as_slice())
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(())
}

/// Highest fencing epoch of the relay seen in any conversation.
pub async fn relay_fence(conn: impl Executor<'_>, scope: &Scope) -> sqlx::Result<u64> {
    let fence: Option<i64> =
        sql::query_scalar("SELECT MAX(relay_fence) FROM conversations WHERE tenant = $1")
            .bind(scope.tenant())
            .fetch_one(conn)
            .await?;
    Ok(fence.map_or(0, uint))
}
