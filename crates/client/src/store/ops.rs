//! What can be written, one statement a kind of change.

use greffe_envelope::pb;
use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Builder};
use greffe_tlog::TreeHead;
use greffe_types::{ConversationId, DeviceId, Digest};
use prost::Message as _;

use super::rows::{AckRow, ConversationRow, DeviceRow, ItemRow, OutboxRow, ReportRow, SealedRow};

/// Rows of one INSERT: SQLite takes 32766 parameters, and one parse serves many rows.
const ROWS: usize = 256;

/// One change.
pub(crate) enum Op {
    /// The last verified checkpoint.
    LogHead { head: TreeHead, checkpoint: Vec<u8> },
    /// A statement of root or nodes that was taken in, the log having it there.
    Trust {
        digest: Digest,
        log_index: u64,
        statement: pb::SignedStatement,
    },
    /// A certificate whose issuer was verified.
    Certificate {
        digest: Digest,
        statement: pb::SignedStatement,
    },
    /// A new device.
    Device(DeviceRow),
    /// The issuer has signed a device's certificate.
    Certified {
        device: DeviceId,
        certificate: Digest,
    },
    /// MLS rows.
    Mls {
        device: DeviceId,
        rows: Vec<SealedRow>,
    },
    /// A conversation, new or changed.
    Conversation(ConversationRow),
    /// A notice acknowledged, or its place in the log.
    Acknowledgement(AckRow),
    /// Bytes to send.
    Outbox(OutboxRow),
    /// Their receipts were verified: they need not go out again, only come back.
    OutboxAnswered {
        device: DeviceId,
        digests: Vec<Digest>,
    },
    /// They came back, or were refused.
    OutboxDone { device: DeviceId, digest: Digest },
    /// What took numbers.
    Items(Vec<ItemRow>),
    /// An item is about a message.
    About {
        device: DeviceId,
        conversation: ConversationId,
        target: Digest,
        sequence: u64,
    },
    /// A cheat to report.
    Report(ReportRow),
    /// It is in the log.
    Reported {
        device: DeviceId,
        conversation: ConversationId,
        sequence: u64,
        log_index: u64,
        proves: bool,
    },
}

/// Applies changes in their order.
pub(super) async fn apply(tx: &mut Connection, ops: Vec<Op>) -> sqlx::Result<()> {
    for op in ops {
        one(&mut *tx, op).await?;
    }
    Ok(())
}

async fn one(tx: &mut Connection, op: Op) -> sqlx::Result<()> {
    match op {
        Op::Mls { device, rows } => return mls(tx, &device, rows).await,
        Op::Items(rows) => return items(tx, rows).await,
        Op::Conversation(row) => return conversation(tx, row).await,
        Op::OutboxAnswered { device, digests } => {
            for digest in digests {
                sql::query("UPDATE outbox SET payload = $3 WHERE device = $1 AND digest = $2")
                    .bind(device.to_vec())
                    .bind(digest.to_vec())
                    .bind(Vec::<u8>::new())
                    .execute(&mut *tx)
                    .await?;
            }
            return Ok(());
        }
        Op::LogHead { head, checkpoint } => sql::query(
            "INSERT INTO log_head (id, size, root, checkpoint) VALUES (1, $1, $2, $3)
             ON CONFLICT (id) DO UPDATE SET size = excluded.size, root = excluded.root,
               checkpoint = excluded.checkpoint",
        )
        .bind(head.size as i64)
        .bind(head.root.to_vec())
        .bind(checkpoint),
        Op::Trust {
            digest,
            log_index,
            statement,
        } => sql::query(
            "INSERT INTO trust_statement (digest, log_index, statement, in_log) VALUES ($1, $2, $3, 1)
             ON CONFLICT (digest) DO UPDATE SET log_index = excluded.log_index, in_log = 1",
        )
        .bind(digest.to_vec())
        .bind(log_index as i64)
        .bind(statement.encode_to_vec()),
        Op::Certificate { digest, statement } => sql::query(
            "INSERT INTO certificate (digest, statement) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        )
        .bind(digest.to_vec())
        .bind(statement.encode_to_vec()),
        Op::Device(row) => sql::query(
            "INSERT INTO device (device, user_name, certificate, mls_key, envelope_key)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(row.device.to_vec())
        .bind(row.user)
        .bind(row.certificate.map(|digest| digest.to_vec()))
        .bind(row.mls_key)
        .bind(row.envelope_key),
        Op::Certified {
            device,
            certificate,
        } => sql::query("UPDATE device SET certificate = $2 WHERE device = $1")
            .bind(device.to_vec())
            .bind(certificate.to_vec()),
        Op::Acknowledgement(row) => sql::query(
            "INSERT INTO acknowledgement (device, conversation, disclosure, statement, log_index)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (device, conversation, disclosure)
             DO UPDATE SET log_index = excluded.log_index",
        )
        .bind(row.device.to_vec())
        .bind(row.conversation.to_vec())
        .bind(row.disclosure.to_vec())
        .bind(row.statement.encode_to_vec())
        .bind(row.log_index.map(|index| index as i64)),
        Op::Outbox(row) => sql::query(
            "INSERT INTO outbox (device, conversation, kind, digest, payload, content)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(row.device.to_vec())
        .bind(row.conversation.to_vec())
        .bind(row.kind.number())
        .bind(row.digest.to_vec())
        .bind(row.payload)
        .bind(row.content),
        Op::OutboxDone { device, digest } => {
            sql::query("DELETE FROM outbox WHERE device = $1 AND digest = $2")
                .bind(device.to_vec())
                .bind(digest.to_vec())
        }
        Op::About {
            device,
            conversation,
            target,
            sequence,
        } => sql::query(
            "INSERT INTO about (device, conversation, target, sequence) VALUES ($1, $2, $3, $4)
             ON CONFLICT DO NOTHING",
        )
        .bind(device.to_vec())
        .bind(conversation.to_vec())
        .bind(target.to_vec())
        .bind(sequence as i64),
        Op::Report(row) => sql::query(
            "INSERT INTO report (device, conversation, sequence, reason, statement)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(row.device.to_vec())
        .bind(row.conversation.to_vec())
        .bind(row.sequence as i64)
        .bind(row.reason)
        .bind(row.statement.encode_to_vec()),
        Op::Reported {
            device,
            conversation,
            sequence,
            log_index,
            proves,
        } => sql::query(
            "UPDATE report SET log_index = $4, proves = $5
             WHERE device = $1 AND conversation = $2 AND sequence = $3",
        )
        .bind(device.to_vec())
        .bind(conversation.to_vec())
        .bind(sequence as i64)
        .bind(log_index as i64)
        .bind(i64::from(proves)),
    }
    .execute(tx)
    .await?;
    Ok(())
}

async fn mls(tx: &mut Connection, device: &DeviceId, rows: Vec<SealedRow>) -> sqlx::Result<()> {
    for row in rows {
        match row.value {
            Some(value) => sql::query(
                "INSERT INTO mls_row (device, kind, row, value) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (device, kind, row) DO UPDATE SET value = excluded.value",
            )
            .bind(device.to_vec())
            .bind(row.kind)
            .bind(row.row)
            .bind(value),
            None => sql::query("DELETE FROM mls_row WHERE device = $1 AND kind = $2 AND row = $3")
                .bind(device.to_vec())
                .bind(row.kind)
                .bind(row.row),
        }
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

async fn conversation(tx: &mut Connection, row: ConversationRow) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO conversation (device, conversation, state, reason, mode, disclosure, joined,
           sequence, head, counter, previous)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (device, conversation) DO UPDATE SET state = excluded.state,
           reason = excluded.reason, mode = excluded.mode, disclosure = excluded.disclosure,
           joined = excluded.joined, sequence = excluded.sequence, head = excluded.head,
           counter = excluded.counter, previous = excluded.previous",
    )
    .bind(row.device.to_vec())
    .bind(row.conversation.to_vec())
    .bind(row.state.number())
    .bind(row.reason)
    .bind(i64::from(row.mode as i32))
    .bind(row.disclosure.to_vec())
    .bind(row.joined as i64)
    .bind(row.sequence as i64)
    .bind(row.head.to_vec())
    .bind(row.counter as i64)
    .bind(row.previous.to_vec())
    .execute(tx)
    .await?;
    Ok(())
}

async fn items(tx: &mut Connection, mut rows: Vec<ItemRow>) -> sqlx::Result<()> {
    while !rows.is_empty() {
        let now: Vec<ItemRow> = rows.drain(..rows.len().min(ROWS)).collect();
        let mut query = Builder::new(
            "INSERT INTO item (device, conversation, sequence, kind, digest, head, archived_at,
             sender, sent_at, reason, content) ",
        );
        query.push_values(now, |values, row| {
            values
                .push_bind(row.device.to_vec())
                .push_bind(row.conversation.to_vec())
                .push_bind(row.sequence as i64)
                .push_bind(i64::from(row.kind as i32))
                .push_bind(row.digest.to_vec())
                .push_bind(row.head.to_vec())
                .push_bind(row.archived_at as i64)
                .push_bind(row.sender)
                .push_bind(row.sent_at as i64)
                .push_bind(row.reason)
                .push_bind(row.content);
        });
        // A rejoined device sees its earlier numbers again only as what they were.
        query.push(" ON CONFLICT DO NOTHING");
        query.build().execute(&mut *tx).await?;
    }
    Ok(())
}
