//! Orders to open records: filed over an exact list, approved by several people, released into the log.

mod approve;
mod fetch;

use greffe_api::archive as api;
use greffe_envelope::opening::RecordList;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::Bundle;
use greffe_service_kit::db::Connection;
use greffe_service_kit::errors::ServiceError;
use greffe_types::{Digest, MatterId, Millis, OrderId, TimeRange};
use prost::Message as _;

pub(crate) use approve::approve;
pub(crate) use fetch::{AttachmentStream, RecordStream, attachment, records};

use super::acts::open_matter;
use super::page::{Listing, size};
use super::refusal::{
    self, ORDER_EXISTS, ORDER_NOT_YOURS, ORDER_READER, ORDER_RECORD_UNKNOWN, ORDER_UNKNOWN,
    ORDER_WINDOW, field, require,
};
use super::{Person, stored};
use crate::app::{App, News};
use crate::error::ArchiveError;
use crate::store::orders::{self, Stored};
use crate::store::reads;

/// Longest purpose of an order.
const MAX_PURPOSE: usize = 1000;

/// Files an order. The same order again is a retry.
pub(crate) async fn file(
    app: &App,
    person: &Person,
    request: api::FileOrderRequest,
) -> Result<api::FileOrderResponse, ArchiveError> {
    let raw = request.order.ok_or_else(|| field("order"))?;
    let order = Signed::<pb::Order>::decode(raw).map_err(refusal::statement)?;
    let (now, bundle) = (app.now(), app.bundle());
    if order.requester != person.name {
        return Err(ORDER_NOT_YOURS.refuse().into());
    }
    bundle
        .verify_person(&order, &order.requester, &["requester", "auditor"], now)
        .map_err(refusal::trust)?;
    let fields = check(&order, &bundle, now)?;
    let digests = request
        .records
        .iter()
        .map(|record| Digest::try_from(record.as_slice()).map_err(|_| field("records")))
        .collect::<Result<Vec<_>, _>>()?;
    let list = RecordList::new(digests).map_err(refusal::records)?;
    list.check(&fields.root, order.records_count)
        .map_err(refusal::records)?;

    let statement = order.raw().encode_to_vec();
    app.write_and_wake("order_file", &[News::Outbox], async |conn| {
        if let Some(known) = orders::by_id(conn, &app.scope, fields.id.as_bytes()).await? {
            let same = known.digest == order.digest().as_bytes();
            return if same {
                Ok(())
            } else {
                Err(ORDER_EXISTS.refuse().into())
            };
        }
        open_matter(app, conn, &fields.matter).await?;
        for digest in list.digests() {
            if reads::live_pack(conn, &app.scope, digest).await?.is_none() {
                let refused = ORDER_RECORD_UNKNOWN.refuse().with("record", digest);
                return Err(refused.into());
            }
        }
        let new = orders::New {
            id: fields.id,
            digest: order.digest(),
            statement: &statement,
            filed_at: now.get(),
            expiry: order.expiry,
            records: list.digests(),
        };
        if !orders::file(conn, &app.scope, &new).await? {
            return Err(ORDER_EXISTS.refuse().into());
        }
        Ok(())
    })
    .await?;
    let mut tx = app.db.read().begin().await?;
    let stored = find(app, &mut tx, fields.id.as_bytes()).await?;
    Ok(api::FileOrderResponse {
        status: Some(status(app, &mut tx, stored).await?),
    })
}

/// An order with its list.
pub(crate) async fn get(
    app: &App,
    request: &api::GetOrderRequest,
) -> Result<api::GetOrderResponse, ArchiveError> {
    let id = OrderId::try_from(request.order.as_slice()).map_err(|_| field("order"))?;
    let mut tx = app.db.read().begin().await?;
    let stored = find(app, &mut tx, id.as_bytes()).await?;
    let records = orders::records(&mut tx, &app.scope, &stored.id).await?;
    Ok(api::GetOrderResponse {
        status: Some(status(app, &mut tx, stored).await?),
        records,
    })
}

/// A page of orders.
pub(crate) async fn list(
    app: &App,
    request: &api::ListOrdersRequest,
) -> Result<api::ListOrdersResponse, ArchiveError> {
    let limit = size(request.page_size)?;
    let listing = Listing {
        tenant: app.tenant(),
        list: "orders",
        query: &[],
    };
    let after = listing.after(&request.page_token)?;
    let mut tx = app.db.read().begin().await?;
    let mut found = orders::page(&mut tx, &app.scope, after, limit + 1).await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next = found.last().filter(|_| more).map(|last| last.number);
    let mut statuses = Vec::with_capacity(found.len());
    for stored in found {
        statuses.push(status(app, &mut tx, stored).await?);
    }
    Ok(api::ListOrdersResponse {
        orders: statuses,
        next_page_token: next.map(|number| listing.token(number)).unwrap_or_default(),
    })
}

/// An order's fields that are more than text.
struct Fields {
    id: OrderId,
    matter: MatterId,
    root: Digest,
}

/// Every rule over an order alone: its fields, its window, its reader.
fn check(order: &pb::Order, bundle: &Bundle, now: Millis) -> Result<Fields, ServiceError> {
    require(order.tenant == bundle.tenant().as_str(), "order.tenant")?;
    require(
        (1..=MAX_PURPOSE).contains(&order.purpose.len()),
        "order.purpose",
    )?;
    require(order.nonce.len() == 32, "order.nonce")?;
    let fields = Fields {
        id: OrderId::try_from(order.id.as_slice()).map_err(|_| field("order.id"))?,
        matter: MatterId::try_from(order.matter.as_slice()).map_err(|_| field("order.matter"))?,
        root: Digest::try_from(order.records_root.as_slice())
            .map_err(|_| field("order.records_root"))?,
    };
    if order.expiry <= now.get() || order.not_before >= order.expiry {
        return Err(ORDER_WINDOW.refuse());
    }
    check_reader(order, bundle, now)?;
    Ok(fields)
}

/// The reader is one of the roster, and the key is the roster's: an order reaches nobody else.
fn check_reader(order: &pb::Order, bundle: &Bundle, now: Millis) -> Result<(), ServiceError> {
    let reader = bundle
        .person(&order.reader, now)
        .map_err(|error| ORDER_READER.refuse().because(error))?;
    let is_reader = reader.roles.iter().any(|role| role == "reader");
    if is_reader && !order.reader_key.is_empty() && reader.reader_key == order.reader_key {
        Ok(())
    } else {
        Err(ORDER_READER.refuse())
    }
}

/// When an order stands.
fn window(order: &pb::Order) -> Result<TimeRange, ServiceError> {
    TimeRange::new(Millis::new(order.not_before), Millis::new(order.expiry))
        .ok_or_else(|| ORDER_WINDOW.refuse())
}

async fn find(app: &App, conn: &mut Connection, id: &[u8]) -> Result<Stored, ArchiveError> {
    Ok(orders::by_id(conn, &app.scope, id)
        .await?
        .ok_or_else(|| ORDER_UNKNOWN.refuse())?)
}

/// An order that was filed here.
fn decoded(stored_order: &Stored) -> Result<Signed<pb::Order>, ArchiveError> {
    Signed::decode(stored(&stored_order.statement)?)
        .map_err(|_| ArchiveError::Damaged("a filed order"))
}

/// How an order stands.
async fn status(
    app: &App,
    conn: &mut Connection,
    order: Stored,
) -> Result<api::OrderStatus, ArchiveError> {
    let (state, missing) = if order.expiry <= app.now().get() {
        (api::OrderState::Expired, "its time has run out".to_owned())
    } else if order.log_index.is_some() {
        (api::OrderState::Released, String::new())
    } else if order.append.is_some() {
        (api::OrderState::Pending, "its entry in the log".to_owned())
    } else {
        let missing = approve::missing(app, conn, &order).await?;
        (api::OrderState::Pending, missing)
    };
    let approvals = orders::approvals(conn, &app.scope, &order.id).await?;
    Ok(api::OrderStatus {
        state: state.into(),
        order: Some(stored(&order.statement)?),
        approvals: approvals
            .iter()
            .map(|(_, statement)| stored(statement))
            .collect::<Result<_, _>>()?,
        missing,
        log_index: order.log_index.unwrap_or_default(),
        salt: order.salt.unwrap_or_default(),
    })
}
