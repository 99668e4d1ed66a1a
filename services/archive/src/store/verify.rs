//! Records as a check of everything reads them.

use greffe_envelope::pb;
use greffe_service_kit::db::sql::{self, Executor, Row as Columns};
use greffe_types::{ConversationId, Digest, Millis};

use super::{Scope, conversation, decode, digest, int, uint};

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
}

/// Records after a number, in order.
pub async fn after(
    conn: impl Executor<'_>,
    scope: &Scope,
    record: u64,
    limit: u32,
) -> sqlx::Result<Vec<Row>> {
    let rows = sql::query(
        "SELECT record, conversation, kind, digest, retain_until, content, body, signature, receipt, void, disposal
         FROM records WHERE tenant = $1 AND record > $2 ORDER BY record LIMIT $3",
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
    Ok(Row {
        record: uint(columns.get("record")?),
        conversation: conversation(&columns.get::<Vec<u8>>("conversation")?)?,
        kind: columns.get("kind")?,
        digest: digest(&columns.get::<Vec<u8>>("digest")?)?,
        retain_until: Millis::new(uint(columns.get("retain_until")?)),
        content: bytes("content")?.as_deref().map(digest).transpose()?,
        envelope,
        receipt: decode(&columns.get::<Vec<u8>>("receipt")?)?,
        void: bytes("void")?.as_deref().map(decode).transpose()?,
        disposal: columns.get("disposal")?,
    })
}
