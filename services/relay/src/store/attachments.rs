//! Attachments: complete in the archive, staged here until every member has them.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Executor};
use greffe_types::{ConversationId, Digest, Millis};

use super::{Scope, conversation as conversation_id, digest as digest_of, epoch, int, uint};

/// Remembers a complete upload.
pub async fn insert(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &ConversationId,
    digest: &Digest,
    size: u64,
    now: Millis,
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO attachment (tenant, conversation, digest, size, uploaded_at, staged, fence)
         VALUES ($1, $2, $3, $4, $5, 1, $6)
         ON CONFLICT (tenant, conversation, digest)
         DO UPDATE SET uploaded_at = excluded.uploaded_at, staged = 1, fence = excluded.fence",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(digest.as_bytes().as_slice())
    .bind(int(size))
    .bind(int(now.get()))
    .bind(epoch(conn))
    .execute(conn)
    .await?;
    Ok(())
}

/// Size of a complete attachment, and whether its file is still here.
pub async fn find(
    conn: impl Executor<'_>,
    scope: &Scope,
    conversation: &ConversationId,
    digest: &Digest,
) -> sqlx::Result<Option<(u64, bool)>> {
    let row: Option<(i64, i64)> = sql::query_as(
        "SELECT size, staged FROM attachment
         WHERE tenant = $1 AND conversation = $2 AND digest = $3",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(digest.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|(size, staged)| (uint(size), staged == 1)))
}

/// Remembers that an item names an attachment.
pub async fn name(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &ConversationId,
    digest: &Digest,
    sequence: u64,
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO item_attachment (tenant, conversation, digest, sequence, fence)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(digest.as_bytes().as_slice())
    .bind(int(sequence))
    .bind(epoch(conn))
    .execute(conn)
    .await?;
    Ok(())
}

/// Archived items that name an attachment, each with the disclosure it was made under.
pub async fn named_by(
    conn: impl Executor<'_>,
    scope: &Scope,
    conversation: &ConversationId,
    digest: &Digest,
) -> sqlx::Result<Vec<(u64, Digest)>> {
    let rows: Vec<(i64, Vec<u8>)> = sql::query_as(
        "SELECT a.sequence, i.disclosure FROM item_attachment a JOIN item i
           ON i.tenant = a.tenant AND i.conversation = a.conversation AND i.sequence = a.sequence
         WHERE a.tenant = $1 AND a.conversation = $2 AND a.digest = $3 AND i.receipt IS NOT NULL
           AND i.kind = 1",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(digest.as_bytes().as_slice())
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(sequence, disclosure)| Ok((uint(sequence), digest_of(&disclosure)?)))
        .collect()
}

/// Staged attachments that nobody will ask for: taken in by all members, or never named before `named_until`.
pub async fn done_with(
    conn: impl Executor<'_>,
    scope: &Scope,
    named_until: Millis,
    limit: u32,
) -> sqlx::Result<Vec<(ConversationId, Digest)>> {
    let rows: Vec<(Vec<u8>, Vec<u8>)> = sql::query_as(
        "SELECT t.conversation, t.digest FROM attachment t WHERE t.tenant = $1 AND t.staged = 1
         AND t.uploaded_at < $2
         AND NOT EXISTS (SELECT 1 FROM item_attachment a JOIN payload p
           ON p.tenant = a.tenant AND p.conversation = a.conversation AND p.sequence = a.sequence
           WHERE a.tenant = t.tenant AND a.conversation = t.conversation AND a.digest = t.digest)
         LIMIT $3",
    )
    .bind(scope.tenant())
    .bind(int(named_until.get()))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|(conversation, digest)| Ok((conversation_id(conversation)?, digest_of(digest)?)))
        .collect()
}

/// Says that an attachment's file goes; false when it is wanted again: uploaded anew, or named by an item on its way.
pub async fn unstage(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &ConversationId,
    digest: &Digest,
    named_until: Millis,
) -> sqlx::Result<bool> {
    let done = sql::query(
        "UPDATE attachment SET staged = 0, fence = $4
         WHERE tenant = $1 AND conversation = $2 AND digest = $3 AND uploaded_at < $5
         AND NOT EXISTS (SELECT 1 FROM item_attachment a JOIN payload p
           ON p.tenant = a.tenant AND p.conversation = a.conversation AND p.sequence = a.sequence
           WHERE a.tenant = $1 AND a.conversation = $2 AND a.digest = $3)",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(digest.as_bytes().as_slice())
    .bind(epoch(conn))
    .bind(int(named_until.get()))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}
