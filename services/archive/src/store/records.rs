//! Records: everything that took a number. People's reads of them are in the modules beside this one.

use greffe_envelope::pb;
use greffe_service_kit::db::sql;
use greffe_service_kit::db::{Connection, Reader};
use greffe_types::{ConversationId, DeviceId, Digest, Millis};
use prost::Message as _;

use super::keys::{self, by_record};
use super::{Scope, decode, digest, int, months};

/// How far the check of a record's proofs of knowledge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// There are none.
    None = 0,
    /// Not checked yet.
    Unchecked = 1,
    /// All hold.
    Verified = 2,
    /// One does not: an incident that was logged.
    Failed = 3,
}

/// A record to insert.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// The archive's own number.
    pub record: u64,
    /// The conversation.
    pub conversation: ConversationId,
    /// Number in it.
    pub sequence: u64,
    /// What took the number.
    pub kind: pb::EntryKind,
    /// What the chain took in.
    pub digest: Digest,
    /// For a void: what was refused.
    pub refused: Option<Digest>,
    /// The sending user; empty for a void.
    pub sender: String,
    /// The sender's clock; 0 for none.
    pub sent_at: u64,
    /// When the archive judged it.
    pub archived_at: Millis,
    /// Pinned.
    pub retain_until: Millis,
    /// The mode.
    pub mode: i32,
    /// The class.
    pub record_class: String,
    /// The pack its retention was computed by.
    pub policy_digest: Option<Vec<u8>>,
    /// Bytes of ciphertext, with attachments.
    pub size: u64,
    /// Who was a member.
    pub member_set: Digest,
    /// Name of its object.
    pub content: Digest,
    /// Body and signature, for a message.
    pub envelope: Option<pb::SealedEnvelope>,
    /// Digest of the sender's certificate, for a message.
    pub certificate: Option<Digest>,
    /// The receipt.
    pub receipt: pb::SignedStatement,
    /// The void.
    pub void: Option<pb::SignedStatement>,
    /// Whether there are proofs to check.
    pub proof: Proof,
}

/// Inserts a record.
pub async fn insert(conn: &mut Connection, scope: &Scope, new: &NewRecord) -> sqlx::Result<()> {
    let envelope = new.envelope.as_ref();
    sql::query(
        "INSERT INTO records (tenant, record, conversation, sequence, kind, digest, refused, sender, sent_at, archived_at,
           retain_until, mode, record_class, policy_digest, size, member_set, content, body, signature, certificate,
           receipt, void, proof, disposal, fence)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
           0, $24)",
    )
    .bind(scope.tenant())
    .bind(int(new.record))
    .bind(new.conversation.as_bytes().as_slice())
    .bind(int(new.sequence))
    .bind(i64::from(new.kind as i32))
    .bind(new.digest.as_bytes().as_slice())
    .bind(new.refused.as_ref().map(|d| d.as_bytes().as_slice()))
    .bind(&new.sender)
    .bind(int(new.sent_at))
    .bind(int(new.archived_at.get()))
    .bind(int(new.retain_until.get()))
    .bind(i64::from(new.mode))
    .bind(&new.record_class)
    .bind(&new.policy_digest)
    .bind(int(new.size))
    .bind(new.member_set.as_bytes().as_slice())
    .bind(new.content.as_bytes().as_slice())
    .bind(envelope.map(|e| e.body.as_slice()))
    .bind(envelope.map(|e| e.signature.as_slice()))
    .bind(new.certificate.as_ref().map(|d| d.as_bytes().as_slice()))
    .bind(new.receipt.encode_to_vec())
    .bind(new.void.as_ref().map(prost::Message::encode_to_vec))
    .bind(new.proof as i64)
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(())
}

/// What was answered for a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// What the chain took in.
    pub digest: Digest,
    /// For a void: what was refused.
    pub refused: Option<Digest>,
    /// The receipt.
    pub receipt: pb::SignedStatement,
    /// The void.
    pub void: Option<pb::SignedStatement>,
}

impl Answered {
    /// Digest of what was handed in for the number.
    pub fn subject(&self) -> Digest {
        self.refused.unwrap_or(self.digest)
    }
}

/// What was answered for a number of a conversation.
pub async fn answered(
    reader: &Reader,
    scope: &Scope,
    conversation: &ConversationId,
    sequence: u64,
) -> sqlx::Result<Option<Answered>> {
    type Row = (Vec<u8>, Option<Vec<u8>>, Vec<u8>, Option<Vec<u8>>);
    let Some(key) = keys::by_place(reader, scope, conversation, sequence).await? else {
        return Ok(None);
    };
    let row: Option<Row> = sql::query_as(
        "SELECT digest, refused, receipt, void FROM records
         WHERE tenant = $1 AND record = $2 AND archived_at = $3",
    )
    .bind(scope.tenant())
    .bind(int(key.record))
    .bind(int(key.archived_at))
    .fetch_optional(reader)
    .await?;
    let (taken, refused, receipt, void) = row.ok_or_else(|| months::away(key.archived_at))?;
    Ok(Some(Answered {
        digest: digest(&taken)?,
        refused: refused.as_deref().map(digest).transpose()?,
        receipt: decode(&receipt)?,
        void: void.as_deref().map(decode).transpose()?,
    }))
}

/// Notes how the check of a record's proofs ended.
pub async fn set_proof(
    conn: &mut Connection,
    scope: &Scope,
    record: u64,
    proof: Proof,
) -> sqlx::Result<()> {
    sql::query(by_record!(
        "UPDATE records SET proof = $3, fence = $4",
        " AND proof = 1"
    ))
    .bind(scope.tenant())
    .bind(int(record))
    .bind(proof as i64)
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps a certificate that records name.
pub async fn keep_certificate(
    conn: &mut Connection,
    scope: &Scope,
    certificate: &Digest,
    statement: &pb::SignedStatement,
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO certificates (tenant, digest, statement, fence) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant, digest) DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(certificate.as_bytes().as_slice())
    .bind(statement.encode_to_vec())
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps who was a member.
pub async fn keep_member_set(
    conn: &mut Connection,
    scope: &Scope,
    member_set: &Digest,
    members: &[(String, DeviceId)],
) -> sqlx::Result<()> {
    for (member, device) in members {
        sql::query(
            "INSERT INTO member_sets (tenant, member_set, member, device, fence) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (tenant, member_set, device) DO NOTHING",
        )
        .bind(scope.tenant())
        .bind(member_set.as_bytes().as_slice())
        .bind(member)
        .bind(device.as_bytes().as_slice())
        .bind(int(conn.epoch()))
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}
