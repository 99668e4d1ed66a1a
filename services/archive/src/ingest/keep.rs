//! How a planned batch becomes durable: objects, then the erasable store, then one transaction of the main database.
//!
//! A crash between them leaves objects or wraps that no row names; the relay's retry plans the same entry again and finds
//! them. A receipt leaves the process only after the last of the three. Several archives may do this at once: the transaction
//! begins by looking whether what the batch was planned on is still so, and the batch is planned again when it is not.

use std::collections::{BTreeMap, BTreeSet};

use greffe_envelope::label::sha256;
use greffe_envelope::pb::{self, log_entry::Event};
use greffe_envelope::wrap::WrapView;
use greffe_service_kit::db::sql;
use greffe_service_kit::telemetry::metrics;
use greffe_types::Digest;

use super::plan::Planned;
use crate::app::{App, News};
use crate::error::ArchiveError;
use crate::objects::{NewObject, ObjectError};
use crate::store::attachments::{self, Naming};
use crate::store::wraps::{self, Erasable};
use crate::store::{conversations, kem_uses, keys, outbox, records, removals};

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
    let erasable: Vec<Erasable<'_>> = planned
        .iter()
        .filter_map(|p| {
            let (wraps, mls_message) = p.erasable.as_ref()?;
            let envelope = &p.record.digest;
            Some(Erasable {
                envelope,
                wraps,
                mls_message,
            })
        })
        .collect();
    if erasable.is_empty() {
        return Ok(());
    }
    app.wraps
        .run_tx("ingest_wraps", async |conn| -> Result<(), ArchiveError> {
            if wraps::insert(conn, &app.scope, &erasable).await? {
                Ok(())
            } else {
                Err(ArchiveError::Damaged(
                    "wraps of a new record were destroyed",
                ))
            }
        })
        .await?;
    let size = |e: &Erasable<'_>| {
        e.mls_message.len() + e.wraps.iter().map(|w| w.sealed.len()).sum::<usize>()
    };
    for some in sql::groups(&erasable, size) {
        let envelopes: Vec<Digest> = some.iter().map(|e| *e.envelope).collect();
        let mut found = wraps::load_all(app.wraps.read(), &app.scope, &envelopes).await?;
        let mut messages = wraps::mls_messages(app.wraps.read(), &app.scope, &envelopes).await?;
        for e in some {
            let found = found.remove(e.envelope).unwrap_or_default();
            let same = digests(&found) == digests(e.wraps)
                && messages.remove(e.envelope).as_deref() == Some(e.mls_message);
            if !same {
                return Err(ArchiveError::Damaged("wraps read back differ"));
            }
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
    let attached: BTreeSet<Digest> = planned
        .iter()
        .flat_map(|p| p.attachments.iter().copied())
        .collect();
    let attached: Vec<Digest> = attached.into_iter().collect();
    if attachments::sizes(conn, scope, &attached).await?.len() < attached.len() {
        return Err(ArchiveError::Overtaken);
    }
    if removals::any(conn, scope).await? {
        let contents: Vec<Digest> = planned.iter().map(|p| p.record.content).collect();
        if removals::any_of(conn, scope, &contents).await? {
            return Err(ArchiveError::Overtaken);
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
    // What one of the batch names, others name too.
    let (mut member_sets, mut certificates) = (BTreeMap::new(), BTreeMap::new());
    let mut after = BTreeMap::new();
    let (mut uses, mut namings, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for p in planned {
        let record = &p.record;
        member_sets.insert(record.member_set, &p.members);
        certificates.extend(record.certificate.as_ref().zip(p.certificate.as_ref()));
        rows.push(record);
        uses.extend(p.kem.iter().map(|used| (used, &record.digest)));
        namings.extend(
            (0..)
                .zip(&p.attachments)
                .map(|(position, attachment)| Naming {
                    record: record.record,
                    position,
                    attachment,
                }),
        );
        after.insert(record.conversation, p.conversation);
    }
    for (member_set, members) in member_sets {
        records::keep_member_set(conn, scope, &member_set, members).await?;
    }
    let certificates: Vec<_> = certificates.into_iter().collect();
    records::keep_certificates(conn, scope, &certificates).await?;
    records::insert(conn, scope, &rows).await?;
    kem_uses::insert(conn, scope, &uses).await?;
    attachments::name(conn, scope, &namings).await?;
    for void in planned.iter().filter_map(|p| p.record.void.as_ref()) {
        let id = outbox::append_id("void", &[&sha256(&void.statement).to_vec()]);
        outbox::put(conn, scope, &id, Event::Statement(void.clone()), None).await?;
    }
    let after: Vec<_> = after.into_values().collect();
    Ok(conversations::save(conn, scope, &after).await?)
}
