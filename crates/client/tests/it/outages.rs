//! What a client does while the relay or a node cannot be reached, is silent, or has another time: nothing is lost, nothing
//! waits for ever, and a process goes on without being started anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use greffe_api::archive as archive_api;
use greffe_client::people::{OrderRequest, People};
use greffe_client::{ConversationState, Device, Outgoing, Person};
use greffe_envelope::opening::{HybridSecretKey, order_event};
use greffe_envelope::pb;
use greffe_service_kit::clock::ManualClock;
use greffe_tlog::leaf_hash;
use greffe_types::{MatterId, Millis};

use crate::life::{conversation, messages, user};
use crate::tenant::{FAR, now, signer};
use crate::world::{Manner, World};

async fn texts(device: &Device) -> Vec<Vec<u8>> {
    let heard = messages(device.catch_up().await.unwrap());
    heard.into_iter().map(|m| m.content.text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_held_open_over_an_outage_goes_on_in_order() {
    let world = World::new().await;
    let client = world.impatient("alice").await;
    let alice = world.device(&client, "alice").await;
    let others = world.client("bob").await;
    let bob = world.device(&others, "bob").await;
    let id = conversation(&alice, &[&bob]).await;
    let sender = alice.sender().await.unwrap();
    let send = async |text: &str| sender.send(Outgoing::text(id, text)).await.unwrap().await;
    send("before").await.unwrap();
    world.relay.hooks.lock().unwrap().hang_up = true;
    for text in ["first", "second"] {
        assert_eq!(send(text).await.unwrap_err().reason(), "NOT_SENT");
    }
    world.relay.hooks.lock().unwrap().hang_up = false;
    // The same sender, which an application never closes.
    send("after").await.unwrap();
    assert_eq!(
        texts(&bob).await,
        [&b"before"[..], b"first", b"second", b"after"]
    );
    // And what nobody sends anything after goes out by itself.
    world.relay.hooks.lock().unwrap().hang_up = true;
    assert_eq!(send("last").await.unwrap_err().reason(), "NOT_SENT");
    world.relay.hooks.lock().unwrap().hang_up = false;
    let begun = Instant::now();
    let mut heard = Vec::new();
    while heard.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30), "never sent");
        tokio::time::sleep(Duration::from_millis(200)).await;
        heard = texts(&bob).await;
    }
    assert_eq!(heard, [b"last"]);
    drop(sender);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_relay_did_not_answer_goes_out_again_with_the_next_call() {
    let world = World::new().await;
    let client = world.impatient("alice").await;
    let alice = world.device(&client, "alice").await;
    let others = world.client("others").await;
    let bob = world.device(&others, "bob").await;
    let away = |away| world.relay.hooks.lock().unwrap().away = away;
    // a creation
    away(true);
    let refused = alice.create(pb::Mode::Journaled).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused:?}");
    let id = alice.conversations().await.unwrap()[0];
    let state = async || alice.conversation(&id).await.unwrap().state;
    assert_eq!(state().await, ConversationState::Creating);
    away(false);
    alice.acknowledge(&id, "en").await.unwrap();
    assert_eq!(state().await, ConversationState::Active);
    // a commit: the same one again takes effect before another is made
    away(true);
    let refused = alice.invite(&id, &[user("bob")]).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused:?}");
    away(false);
    let calls = world.relay.calls("SubmitCommit");
    alice.update_keys(&id).await.unwrap();
    assert_eq!(world.relay.calls("SubmitCommit"), calls + 2);
    bob.catch_up().await.unwrap();
    bob.acknowledge(&id, "en").await.unwrap();
    // a device that was stolen is out with the second try
    away(true);
    alice.remove(&id, &[user("bob")]).await.unwrap_err();
    away(false);
    alice.catch_up().await.unwrap();
    assert_eq!(alice.conversation(&id).await.unwrap().members.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_26_a_node_that_takes_calls_and_answers_none_stops_nothing() {
    let world = World::new().await;
    world.behave([Manner::Honest, Manner::Silent, Manner::Honest]);
    let client = world.client("alice").await;
    let alice = world.device(&client, "alice").await;
    let others = world.client("bob").await;
    let bob = world.device(&others, "bob").await;
    // Two of three are enough, so the third is not even waited for.
    let begun = Instant::now();
    let id = conversation(&alice, &[&bob]).await;
    assert!(begun.elapsed() < Duration::from_secs(15));
    // Without a quorum it is said, in time.
    world.behave([Manner::Honest, Manner::Silent, Manner::Silent]);
    let lonely = world.impatient("lonely").await;
    let carol = world.device(&lonely, "carol").await;
    let refused = carol.create(pb::Mode::Journaled).await.unwrap_err();
    assert_eq!(refused.reason(), "DEADLINE_EXCEEDED");

    // An opening: the others' answers count, the silent node's time is waited for once.
    world.behave([Manner::Honest, Manner::Silent, Manner::Honest]);
    for n in 0..65 {
        let text = Outgoing::text(id, format!("line {n}"));
        alice.send(text).await.unwrap();
    }
    let desk = world.impatient("desk").await;
    let reader = HybridSecretKey::from_seed(&[90; 32]);
    let [ann, bea] = [("ann", 80), ("bea", 81)]
        .map(|(name, key)| People::new(&desk, Person::new(name, signer(key), None)));
    let rea = People::new(&desk, Person::new("rea", signer(82), Some(reader)));
    let fetched: Vec<_> = (2..=66)
        .map(|sequence| {
            let item = world.relay.item(&id, sequence);
            archived(&world, item, &alice)
        })
        .collect();
    let digests = fetched.iter().map(|one| {
        let summary = one.record.as_ref().unwrap().summary.as_ref().unwrap();
        summary.digest.as_slice().try_into().unwrap()
    });
    let request = OrderRequest {
        matter: MatterId::new([1; 16]),
        purpose: "an examination".into(),
        records: digests.collect(),
        reader: "rea".into(),
        not_before: now(),
        expiry: Millis::new(FAR),
        seal_until: None,
    };
    let order = ann.request_order(request).await.unwrap();
    bea.approve_order(&order.id).await.unwrap();
    {
        let mut shown = world.orders.0.lock().unwrap();
        let released = pb::ReleasedOrder {
            order: shown.order.clone(),
            approvals: shown.approvals.clone(),
            salt: vec![],
        };
        shown.released = Some(world.tenant.append(order_event(&released)));
        shown.fetched = fetched;
    }
    let begun = Instant::now();
    let mut opening = rea.open_order(&order.id).await.unwrap();
    let opened = opening.all().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert_eq!(opened.len(), 65);
    assert_eq!(*world.opens.lock().unwrap(), [2, 1, 2]);
    let said = |node: &str, why: &str| (node.to_owned(), why.to_owned());
    for one in opened {
        let blamed = one.unwrap_err().blamed;
        let expected = [
            said("escrow-1", "REFUSED_HERE"),
            said("escrow-2", "DEADLINE_EXCEEDED"),
            said("escrow-3", "REFUSED_HERE"),
        ];
        assert_eq!(blamed, expected);
    }
}

/// A message as the archive hands it out, its receipt alone in a batch.
fn archived(
    world: &World,
    item: greffe_api::relay::ReceiveResponse,
    sender: &Device,
) -> archive_api::FetchedRecord {
    use greffe_api::relay::receive_response::Item;
    let Some(Item::Message(message)) = item.item else {
        panic!("no message");
    };
    let receipt = item.receipt.unwrap();
    let batch = pb::ReceiptBatch {
        root: leaf_hash(&receipt.statement).to_vec(),
        count: 1,
        first: 1,
        proofs_verified: 1,
    };
    let log_index = world.tenant.append(pb::log_entry::Event::Receipts(batch));
    let envelope = message.envelope.unwrap();
    let digest = greffe_envelope::envelope::envelope_digest(&envelope.body);
    archive_api::FetchedRecord {
        record: Some(archive_api::GetRecordResponse {
            summary: Some(archive_api::RecordSummary {
                digest: digest.to_vec(),
                ..Default::default()
            }),
            envelope: Some(envelope),
            device_cert: Some(sender.certificate().raw().clone()),
            receipt: Some(receipt),
            receipt_proof: Some(pb::ReceiptProof {
                batch_index: 0,
                batch_size: 1,
                batch_path: vec![],
                log_index,
                log_entry: world.tenant.leaf(log_index),
            }),
        }),
        wraps: message.wraps,
        ciphertext: message.ciphertext,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_whose_clocks_are_a_little_ahead_count_and_others_displace_nobody() {
    let world = World::new().await;
    // A machine that is behind its nodes by half a minute.
    world.behave([Manner::Ahead(30_000), Manner::Ahead(30_000), Manner::Away]);
    let client = world.impatient("alice").await;
    let alice = world.device(&client, "alice").await;
    alice.create(pb::Mode::Journaled).await.unwrap();
    // More than a minute is no clock that anybody has to believe.
    world.behave([Manner::Honest, Manner::Ahead(120_000), Manner::Away]);
    let other = world.impatient("bob").await;
    let bob = world.device(&other, "bob").await;
    let refused = bob.create(pb::Mode::Journaled).await.unwrap_err();
    assert!(
        ["CLOCK_SKEW", "SERVICE_UNAVAILABLE"].contains(&refused.reason()),
        "{refused:?}"
    );

    // Honest words, half a day old, and a node that says more and more of a time that never comes.
    world.behave([Manner::Honest, Manner::Honest, Manner::Away]);
    let clock = ManualClock::at(now());
    let patience = Duration::from_millis(300);
    let shared = Arc::new(clock.clone());
    let third = world.client_with("carol", patience, shared).await;
    let carol = world.device(&third, "carol").await;
    carol.create(pb::Mode::Journaled).await.unwrap();
    clock.advance(Duration::from_secs(13 * 3600));
    let year = 365 * 86_400_000;
    for n in 0..70 {
        world.behave([Manner::Away, Manner::Away, Manner::Ahead(year + n)]);
        carol.create(pb::Mode::Journaled).await.unwrap();
    }
}
