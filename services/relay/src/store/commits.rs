//! What a commit brings with it: a Welcome for the added, and what to restore if the archive refuses it.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Executor};
use greffe_types::{ConversationId, DeviceId, Digest};

use super::{Scope, device as device_id, digest, epoch, int, uint};

/// Beside a sequenced commit.
#[derive(Debug, Clone)]
pub struct CommitExtra {
    /// MLS Welcome; empty when nobody is added.
    pub welcome: Vec<u8>,
    /// Ratchet tree for the joiners.
    pub ratchet_tree: Vec<u8>,
    /// The observer's snapshot before it.
    pub observer: Vec<u8>,
    /// MLS epoch before it.
    pub epoch: u64,
    /// Disclosure in force before it.
    pub disclosure: Digest,
    /// Mode before it, as the proto numbers it.
    pub mode: i32,
}

/// Stores it.
pub async fn insert(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &ConversationId,
    sequence: u64,
    extra: &CommitExtra,
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO commit_extra
           (tenant, conversation, sequence, welcome, ratchet_tree, observer, epoch, disclosure, mode,
            fence)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(int(sequence))
    .bind(&extra.welcome)
    .bind(&extra.ratchet_tree)
    .bind(&extra.observer)
    .bind(int(extra.epoch))
    .bind(extra.disclosure.as_bytes().as_slice())
    .bind(i64::from(extra.mode))
    .bind(epoch(conn))
    .execute(conn)
    .await?;
    Ok(())
}

/// Reads it; none when the number is no commit's.
pub async fn get(
    conn: impl Executor<'_>,
    scope: &Scope,
    conversation: &ConversationId,
    sequence: u64,
) -> sqlx::Result<Option<CommitExtra>> {
    type Columns = (Vec<u8>, Vec<u8>, Vec<u8>, i64, Vec<u8>, i64);
    let row: Option<Columns> = sql::query_as(
        "SELECT welcome, ratchet_tree, observer, epoch, disclosure, mode FROM commit_extra
         WHERE tenant = $1 AND conversation = $2 AND sequence = $3",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(int(sequence))
    .fetch_optional(conn)
    .await?;
    row.map(
        |(welcome, ratchet_tree, observer, epoch, disclosure, mode)| {
            Ok(CommitExtra {
                welcome,
                ratchet_tree,
                observer,
                epoch: uint(epoch),
                disclosure: digest(&disclosure)?,
                mode: i32::try_from(mode).unwrap_or_default(),
            })
        },
    )
    .transpose()
}

/// The disclosure that was in force before the first commit after a number; none when no commit follows.
pub async fn disclosure_before_next(
    conn: impl Executor<'_>,
    scope: &Scope,
    conversation: &ConversationId,
    sequence: u64,
) -> sqlx::Result<Option<Digest>> {
    let found: Option<Vec<u8>> = sql::query_scalar(
        "SELECT disclosure FROM commit_extra
         WHERE tenant = $1 AND conversation = $2 AND sequence > $3 ORDER BY sequence LIMIT 1",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(int(sequence))
    .fetch_optional(conn)
    .await?;
    found.map(|bytes| digest(&bytes)).transpose()
}

/// Forgets the snapshot before a commit: the archive has taken it.
pub async fn settle(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &ConversationId,
    sequence: u64,
) -> sqlx::Result<()> {
    let empty: &[u8] = &[];
    sql::query(
        "UPDATE commit_extra SET observer = $4, fence = $5
         WHERE tenant = $1 AND conversation = $2 AND sequence = $3",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(int(sequence))
    .bind(empty)
    .bind(epoch(conn))
    .execute(conn)
    .await?;
    Ok(())
}

/// Empties the Welcomes that every device added by them has taken in; gives how many.
pub async fn drop_welcomes(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &ConversationId,
) -> sqlx::Result<u64> {
    let empty: &[u8] = &[];
    let done = sql::query(
        "UPDATE commit_extra SET welcome = $3, ratchet_tree = $3, fence = $4
         WHERE tenant = $1 AND conversation = $2 AND welcome <> $3
           AND NOT EXISTS (SELECT 1 FROM member m WHERE m.tenant = $1 AND m.conversation = $2
             AND m.from_seq = commit_extra.sequence AND m.cursor < m.from_seq)",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(empty)
    .bind(epoch(conn))
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Remembers a member's certificate from before a commit that replaces it.
pub async fn insert_renewal(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &ConversationId,
    sequence: u64,
    device: &DeviceId,
    certificate: &Digest,
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO commit_renewal (tenant, conversation, sequence, device, certificate, fence)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(int(sequence))
    .bind(device.as_bytes().as_slice())
    .bind(certificate.as_bytes().as_slice())
    .bind(epoch(conn))
    .execute(conn)
    .await?;
    Ok(())
}

/// The certificates that a commit replaced.
pub async fn renewals(
    conn: impl Executor<'_>,
    scope: &Scope,
    conversation: &ConversationId,
    sequence: u64,
) -> sqlx::Result<Vec<(DeviceId, Digest)>> {
    let rows: Vec<(Vec<u8>, Vec<u8>)> = sql::query_as(
        "SELECT device, certificate FROM commit_renewal
         WHERE tenant = $1 AND conversation = $2 AND sequence = $3",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(int(sequence))
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|(device, certificate)| Ok((device_id(device)?, digest(certificate)?)))
        .collect()
}
