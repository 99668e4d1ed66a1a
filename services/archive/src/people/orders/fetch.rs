//! What a released order gives to its reader, and to nobody else: records with their wraps and ciphertext, attachments.

use std::pin::Pin;
use std::sync::Arc;

use greffe_api::archive as api;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_service_kit::errors::ServiceError;
use greffe_types::{Digest, OrderId};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::super::records::response;
use super::super::refusal::{
    ORDER_NOT_RELEASED, ORDER_NOT_YOURS, ORDER_RECORD_OUTSIDE, ORDER_WINDOW, field,
};
use super::super::{About, Person};
use super::{check_reader, decoded, find, window};
use crate::app::App;
use crate::error::ArchiveError;
use crate::store::{attachments, digest, orders, reads, wraps};

/// Records in flight.
const RECORDS: usize = 4;
/// Chunks of an attachment in flight.
const CHUNKS: usize = 4;

/// Records of an order.
pub(crate) type RecordStream =
    Pin<Box<dyn Stream<Item = Result<api::FetchRecordsResponse, Status>> + Send>>;
/// An attachment.
pub(crate) type AttachmentStream =
    Pin<Box<dyn Stream<Item = Result<api::FetchAttachmentResponse, Status>> + Send>>;

/// Gives the records of an order, in its order. One that was disposed of meanwhile comes as what is left of it.
pub(crate) async fn records(
    app: &Arc<App>,
    person: &Person,
    request: &api::FetchRecordsRequest,
) -> Result<RecordStream, ArchiveError> {
    let (id, order) = released(app, person, &request.order).await?;
    let mut conn = app.db.read().acquire().await?;
    let list = orders::records(&mut conn, &app.scope, id.as_bytes()).await?;
    drop(conn);
    app.note_read(person, "fetch", list.len() as u64, id.as_bytes())
        .await?;

    let (sender, receiver) = mpsc::channel(RECORDS);
    let (app, person) = (app.clone(), person.clone());
    tokio::spawn(async move {
        for record in list {
            let part = record_part(&app, &order, &record).await;
            let part = match part.map_err(ServiceError::from) {
                Ok(part) => Ok(part),
                Err(error) => {
                    app.note_refused("FetchRecords", &person, &error, About::Read(&order.id))
                        .await;
                    Err(Status::from(error))
                }
            };
            let last = part.is_err();
            // A reader that went away needs no more.
            let gone = sender.send(part).await.is_err();
            if gone || last {
                return;
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

async fn record_part(
    app: &App,
    order: &pb::Order,
    record: &[u8],
) -> Result<api::FetchRecordsResponse, ArchiveError> {
    // Looked at for each: a long stream does not outlive its order.
    if !window(order)?.contains(app.now()) {
        return Err(ORDER_WINDOW.refuse().into());
    }
    let envelope = digest(record)?;
    let mut tx = app.db.read().begin().await?;
    let found = reads::by_digest(&mut tx, &app.scope, &envelope)
        .await?
        .ok_or(ArchiveError::Damaged("a record of an order is gone"))?;
    let live = found.summary.disposal == 0;
    let content = found.content.clone();
    let record = response(app, &mut tx, found).await?;
    drop(tx);
    let mut fetched = api::FetchedRecord {
        record: Some(record),
        ..Default::default()
    };
    if live && let Some(content) = content {
        fetched.wraps = wraps::load(app.wraps.read(), &app.scope, &envelope).await?;
        fetched.ciphertext = app.object(digest(&content)?).await?;
    }
    Ok(api::FetchRecordsResponse {
        part: Some(api::fetch_records_response::Part::Record(fetched)),
    })
}

/// Gives an attachment of one of an order's records.
pub(crate) async fn attachment(
    app: &Arc<App>,
    person: &Person,
    request: &api::FetchAttachmentRequest,
) -> Result<AttachmentStream, ArchiveError> {
    let record = Digest::try_from(request.record.as_slice()).map_err(|_| field("record"))?;
    let wanted = Digest::try_from(request.digest.as_slice()).map_err(|_| field("digest"))?;
    let (id, _) = released(app, person, &request.order).await?;
    let mut tx = app.db.read().begin().await?;
    let named = orders::names(&mut tx, &app.scope, id.as_bytes(), &record).await?;
    let found = match reads::by_digest(&mut tx, &app.scope, &record).await? {
        Some(record) if named => record.summary.record,
        _ => return Err(ORDER_RECORD_OUTSIDE.refuse().into()),
    };
    let has = attachments::of_record(&mut *tx, &app.scope, found).await?;
    drop(tx);
    if !has.contains(&wanted) {
        return Err(ORDER_RECORD_OUTSIDE.refuse().into());
    }
    app.note_read(person, "fetch", 1, id.as_bytes()).await?;

    let (sender, receiver) = mpsc::channel(CHUNKS);
    let app = app.clone();
    tokio::spawn(async move {
        let streamed = stream(&app, wanted, &sender).await;
        if let Err(error) = streamed {
            // Nobody is left to tell when the reader went away.
            let _gone = sender.send(Err(Status::from(error))).await;
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// Hands out an attachment's pieces until nobody takes them.
async fn stream(
    app: &App,
    wanted: Digest,
    sender: &mpsc::Sender<Result<api::FetchAttachmentResponse, Status>>,
) -> Result<(), ArchiveError> {
    let mut pieces = app.objects.reader(wanted).await?;
    while let Some(chunk) = pieces.next().await? {
        let response = api::FetchAttachmentResponse { chunk };
        if sender.send(Ok(response)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// A released order whose reader calls within its window.
async fn released(
    app: &App,
    person: &Person,
    order: &[u8],
) -> Result<(OrderId, Signed<pb::Order>), ArchiveError> {
    let id = OrderId::try_from(order).map_err(|_| field("order"))?;
    let mut tx = app.db.read().begin().await?;
    let stored = find(app, &mut tx, id.as_bytes()).await?;
    drop(tx);
    let order = decoded(&stored)?;
    if order.reader != person.name {
        return Err(ORDER_NOT_YOURS.refuse().into());
    }
    if !window(&order)?.contains(app.now()) {
        return Err(ORDER_WINDOW.refuse().into());
    }
    if stored.log_index.is_none() {
        return Err(ORDER_NOT_RELEASED.refuse().into());
    }
    check_reader(&order, &app.bundle(), app.now())?;
    Ok((id, order))
}
