//! Items of a conversation as they are read back: by number, by digest, and by the message they are about.

use greffe_envelope::pb;
use greffe_service_kit::db::sql;
use greffe_types::{ConversationId, DeviceId, Digest};

use super::ClientStore;
use super::read::digest;
use super::rows::{ItemRow, damaged};
use crate::error::Result;

type Columns = (
    i64,
    i64,
    Vec<u8>,
    Vec<u8>,
    i64,
    String,
    i64,
    String,
    Vec<u8>,
);

const ITEM: &str =
    "SELECT sequence, kind, digest, head, archived_at, sender, sent_at, reason, content
 FROM item WHERE device = $1 AND conversation = $2";

impl ClientStore {
    /// Items of a conversation after a number.
    pub(crate) async fn items(
        &self,
        device: &DeviceId,
        conversation: &ConversationId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<ItemRow>> {
        let sql = format!("{ITEM} AND sequence > $3 ORDER BY sequence LIMIT $4");
        let rows: Vec<Columns> = sql::query_as(sqlx::AssertSqlSafe(sql))
            .bind(device.to_vec())
            .bind(conversation.to_vec())
            .bind(i64::try_from(after).unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .fetch_all(self.db().read())
            .await?;
        rows.into_iter()
            .map(|columns| item_row(device, conversation, columns))
            .collect()
    }

    /// The item of a digest: the one that was opened, wherever a relay that cheats delivers the same envelope again, and
    /// otherwise the first. At most one of them is opened: MLS gives a message's seed once, and an own one is known by the
    /// outbox once. Looks from the newest on, since no index has the digests: what people edit, take back or react to is most
    /// often recent.
    pub(crate) async fn item_of(
        &self,
        device: &DeviceId,
        conversation: &ConversationId,
        entry: &Digest,
    ) -> Result<Option<ItemRow>> {
        const OPENED: &str =
            "AND digest = $3 AND length(content) > 0 ORDER BY sequence DESC LIMIT 1";
        const FIRST: &str = "AND digest = $3 ORDER BY sequence LIMIT 1";
        for which in [OPENED, FIRST] {
            let sql = format!("{ITEM} {which}");
            let row: Option<Columns> = sql::query_as(sqlx::AssertSqlSafe(sql))
                .bind(device.to_vec())
                .bind(conversation.to_vec())
                .bind(entry.to_vec())
                .fetch_optional(self.db().read())
                .await?;
            if let Some(columns) = row {
                return item_row(device, conversation, columns).map(Some);
            }
        }
        Ok(None)
    }

    /// Items that are about a message, in order.
    pub(crate) async fn about(
        &self,
        device: &DeviceId,
        conversation: &ConversationId,
        target: &Digest,
    ) -> Result<Vec<ItemRow>> {
        let sql = format!(
            "{ITEM} AND sequence IN (SELECT sequence FROM about WHERE device = $1
             AND conversation = $2 AND target = $3) ORDER BY sequence"
        );
        let rows: Vec<Columns> = sql::query_as(sqlx::AssertSqlSafe(sql))
            .bind(device.to_vec())
            .bind(conversation.to_vec())
            .bind(target.to_vec())
            .fetch_all(self.db().read())
            .await?;
        rows.into_iter()
            .map(|columns| item_row(device, conversation, columns))
            .collect()
    }
}

fn item_row(
    device: &DeviceId,
    conversation: &ConversationId,
    (sequence, kind, entry, head, archived_at, sender, sent_at, reason, content): Columns,
) -> Result<ItemRow> {
    Ok(ItemRow {
        device: *device,
        conversation: *conversation,
        sequence: sequence as u64,
        kind: i32::try_from(kind)
            .ok()
            .and_then(|kind| pb::EntryKind::try_from(kind).ok())
            .ok_or_else(|| damaged("item"))?,
        digest: digest("item", &entry)?,
        head: digest("item", &head)?,
        archived_at: archived_at as u64,
        sender,
        sent_at: sent_at as u64,
        reason,
        content,
    })
}
