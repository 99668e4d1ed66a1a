//! Messages that are refused on their way: whoever hears a refusal has one, and no other conversation pays for it.

use greffe_client::{Device, Event, Outgoing};
use greffe_types::ConversationId;
use sqlx::SqliteConnection;
use sqlx::prelude::*;

use crate::life::{conversation, messages, user};
use crate::world::World;

async fn texts(device: &Device) -> Vec<Vec<u8>> {
    let heard = messages(device.catch_up().await.unwrap());
    heard.into_iter().map(|m| m.content.text).collect()
}

/// Hands messages over together and gives the reasons of those that were refused.
async fn outcomes(device: &Device, all: &[(ConversationId, &str)]) -> Vec<Option<String>> {
    let sender = device.sender().await.unwrap();
    let mut pending = Vec::new();
    for (id, text) in all {
        let message = Outgoing::text(*id, *text);
        pending.push(sender.send(message).await.unwrap());
    }
    let mut outcomes = Vec::new();
    for sent in pending {
        outcomes.push(sent.await.err().map(|error| error.reason().to_owned()));
    }
    outcomes
}

async fn database(world: &World, client: &str) -> SqliteConnection {
    let path = world.folder.path().join(client).join("client.db");
    let url = format!("sqlite://{}", path.display());
    SqliteConnection::connect(&url).await.unwrap()
}

/// Messages that are stored and would go out again.
async fn unsent(world: &World, client: &str) -> i64 {
    let sql = "SELECT COUNT(*) FROM outbox WHERE length(payload) > 0";
    let mut database = database(world, client).await;
    sqlx::query_scalar(sql)
        .fetch_one(&mut database)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_were_refused_do_not_come_back_when_the_reason_is_gone() {
    let world = World::new().await;
    let client = world.client("alice").await;
    let alice = world.device(&client, "alice").await;
    let others = world.client("bob").await;
    let bob = world.device(&others, "bob").await;
    let id = conversation(&alice, &[&bob]).await;
    world.tenant.rotate();
    bob.redisclose(&id).await.unwrap();
    bob.acknowledge(&id, "fr").await.unwrap();
    // Sealed before the new notice is known here; it is when they are to be sealed anew.
    let refused = outcomes(&alice, &[(id, "first"), (id, "second")]).await;
    let reason = Some("NOTICE_NOT_ACKNOWLEDGED".to_owned());
    assert_eq!(refused, [reason.clone(), reason]);
    assert_eq!(unsent(&world, "alice").await, 0);
    alice.acknowledge(&id, "en").await.unwrap();
    alice
        .send(Outgoing::text(id, "written anew"))
        .await
        .unwrap();
    alice.send(Outgoing::text(id, "and more")).await.unwrap();
    assert_eq!(texts(&bob).await, [&b"written anew"[..], b"and more"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_that_cannot_go_on_stops_no_other() {
    let world = World::new().await;
    let client = world.client("carol").await;
    let carol = world.device(&client, "carol").await;
    let others = world.client("alice").await;
    let alice = world.device(&others, "alice").await;
    let gone = conversation(&alice, &[&carol]).await;
    let kept = conversation(&alice, &[&carol]).await;
    alice.remove(&gone, &[user("carol")]).await.unwrap();
    // Carol does not know yet.
    let batch = [(gone, "one"), (kept, "other"), (gone, "two")];
    let out = Some("NOT_A_MEMBER".to_owned());
    assert_eq!(outcomes(&carol, &batch).await, [out.clone(), None, out]);
    // And nothing of it goes out with what is said elsewhere.
    let sent = world.relay.calls("Send");
    carol.send(Outgoing::text(kept, "another")).await.unwrap();
    assert_eq!(world.relay.calls("Send"), sent + 1);
    let told = carol.catch_up().await.unwrap();
    let unsent = |event: &Event| matches!(event, Event::NotSent { .. });
    assert!(!told.iter().any(unsent), "{told:?}");
    assert_eq!(texts(&alice).await, [&b"other"[..], b"another"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_came_back_before_its_answer_is_answered_though_others_go_out_again() {
    let world = World::new().await;
    let client = world.client("alice").await;
    let alice = world.device(&client, "alice").await;
    let others = world.client("bob").await;
    let bob = world.device(&others, "bob").await;
    let slow = conversation(&alice, &[&bob]).await;
    let other = conversation(&alice, &[&bob]).await;
    let sender = alice.sender().await.unwrap();
    world.relay.hooks.lock().unwrap().mute = true;
    let text = Outgoing::text(slow, "archived, and not answered");
    let waiting = sender.send(text).await.unwrap();
    while unsent(&world, "alice").await == 0 || world.relay.sequenced(&slow) < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    alice.catch_up().await.unwrap();
    assert_eq!(unsent(&world, "alice").await, 0);
    world.relay.hooks.lock().unwrap().mute = false;
    // A refusal that cannot be written down: its message stays, and goes out before anything later.
    let mut rows = database(&world, "alice").await;
    let keep = "CREATE TRIGGER kept BEFORE DELETE ON outbox BEGIN SELECT RAISE(ABORT, 'disk'); END";
    sqlx::query(keep).execute(&mut rows).await.unwrap();
    let mut message = Outgoing::text(other, "refused");
    message.classification = "refuse".into();
    let refused = sender.send(message).await.unwrap().await.unwrap_err();
    assert_eq!(refused.reason(), "NOT_SENT");
    let repair = "DROP TRIGGER kept";
    sqlx::query(repair).execute(&mut rows).await.unwrap();
    let next = sender.send(Outgoing::text(other, "next")).await.unwrap();
    next.await.unwrap();
    waiting.await.unwrap();
    // Of two conversations, in no order.
    let mut heard = texts(&bob).await;
    heard.sort();
    assert_eq!(heard, [&b"archived, and not answered"[..], b"next"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_made_at_once_wait_for_one_another() {
    let world = World::new().await;
    let client = world.client("alice").await;
    let alice = world.device(&client, "alice").await;
    let id = conversation(&alice, &[]).await;
    let before = alice.conversation(&id).await.unwrap().epoch;
    for _ in 0..4 {
        let changes = (0..8).map(|_| {
            let alice = alice.clone();
            tokio::spawn(async move { alice.update_keys(&id).await })
        });
        for change in changes.collect::<Vec<_>>() {
            change.await.unwrap().unwrap();
        }
    }
    let after = alice.conversation(&id).await.unwrap().epoch;
    assert_eq!(after, before + 32);
}
