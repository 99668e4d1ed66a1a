//! Too much: bounded, refused with a delay, nothing acknowledged is lost; and how fast a full room is served.

use std::time::Instant;

use greffe_service_kit::errors::CallError;

use crate::support::{Mail, Outgoing, Talk, World, numbers};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_18_while_the_archive_stalls_the_relay_refuses_and_loses_nothing() {
    let world = World::with("backlog_items = 20").await;
    let mut members = world.conversation(5, &["alice", "bob"]).await;
    let bob = members.pop().unwrap();
    let mut alice = members.pop().unwrap();
    let mut talk = Talk::new();
    world.archive.stall(true);
    let mut requests = Vec::new();
    for n in 0..60 {
        requests.push(talk.next(&world, &mut alice, &format!("{n}")));
    }
    let mut out = Outgoing::open(&alice).await;
    let mut refused = None;
    for request in &requests {
        out.push(request.clone()).await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    world.archive.stall(false);
    let mut answered = 0;
    while refused.is_none() && answered < requests.len() {
        match out.answer().await {
            Ok(answer) => {
                assert_eq!(answer.sequence, answered as u64 + 2);
                answered += 1;
            }
            Err(status) => refused = Some(CallError::from(status)),
        }
    }
    let refused = refused.expect("the relay took everything");
    assert_eq!(refused.reason.as_deref(), Some("BUSY"));
    assert!(refused.retry_after.is_some(), "it says when to come back");
    assert!((20..60).contains(&answered), "{answered}");
    // the client comes back with everything it has no answer for
    let mut out = Outgoing::open(&alice).await;
    for request in &requests[answered..] {
        let answer = loop {
            out.push(request.clone()).await;
            match out.answer().await {
                Ok(answer) => break answer,
                Err(_) => out = Outgoing::open(&alice).await,
            }
        };
        assert!(answer.sequence > 0, "{answer:?}");
    }
    assert_eq!(world.archive.requests().len(), 61);
    let mut mail = Mail::open(&bob, 4096).await;
    assert_eq!(numbers(&mail.all().await), (1..=61).collect::<Vec<_>>());
}

/// One device sends as fast as it can, over one connection after the other, while the archive stalls; another one says little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_18_one_device_does_not_take_what_is_there_for_all() {
    let world = World::with("backlog_items = 30\ndevice_items = 10").await;
    let mut members = world.conversation(5, &["alice"]).await;
    let mut alice = members.pop().unwrap();
    let mut carol = world.device("carol", 3).await.create(6).await.unwrap();
    carol.acknowledge().await.unwrap();
    world.archive.stall(true);
    let (mut loud, mut quiet) = (Talk::new(), Talk::new());
    let requests: Vec<_> = (0..40)
        .map(|n| loud.next(&world, &mut alice, &format!("{n}")))
        .collect();
    for _ in 0..3 {
        // What was sequenced is known the next time, and what comes behind it is new.
        let out = Outgoing::open(&alice).await;
        for request in &requests {
            out.push(request.clone()).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    let mut out = Outgoing::open(&carol).await;
    for n in 0..5 {
        let request = quiet.next(&world, &mut carol, &format!("{n}"));
        out.push(request).await;
    }
    out.silent().await;
    // The loud one is told to wait, with when to come back.
    let mut again = Outgoing::open(&alice).await;
    for request in &requests {
        again.push(request.clone()).await;
    }
    // It has been waited for as long as the relay has patience; what came before is answered first.
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    world.archive.stall(false);
    let refused = loop {
        if let Err(status) = again.answer().await {
            break CallError::from(status);
        }
    };
    assert_eq!(refused.reason.as_deref(), Some("DEVICE_BUSY"));
    assert!(refused.retry_after.is_some());
    for sequence in 1..=5 {
        assert_eq!(out.answer().await.unwrap().sequence, sequence);
    }
    let mut out = Outgoing::open(&alice).await;
    for (request, sequence) in requests.iter().zip(1..) {
        let answer = out.send(request.clone()).await;
        assert_eq!(answer.sequence, sequence, "{answer:?}");
    }
    assert_eq!(world.archive.requests().len(), 45, "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_that_the_archive_cannot_take_yet_holds_up_no_other() {
    let world = World::new().await;
    let mut members = world.conversation(5, &["alice"]).await;
    let mut alice = members.pop().unwrap();
    let mut talk = Talk::new();
    world.archive.not_yet(Some(alice.id()));
    let mut stuck = Outgoing::open(&alice).await;
    // more than are ever on their way at once
    for n in 0..300 {
        let request = talk.next(&world, &mut alice, &format!("{n}"));
        stuck.push(request).await;
    }
    let mut carol = world.device("carol", 3).await.create(6).await.unwrap();
    carol.acknowledge().await.unwrap();
    let mut elsewhere = Talk::new();
    let mut out = Outgoing::open(&carol).await;
    for n in 1..=3 {
        let request = elsewhere.next(&world, &mut carol, "elsewhere");
        assert_eq!(out.send(request).await.sequence, n);
    }
    stuck.silent().await;
    world.archive.not_yet(None);
    for sequence in 1..=300 {
        assert_eq!(stuck.answer().await.unwrap().sequence, sequence);
    }
    assert_eq!(world.archive.requests().len(), 303, "each once");
}

/// Forty mailboxes, four hundred messages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_room_is_served_fast() {
    /// A tenth of what is needed: this machine may be busy with other things.
    const FLOOR: f64 = 500.0;
    let world = World::new().await;
    let names: Vec<String> = (0..40).map(|n| format!("nick-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut members = world.conversation(5, &names).await;
    let mut talk = Talk::new();
    let mut requests = Vec::new();
    for n in 0..400 {
        requests.push(talk.next(&world, &mut members[0], &format!("line {n}")));
    }
    let begun = Instant::now();
    let out = Outgoing::open(&members[0]).await;
    let mut mailboxes = Vec::new();
    for member in &members {
        mailboxes.push(tokio::spawn(drain(
            Mail::open(member, 1024).await,
            member.id(),
        )));
    }
    let sent = requests.len();
    let sending = tokio::spawn(send_all(out, requests));
    for mailbox in mailboxes {
        assert_eq!(mailbox.await.unwrap(), sent as u64 + 1);
    }
    sending.await.unwrap();
    let rate = (sent * members.len()) as f64 / begun.elapsed().as_secs_f64();
    assert!(rate > FLOOR, "{rate} deliveries a second");
}

async fn send_all(mut out: Outgoing, requests: Vec<greffe_api::relay::SendRequest>) {
    let count = requests.len();
    for request in requests {
        out.push(request).await;
    }
    for _ in 0..count {
        assert!(out.answer().await.unwrap().sequence > 0);
    }
}

async fn drain(mut mail: Mail, id: greffe_types::ConversationId) -> u64 {
    let mut last = 0;
    while last < 401 {
        let item = mail.item().await;
        assert_eq!(item.sequence, last + 1);
        last = item.sequence;
        if last.is_multiple_of(100) {
            mail.acknowledge(&id, last).await;
        }
    }
    last
}
