//! Orders: asked for over an exact list, approved by people whose own client has recomputed what they approve.

use greffe_api::archive as api;
use greffe_api::archive::order_service_client::OrderServiceClient;
use greffe_envelope::opening::{RecordList, RecordsError};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::TrustState;
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

/// An order that the archive lists, and that nobody whom this client knows has signed.
#[derive(Debug)]
pub struct UnverifiedOrder {
    /// Its id, as the archive has it; none when it is none.
    pub id: Option<OrderId>,
    /// Why it is not believed.
    pub error: ClientError,
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
        let now = self.client.now();
        let trust = self.client.trust()?;
        let requester = &info.order.requester;
        let may_ask = trust
            .bundle()
            .verify_person(&info.order, requester, &[], now);
        if let Err(error) = may_ask {
            return Err(ClientError::refused(
                "ORDER_SIGNATURE",
                format!(
                    "{requester} may not ask for this order any more, or has another key by now ({error}): no node would answer; have it filed anew"
                ),
            ));
        }
        let approval = pb::Approval {
            tenant: self.client.connection().tenant().to_string(),
            order: info.order.digest().to_vec(),
            records_root: list.root().to_vec(),
            records_count: list.count(),
            person: self.person.name().to_owned(),
            at: now.get(),
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

    /// A page of orders; one that does not verify hides no other.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn orders(
        &self,
        page: Option<String>,
    ) -> Result<Page<Result<OrderInfo, UnverifiedOrder>>> {
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
        let infos = answer.orders.into_iter().map(|status| {
            let id = id_of(&status);
            self.info(Some(status))
                .map_err(|error| UnverifiedOrder { id, error })
        });
        Ok(Page::new(infos.collect(), answer.next_page_token))
    }

    /// What the archive says of an order, with the requester's signature verified.
    fn info(&self, status: Option<api::OrderStatus>) -> Result<OrderInfo> {
        let status = status.ok_or(ClientError::Answer("no order"))?;
        let state = status.state();
        let raw = status.order.ok_or(ClientError::Answer("no order"))?;
        let order = Signed::<pb::Order>::decode(raw).map_err(malformed("order"))?;
        let trust = self.client.trust()?;
        check_requester(&trust, &order)?;
        if order.tenant != trust.bundle().tenant().as_str() {
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

/// The requester signed it, by the roster of whichever bundle: somebody who has left since, or has another key by now, has
/// still signed it.
fn check_requester(state: &TrustState, order: &Signed<pb::Order>) -> Result<()> {
    let mut failure = ClientError::Answer("an order by nobody of the roster");
    let older: Vec<_> = state.older_bundles().collect();
    let newest_first = core::iter::once(state.bundle()).chain(older.into_iter().rev());
    for bundle in newest_first {
        let mut roster = bundle.message().roster.iter();
        let Some(person) = roster.find(|person| person.name == order.requester) else {
            continue;
        };
        match order.verify(&person.name, &person.signing_key) {
            Ok(()) => return Ok(()),
            Err(error) => failure = malformed("order")(error),
        }
    }
    Err(failure)
}

fn id_of(status: &api::OrderStatus) -> Option<OrderId> {
    let order = Signed::<pb::Order>::decode(status.order.clone()?).ok()?;
    OrderId::try_from(order.id.as_slice()).ok()
}

fn refused_list(error: RecordsError) -> ClientError {
    ClientError::refused(
        "ORDER_LIST_MISMATCH",
        format!("{error}: nothing was signed; have the order filed anew"),
    )
}
