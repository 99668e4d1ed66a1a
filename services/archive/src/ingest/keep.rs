//! How a planned batch becomes durable: objects, then the erasable store, then one transaction of the main database.
//!
//! A crash between them leaves objects or wraps that no row names; the relay's retry plans the same entry again and finds
//! them. A receipt leaves the process only after the last of the three. Several archives may do this at once: the transaction
//! begins by looking whether what the batch was planned on is still so, and the batch is planned again when it is not.

use greffe_envelope::label::sha256;
use greffe_envelope::pb::{self, log_entry::Event};
use greffe_envelope::wrap::WrapView;
use greffe_service_kit::telemetry::metrics;
use greffe_types::Digest;

use super::plan::Planned;
use crate::app::{App, News};
use crate::error::ArchiveError;
use crate::objects::{NewObject, ObjectError};
use crate::store::{attachments, conversations, kem_uses, keys, outbox, records, removals, wraps};

/// Stores a batch. The planned entries come back, for their answers.
///
/// # Errors
/// [`ArchiveError`]; no row of the batch is there then.
pub(super) async fn keep(
    app: &App,
    mut planned: Vec<Planned>,
) -> Result<Vec<Planned>, ArchiveError> {
    let contents = contents(&mut planned);
    put_objects(app, contents, &planned).await?;
    put_wraps(app, &planned).await?;
    let news = [News::Records, News::Outbox];
    app.write_and_wake("ingest", &news, async |conn| {
        still_so(app, conn, &planned).await?;
        put_rows(app, conn, &planned).await
    })
    .await?;
    Ok(planned)
}

/// What goes into write-once storage. Nobody needs it afterwards.
fn contents(planned: &mut [Planned]) -> Vec<NewObject> {
    planned
        .iter_mut()
        .map(|p| NewObject {
            digest: p.record.content,
            bytes: core::mem::take(&mut p.object),
            retain_until: p.record.retain_until,
        })
        .collect()
}

/// Content in write-once storage, durable and read back; attachments locked as long as the record that names them.
async fn put_objects(
    app: &App,
    contents: Vec<NewObject>,
    planned: &[Planned],
) -> Result<(), ArchiveError> {
    app.objects.put(contents).await?;
    for p in planned {
        for attachment in &p.attachments {
            let until = p.record.retain_until;
            match app.objects.lock(*attachment, until).await {
                Ok(()) => {}
                // Gone since it was complete: its row was, or has to be, taken back, and it is uploaded again.
                Err(ObjectError::Missing(_)) => {
                    app.write("attachment_lost", async |conn| {
                        Ok(attachments::lost(conn, &app.scope, attachment).await?)
                    })
                    .await?;
                    return Err(ArchiveError::Overtaken);
                }
                Err(error) => {
                    metrics::ARCHIVE_RETENTION_ERRORS.add(1);
                    return Err(error.into());
                }
            }
        }
    }
    Ok(())
}

/// Wraps and MLS messages in the erasable store, committed, then read back and compared with what was signed.
async fn put_wraps(app: &App, planned: &[Planned]) -> Result<(), ArchiveError> {
    let erasable = || {
        planned
            .iter()
            .filter_map(|p| Some((&p.record.digest, p.erasable.as_ref()?)))
    };
    if erasable().next().is_none() {
        return Ok(());
    }
    app.wraps
        .run_tx("ingest_wraps", async |conn| -> Result<(), ArchiveError> {
            for (envelope, (sealed, mls_message)) in erasable() {
                let kept = wraps::insert(conn, &app.scope, envelope, sealed, mls_message).await?;
                if !kept {
                    return Err(ArchiveError::Damaged(
                        "wraps of a new record were destroyed",
                    ));
                }
            }
            Ok(())
        })
        .await?;
    for (envelope, (sealed, mls_message)) in erasable() {
        let found = wraps::load(app.wraps.read(), &app.scope, envelope).await?;
        let message = wraps::mls_message(app.wraps.read(), &app.scope, envelope).await?;
        let same = digests(&found) == digests(sealed)
            && message.is_some_and(|message| sha256(&message) == sha256(mls_message));
        if !same {
            return Err(ArchiveError::Damaged("wraps read back differ"));
        }
    }
    Ok(())
}

/// What the envelope names of each wrap; a malformed one has none and is never equal to a signed one's.
fn digests(sealed: &[pb::Wrap]) -> Vec<(&str, &[u8], Option<Digest>)> {
    let digest = |wrap: &pb::Wrap| WrapView::parse(&wrap.sealed).ok().map(|view| view.digest());
    sealed
        .iter()
        .map(|wrap| (wrap.tenant.as_str(), wrap.key_id.as_slice(), digest(wrap)))
        .collect()
}

/// Whether the database still is what the batch was planned on. No transaction of another replica runs beside this one. While
/// the last record is the same, so is everything that records decide: the chain of every conversation, what was used or
/// archived before, the relay's epoch.
async fn still_so(
    app: &App,
    conn: &mut greffe_service_kit::db::Connection,
    planned: &[Planned],
) -> Result<(), ArchiveError> {
    let scope = &app.scope;
    let last = keys::last(&mut *conn, scope).await?;
    if planned.first().is_some_and(|p| p.record.record != last + 1) {
        return Err(ArchiveError::Overtaken);
    }
    for p in planned {
        for attachment in &p.attachments {
            if attachments::size(&mut *conn, scope, attachment)
                .await?
                .is_none()
            {
                return Err(ArchiveError::Overtaken);
            }
        }
    }
    if removals::any(conn, scope).await? {
        for p in planned {
            if removals::under_way(conn, scope, &p.record.content).await? {
                return Err(ArchiveError::Overtaken);
            }
        }
    }
    Ok(())
}

async fn put_rows(
    app: &App,
    conn: &mut greffe_service_kit::db::Connection,
    planned: &[Planned],
) -> Result<(), ArchiveError> {
    let scope = &app.scope;
    let mut last_set = None;
    let mut after = std::collections::BTreeMap::new();
    for p in planned {
        let record = &p.record;
        // Entries of a conversation come in runs with the same members.
        if last_set != Some(record.member_set) {
            records::keep_member_set(conn, scope, &record.member_set, &p.members).await?;
            last_set = Some(record.member_set);
        }
        if let Some((digest, statement)) = record.certificate.as_ref().zip(p.certificate.as_ref()) {
            records::keep_certificate(conn, scope, digest, statement).await?;
        }
        records::insert(conn, scope, record).await?;
        for used in &p.kem {
            kem_uses::insert(conn, scope, used, &record.digest).await?;
        }
        for (position, attachment) in p.attachments.iter().enumerate() {
            attachments::name(conn, scope, record.record, position as u64, attachment).await?;
        }
        if let Some(void) = &record.void {
            let id = outbox::append_id("void", &[&sha256(&void.statement).to_vec()]);
            outbox::put(conn, scope, &id, Event::Statement(void.clone()), None).await?;
        }
        after.insert(record.conversation, p.conversation);
    }
    for conversation in after.values() {
        conversations::save(conn, scope, conversation).await?;
    }
    Ok(())
}
