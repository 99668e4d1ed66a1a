//! What people read and what they were refused, as entries for the log.

use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_service_kit::db::Connection;

use super::{Scope, outbox};

/// Most bytes of a caller's name or operation in a refusal: names come from outside.
const MAX_TEXT: usize = 255;

/// Writes a read down: committed before its answer leaves.
pub async fn read(
    conn: &mut Connection,
    scope: &Scope,
    id: &[u8; 16],
    access: pb::Access,
) -> sqlx::Result<()> {
    outbox::put(conn, scope, id, Event::Access(access), None).await
}

/// Writes a refusal down: who asked for what, and why not.
pub async fn refused(
    conn: &mut Connection,
    scope: &Scope,
    id: &[u8; 16],
    mut refusal: pb::Refusal,
) -> sqlx::Result<()> {
    for text in [&mut refusal.caller, &mut refusal.operation] {
        *text = text.chars().take(MAX_TEXT / 4).collect();
    }
    outbox::put(conn, scope, id, Event::Refusal(refusal), None).await
}
