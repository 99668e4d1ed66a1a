//! Records: everything that took a number. People's reads of them are in the modules beside this one.

use greffe_envelope::pb;
use greffe_service_kit::db::sql::{self, Builder};
use greffe_service_kit::db::{Connection, Reader};
use greffe_types::{ConversationId, DeviceId, Digest, Millis};
use prost::Message as _;

use super::keys;
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

/// Inserts records, in their order.
pub async fn insert(
    conn: &mut Connection,
    scope: &Scope,
    records: &[&NewRecord],
) -> sqlx::Result<()> {
    let fence = int(conn.epoch());
    let bytes = |new: &&NewRecord| new.envelope.as_ref().map_or(0, |e| e.body.len());
    for some in sql::groups(records, bytes) {
        let mut sql = Builder::new(
            "INSERT INTO records (tenant, record, conversation, sequence, kind, digest, refused, sender, sent_at, archived_at,
               retain_until, mode, record_class, policy_digest, size, member_set, content, body, signature, certificate,
               receipt, void, proof, disposal, fence) ",
        );
        sql.push_values(some, |row, new| {
            let envelope = new.envelope.as_ref();
            row.push_bind(scope.tenant())
                .push_bind(int(new.record))
                .push_bind(new.conversation.as_bytes())
                .push_bind(int(new.sequence))
                .push_bind(i64::from(new.kind as i32))
                .push_bind(new.digest.as_bytes())
                .push_bind(new.refused.as_ref().map(Digest::as_bytes))
                .push_bind(&new.sender)
                .push_bind(int(new.sent_at))
                .push_bind(int(new.archived_at.get()))
                .push_bind(int(new.retain_until.get()))
                .push_bind(i64::from(new.mode))
                .push_bind(&new.record_class)
                .push_bind(&new.policy_digest)
                .push_bind(int(new.size))
                .push_bind(new.member_set.as_bytes())
                .push_bind(new.content.as_bytes())
                .push_bind(envelope.map(|e| e.body.as_slice()))
                .push_bind(envelope.map(|e| e.signature.as_slice()))
                .push_bind(new.certificate.as_ref().map(Digest::as_bytes))
                .push_bind(new.receipt.encode_to_vec())
                .push_bind(new.void.as_ref().map(prost::Message::encode_to_vec))
                .push_bind(new.proof as i64)
                .push_bind(0_i64)
                .push_bind(fence);
        });
        sql.build().execute(&mut *conn).await?;
    }
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

/// Notes how the check of records' proofs ended. They were archived between two instants, both included, which says in which
/// partitions they are.
pub async fn set_proof(
    conn: &mut Connection,
    scope: &Scope,
    records: &[u64],
    (earliest, latest): (u64, u64),
    proof: Proof,
) -> sqlx::Result<()> {
    let fence = int(conn.epoch());
    for some in sql::groups(records, |_| 0) {
        let mut sql = Builder::new("UPDATE records SET proof = ");
        sql.push_bind(proof as i64)
            .push(", fence = ")
            .push_bind(fence)
            .push(" WHERE tenant = ")
            .push_bind(scope.tenant())
            .push(" AND archived_at >= ")
            .push_bind(int(earliest))
            .push(" AND archived_at <= ")
            .push_bind(int(latest))
            .push(" AND proof = 1 AND record IN ")
            .push_list(some.iter().map(|record| int(*record)));
        sql.build().execute(&mut *conn).await?;
    }
    Ok(())
}

/// Keeps certificates that records name.
pub async fn keep_certificates(
    conn: &mut Connection,
    scope: &Scope,
    certificates: &[(&Digest, &pb::SignedStatement)],
) -> sqlx::Result<()> {
    let fence = int(conn.epoch());
    for some in sql::groups(certificates, |(_, statement)| statement.encoded_len()) {
        let mut sql = Builder::new("INSERT INTO certificates (tenant, digest, statement, fence) ");
        sql.push_values(some, |row, (certificate, statement)| {
            row.push_bind(scope.tenant())
                .push_bind(certificate.as_bytes())
                .push_bind(statement.encode_to_vec())
                .push_bind(fence);
        });
        sql.push(" ON CONFLICT (tenant, digest) DO NOTHING");
        sql.build().execute(&mut *conn).await?;
    }
    Ok(())
}

/// Keeps who was a member.
pub async fn keep_member_set(
    conn: &mut Connection,
    scope: &Scope,
    member_set: &Digest,
    members: &[(String, DeviceId)],
) -> sqlx::Result<()> {
    let fence = int(conn.epoch());
    for some in sql::groups(members, |_| 0) {
        let mut sql =
            Builder::new("INSERT INTO member_sets (tenant, member_set, member, device, fence) ");
        sql.push_values(some, |row, (member, device)| {
            row.push_bind(scope.tenant())
                .push_bind(member_set.as_bytes())
                .push_bind(member)
                .push_bind(device.as_bytes())
                .push_bind(fence);
        });
        sql.push(" ON CONFLICT (tenant, member_set, device) DO NOTHING");
        sql.build().execute(&mut *conn).await?;
    }
    Ok(())
}
