//! What is read from the client's database.

use greffe_envelope::pb;
use greffe_mls::{Row, RowKey, StateChange, Table};
use greffe_service_kit::db::sql;
use greffe_tlog::TreeHead;
use greffe_types::{ConversationId, DeviceId, Digest};
use prost::Message;

use super::rows::{
    AckRow, ConversationRow, ConversationState, DeviceRow, OutboxKind, OutboxRow, ReportRow,
    SealedRow, TrustRow, damaged,
};
use super::{ClientStore, Op};
use crate::error::Result;

/// Columns of a conversation, in the order of the table.
type ConversationColumns = (
    Vec<u8>,
    Vec<u8>,
    i64,
    String,
    i64,
    Vec<u8>,
    i64,
    i64,
    Vec<u8>,
    i64,
    Vec<u8>,
);

const CONVERSATION: &str = "SELECT device, conversation, state, reason, mode, disclosure, joined,
 sequence, head, counter, previous FROM conversation";

impl ClientStore {
    /// The last verified checkpoint's size and root.
    pub(crate) async fn log_head(&self) -> Result<Option<TreeHead>> {
        let row: Option<(i64, Vec<u8>)> = sql::query_as("SELECT size, root FROM log_head")
            .fetch_optional(self.db().read())
            .await?;
        row.map(|(size, root)| {
            Ok(TreeHead {
                size: size as u64,
                root: digest("log_head", &root)?,
            })
        })
        .transpose()
    }

    /// Statements taken in, in their order, with their places in the log.
    pub(crate) async fn trust(&self) -> Result<Vec<TrustRow>> {
        let rows: Vec<(Vec<u8>, i64, i64)> = sql::query_as(
            "SELECT statement, log_index, in_log FROM trust_statement ORDER BY place",
        )
        .fetch_all(self.db().read())
        .await?;
        rows.into_iter()
            .map(|(bytes, index, in_log)| {
                Ok(TrustRow {
                    statement: decode("trust_statement", &bytes)?,
                    log_index: index as u64,
                    in_log: in_log != 0,
                })
            })
            .collect()
    }

    /// Every certificate whose issuer was verified.
    pub(crate) async fn certificates(&self) -> Result<Vec<pb::SignedStatement>> {
        let rows: Vec<Vec<u8>> = sql::query_scalar("SELECT statement FROM certificate")
            .fetch_all(self.db().read())
            .await?;
        rows.iter()
            .map(|bytes| decode("certificate", bytes))
            .collect()
    }

    /// Every device.
    pub(crate) async fn devices(&self) -> Result<Vec<DeviceRow>> {
        type Columns = (Vec<u8>, String, Option<Vec<u8>>, Vec<u8>, Vec<u8>);
        let rows: Vec<Columns> = sql::query_as(
            "SELECT device, user_name, certificate, mls_key, envelope_key FROM device
             ORDER BY user_name, device",
        )
        .fetch_all(self.db().read())
        .await?;
        rows.into_iter()
            .map(|(id, user, certificate, mls_key, envelope_key)| {
                Ok(DeviceRow {
                    device: device("device", &id)?,
                    user,
                    certificate: certificate
                        .map(|bytes| digest("device", &bytes))
                        .transpose()?,
                    mls_key,
                    envelope_key,
                })
            })
            .collect()
    }

    /// MLS rows by their keys, as far as they exist.
    pub(crate) async fn mls_rows(&self, device: &DeviceId, keys: &[RowKey]) -> Result<Vec<Row>> {
        let mut found = Vec::new();
        for key in keys {
            let value: Option<Vec<u8>> = sql::query_scalar(
                "SELECT value FROM mls_row WHERE device = $1 AND kind = $2 AND row = $3",
            )
            .bind(device.to_vec())
            .bind(key.table.name())
            .bind(&key.key)
            .fetch_optional(self.db().read())
            .await?;
            if let Some(value) = value {
                found.push(self.open_row(device, key.clone(), &value)?);
            }
        }
        Ok(found)
    }

    /// All rows of a table.
    pub(crate) async fn mls_table(&self, device: &DeviceId, table: Table) -> Result<Vec<Row>> {
        let rows: Vec<(Vec<u8>, Vec<u8>)> =
            sql::query_as("SELECT row, value FROM mls_row WHERE device = $1 AND kind = $2")
                .bind(device.to_vec())
                .bind(table.name())
                .fetch_all(self.db().read())
                .await?;
        rows.into_iter()
            .map(|(key, value)| self.open_row(device, RowKey { table, key }, &value))
            .collect()
    }

    fn open_row(&self, device: &DeviceId, key: RowKey, sealed: &[u8]) -> Result<Row> {
        let value = self.unseal(
            key.table.name(),
            &mls_place(device, &key.key),
            "value",
            sealed,
        )?;
        Ok(Row { key, value })
    }

    /// The rows of a state change, sealed, to be written with what the operation produced.
    pub(crate) fn mls_change(&self, device: &DeviceId, change: &StateChange) -> Result<Op> {
        let rows = change
            .rows()
            .map(|(key, value)| {
                let place = mls_place(device, &key.key);
                let seal = |value| self.seal(key.table.name(), &place, "value", value);
                Ok(SealedRow {
                    kind: key.table.name(),
                    row: key.key.clone(),
                    value: value.map(seal).transpose()?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Op::Mls {
            device: *device,
            rows,
        })
    }

    /// A conversation of a device.
    pub(crate) async fn conversation(
        &self,
        device: &DeviceId,
        conversation: &ConversationId,
    ) -> Result<Option<ConversationRow>> {
        let sql = format!("{CONVERSATION} WHERE device = $1 AND conversation = $2");
        let row: Option<ConversationColumns> = sql::query_as(sqlx::AssertSqlSafe(sql))
            .bind(device.to_vec())
            .bind(conversation.to_vec())
            .fetch_optional(self.db().read())
            .await?;
        row.map(conversation_row).transpose()
    }

    /// All conversations of a device.
    pub(crate) async fn conversations(&self, device: &DeviceId) -> Result<Vec<ConversationRow>> {
        let sql = format!("{CONVERSATION} WHERE device = $1 ORDER BY rowid");
        let rows: Vec<ConversationColumns> = sql::query_as(sqlx::AssertSqlSafe(sql))
            .bind(device.to_vec())
            .fetch_all(self.db().read())
            .await?;
        rows.into_iter().map(conversation_row).collect()
    }

    /// Acknowledgements of a device: in one conversation, or those that are not in the log yet in all.
    pub(crate) async fn acknowledgements(
        &self,
        device: &DeviceId,
        conversation: Option<&ConversationId>,
    ) -> Result<Vec<AckRow>> {
        type Columns = (Vec<u8>, Vec<u8>, Vec<u8>, Option<i64>);
        let rows: Vec<Columns> = sql::query_as(
            "SELECT conversation, disclosure, statement, log_index FROM acknowledgement
             WHERE device = $1 AND (conversation = $2 OR ($2 IS NULL AND log_index IS NULL))",
        )
        .bind(device.to_vec())
        .bind(conversation.map(|id| id.to_vec()))
        .fetch_all(self.db().read())
        .await?;
        rows.into_iter()
            .map(|(conversation, disclosure, statement, log_index)| {
                Ok(AckRow {
                    device: *device,
                    conversation: conversation_id("acknowledgement", &conversation)?,
                    disclosure: digest("acknowledgement", &disclosure)?,
                    statement: decode("acknowledgement", &statement)?,
                    log_index: log_index.map(|index| index as u64),
                })
            })
            .collect()
    }

    /// What a device still has to send, in the order it was made.
    pub(crate) async fn outbox(&self, device: &DeviceId) -> Result<Vec<OutboxRow>> {
        type Columns = (Vec<u8>, i64, Vec<u8>, Vec<u8>, Vec<u8>);
        let rows: Vec<Columns> = sql::query_as(
            "SELECT conversation, kind, digest, payload, content FROM outbox WHERE device = $1
             ORDER BY place",
        )
        .bind(device.to_vec())
        .fetch_all(self.db().read())
        .await?;
        rows.into_iter()
            .map(|columns| outbox_row(device, columns))
            .collect()
    }

    /// One of them.
    pub(crate) async fn outbox_row(
        &self,
        device: &DeviceId,
        entry: &Digest,
    ) -> Result<Option<OutboxRow>> {
        type Columns = (Vec<u8>, i64, Vec<u8>, Vec<u8>, Vec<u8>);
        let row: Option<Columns> = sql::query_as(
            "SELECT conversation, kind, digest, payload, content FROM outbox
             WHERE device = $1 AND digest = $2",
        )
        .bind(device.to_vec())
        .bind(entry.to_vec())
        .fetch_optional(self.db().read())
        .await?;
        row.map(|columns| outbox_row(device, columns)).transpose()
    }

    /// Chain heads of a conversation: the last `limit` of those at most `until`.
    pub(crate) async fn heads(
        &self,
        device: &DeviceId,
        conversation: &ConversationId,
        until: u64,
        limit: u32,
    ) -> Result<Vec<(u64, Digest)>> {
        let rows: Vec<(i64, Vec<u8>)> = sql::query_as(
            "SELECT sequence, head FROM item WHERE device = $1 AND conversation = $2
             AND sequence <= $3 ORDER BY sequence DESC LIMIT $4",
        )
        .bind(device.to_vec())
        .bind(conversation.to_vec())
        .bind(i64::try_from(until).unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch_all(self.db().read())
        .await?;
        rows.into_iter()
            .map(|(sequence, head)| Ok((sequence as u64, digest("item", &head)?)))
            .collect()
    }

    /// Reports of a device that are not in the log yet.
    pub(crate) async fn reports(&self, device: &DeviceId) -> Result<Vec<ReportRow>> {
        type Columns = (Vec<u8>, i64, String, Vec<u8>);
        let rows: Vec<Columns> = sql::query_as(
            "SELECT conversation, sequence, reason, statement FROM report
             WHERE device = $1 AND log_index IS NULL ORDER BY rowid",
        )
        .bind(device.to_vec())
        .fetch_all(self.db().read())
        .await?;
        rows.into_iter()
            .map(|(conversation, sequence, reason, statement)| {
                Ok(ReportRow {
                    device: *device,
                    conversation: conversation_id("report", &conversation)?,
                    sequence: sequence as u64,
                    reason,
                    statement: decode("report", &statement)?,
                })
            })
            .collect()
    }
}

fn outbox_row(
    device: &DeviceId,
    (conversation, kind, entry, payload, content): (Vec<u8>, i64, Vec<u8>, Vec<u8>, Vec<u8>),
) -> Result<OutboxRow> {
    Ok(OutboxRow {
        device: *device,
        conversation: conversation_id("outbox", &conversation)?,
        kind: match kind {
            1 => OutboxKind::Message,
            2 => OutboxKind::Commit,
            3 => OutboxKind::Creation,
            _ => return Err(damaged("outbox")),
        },
        digest: digest("outbox", &entry)?,
        payload,
        content,
    })
}

fn conversation_row(columns: ConversationColumns) -> Result<ConversationRow> {
    let (id, conversation, state, reason, mode, disclosure, joined, sequence, head, counter, prev) =
        columns;
    Ok(ConversationRow {
        device: device("conversation", &id)?,
        conversation: conversation_id("conversation", &conversation)?,
        state: ConversationState::from_number(state)?,
        reason,
        mode: i32::try_from(mode)
            .ok()
            .and_then(|mode| pb::Mode::try_from(mode).ok())
            .ok_or_else(|| damaged("conversation"))?,
        disclosure: digest("conversation", &disclosure)?,
        joined: joined as u64,
        sequence: sequence as u64,
        head: digest("conversation", &head)?,
        counter: counter as u64,
        previous: digest("conversation", &prev)?,
    })
}

fn mls_place(device: &DeviceId, key: &[u8]) -> Vec<u8> {
    [device.as_bytes().as_slice(), key].concat()
}

fn decode<M: Message + Default>(table: &'static str, bytes: &[u8]) -> Result<M> {
    M::decode(bytes).map_err(|_| damaged(table))
}

pub(super) fn digest(table: &'static str, bytes: &[u8]) -> Result<Digest> {
    Digest::try_from(bytes).map_err(|_| damaged(table))
}

fn device(table: &'static str, bytes: &[u8]) -> Result<DeviceId> {
    DeviceId::try_from(bytes).map_err(|_| damaged(table))
}

fn conversation_id(table: &'static str, bytes: &[u8]) -> Result<ConversationId> {
    ConversationId::try_from(bytes).map_err(|_| damaged(table))
}
