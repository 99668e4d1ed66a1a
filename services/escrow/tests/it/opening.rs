//! What works: a quorum's answers open a record, once counted and logged, the same bytes for ever.

use std::time::Duration;

use greffe_envelope::label::{hash, lp};
use greffe_envelope::opening::opened_event;
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::Signed;
use prost::Message as _;

use crate::records::{
    approved, archived, decrypt, list, open, opening, order, order_refused, record_refused, release,
};
use crate::world::{World, reader_key};

fn opened(world: &World) -> Vec<pb::Opened> {
    world
        .log
        .entries()
        .into_iter()
        .filter_map(|entry| match entry.event {
            Some(Event::Opened(opened)) => {
                assert_eq!(entry.recorded_by, opened.node);
                Some(opened)
            }
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_opens_what_was_approved_and_the_log_says_so() {
    let (mut world, journal) = World::with_key().await;
    let records = archived(&world, &journal, &[1, 2, 3]);
    let list = list(&records);
    let released = approved(order(&list), &["ann", "bob"]);
    let signed = Signed::<pb::Order>::decode(released.order.clone().unwrap()).unwrap();
    let order = release(&world, released);
    let asked: Vec<_> = records
        .iter()
        .map(|record| opening(&list, record))
        .collect();
    let mut answers = Vec::new();
    for at in [0, 2] {
        answers.push((at, open(&world, at, &order, asked.clone()).await.unwrap()));
    }
    for (n, record) in records.iter().enumerate() {
        let of_record: Vec<_> = answers
            .iter()
            .map(|(at, given)| {
                assert_eq!(given[n].reason, "", "{}", given[n].message);
                assert_eq!(given[n].envelope, record.digest().to_vec());
                assert_eq!(given[n].index as usize, at + 1);
                (*at, given[n].answer.clone())
            })
            .collect();
        let text = decrypt(
            &world,
            &journal,
            &signed,
            record,
            &of_record,
            &reader_key("fay"),
        );
        assert_eq!(text, crate::records::text(n as u8 + 1));
    }
    assert_eq!(opened(&world).len(), 6);
    assert!(
        opened(&world)
            .iter()
            .all(|o| o.order == signed.digest().as_bytes())
    );

    // Again, also after a restart: the stored bytes, and nothing new in the log.
    let again = open(&world, 0, &order, asked.clone()).await.unwrap();
    assert_eq!(again, answers[0].1);
    world.stop(0).await;
    world.start(0).await;
    let again = open(&world, 0, &order, asked.clone()).await.unwrap();
    assert_eq!(again, answers[0].1);
    assert_eq!(opened(&world).len(), 6);
    let mut client = world.client(0);
    let status = client
        .get_status(greffe_api::escrow::GetStatusRequest {})
        .await;
    let status = status.unwrap().into_inner();
    assert_eq!((status.keys.len(), status.keys[0].opened), (1, 3));
    assert!(status.keys[0].active);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_order_opens_by_its_commitment() {
    let (world, journal) = World::with_key().await;
    let records = archived(&world, &journal, &[1]);
    let list = list(&records);
    let mut sealed = order(&list);
    sealed.seal_until = sealed.expiry;
    let released = approved(sealed, &["ann", "bob"]);
    let order = release(&world, released.clone());
    let answers = open(&world, 0, &order, vec![opening(&list, &records[0])])
        .await
        .unwrap();
    assert_eq!(answers[0].reason, "");
    // A second one, of a record that the order does not cover, is refused, which is in the log as well.
    let stranger = &archived(&world, &journal, &[2])[0];
    let mut refused = opening(&list, &records[0]);
    refused.envelope = Some(stranger.sealed.envelope.raw().clone());
    assert_eq!(
        record_refused(&world, &order, refused).await,
        "RECORD_NOT_IN_ORDER"
    );
    logged(&world, |event| matches!(event, Event::Refusal(_))).await;
    // A member knows the digests of their own messages, and must not find them there.
    let signed = Signed::<pb::Order>::decode(released.order.clone().unwrap()).unwrap();
    for hidden in [records[0].digest(), stranger.digest(), signed.digest()] {
        for entry in world.log.entries() {
            let leaf = entry.encode_to_vec();
            assert!(
                !leaf.windows(32).any(|window| window == hidden.as_bytes()),
                "{entry:?}"
            );
        }
    }
    // Whoever has the order with its salt finds each opening, and how many there were.
    let expected = pb::Opened {
        order: signed.digest().to_vec(),
        envelope: records[0].digest().to_vec(),
        key_id: journal.key.key_id().to_vec(),
        share_epoch: journal.epoch.digest().to_vec(),
        node: "escrow-1".into(),
    };
    let openings: Vec<Event> = world
        .log
        .entries()
        .into_iter()
        .filter_map(|entry| entry.event)
        .filter(|event| matches!(event, Event::Opened(_) | Event::SealedOpened(_)))
        .collect();
    let committed = opened_event(&released, signed.message(), expected);
    assert_eq!(openings, [committed]);
    // Another salt is another commitment; without one it is no sealed order.
    let mut other = order.clone();
    other.released.as_mut().unwrap().salt = vec![5; 32];
    assert_eq!(order_refused(&world, &other).await, "ORDER_LEAF");
    other.released.as_mut().unwrap().salt.clear();
    assert_eq!(order_refused(&world, &other).await, "ORDER_MALFORMED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_24_without_the_log_nothing_is_answered_then_or_later() {
    let (mut world, journal) = World::with_key().await;
    let records = archived(&world, &journal, &[1]);
    let list = list(&records);
    let order = release(&world, approved(order(&list), &["ann", "bob"]));
    world.caught_up().await;
    world.log.deaf(true);
    let asked = opening(&list, &records[0]);
    // Nor is what was made the first time kept for whoever asks again.
    for _ in 0..2 {
        assert_eq!(
            record_refused(&world, &order, asked.clone()).await,
            "LOG_UNAVAILABLE"
        );
    }
    assert!(opened(&world).is_empty());
    assert_eq!(answers_given(&world).await, 0);
    // Later, also by another process: with the log only. However often it was asked for, the log has it once.
    world.stop(0).await;
    world.log.deaf(false);
    world.start(0).await;
    world.caught_up().await;
    assert_eq!(record_refused(&world, &order, asked).await, "");
    assert_eq!(answers_given(&world).await, 1);
    assert_eq!(opened(&world).len(), 1);
}

/// An older version logged openings in clear under sealed orders too, and was stopped before it had stored the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_version_has_logged_in_clear_keeps_no_sealed_opening_out() {
    let (world, journal) = World::with_key().await;
    let records = archived(&world, &journal, &[1]);
    let list = list(&records);
    let mut sealed = order(&list);
    sealed.seal_until = sealed.expiry;
    let released = approved(sealed, &["ann", "bob"]);
    let signed = Signed::<pb::Order>::decode(released.order.clone().unwrap()).unwrap();
    let opened = pb::Opened {
        order: signed.digest().to_vec(),
        envelope: records[0].digest().to_vec(),
        key_id: journal.key.key_id().to_vec(),
        share_epoch: journal.epoch.digest().to_vec(),
        node: "escrow-1".into(),
    };
    let node = lp(opened.node.as_bytes());
    let parts = [&opened.order, &opened.envelope, &opened.key_id];
    let id = hash(
        "opened-id",
        &[parts[0], parts[1], parts[2], &opened.share_epoch, &node],
    );
    world
        .log
        .add_with_id("escrow-1", &id.as_bytes()[..16], Event::Opened(opened));
    let order = release(&world, released);
    let asked = opening(&list, &records[0]);
    assert_eq!(record_refused(&world, &order, asked).await, "");
}

/// Answers that the first node says it has given.
async fn answers_given(world: &World) -> u64 {
    let mut client = world.client(0);
    let status = client
        .get_status(greffe_api::escrow::GetStatusRequest {})
        .await;
    status.unwrap().into_inner().keys[0].opened
}

/// Waits until the log has such an entry.
async fn logged(world: &World, wanted: impl Fn(&Event) -> bool) {
    for _ in 0..500 {
        let entries = world.log.entries();
        if entries
            .iter()
            .filter_map(|entry| entry.event.as_ref())
            .any(&wanted)
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the log has no such entry: {:?}", world.log.entries());
}
