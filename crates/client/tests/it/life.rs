//! The life of a conversation between clients: invited, told, spoken to, changed, resumed.

use std::sync::Arc;

use greffe_client::{Device, Event, Outgoing, OutgoingAttachment, Received, Source};
use greffe_envelope::pb::Mode;
use greffe_types::{ConversationId, UserId};
use sqlx::Connection as _;

use crate::world::World;

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// Messages among events.
pub(crate) fn messages(events: Vec<Event>) -> Vec<Received> {
    let message = |event| match event {
        Event::Message(message) => Some(*message),
        _ => None,
    };
    events.into_iter().filter_map(message).collect()
}

/// Alice's conversation, with those invited who have joined and acknowledged.
pub(crate) async fn conversation(alice: &Device, others: &[&Device]) -> ConversationId {
    let id = alice.create(Mode::Journaled).await.unwrap();
    alice.acknowledge(&id, "en").await.unwrap();
    let users: Vec<UserId> = others.iter().map(|device| user(device.user())).collect();
    if !users.is_empty() {
        alice.invite(&id, &users).await.unwrap();
    }
    for other in others {
        let events = other.catch_up().await.unwrap();
        assert!(
            matches!(&events[..], [Event::Invited { conversation, .. }] if *conversation == id),
            "{events:?}"
        );
        other.acknowledge(&id, "fr").await.unwrap();
    }
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_told_speak_and_hear() {
    let world = World::new().await;
    let client = world.client("apps").await;
    let alice = world.device(&client, "alice").await;
    let other = world.client("other").await;
    let bob = world.device(&other, "bob").await;

    let id = alice.create(Mode::Journaled).await.unwrap();
    let refused = alice
        .send(Outgoing::text(id, "too early"))
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), "NOTICE_NOT_ACKNOWLEDGED");
    let notice = alice.notice(&id, "en").await.unwrap();
    assert!(
        notice.text().contains("escrow-1: domain 1"),
        "{}",
        notice.text()
    );
    assert!(alice.notice(&id, "xx").await.is_err());
    alice.acknowledge(&id, "en").await.unwrap();
    alice.invite(&id, &[user("bob")]).await.unwrap();
    assert_eq!(
        alice
            .invite(&id, &[user("nobody")])
            .await
            .unwrap_err()
            .reason(),
        "USER_UNKNOWN"
    );
    alice
        .send(Outgoing::text(id, "before bob was told"))
        .await
        .unwrap();

    let events = bob.catch_up().await.unwrap();
    assert!(matches!(events[..], [Event::Invited { .. }]), "{events:?}");
    assert!(messages(bob.catch_up().await.unwrap()).is_empty());
    bob.acknowledge(&id, "fr").await.unwrap();
    let heard = messages(bob.catch_up().await.unwrap());
    assert_eq!(heard[0].content.text, b"before bob was told");
    assert_eq!(heard[0].sender, "alice");
    assert_eq!(heard[0].wraps_recomputed, 1);

    // many on their way, in order, both ways
    let sender = bob.sender().await.unwrap();
    let mut pending = Vec::new();
    for n in 0..100 {
        let text = format!("line {n}");
        pending.push(sender.send(Outgoing::text(id, text)).await.unwrap());
    }
    let mut last = 0;
    for sent in pending {
        let sent = sent.await.unwrap();
        assert!(sent.sequence > last);
        last = sent.sequence;
    }
    let mut reply = Outgoing::text(id, b"\xff not UTF-8".to_vec());
    reply.reply_to = Some(heard[0].envelope);
    bob.send(reply).await.unwrap();
    let heard = messages(alice.catch_up().await.unwrap());
    assert_eq!(heard.len(), 101);
    let expected = (0..100).map(|n| format!("line {n}").into_bytes());
    assert!(
        heard
            .iter()
            .map(|m| m.content.text.clone())
            .take(100)
            .eq(expected)
    );
    assert_eq!(heard[100].content.text, b"\xff not UTF-8");

    // both see the same chain and group, and have the history
    let (a, b) = (
        alice.conversation(&id).await.unwrap(),
        bob.conversation(&id).await.unwrap(),
    );
    bob.catch_up().await.unwrap();
    assert_eq!(a.authenticator, b.authenticator);
    assert_eq!(a.members.len(), 2);
    let (a, b) = (
        alice.history(&id, 2, 1000).await.unwrap(),
        bob.history(&id, 2, 1000).await.unwrap(),
    );
    assert_eq!(a.len(), 101);
    assert_eq!(a, b);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attachments_arrive_whole() {
    let world = World::new().await;
    let (_client, alice, bob) = world.alice_and_bob().await;
    let id = conversation(&alice, &[&bob]).await;
    let big: Vec<u8> = (0..3_000_000_u32).map(|i| (i * 7) as u8).collect();
    let path = world.folder.path().join("big.bin");
    std::fs::write(&path, &big).unwrap();
    let mut message = Outgoing::text(id, "see attached");
    message.subject = "files".into();
    message.attachments = vec![
        OutgoingAttachment {
            name: "small.txt".into(),
            media_type: "text/plain".into(),
            source: Source::Bytes(Arc::from(&b"small"[..])),
        },
        OutgoingAttachment {
            name: "big.bin".into(),
            media_type: "application/octet-stream".into(),
            source: Source::File(path),
        },
    ];
    let sent = alice.send(message).await.unwrap();
    let heard = messages(bob.catch_up().await.unwrap());
    assert_eq!(heard[0].content.attachments[1].name, "big.bin");
    for device in [&alice, &bob] {
        device.catch_up().await.unwrap();
        let mut out = Vec::new();
        let length = device.attachment(&id, sent.sequence, 1, &mut out).await;
        assert_eq!((length.unwrap(), &out), (3_000_000, &big));
        let mut out = Vec::new();
        device
            .attachment(&id, sent.sequence, 0, &mut out)
            .await
            .unwrap();
        assert_eq!(out, b"small");
        assert!(
            device
                .attachment(&id, sent.sequence, 2, &mut out)
                .await
                .is_err()
        );
    }
}

/// How many conversations' MLS states a device has at rest.
async fn groups(world: &World, folder: &str, device: &Device) -> i64 {
    let path = world.folder.path().join(folder).join("client.db");
    let url = format!("sqlite://{}", path.display());
    let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let sql = "SELECT COUNT(*) FROM mls_row WHERE kind = 'mls_group' AND device = $1";
    let count = sqlx::query_scalar(sql).bind(device.id().to_vec());
    count.fetch_one(&mut conn).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_and_messages_too_late_are_sealed_anew() {
    let world = World::new().await;
    let client = world.client("apps").await;
    let alice = world.device(&client, "alice").await;
    let bob = world.device(&client, "bob").await;
    let carol = world.device(&client, "carol").await;
    let id = conversation(&alice, &[&bob]).await;
    // the mailbox of nobody is read meanwhile: bob's next messages are of an old epoch
    alice.invite(&id, &[user("carol")]).await.unwrap();
    let sender = bob.sender().await.unwrap();
    let mut pending = Vec::new();
    for n in 0..5 {
        let mut message = Outgoing::text(id, format!("late {n}"));
        if n == 2 {
            message.classification = "refuse".into();
        }
        pending.push(sender.send(message).await.unwrap());
    }
    let mut outcomes = Vec::new();
    for sent in pending {
        outcomes.push(sent.await);
    }
    assert_eq!(
        outcomes[2].as_ref().unwrap_err().reason(),
        "RECORD_CLASS_UNKNOWN"
    );
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 4);
    carol.catch_up().await.unwrap();
    carol.acknowledge(&id, "en").await.unwrap();
    for device in [&alice, &carol] {
        let heard = messages(device.catch_up().await.unwrap());
        let texts: Vec<_> = heard.iter().map(|m| m.content.text.clone()).collect();
        assert_eq!(texts, [&b"late 0"[..], b"late 1", b"late 3", b"late 4"]);
    }
    let gone = alice.remove(&id, &[user("carol")]).await.unwrap();
    assert_eq!(gone[0].device, carol.id());
    let events = carol.catch_up().await.unwrap();
    assert!(matches!(events[..], [Event::Removed { .. }]), "{events:?}");
    assert_eq!(
        groups(&world, "apps", &carol).await,
        0,
        "its keys are deleted"
    );
    assert_eq!(groups(&world, "apps", &bob).await, 1);
    let refused = carol
        .send(Outgoing::text(id, "still here?"))
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), "NOT_A_MEMBER");
    alice
        .send(Outgoing::text(id, "carol has left"))
        .await
        .unwrap();
    assert!(carol.catch_up().await.unwrap().is_empty());
    let events = bob.catch_up().await.unwrap();
    assert_eq!(messages(events.clone()).len(), 1, "{events:?}");
    // and comes back
    alice.invite(&id, &[user("carol")]).await.unwrap();
    carol.catch_up().await.unwrap();
    alice
        .send(Outgoing::text(id, "welcome back"))
        .await
        .unwrap();
    assert_eq!(messages(carol.catch_up().await.unwrap()).len(), 1);
    carol.send(Outgoing::text(id, "thanks")).await.unwrap();
    assert_eq!(messages(bob.catch_up().await.unwrap()).len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_left_unsent_goes_out_once_and_byte_for_byte() {
    let world = World::new().await;
    let client = world.client("bob").await;
    let bob = world.device(&client, "bob").await;
    let first = world.client("alice").await;
    let alice = world.device(&first, "alice").await;
    let id = conversation(&alice, &[&bob]).await;
    world.relay.hooks.lock().unwrap().hang_up = true;
    let sender = alice.sender().await.unwrap();
    let lost = sender
        .send(Outgoing::text(id, "written before the crash"))
        .await
        .unwrap();
    while world.relay.calls("Send") == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    // the process goes away: nothing of it is used any more
    let device = alice.id();
    drop((lost, sender, alice, first));
    world.relay.hooks.lock().unwrap().hang_up = false;
    let again = world.client("alice").await;
    let alice = again.device(&device).await.unwrap();
    alice
        .send(Outgoing::text(id, "written after"))
        .await
        .unwrap();
    let heard = messages(bob.catch_up().await.unwrap());
    let texts: Vec<_> = heard.iter().map(|m| m.content.text.clone()).collect();
    assert_eq!(texts, [&b"written before the crash"[..], b"written after"]);
    alice.catch_up().await.unwrap();
    assert_eq!(alice.history(&id, 1, 10).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_disclosure_is_seen_by_all_and_acknowledged_anew() {
    let world = World::new().await;
    let client = world.client("alice").await;
    let alice = world.device(&client, "alice").await;
    let others = world.client("bob").await;
    let bob = world.device(&others, "bob").await;
    let id = conversation(&alice, &[&bob]).await;
    alice
        .send(Outgoing::text(id, "under the first"))
        .await
        .unwrap();
    world.tenant.rotate();
    let in_force = world.tenant.disclosure().digest();
    alice.redisclose(&id).await.unwrap();
    let refused = alice
        .send(Outgoing::text(id, "too early"))
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), "NOTICE_NOT_ACKNOWLEDGED");
    alice.acknowledge(&id, "en").await.unwrap();
    alice
        .send(Outgoing::text(id, "under the second"))
        .await
        .unwrap();
    // an open mailbox: the notice first, then what was said under it
    let mut mailbox = bob.receiver(0).await.unwrap();
    let mut heard = Vec::new();
    let mut told = false;
    while heard.len() < 2 {
        for event in mailbox.next_batch().await.unwrap() {
            match event {
                Event::Message(message) => heard.push(message.content.text),
                Event::Changed { disclosure, .. } => {
                    assert_eq!(disclosure, Some(in_force));
                    told = true;
                    let refused = bob.send(Outgoing::text(id, "too early")).await.unwrap_err();
                    assert_eq!(refused.reason(), "NOTICE_NOT_ACKNOWLEDGED");
                    bob.acknowledge(&id, "fr").await.unwrap();
                }
                Event::CaughtUp => assert!(heard.len() == 1 || heard.len() == 2),
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(told);
    assert_eq!(heard, [&b"under the first"[..], b"under the second"]);
    mailbox.close().await;
    drop(mailbox);
    bob.send(Outgoing::text(id, "heard")).await.unwrap();
    assert_eq!(messages(alice.catch_up().await.unwrap()).len(), 1);
    // whoever is invited now is invited under it
    let carol = world.device(&client, "carol").await;
    alice.invite(&id, &[user("carol")]).await.unwrap();
    carol.catch_up().await.unwrap();
    assert_eq!(carol.conversation(&id).await.unwrap().disclosure, in_force);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_stops_waiting_for_a_batch_misses_nothing() {
    let world = World::new().await;
    let (_client, alice, bob) = world.alice_and_bob().await;
    let id = conversation(&alice, &[&bob]).await;
    let sender = alice.sender().await.unwrap();
    let mut pending = Vec::new();
    for n in 0..300 {
        let line = Outgoing::text(id, format!("line {n}"));
        pending.push(sender.send(line).await.unwrap());
    }
    let mut heard = Vec::new();
    let mut mailbox = bob.receiver(0).await.unwrap();
    let mut patience = 0;
    while heard.len() < 300 {
        // now and then the wait is cut off at another place
        patience = (patience + 1) % 40;
        let wait = std::time::Duration::from_micros(patience * 100);
        let Ok(events) = tokio::time::timeout(wait, mailbox.next_batch()).await else {
            continue;
        };
        for event in events.unwrap() {
            match event {
                Event::Message(message) => heard.push(message.content.text),
                Event::CaughtUp => {}
                other => panic!("{other:?}"),
            }
        }
    }
    let expected: Vec<_> = (0..300).map(|n| format!("line {n}").into_bytes()).collect();
    assert_eq!(heard, expected);
    for sent in pending {
        sent.await.unwrap();
    }
}
