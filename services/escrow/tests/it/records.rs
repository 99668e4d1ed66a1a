//! Records as the archive has them, orders as people sign them, and how a reader asks for an opening.

use std::time::Duration;

use greffe_api::escrow::{OpenOrder, OpenRequest, OpenResponse, open_request};
use greffe_envelope::ceremony::ShareHolders;
use greffe_envelope::chain::ChainState;
use greffe_envelope::derive::{Cek, Seed};
use greffe_envelope::envelope::Envelope;
use greffe_envelope::message::{Draft, Sealed, open_with_cek};
use greffe_envelope::opening::{AnswerContext, HybridSecretKey, Opener, RecordList, order_event};
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::ISSUER;
use greffe_envelope::wrap::WrapView;
use greffe_service_kit::errors::CallError;
use greffe_tlog::BatchTree;
use greffe_types::{ConversationId, DeviceId, Digest, MessageId};

use crate::log::now;
use crate::world::{END, Journal, World, person_key, public, reader_key, signer};

/// Certificate of alice's device, its keys counting from `seed`.
pub(crate) fn device_cert(seed: u8) -> Signed<pb::DeviceCert> {
    let cert = pb::DeviceCert {
        tenant: "acme".into(),
        user: "alice".into(),
        device: vec![3; 16],
        mls_key: public(seed + 1),
        envelope_key: public(seed),
        not_before: 0,
        not_after: END,
    };
    Signed::sign(cert, &[(ISSUER, &signer(2))])
}

/// A message with everything that stands around it in the archive.
#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) sealed: Sealed,
    pub(crate) wrap: pb::Wrap,
    pub(crate) cert: Signed<pb::DeviceCert>,
    pub(crate) receipt: Signed<pb::Receipt>,
    pub(crate) proof: pb::ReceiptProof,
}

impl Record {
    pub(crate) fn digest(&self) -> Digest {
        self.sealed.envelope.digest()
    }
}

pub(crate) fn header(n: u8, cert: &Signed<pb::DeviceCert>, key_ids: Vec<Vec<u8>>) -> pb::Header {
    pb::Header {
        tenants: vec!["acme".into()],
        conversation: vec![n; 16],
        message_id: vec![n; 16],
        mode: pb::Mode::Journaled.into(),
        sender_user: cert.user.clone(),
        sender_device: cert.device.clone(),
        device_cert: cert.digest().to_vec(),
        mls_epoch: 1,
        sent_at: now().get(),
        record_class: "communication".into(),
        classification: String::new(),
        key_ids,
        policy_digest: vec![7; 32],
        attachments: vec![],
        device_counter: 1,
        previous: vec![0; 32],
        seen_seq: 0,
        seen_head: vec![0; 32],
    }
}

/// Seals message `n`, as alice's device does.
pub(crate) fn seal(journal: &Journal, n: u8) -> (Sealed, Signed<pb::DeviceCert>) {
    let cert = device_cert(20);
    let header = header(n, &cert, vec![journal.key.key_id().to_vec()]);
    let draft = Draft::new(
        &Seed::from_bytes([n; 32]),
        "acme",
        &ConversationId::new([n; 16]),
        &MessageId::new([n; 16]),
        &DeviceId::new([3; 16]),
    );
    let content = pb::Content {
        kind: pb::ContentKind::Text.into(),
        text: text(n),
        ..Default::default()
    };
    let sealed = draft
        .seal(&header, &content, &[&journal.key], &signer(20))
        .unwrap();
    (sealed, cert)
}

pub(crate) fn text(n: u8) -> Vec<u8> {
    format!("message {n}").into_bytes()
}

pub(crate) fn receipt(envelope: &Envelope) -> pb::Receipt {
    let start = ChainState::start(envelope.header().conversation());
    let next = start.next(&envelope.digest());
    pb::Receipt {
        tenant: "acme".into(),
        conversation: start.conversation.to_vec(),
        sequence: next.sequence,
        kind: pb::EntryKind::Message.into(),
        entry_digest: envelope.digest().to_vec(),
        previous_head: start.head.to_vec(),
        head: next.head.to_vec(),
        archived_at: now().get(),
        retain_until: END,
        bundle_version: 1,
    }
}

/// Gives receipts for messages and logs them as one batch.
pub(crate) fn archive(
    world: &World,
    messages: Vec<(Sealed, Signed<pb::DeviceCert>)>,
) -> Vec<Record> {
    let receipts: Vec<_> = messages
        .iter()
        .map(|(sealed, _)| Signed::sign(receipt(&sealed.envelope), &[("archive", &signer(4))]))
        .collect();
    let proofs = log_receipts(world, &receipts);
    messages
        .into_iter()
        .zip(receipts)
        .zip(proofs)
        .map(|(((sealed, cert), receipt), proof)| Record {
            wrap: sealed.wraps[0].clone(),
            sealed,
            cert,
            receipt,
            proof,
        })
        .collect()
}

/// Logs a batch of receipts; gives each one's way into the log.
pub(crate) fn log_receipts(
    world: &World,
    receipts: &[Signed<pb::Receipt>],
) -> Vec<pb::ReceiptProof> {
    let tree = BatchTree::new(receipts.iter().map(|receipt| receipt.bytes().to_vec()));
    let batch = pb::ReceiptBatch {
        root: tree.root().to_vec(),
        count: tree.len(),
        first: 1,
        proofs_verified: tree.len(),
    };
    let (log_index, log_entry) = world.log.add("archive", Event::Receipts(batch));
    (0..tree.len())
        .map(|index| pb::ReceiptProof {
            batch_index: index,
            batch_size: tree.len(),
            batch_path: tree
                .path(index)
                .unwrap()
                .iter()
                .map(Digest::to_vec)
                .collect(),
            log_index,
            log_entry: log_entry.clone(),
        })
        .collect()
}

/// Some archived messages of a key.
pub(crate) fn archived(world: &World, journal: &Journal, numbers: &[u8]) -> Vec<Record> {
    let messages = numbers.iter().map(|n| seal(journal, *n)).collect();
    archive(world, messages)
}

/// The list of an order's records.
pub(crate) fn list(records: &[Record]) -> RecordList {
    let mut digests: Vec<Digest> = records.iter().map(Record::digest).collect();
    digests.sort();
    RecordList::new(digests).unwrap()
}

/// An order of rita's for fay over a list, as she would sign it.
pub(crate) fn order(list: &RecordList) -> pb::Order {
    pb::Order {
        id: vec![1; 16],
        tenant: "acme".into(),
        matter: vec![2; 16],
        purpose: "internal investigation".into(),
        records_root: list.root().to_vec(),
        records_count: list.count(),
        reader: "fay".into(),
        reader_key: reader_key("fay").public_key(),
        not_before: now().get() - 1_000,
        expiry: now().get() + 600_000,
        nonce: vec![6; 32],
        seal_until: 0,
        requester: "rita".into(),
    }
}

pub(crate) fn sign_order(order: pb::Order) -> Signed<pb::Order> {
    let requester = order.requester.clone();
    Signed::sign(order, &[(&requester, &person_key(&requester))])
}

pub(crate) fn approval(order: &Signed<pb::Order>, person: &str) -> pb::Approval {
    pb::Approval {
        tenant: order.tenant.clone(),
        order: order.digest().to_vec(),
        records_root: order.records_root.clone(),
        records_count: order.records_count,
        person: person.into(),
        at: now().get(),
    }
}

/// An order with the approvals of these people, sorted.
pub(crate) fn approved(order: pb::Order, people: &[&str]) -> pb::ReleasedOrder {
    let salt = if order.seal_until > 0 {
        vec![4; 32]
    } else {
        vec![]
    };
    let order = sign_order(order);
    pb::ReleasedOrder {
        approvals: people
            .iter()
            .map(|person| {
                let approval = approval(&order, person);
                Signed::sign(approval, &[(person, &person_key(person))]).into_raw()
            })
            .collect(),
        order: Some(order.into_raw()),
        salt,
    }
}

/// Logs a released order; gives what the first message to a node says.
pub(crate) fn release(world: &World, released: pb::ReleasedOrder) -> OpenOrder {
    let (index, leaf) = world.log.add("archive", order_event(&released));
    placed(world, released, index, leaf)
}

/// A released order that is said to be at a place of the log.
pub(crate) fn placed(
    world: &World,
    released: pb::ReleasedOrder,
    index: u64,
    leaf: Vec<u8>,
) -> OpenOrder {
    // One size for both: nodes log what they refuse at any time.
    let size = world.log.size();
    OpenOrder {
        released: Some(released),
        log_index: index,
        leaf,
        path: world.log.path(index, size),
        checkpoint: world.log.checkpoint_at(size, 2, Duration::ZERO),
    }
}

/// A record as the reader hands it over.
pub(crate) fn opening(list: &RecordList, record: &Record) -> pb::OpeningRecord {
    let (index, path) = list.path(&record.digest()).unwrap();
    pb::OpeningRecord {
        envelope: Some(record.sealed.envelope.raw().clone()),
        wrap: Some(record.wrap.clone()),
        device_cert: Some(record.cert.raw().clone()),
        receipt: Some(record.receipt.raw().clone()),
        index,
        path: path.iter().map(Digest::to_vec).collect(),
        receipt_proof: Some(record.proof.clone()),
    }
}

/// What a node answers to an order and records.
pub(crate) async fn open(
    world: &World,
    at: usize,
    order: &OpenOrder,
    records: Vec<pb::OpeningRecord>,
) -> Result<Vec<OpenResponse>, CallError> {
    let first = open_request::Part::Order(order.clone());
    let parts = std::iter::once(first).chain(records.into_iter().map(open_request::Part::Record));
    let requests: Vec<OpenRequest> = parts.map(|part| OpenRequest { part: Some(part) }).collect();
    let mut client = world.client(at);
    let mut responses = client
        .open(tokio_stream::iter(requests))
        .await?
        .into_inner();
    let mut all = Vec::new();
    while let Some(response) = responses.message().await? {
        all.push(response);
    }
    Ok(all)
}

/// The order of what a node is asked, and its reader's own key.
pub(crate) fn reader_of(order: &OpenOrder) -> (Signed<pb::Order>, HybridSecretKey) {
    let order = order.released.clone().unwrap().order.unwrap();
    let order = Signed::<pb::Order>::decode(order).unwrap();
    let key = reader_key(&order.reader);
    (order, key)
}

/// The reason for which a node refuses an order.
pub(crate) async fn order_refused(world: &World, order: &OpenOrder) -> String {
    let error = open(world, 0, order, vec![]).await.unwrap_err();
    error.reason.unwrap_or_else(|| error.message.clone())
}

/// The reason for which a node refuses a record; empty when it answers.
pub(crate) async fn record_refused(
    world: &World,
    order: &OpenOrder,
    record: pb::OpeningRecord,
) -> String {
    let answers = open(world, 0, order, vec![record]).await.unwrap();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].answer.is_empty(), !answers[0].reason.is_empty());
    answers[0].reason.clone()
}

/// The reader's own machine: combines the answers of some nodes and decrypts.
pub(crate) fn decrypt(
    world: &World,
    journal: &Journal,
    order: &Signed<pb::Order>,
    record: &Record,
    answers: &[(usize, Vec<u8>)],
    reader: &HybridSecretKey,
) -> Vec<u8> {
    let holders = ShareHolders::check(&journal.epoch, &journal.record).unwrap();
    let wrap = WrapView::parse(&record.wrap.sealed).unwrap();
    let context = AnswerContext {
        tenant: "acme".into(),
        order: order.digest(),
        envelope: record.digest(),
        key_id: *journal.key.key_id(),
        encapsulation: wrap.enc().try_into().unwrap(),
    };
    let mut opener = Opener::new(
        context,
        &holders,
        *journal.key.public_key(),
        record.sealed.envelope.record_digest(),
        wrap.ct().try_into().unwrap(),
    );
    for (at, answer) in answers {
        let node = &world.nodes[*at];
        opener
            .add(reader, &node.name, &node.keys.signing_key, answer)
            .unwrap();
    }
    let key = Cek::from_bytes(*opener.open().unwrap().key);
    let opened = open_with_cek(
        &key,
        "acme",
        &record.sealed.envelope,
        &record.sealed.ciphertext,
    );
    opened.unwrap().content.text
}
