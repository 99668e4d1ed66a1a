//! Orders: asked for over an exact list, approved by people whose own client has recomputed what they approve.

use greffe_api::archive as api;
use greffe_api::archive::order_service_client::OrderServiceClient;
use greffe_envelope::opening::{RecordList, RecordsError};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_service_kit::tls::Channel;
use greffe_types::{Digest, MatterId, Millis, OrderId};

use super::{Page, People};
use crate::client::random;
use crate::error::{ClientError, Result, malformed, untrusted};

pub use greffe_api::archive::OrderState;

/// What to ask for.
#[derive(Debug, Clone)]
pub struct OrderRequest {
    /// The matter.
    pub matter: MatterId,
    /// Why, in words: 1 to 1000 bytes.
    pub purpose: String,
    /// Envelope digests, in any order.
    pub records: Vec<Digest>,
    /// Name of the reader in the roster.
    pub reader: String,
    /// First instant at which nodes answer.
    pub not_before: Millis,
    /// First instant at which they no longer do.
    pub expiry: Millis,
    /// Until when the log shows only a commitment; none when not sealed.
    pub seal_until: Option<Millis>,
}

/// How an order stands, with what it says verified.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderInfo {
    /// Its id.
    pub id: OrderId,
    /// How it stands.
    pub state: OrderState,
    /// The order, its requester's signature verified.
    pub order: Signed<pb::Order>,
    /// Approvals, sorted by person.
    pub approvals: Vec<pb::SignedStatement>,
    /// What is still missing, in words.
    pub missing: String,
    /// Index of the leaf, once released.
    pub log_index: u64,
    /// The leaf's salt when sealed.
    pub salt: Vec<u8>,
}

impl People {
    pub(super) fn orders_api(&self) -> Result<OrderServiceClient<Channel>> {
        self.client.connection().orders()
    }

    /// Files an order.
    ///
    /// # Errors
    /// When the reader is not in the roster with a reader key, or the archive refuses.
    pub async fn request_order(&self, request: OrderRequest) -> Result<OrderInfo> {
        let state = self.client.trust()?;
        let reader = state
            .bundle()
            .person(&request.reader, self.client.now())
            .map_err(untrusted("reader"))?;
        if reader.reader_key.is_empty() {
            return Err(ClientError::refused(
                "READER_UNKNOWN",
                format!(
                    "{} has no reader key in the roster: name a reader",
                    request.reader
                ),
            ));
        }
        let mut records = request.records;
        records.sort();
        records.dedup();
        let list = RecordList::new(records).map_err(refused_list)?;
        let id = OrderId::new(random()?);
        let order = pb::Order {
            id: id.to_vec(),
            tenant: self.client.connection().tenant().to_string(),
            matter: request.matter.to_vec(),
            purpose: request.purpose,
            records_root: list.root().to_vec(),
            records_count: list.count(),
            reader: request.reader,
            reader_key: reader.reader_key.clone(),
            not_before: request.not_before.get(),
            expiry: request.expiry.get(),
            nonce: random::<32>()?.to_vec(),
            seal_until: request.seal_until.map_or(0, Millis::get),
            requester: self.person.name().to_owned(),
        };
        let request = api::FileOrderRequest {
            order: Some(self.person.sign(order).into_raw()),
            records: list.digests().iter().map(Digest::to_vec).collect(),
        };
        let orders = self.orders_api()?;
        let answer = self.unary("FileOrder", request, |request| {
            let mut orders = orders.clone();
            async move { orders.file_order(request).await }
        });
        self.info(answer.await?.status)
    }

    /// Approves an order, after this client has fetched the list itself, and recomputed its root and count: what is
    /// approved is what was seen.
    ///
    /// # Errors
    /// When the list is not the one that the order stands for, or the archive refuses.
    pub async fn approve_order(&self, id: &OrderId) -> Result<OrderInfo> {
        let (info, list) = self.order(id).await?;
        if info.order.requester == self.person.name() {
            return Err(ClientError::refused(
                "SELF_APPROVAL",
                "whoever asked for an order cannot approve it: another person has to",
            ));
        }
        let approval = pb::Approval {
            tenant: self.client.connection().tenant().to_string(),
            order: info.order.digest().to_vec(),
            records_root: list.root().to_vec(),
            records_count: list.count(),
            person: self.person.name().to_owned(),
            at: self.client.now().get(),
        };
        let request = api::ApproveOrderRequest {
            approval: Some(self.person.sign(approval).into_raw()),
        };
        let orders = self.orders_api()?;
        let answer = self.unary("ApproveOrder", request, |request| {
            let mut orders = orders.clone();
            async move { orders.approve_order(request).await }
        });
        self.info(answer.await?.status)
    }

    /// An order with its list: sorted, unique, and of exactly the root and count that its requester signed.
    ///
    /// # Errors
    /// `ORDER_LIST_MISMATCH` when the list hides or adds records.
    pub async fn order(&self, id: &OrderId) -> Result<(OrderInfo, RecordList)> {
        let orders = self.orders_api()?;
        let request = api::GetOrderRequest { order: id.to_vec() };
        let answer = self.unary("GetOrder", request, |request| {
            let mut orders = orders.clone();
            async move { orders.get_order(request).await }
        });
        let answer = answer.await?;
        let info = self.info(answer.status)?;
        if info.id != *id {
            return Err(ClientError::Answer("another order"));
        }
        let digests = answer
            .records
            .iter()
            .map(|record| Digest::try_from(record.as_slice()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| ClientError::Answer("a record's digest"))?;
        let list = RecordList::new(digests).map_err(refused_list)?;
        let root = Digest::try_from(info.order.records_root.as_slice())
            .map_err(|_| ClientError::Answer("an order's root"))?;
        list.check(&root, info.order.records_count)
            .map_err(refused_list)?;
        Ok((info, list))
    }

    /// A page of orders.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn orders(&self, page: Option<String>) -> Result<Page<OrderInfo>> {
        let orders = self.orders_api()?;
        let request = api::ListOrdersRequest {
            page_size: 0,
            page_token: page.unwrap_or_default(),
        };
        let answer = self.unary("ListOrders", request, |request| {
            let mut orders = orders.clone();
            async move { orders.list_orders(request).await }
        });
        let answer = answer.await?;
        let infos = answer
            .orders
            .into_iter()
            .map(|status| self.info(Some(status)));
        Ok(Page::new(
            infos.collect::<Result<_>>()?,
            answer.next_page_token,
        ))
    }

    /// What the archive says of an order, with the requester's signature verified.
    fn info(&self, status: Option<api::OrderStatus>) -> Result<OrderInfo> {
        let status = status.ok_or(ClientError::Answer("no order"))?;
        let state = status.state();
        let raw = status.order.ok_or(ClientError::Answer("no order"))?;
        let order = Signed::<pb::Order>::decode(raw).map_err(malformed("order"))?;
        let bundle = self.client.trust()?.bundle().clone();
        // As of the order's own beginning: somebody who has left since has still signed it.
        let person = bundle
            .message()
            .roster
            .iter()
            .find(|person| person.name == order.requester)
            .ok_or(ClientError::Answer("an order by nobody of the roster"))?;
        order
            .verify(&person.name, &person.signing_key)
            .map_err(malformed("order"))?;
        if order.tenant != bundle.tenant().as_str() {
            return Err(ClientError::Answer("an order of another tenant"));
        }
        Ok(OrderInfo {
            id: OrderId::try_from(order.id.as_slice())
                .map_err(|_| ClientError::Answer("an order's id"))?,
            state,
            order,
            approvals: status.approvals,
            missing: status.missing,
            log_index: status.log_index,
            salt: status.salt,
        })
    }
}

fn refused_list(error: RecordsError) -> ClientError {
    ClientError::refused(
        "ORDER_LIST_MISMATCH",
        format!("{error}: nothing was signed; have the order filed anew"),
    )
}
