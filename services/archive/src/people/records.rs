//! Searching headers, and single records without their content.

use greffe_api::archive as api;
use greffe_envelope::pb;
use greffe_service_kit::db::Connection;
use greffe_service_kit::errors::ServiceError;
use greffe_types::{Digest, MatterId};
use prost::Message as _;

use super::page::{Listing, size};
use super::refusal::{self, PACK_UNKNOWN, RECORD_UNKNOWN, field};
use super::{Person, stored};
use crate::app::App;
use crate::error::ArchiveError;
use crate::store::reads::{self, Record};
use crate::store::search::{Filter, Summary, members};
use crate::store::{batches, holds, orders};

/// Bytes of summaries in one answer; messages are at most 4 MiB.
const MAX_PAGE_BYTES: usize = 3 << 20;

/// A page of headers.
pub(crate) async fn search(
    app: &App,
    person: &Person,
    request: &api::SearchRecordsRequest,
) -> Result<api::SearchRecordsResponse, ArchiveError> {
    let query = request.query.clone().unwrap_or_default();
    let filter = Filter::parse(&query).map_err(field)?;
    let limit = size(request.page_size)?;
    let bytes = query.encode_to_vec();
    let listing = Listing {
        tenant: app.tenant(),
        list: "records",
        query: &bytes,
    };
    let after = listing.after(&request.page_token)?;
    let _place = app.search_place(person)?;

    let mut tx = app.db.read().begin().await?;
    let found = filter.page(&mut tx, &app.scope, after, limit + 1).await?;
    let wanted = &found[..found.len().min(limit as usize)];
    let mut records = summaries(app, &mut tx, wanted).await?;
    drop(tx);
    records.truncate(fitting(&records));
    let more = records.len() < found.len();

    app.note_read(person, "search", records.len() as u64, &bytes)
        .await?;
    Ok(api::SearchRecordsResponse {
        next_page_token: records
            .last()
            .filter(|_| more)
            .map(|last| listing.token(last.record))
            .unwrap_or_default(),
        records,
    })
}

/// How many of some summaries go into one answer: the first always, then as many as its size allows. Conversations of many
/// members make long summaries.
fn fitting(records: &[api::RecordSummary]) -> usize {
    let mut bytes = 0;
    let within = records.iter().take_while(|record| {
        bytes += record.encoded_len();
        bytes <= MAX_PAGE_BYTES
    });
    within.count().max(1)
}

/// A record without ciphertext and wraps.
pub(crate) async fn get(
    app: &App,
    person: &Person,
    request: &api::GetRecordRequest,
) -> Result<api::GetRecordResponse, ArchiveError> {
    let digest = Digest::try_from(request.digest.as_slice()).map_err(|_| field("digest"))?;
    let mut tx = app.db.read().begin().await?;
    let record = reads::by_digest(&mut tx, &app.scope, &digest)
        .await?
        .ok_or_else(|| RECORD_UNKNOWN.refuse())?;
    permit_read(app, &mut tx, &record).await?;
    let response = response(app, &mut tx, record).await?;
    drop(tx);
    app.note_read(person, "get", 1, digest.as_bytes()).await?;
    Ok(response)
}

/// Refuses a read in the intermediate phase without a case. An order or a hold over the record is one.
async fn permit_read(
    app: &App,
    conn: &mut Connection,
    record: &Record,
) -> Result<(), ArchiveError> {
    let Some(digest) = &record.policy_digest else {
        return Ok(());
    };
    let pack = app.packs.get(digest).ok_or_else(|| PACK_UNKNOWN.refuse())?;
    let now = app.now();
    let summary = &record.summary;
    let archived_at = greffe_types::Millis::new(summary.archived_at);
    let permit = |matter| pack.permit_read(&summary.record_class, archived_at, now, matter);
    if permit(None).is_ok() {
        return Ok(());
    }
    let matter = case_for(app, conn, record).await?;
    let _for_the_case = permit(matter).map_err(|error| refusal::read(&error))?;
    Ok(())
}

async fn case_for(
    app: &App,
    conn: &mut Connection,
    record: &Record,
) -> Result<Option<MatterId>, ArchiveError> {
    let (now, summary) = (app.now(), &record.summary);
    let held = holds::on(conn, &app.scope, summary.record).await?;
    if let Some(hold) = held.standing(now).next() {
        return Ok(Some(hold.matter));
    }
    let order = orders::matter_statement(conn, &app.scope, &summary.digest, now.get()).await?;
    let Some(order) = order else { return Ok(None) };
    let order: pb::Order = crate::store::decode(&stored(&order)?.statement)?;
    Ok(MatterId::try_from(order.matter.as_slice()).ok())
}

/// A record's statements and its way into the log.
pub(crate) async fn response(
    app: &App,
    conn: &mut Connection,
    record: Record,
) -> Result<api::GetRecordResponse, ArchiveError> {
    let proof = batches::receipt_proof(&mut *conn, &app.scope, record.summary.record).await?;
    let device_cert = match &record.certificate {
        Some(digest) => reads::certificate(conn, &app.scope, digest).await?,
        None => None,
    };
    let envelope = record
        .body
        .zip(record.signature)
        .map(|(body, signature)| pb::SealedEnvelope { body, signature });
    let mut summary = summaries(app, conn, &[record.summary]).await?;
    Ok(api::GetRecordResponse {
        summary: summary.pop(),
        envelope,
        device_cert: device_cert.as_deref().map(stored).transpose()?,
        receipt: Some(stored(&record.receipt)?),
        receipt_proof: proof,
    })
}

async fn summaries(
    app: &App,
    conn: &mut Connection,
    found: &[Summary],
) -> Result<Vec<api::RecordSummary>, ArchiveError> {
    let users = members(conn, &app.scope, found).await?;
    let held = holds::standing(conn, &app.scope, app.now(), found).await?;
    Ok(found
        .iter()
        .map(|record| api::RecordSummary {
            record: record.record,
            conversation: record.conversation.to_vec(),
            sequence: record.sequence,
            kind: record.kind,
            digest: record.digest.to_vec(),
            sender: record.sender.clone(),
            sent_at: record.sent_at,
            archived_at: record.archived_at,
            retain_until: record.retain_until,
            mode: record.mode,
            record_class: record.record_class.clone(),
            size: record.size,
            participants: record
                .member_set
                .as_ref()
                .and_then(|set| users.get(set).cloned())
                .unwrap_or_default(),
            holds: held.get(&record.record).copied().unwrap_or_default(),
            disposed: record.disposal != 0,
        })
        .collect())
}

/// A message that may be opened, extended or disposed of.
pub(crate) fn message(record: &Record) -> Result<(), ServiceError> {
    if record.summary.kind != i32::from(pb::EntryKind::Message) {
        return Err(refusal::RECORD_NOT_A_MESSAGE.refuse());
    }
    Ok(())
}
