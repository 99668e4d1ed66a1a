//! The chain of each conversation, and the disclosure in force in it.

use std::collections::HashMap;

use greffe_envelope::chain::ChainState;
use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Builder, Executor};
use greffe_types::{ConversationId, Digest};

use super::{Scope, conversation, digest, int, uint};

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

type Row = (Vec<u8>, i64, Vec<u8>, Option<Vec<u8>>, i64);

/// A conversation; none before its first entry, or before the log told of its creation.
pub async fn find(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &ConversationId,
) -> sqlx::Result<Option<Conversation>> {
    let mut found = some_of(conn, scope, &[*conversation]).await?;
    Ok(found.remove(conversation))
}

/// As [`find`], several.
pub async fn some_of(
    conn: &mut Connection,
    scope: &Scope,
    conversations: &[ConversationId],
) -> sqlx::Result<HashMap<ConversationId, Conversation>> {
    let mut found = HashMap::new();
    for some in sql::groups(conversations, |_| 0) {
        let mut sql = Builder::new(
            "SELECT conversation, sequence, head, disclosure, relay_fence FROM conversations WHERE tenant = ",
        );
        sql.push_bind(scope.tenant())
            .push(" AND conversation IN ")
            .push_list(some.iter().map(ConversationId::as_bytes));
        let rows: Vec<Row> = sql.build_query_as().fetch_all(&mut *conn).await?;
        for (id, sequence, head, disclosure, relay_fence) in rows {
            let conversation = conversation(&id)?;
            let row = Conversation {
                chain: ChainState {
                    conversation,
                    sequence: uint(sequence),
                    head: digest(&head)?,
                },
                disclosure: disclosure.as_deref().map(digest).transpose()?,
                relay_fence: uint(relay_fence),
            };
            found.insert(conversation, row);
        }
    }
    Ok(found)
}

/// Moves conversations on, each once. A disclosure that is known is never forgotten.
pub async fn save(
    conn: &mut Connection,
    scope: &Scope,
    conversations: &[Conversation],
) -> sqlx::Result<()> {
    let fence = int(conn.epoch());
    for some in sql::groups(conversations, |_| 0) {
        let mut sql = Builder::new(
            "INSERT INTO conversations (tenant, conversation, sequence, head, disclosure, relay_fence, fence) ",
        );
        sql.push_values(some, |row, conversation| {
            let (chain, disclosure) = (&conversation.chain, &conversation.disclosure);
            row.push_bind(scope.tenant())
                .push_bind(chain.conversation.as_bytes())
                .push_bind(int(chain.sequence))
                .push_bind(chain.head.as_bytes())
                .push_bind(disclosure.as_ref().map(Digest::as_bytes))
                .push_bind(int(conversation.relay_fence))
                .push_bind(fence);
        });
        sql.push(
            " ON CONFLICT (tenant, conversation) DO UPDATE SET sequence = excluded.sequence, head = excluded.head,
             disclosure = COALESCE(excluded.disclosure, conversations.disclosure),
             relay_fence = excluded.relay_fence, fence = excluded.fence",
        );
        sql.build().execute(&mut *conn).await?;
    }
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
