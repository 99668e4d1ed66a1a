//! What people send: tokens, signed acts, orders, approvals; and who they are in these tests.

use greffe_api::archive as api;
use greffe_api::archive::archive_service_client::ArchiveServiceClient;
use greffe_api::archive::order_service_client::OrderServiceClient;
use greffe_envelope::opening::RecordList;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_service_kit::clock::Clock as _;
use greffe_service_kit::tls::Channel;
use greffe_types::Digest;
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

use crate::support::{Archive, World, refusal};
use crate::world::{person_key, reader_key};

/// A token of a person, valid now for the archive.
pub fn token(world: &World, person: &str) -> pb::PersonToken {
    let now = world.clock.now().get();
    pb::PersonToken {
        tenant: "acme".into(),
        person: person.into(),
        audience: "archive".into(),
        not_before: now,
        expiry: now + 60_000,
        nonce: vec![1; 16],
    }
}

/// A request with a token that a person signed.
pub fn with_token<T>(message: T, token: pb::PersonToken, signer: &str) -> Request<T> {
    let person = token.person.clone();
    let signed = Signed::sign(token, &[(person.as_str(), &person_key(signer))]);
    let mut request = Request::new(message);
    let value = MetadataValue::from_bytes(&signed.raw().encode_to_vec());
    request
        .metadata_mut()
        .insert_bin("greffe-person-bin", value);
    request
}

/// A request of a person.
pub fn by<T>(world: &World, person: &str, message: T) -> Request<T> {
    with_token(message, token(world, person), person)
}

/// A person's act; `nonce` tells it from the others of a test.
pub fn signed_act(
    world: &World,
    person: &str,
    action: &str,
    act: &impl Message,
    nonce: u8,
) -> pb::SignedStatement {
    let act = pb::PersonAct {
        tenant: "acme".into(),
        person: person.into(),
        action: action.into(),
        act: act.encode_to_vec(),
        at: world.clock.now().get(),
        nonce: vec![nonce; 16],
    };
    Signed::sign(act, &[(person, &person_key(person))]).into_raw()
}

/// The archive's account of a read whose leaf the log has, once the archive knows of it.
pub async fn listed_read(world: &World, archive: &Archive, index: u64) -> api::Read {
    loop {
        let request = by(world, "ann", api::ListReadsRequest::default());
        let answer = archive.records().list_reads(request).await.unwrap();
        let mut reads = answer.into_inner().reads.into_iter();
        if let Some(read) = reads.find(|read| read.log_index == index) {
            return read;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

pub fn query(change: impl FnOnce(&mut api::RecordQuery)) -> api::RecordQuery {
    let mut query = api::RecordQuery::default();
    change(&mut query);
    query
}

impl Archive {
    pub fn records(&self) -> ArchiveServiceClient<Channel> {
        ArchiveServiceClient::new(self.people.clone())
    }

    pub fn orders(&self) -> OrderServiceClient<Channel> {
        OrderServiceClient::new(self.people.clone()).max_decoding_message_size(8 << 20)
    }

    /// Performs an act that several people signed alike, the first of them asking; gives its index in the log.
    pub async fn act(
        &self,
        world: &World,
        people: &[&str],
        action: &str,
        act: &impl Message,
        nonce: u8,
    ) -> Result<u64, (Code, String)> {
        let acts = people
            .iter()
            .zip(nonce..)
            .map(|(person, nonce)| signed_act(world, person, action, act, nonce))
            .collect();
        let request = by(world, people[0], api::ActRequest { acts });
        let answer = self.records().act(request).await.map_err(refusal)?;
        Ok(answer.into_inner().log_index)
    }

    /// Opens matter `[m; 16]`, by the auditor.
    pub async fn open_matter(&self, world: &World, m: u8) {
        let act = api::MatterAct {
            matter: vec![m; 16],
            name: format!("matter {m}"),
        };
        self.act(world, &["ann"], "matter.create", &act, m)
            .await
            .unwrap();
    }

    /// Searches as the auditor.
    pub async fn search(&self, world: &World, query: api::RecordQuery) -> Vec<api::RecordSummary> {
        let request = api::SearchRecordsRequest {
            query: Some(query),
            page_size: 1000,
            page_token: String::new(),
        };
        let found = self
            .records()
            .search_records(by(world, "ann", request))
            .await
            .unwrap();
        found.into_inner().records
    }
}

/// An order of gus over some records for fay, in matter `[1; 16]`, and its list.
pub fn order(world: &World, records: &[Digest]) -> (pb::Order, Vec<Vec<u8>>) {
    let mut digests = records.to_vec();
    digests.sort();
    let list = RecordList::new(digests).unwrap();
    let now = world.clock.now().get();
    let order = pb::Order {
        id: vec![9; 16],
        tenant: "acme".into(),
        matter: vec![1; 16],
        purpose: "a complaint".into(),
        records_root: list.root().to_vec(),
        records_count: list.count(),
        reader: "fay".into(),
        reader_key: reader_key("fay").public_key(),
        not_before: now,
        expiry: now + 3_600_000,
        nonce: vec![4; 32],
        seal_until: 0,
        requester: "gus".into(),
    };
    (order, list.digests().iter().map(Digest::to_vec).collect())
}

pub fn sign_order(order: &pb::Order) -> Signed<pb::Order> {
    let requester = order.requester.as_str();
    Signed::sign(order.clone(), &[(requester, &person_key(requester))])
}

/// An approval of an order, as its approver counted it.
pub fn approval(world: &World, order: &pb::Order, person: &str) -> pb::Approval {
    pb::Approval {
        tenant: "acme".into(),
        order: sign_order(order).digest().to_vec(),
        records_root: order.records_root.clone(),
        records_count: order.records_count,
        person: person.into(),
        at: world.clock.now().get(),
    }
}

impl Archive {
    pub async fn file(
        &self,
        world: &World,
        order: &pb::Order,
        records: Vec<Vec<u8>>,
    ) -> Result<api::OrderStatus, (Code, String)> {
        let request = api::FileOrderRequest {
            order: Some(sign_order(order).into_raw()),
            records,
        };
        let request = by(world, &order.requester, request);
        let filed = self.orders().file_order(request).await.map_err(refusal)?;
        Ok(filed.into_inner().status.unwrap())
    }

    /// Brings an approval, signed by the person it names.
    pub async fn approve(
        &self,
        world: &World,
        approval: pb::Approval,
    ) -> Result<api::OrderStatus, (Code, String)> {
        let person = approval.person.clone();
        let signed = Signed::sign(approval, &[(person.as_str(), &person_key(&person))]);
        let request = api::ApproveOrderRequest {
            approval: Some(signed.into_raw()),
        };
        let approved = self
            .orders()
            .approve_order(by(world, &person, request))
            .await
            .map_err(refusal)?;
        Ok(approved.into_inner().status.unwrap())
    }

    /// What an order gives to a reader.
    pub async fn fetch(
        &self,
        world: &World,
        reader: &str,
    ) -> Result<Vec<api::FetchedRecord>, (Code, String)> {
        let request = api::FetchRecordsRequest { order: vec![9; 16] };
        let mut stream = self
            .orders()
            .fetch_records(by(world, reader, request))
            .await
            .map_err(refusal)?
            .into_inner();
        let mut fetched = Vec::new();
        while let Some(part) = stream.message().await.map_err(refusal)? {
            let Some(api::fetch_records_response::Part::Record(record)) = part.part else {
                panic!("a part without a record");
            };
            fetched.push(record);
        }
        Ok(fetched)
    }
}
