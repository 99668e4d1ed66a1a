//! Records as a check of everything reads them.

use greffe_envelope::pb;
use greffe_service_kit::db::sql::{self, Executor, Row as Columns};
use greffe_types::{ConversationId, Digest, Millis};

use super::{Scope, conversation, decode, digest, int, months, uint};

/// A record's columns.
#[derive(Debug, Clone)]
pub struct Row {
    /// The archive's own number.
    pub record: u64,
    /// The conversation.
    pub conversation: ConversationId,
    /// `EntryKind`.
    pub kind: i32,
    /// What the chain took in.
    pub digest: Digest,
    /// End of retention.
    pub retain_until: Millis,
    /// Name of its object.
    pub content: Option<Digest>,
    /// Body and signature; none for others than messages, and once disposed of.
    pub envelope: Option<pb::SealedEnvelope>,
    /// The receipt.
    pub receipt: pb::SignedStatement,
    /// The void.
    pub void: Option<pb::SignedStatement>,
    /// How far its disposal has come.
    pub disposal: i64,
    /// Whether its key says of it what it says itself.
    pub named: bool,
}

/// Records after a number, in order.
pub async fn after(
    conn: impl Executor<'_>,
    scope: &Scope,
    record: u64,
    limit: u32,
) -> sqlx::Result<Vec<Row>> {
    let rows = sql::query(
        "SELECT k.record AS number, k.archived_at AS at, r.conversation, r.kind, r.digest, r.retain_until, r.content, r.body,
           r.signature, r.receipt, r.void, r.disposal,
           CAST(CASE WHEN k.conversation = r.conversation AND k.sequence = r.sequence AND k.kind = r.kind AND k.digest = r.digest
             THEN 1 ELSE 0 END AS BIGINT) AS named
         FROM record_keys k
         LEFT JOIN records r ON r.tenant = k.tenant AND r.record = k.record AND r.archived_at = k.archived_at
         WHERE k.tenant = $1 AND k.record > $2 ORDER BY k.record LIMIT $3",
    )
    .bind(scope.tenant())
    .bind(int(record))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.iter().map(row).collect()
}

fn row(columns: &Columns) -> sqlx::Result<Row> {
    let bytes = |name| columns.get::<Option<Vec<u8>>>(name);
    let envelope = match (bytes("body")?, bytes("signature")?) {
        (Some(body), Some(signature)) => Some(pb::SealedEnvelope { body, signature }),
        _ => None,
    };
    let receipt =
        bytes("receipt")?.ok_or_else(|| months::away(uint(columns.get("at").unwrap_or(0))))?;
    Ok(Row {
        record: uint(columns.get("number")?),
        conversation: conversation(&columns.get::<Vec<u8>>("conversation")?)?,
        kind: columns.get("kind")?,
        digest: digest(&columns.get::<Vec<u8>>("digest")?)?,
        retain_until: Millis::new(uint(columns.get("retain_until")?)),
        content: bytes("content")?.as_deref().map(digest).transpose()?,
        envelope,
        receipt: decode(&receipt)?,
        void: bytes("void")?.as_deref().map(decode).transpose()?,
        disposal: columns.get("disposal")?,
        named: columns.get::<i64>("named")? == 1,
    })
}
