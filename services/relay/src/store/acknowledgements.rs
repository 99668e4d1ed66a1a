//! Acknowledgements of notices.

use std::collections::HashSet;

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Builder, Executor};
use greffe_types::{ConversationId, DeviceId, Digest};

use super::{
    Scope, conversation as conversation_id, device as device_id, digest, epoch, int, uint,
};

/// Stores a logged acknowledgement; nothing happens when it is there.
pub async fn insert(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &ConversationId,
    device: &DeviceId,
    disclosure: &Digest,
    log_index: u64,
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO acknowledgement (tenant, conversation, device, disclosure, log_index, fence)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .bind(disclosure.as_bytes().as_slice())
    .bind(int(log_index))
    .bind(epoch(conn))
    .execute(conn)
    .await?;
    Ok(())
}

/// The log index of an acknowledgement, when there is one.
pub async fn find(
    conn: impl Executor<'_>,
    scope: &Scope,
    conversation: &ConversationId,
    device: &DeviceId,
    disclosure: &Digest,
) -> sqlx::Result<Option<u64>> {
    let index: Option<i64> = sql::query_scalar(
        "SELECT log_index FROM acknowledgement
         WHERE tenant = $1 AND conversation = $2 AND device = $3 AND disclosure = $4",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .bind(disclosure.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    Ok(index.map(uint))
}

/// What these devices, each in a conversation, have acknowledged there: conversation, device and disclosure.
pub async fn given(
    conn: &mut Connection,
    scope: &Scope,
    asked: &[(ConversationId, DeviceId)],
) -> sqlx::Result<HashSet<(ConversationId, DeviceId, Digest)>> {
    let mut found = HashSet::new();
    for some in sql::groups(asked, |_| 0) {
        let sql = given_by(scope, some);
        let rows: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> =
            sql.build_query_as().fetch_all(&mut *conn).await?;
        for (conversation, device, disclosure) in rows {
            found.insert((
                conversation_id(&conversation)?,
                device_id(&device)?,
                digest(&disclosure)?,
            ));
        }
    }
    Ok(found)
}

pub(super) fn given_by(scope: &Scope, asked: &[(ConversationId, DeviceId)]) -> Builder {
    let mut sql = Builder::new("WITH asked (conversation, device) AS (");
    sql.push_values(asked, |row, (id, device)| {
        row.push_bind(id.as_bytes()).push_bind(device.as_bytes());
    })
    .push(
        ") SELECT k.conversation, k.device, k.disclosure FROM asked a CROSS JOIN acknowledgement k
         WHERE k.conversation = a.conversation AND k.device = a.device AND k.tenant = ",
    )
    .push_bind(scope.tenant());
    sql
}

/// The devices that have acknowledged a disclosure in a conversation.
pub async fn devices(
    conn: impl Executor<'_>,
    scope: &Scope,
    conversation: &ConversationId,
    disclosure: &Digest,
) -> sqlx::Result<Vec<DeviceId>> {
    let rows: Vec<Vec<u8>> = sql::query_scalar(
        "SELECT device FROM acknowledgement
         WHERE tenant = $1 AND conversation = $2 AND disclosure = $3",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(disclosure.as_bytes().as_slice())
    .fetch_all(conn)
    .await?;
    rows.iter().map(|bytes| device_id(bytes)).collect()
}

/// The disclosures that a device has acknowledged in a conversation.
pub async fn disclosures(
    conn: impl Executor<'_>,
    scope: &Scope,
    conversation: &ConversationId,
    device: &DeviceId,
) -> sqlx::Result<Vec<Digest>> {
    let rows: Vec<Vec<u8>> = sql::query_scalar(
        "SELECT disclosure FROM acknowledgement
         WHERE tenant = $1 AND conversation = $2 AND device = $3",
    )
    .bind(scope.tenant())
    .bind(conversation.as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .fetch_all(conn)
    .await?;
    rows.iter().map(|bytes| digest(bytes)).collect()
}
