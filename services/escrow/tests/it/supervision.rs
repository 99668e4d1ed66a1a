//! A supervision desk and a conversation that was not disclosed as supervised: no order, no key.

use greffe_api::escrow::escrow_service_client::EscrowServiceClient;
use greffe_api::escrow::{OpenOrder, OpenRequest, open_request};
use greffe_envelope::pb;
use greffe_service_kit::errors::CallError;
use greffe_service_kit::tls::SpiffeId;

use crate::records::{
    approved, archived, list, open, opening, order, order_refused, record_refused, release,
};
use crate::world::{World, reader_key, tenant};

/// What a node answers the desk's own certificate, whatever it brings.
async fn as_desk(world: &World, order: &OpenOrder, record: pb::OpeningRecord) -> String {
    let desk = SpiffeId::service(&tenant(), "supervision").unwrap();
    let parts = [
        open_request::Part::Order(order.clone()),
        open_request::Part::Record(record),
    ];
    let requests = parts.map(|part| OpenRequest { part: Some(part) });
    let mut client = EscrowServiceClient::new(world.channel(0, &desk));
    let refused = client.open(tokio_stream::iter(requests)).await.unwrap_err();
    CallError::from(refused).reason.unwrap_or_default()
}

/// Attack 59: the record is a journaled one. A desk that scans gets a key by no way: not by its name, not with an order that
/// nobody approved, not as a reader that the roster does not have, not for a record beside those of a good order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_59_a_scan_of_what_is_not_supervised_gets_no_key() {
    let (world, journal) = World::with_key().await;
    let records = archived(&world, &journal, &[1, 2]);
    let list = list(&records[..1]);
    let good = release(&world, approved(order(&list), &["ann", "bob"]));
    let asked = opening(&list, &records[0]);
    assert_eq!(
        as_desk(&world, &good, asked.clone()).await,
        "CALLER_NOT_ALLOWED"
    );

    let mut scan = order(&list);
    scan.purpose = "supervision: a sample of every conversation".into();
    let alone = release(&world, approved(scan.clone(), &[]));
    assert_eq!(order_refused(&world, &alone).await, "APPROVALS_TOO_FEW");
    scan.reader = "supervision".into();
    scan.reader_key = reader_key("gus").public_key();
    let unlisted = release(&world, approved(scan, &["ann", "bob"]));
    assert_eq!(order_refused(&world, &unlisted).await, "ORDER_READER");

    let beside = opening(&crate::records::list(&records), &records[1]);
    assert_eq!(
        record_refused(&world, &good, beside).await,
        "RECORD_NOT_IN_ORDER"
    );
    // Nothing was spoilt by it: the order opens what it names, for its reader.
    let answers = open(&world, 0, &good, vec![asked]).await.unwrap();
    assert!(answers.len() == 1 && !answers[0].answer.is_empty());
}
