//! Disposition of one record: decided where holds are placed, by a time that witnesses agree with, then carried out.

use greffe_api::archive as api;
use greffe_envelope::pb;
use greffe_policy::{Disposition, DispositionCase, Events, TrustedNow, decide};
use greffe_service_kit::db::Connection;
use greffe_types::{Digest, Millis};
use prost::Message as _;

use super::super::Person;
use super::super::records::message;
use super::super::refusal::{self, PACK_UNKNOWN, RECORD_DISPOSED, RECORD_UNKNOWN, field};
use super::super::signers::{Acts, signers};
use super::{reason, remember, retried};
use crate::app::{App, News};
use crate::error::ArchiveError;
use crate::jobs::{disposition, trusted_time};
use crate::store::reads::{self, Record};
use crate::store::{dispositions, holds, outbox};

/// Disposes of a record: `acts` are those of the person who asks and of the pack's approvers, of whom the asker is none.
/// Its tombstone answers, when the wraps are gone for good.
pub(super) async fn dispose(app: &App, acts: &Acts) -> Result<[u8; 16], ArchiveError> {
    let about: api::DisposeAct = acts.about()?;
    reason(&about.reason)?;
    let digest = Digest::try_from(about.record.as_slice()).map_err(|_| field("act.record"))?;

    let mut conn = app.db.read().acquire().await?;
    let record = find(app, &mut conn, &digest).await?;
    let before = retried(app, &mut conn, acts).await?;
    drop(conn);
    let append = match before {
        Some(append) => append,
        None => {
            // The log hears of the attempt, and its witnesses look at their clocks.
            let asker = Person {
                name: acts.asker().signer.person.clone(),
            };
            let read = app.note_read(&asker, "get", 1, digest.as_bytes()).await?;
            let heard = app.logged(&read).await?;
            let now = trusted_time::now(app, heard.index + 1).await?;
            app.write_and_wake("dispose", &[News::Disposals], async |conn| {
                decide_one(app, conn, acts, &digest, now).await
            })
            .await?
        }
    };
    disposition::finished(app, record.summary.record).await?;
    Ok(append)
}

/// The decision, in the writer's transaction: every hold placed before is seen, and none placed after binds the record.
async fn decide_one(
    app: &App,
    conn: &mut Connection,
    acts: &Acts,
    digest: &Digest,
    now: TrustedNow,
) -> Result<[u8; 16], ArchiveError> {
    if let Some(append) = retried(app, conn, acts).await? {
        return Ok(append);
    }
    let record = find(app, conn, digest).await?;
    let summary = &record.summary;
    if summary.disposal != 0 {
        return Err(RECORD_DISPOSED.refuse().into());
    }
    let pack = record
        .policy_digest
        .as_ref()
        .and_then(|digest| app.packs.get(digest))
        .ok_or_else(|| PACK_UNKNOWN.refuse())?;
    let bound = holds::on(conn, &app.scope, summary.record).await?;
    let case = DispositionCase {
        pack,
        record: *digest,
        class: &summary.record_class,
        archived_at: Millis::new(summary.archived_at),
        retain_until: Millis::new(summary.retain_until),
        events: &Events::none(),
        holds: &bound,
        requester: &acts.asker().signer.person,
        approvals: &signers(acts.others()),
    };
    let permit = match decide(&case, now).map_err(|error| refusal::retention(&error))? {
        Disposition::Dispose(permit) => permit.into_inner(),
        Disposition::Keep(reasons) => return Err(refusal::kept(&reasons).into()),
        Disposition::NeedsApproval(error) => return Err(refusal::quorum(&error).into()),
    };

    let backups_expire_at = app.now().plus(app.config.wrap_backup_life()).get();
    let tombstone = pb::Tombstone {
        envelope: permit.record.to_vec(),
        acts: acts.all().iter().map(|a| a.signed.raw().clone()).collect(),
        backups_expire_at,
    };
    let append = outbox::append_id("tombstone", &[permit.record.as_bytes()]);
    let decided = dispositions::New {
        record: summary.record,
        decided_at: permit.decided_at.get(),
        backups_expire_at,
        append: &append,
        tombstone: &tombstone.encode_to_vec(),
    };
    if !dispositions::decide(conn, &app.scope, &decided).await? {
        return Err(RECORD_DISPOSED.refuse().into());
    }
    remember(app, conn, acts.all(), &append).await?;
    Ok(append)
}

async fn find(app: &App, conn: &mut Connection, digest: &Digest) -> Result<Record, ArchiveError> {
    let record = reads::by_digest(conn, &app.scope, digest)
        .await?
        .ok_or_else(|| RECORD_UNKNOWN.refuse())?;
    message(&record)?;
    Ok(record)
}
