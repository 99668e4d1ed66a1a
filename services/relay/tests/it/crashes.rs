//! Stops in the middle: what was sequenced is archived once and delivered once, whatever was lost on the way.

use crate::support::{Mail, Outgoing, Talk, World, check_chain, numbers};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_11_between_sequence_and_receipt() {
    let mut world = World::new().await;
    let mut members = world.conversation(5, &["alice", "bob"]).await;
    let mut bob = members.pop().unwrap();
    let mut alice = members.pop().unwrap();
    let mut talk = Talk::new();
    let mut out = Outgoing::open(&alice).await;
    world.archive.stall(true);
    let mut requests = Vec::new();
    for n in 0..3 {
        let request = talk.next(&world, &mut alice, &format!("{n}"));
        out.push(request.clone()).await;
        requests.push(request);
    }
    out.silent().await;
    world.restart().await;
    for device in [&mut alice.device, &mut bob.device] {
        device.login().await.unwrap();
    }
    // the sender does not know, and sends again; a new one behind them
    requests.push(talk.next(&world, &mut alice, "new"));
    let mut out = Outgoing::open(&alice).await;
    for request in &requests {
        out.push(request.clone()).await;
    }
    out.silent().await;
    world.archive.stall(false);
    for sequence in 2..=5 {
        assert_eq!(out.answer().await.unwrap().sequence, sequence);
    }
    let archived = world.archive.requests();
    let numbers_of: Vec<_> = archived.iter().map(|r| r.sequence).collect();
    assert_eq!(numbers_of, [1, 2, 3, 4, 5], "each once");
    assert!(archived.last().unwrap().fence > archived[0].fence);
    let mut mail = Mail::open(&bob, 100).await;
    let items = mail.all().await;
    assert_eq!(numbers(&items), [1, 2, 3, 4, 5], "each once");
    check_chain(&world, &items, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_11_an_answer_lost_between_archive_and_relay() {
    let world = World::new().await;
    let mut members = world.conversation(5, &["alice", "bob"]).await;
    let bob = members.pop().unwrap();
    let mut alice = members.pop().unwrap();
    let mut talk = Talk::new();
    let mut out = Outgoing::open(&alice).await;
    world.archive.lose_next();
    for n in 0..5 {
        let request = talk.next(&world, &mut alice, &format!("{n}"));
        out.push(request).await;
    }
    for sequence in 2..=6 {
        assert_eq!(out.answer().await.unwrap().sequence, sequence);
    }
    assert_eq!(world.archive.requests().len(), 6, "each once");
    let mut mail = Mail::open(&bob, 100).await;
    assert_eq!(numbers(&mail.all().await), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_20_a_reordered_answer_is_no_acknowledgement() {
    let world = World::new().await;
    let mut members = world.conversation(5, &["alice", "bob"]).await;
    let bob = members.pop().unwrap();
    let mut alice = members.pop().unwrap();
    let mut talk = Talk::new();
    let mut out = Outgoing::open(&alice).await;
    // the archive answers with a receipt of another chain: the relay neither answers nor delivers, and takes nothing more
    world.archive.fork_next();
    let request = talk.next(&world, &mut alice, "lost");
    out.push(request.clone()).await;
    out.silent().await;
    let mut mail = Mail::open(&bob, 100).await;
    assert_eq!(numbers(&mail.all().await), [1]);
    let next = talk.next(&world, &mut alice, "after");
    let mut other = Outgoing::open(&alice).await;
    assert_eq!(other.send(next).await.reason, "CONVERSATION_STALLED");
    // another conversation goes on
    let mut carol = world.device("carol", 3).await.create(6).await.unwrap();
    carol.acknowledge().await.unwrap();
    let request = Talk::new().next(&world, &mut carol, "elsewhere");
    let mut out = Outgoing::open(&carol).await;
    assert_eq!(out.send(request).await.sequence, 1);
}
