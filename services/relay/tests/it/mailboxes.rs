//! Receiving: by cursor, in order, within a window, never before the notice, never after the removal.

use greffe_api::relay::receive_response::Item;
use greffe_envelope::chain::ChainState;

use crate::support::{Mail, Outgoing, Talk, World, check_chain, now, numbers, reason};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_73_who_has_not_acknowledged_gets_the_welcome_only_and_holds_nobody_up() {
    let world = World::new().await;
    let mut alice = world.device("alice", 1).await.create(5).await.unwrap();
    alice.acknowledge().await.unwrap();
    let mut bob = world.device("bob", 2).await;
    bob.publish_key_packages(1).await.unwrap();
    let mut mail = Mail::of_device(&bob, 100).await;
    assert!(mail.all().await.is_empty());
    let invited = alice.add(&["bob"]).await.unwrap();
    // the open mailbox hears of a conversation that it did not know
    let first = mail.item().await;
    let Some(Item::Welcome(welcome)) = &first.item else {
        panic!("{first:?}");
    };
    assert_eq!(welcome.welcome, invited.welcome);
    assert_eq!(first.sequence, 1);
    let mut out = Outgoing::open(&alice).await;
    let mut talk = Talk::new();
    for text in ["one", "two"] {
        let request = talk.next(&world, &mut alice, text);
        assert!(out.send(request).await.sequence > 1);
    }
    mail.silent().await;
    let mut bob = bob.join(&invited).unwrap();
    bob.acknowledge().await.unwrap();
    let items = [mail.item().await, mail.item().await];
    assert_eq!(numbers(&items), [2, 3]);
    let all: Vec<_> = [first].into_iter().chain(items).collect();
    check_chain(&world, &all, None);
    // the creator, too, gets nothing before it has acknowledged, and everything from the start after that
    let mut alices = Mail::open(&alice, 100).await;
    assert_eq!(numbers(&alices.all().await), [1, 2, 3]);
    let carol = world.device("carol", 3).await.create(6).await.unwrap();
    let mut carols = Mail::open(&carol, 100).await;
    assert!(carols.all().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_acknowledged_comes_again_and_the_window_holds() {
    let mut world = World::new().await;
    let mut members = world.conversation(5, &["alice", "bob"]).await;
    let bob = members.pop().unwrap();
    let mut alice = members.pop().unwrap();
    let mut out = Outgoing::open(&alice).await;
    let mut talk = Talk::new();
    for n in 0..9 {
        let request = talk.next(&world, &mut alice, &format!("{n}"));
        assert_eq!(out.send(request).await.sequence, n + 2);
    }
    let id = bob.id();
    let mut mail = Mail::open(&bob, 4).await;
    let mut got = Vec::new();
    for _ in 0..4 {
        got.push(mail.next().await.unwrap());
    }
    assert_eq!(numbers(&got), [1, 2, 3, 4]);
    mail.silent().await;
    // one that was never sent closes nothing but what was
    mail.acknowledge(&id, 2).await;
    got.push(mail.next().await.unwrap());
    got.push(mail.next().await.unwrap());
    assert_eq!(numbers(&got[4..]), [5, 6]);
    mail.silent().await;
    drop(mail);
    let mut mail = Mail::open(&bob, 4096).await;
    let again = mail.all().await;
    assert_eq!(
        numbers(&again),
        (3..=10).collect::<Vec<_>>(),
        "from the cursor"
    );
    mail.acknowledge(&id, 999).await;
    while count(&world, "cursor").await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // after a restart nothing comes twice
    world.restart().await;
    let mut bob = bob;
    bob.device.login().await.unwrap();
    let mut mail = Mail::open(&bob, 4096).await;
    assert!(mail.all().await.is_empty());
    check_chain(&world, &again, chain_of(&world, &got[..2]));
}

fn chain_of(world: &World, items: &[greffe_api::relay::ReceiveResponse]) -> Option<ChainState> {
    Some(check_chain(world, items, None))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_device_gets_up_to_its_removal_and_not_beyond() {
    let world = World::new().await;
    let mut members = world.conversation(5, &["alice", "bob"]).await;
    let bob = members.pop().unwrap();
    let mut alice = members.pop().unwrap();
    let mut out = Outgoing::open(&alice).await;
    let mut talk = Talk::new();
    let request = talk.next(&world, &mut alice, "before");
    out.send(request).await;
    let mut mail = Mail::open(&bob, 100).await;
    assert_eq!(numbers(&mail.all().await), [1, 2]);
    let removed = alice.conversation.remove(&[bob.device.id], now());
    let (handshake, change) = removed.unwrap();
    alice.device.write(&change);
    alice.submit(&handshake).await.unwrap();
    alice.apply();
    let request = talk.next(&world, &mut alice, "after");
    assert_eq!(out.send(request).await.sequence, 4);
    let last = mail.item().await;
    assert_eq!(last.sequence, 3);
    assert!(matches!(last.item, Some(Item::Commit(commit)) if commit == handshake.commit));
    mail.silent().await;
    // a later call is no different
    let mut mail = Mail::open(&bob, 100).await;
    assert_eq!(numbers(&mail.all().await), [1, 2, 3]);
    mail.silent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_was_removed_before_the_notice_learns_of_it_after_the_notice() {
    let world = World::new().await;
    let mut alice = world.conversation(5, &["alice"]).await.pop().unwrap();
    let mut carol = world.device("carol", 3).await;
    carol.publish_key_packages(1).await.unwrap();
    let invited = alice.add(&["carol"]).await.unwrap();
    let mut out = Outgoing::open(&alice).await;
    let request = Talk::new().next(&world, &mut alice, "to two");
    assert_eq!(out.send(request).await.sequence, 2);
    let removed = alice.conversation.remove(&[carol.id], now());
    let (handshake, change) = removed.unwrap();
    alice.device.write(&change);
    assert_eq!(alice.submit(&handshake).await.unwrap().sequence, 3);
    alice.apply();
    // The Welcome waits, and is all that Carol is given before she was shown the notice.
    let mut mail = Mail::of_device(&carol, 100).await;
    let all = mail.all().await;
    assert_eq!(numbers(&all), [1]);
    let mut carol = carol.join(&invited).unwrap();
    carol.acknowledge().await.unwrap();
    let rest = [mail.item().await, mail.item().await];
    assert_eq!(numbers(&rest), [2, 3]);
    mail.silent().await;
    let Some(Item::Commit(commit)) = &rest[1].item else {
        panic!("{rest:?}");
    };
    let event = carol.conversation.receive(commit).unwrap().0;
    let greffe_mls::Event::Commit(committed) = event else {
        panic!("{event:?}");
    };
    assert!(committed.removed_self);
    // The same again answers the same; once all is taken in, there is nothing more to be told.
    let index = carol.acknowledge().await.unwrap();
    mail.acknowledge(&carol.id(), 3).await;
    assert_eq!(carol.acknowledge().await.unwrap(), index);
    assert_eq!(reason(carol.view().await), "CONVERSATION_UNKNOWN");
    // Who was never there is told nothing.
    let dave = world.device("dave", 4).await;
    let mut dave = crate::support::Member {
        device: dave,
        conversation: carol.conversation,
    };
    assert_eq!(reason(dave.acknowledge().await), "CONVERSATION_UNKNOWN");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailbox_carries_all_conversations_and_a_stranger_gets_none() {
    let world = World::new().await;
    let mut alice = world.device("alice", 1).await;
    let bob = world.device("bob", 2).await;
    let mut places = Vec::new();
    for number in [5, 6, 7] {
        let conversation = alice.group(number);
        let info = conversation.group_info().unwrap();
        alice.create_with(&conversation.id(), info).await.unwrap();
        places.push(conversation);
    }
    let mut open = Mail::of_device(&alice, 2).await;
    assert!(open.all().await.is_empty());
    for conversation in places {
        let mut member = crate::support::Member {
            device: alice,
            conversation,
        };
        member.acknowledge().await.unwrap();
        let mut out = Outgoing::open(&member).await;
        let mut talk = Talk::new();
        let request = talk.next(&world, &mut member, "to myself");
        assert_eq!(out.send(request).await.sequence, 1);
        let item = open.item().await;
        assert_eq!(item.conversation, member.id().to_vec());
        open.acknowledge(&member.id(), 1).await;
        alice = member.device;
    }
    let mut theirs = Mail::of_device(&bob, 100).await;
    assert!(theirs.all().await.is_empty());
}

/// Rows of a table of the relay's database.
async fn count(world: &World, table: &'static str) -> i64 {
    use sqlx::Connection as _;
    let query = match table {
        "payload" => "SELECT COUNT(*) FROM payload",
        "cursor" => "SELECT COUNT(*) FROM member WHERE cursor = 10",
        _ => "SELECT COUNT(*) FROM commit_extra WHERE length(welcome) > 0",
    };
    if let Some(store) = &world.store {
        return store.psql(query).trim().parse().unwrap();
    }
    let path = world.data().join("relay.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path)
        .read_only(true);
    let mut db = sqlx::SqliteConnection::connect_with(&options)
        .await
        .unwrap();
    sqlx::query_scalar(query).fetch_one(&mut db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_and_welcomes_are_dropped_when_every_member_has_them() {
    let world = World::new().await;
    let mut members = world.conversation(5, &["alice", "bob"]).await;
    let mut out = Outgoing::open(&members[0]).await;
    let mut talk = Talk::new();
    for text in ["one", "two"] {
        let request = talk.next(&world, &mut members[0], text);
        out.send(request).await;
    }
    assert_eq!(count(&world, "payload").await, 3);
    assert_eq!(count(&world, "welcome").await, 1);
    let id = members[0].id();
    let mut open = Vec::new();
    for (member, taken) in members.iter().zip([3, 2]) {
        let mut mail = Mail::open(member, 100).await;
        assert_eq!(mail.all().await.len(), 3);
        mail.acknowledge(&id, taken).await;
        open.push(mail);
    }
    // the last is not taken in by Bob
    while count(&world, "payload").await > 1 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(count(&world, "welcome").await, 0);
    open[1].acknowledge(&id, 3).await;
    while count(&world, "payload").await > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
