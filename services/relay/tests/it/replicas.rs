//! Two relays over one PostgreSQL, both serving: order and exactly once for each conversation, whoever takes what in.

use std::time::{Duration, Instant};

use greffe_api::relay as api;
use greffe_envelope::label::sha256;
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_mls::KeyPackageKind;
use greffe_service_kit::errors::CallError;

use crate::support::{Mail, Member, Outgoing, Talk, World, check_chain, now, numbers, reason};
use crate::transfers::{ciphertext, download, upload};

/// Two members of one conversation, the second one at the second relay.
async fn apart(world: &World) -> (Member, Member) {
    let mut members = world.conversation(5, &["alice", "bob"]).await;
    let mut bob = members.pop().unwrap();
    let alice = members.pop().unwrap();
    world.move_over(&mut bob.device);
    (alice, bob)
}

/// Sends everything on one stream; gives the numbers.
async fn send_all(from: &Member, requests: &[api::SendRequest]) -> Vec<u64> {
    let mut out = Outgoing::open(from).await;
    for request in requests {
        out.push(request.clone()).await;
    }
    let mut given = Vec::new();
    for _ in requests {
        let answer = out.answer().await.unwrap();
        assert_eq!(answer.reason, "");
        given.push(answer.sequence);
    }
    given
}

async fn both_send(world: &World, count: u32) {
    let (mut alice, mut bob) = apart(world).await;
    let (mut his, mut hers) = (Talk::new(), Talk::new());
    let mut sealed = [Vec::new(), Vec::new()];
    for n in 0..count {
        sealed[0].push(hers.next(world, &mut alice, &format!("alice {n}")));
        sealed[1].push(his.next(world, &mut bob, &format!("bob {n}")));
    }
    // Each sends at one relay, and everything again, at the same time, at the other.
    let here = tokio::join!(send_all(&alice, &sealed[0]), send_all(&bob, &sealed[1]));
    let mut swapped = (alice, bob);
    world.move_over(&mut swapped.0.device);
    swapped.1.device.connect(world.channel("desk"));
    let there = tokio::join!(
        send_all(&swapped.0, &sealed[0]),
        send_all(&swapped.1, &sealed[1])
    );
    assert_eq!(here, there, "the same numbers");
    for given in [&here.0, &here.1] {
        assert!(given.is_sorted(), "in the order they were sent in");
    }
    let mut all: Vec<u64> = here.0.iter().chain(&here.1).copied().collect();
    all.sort_unstable();
    let expected: Vec<u64> = (2..).take(2 * count as usize).collect();
    assert_eq!(all, expected, "each number once");
    let archived: Vec<u64> = world
        .archive
        .requests()
        .iter()
        .map(|r| r.sequence)
        .collect();
    assert_eq!(
        archived,
        (1..).take(2 * count as usize + 1).collect::<Vec<u64>>()
    );
    // What was taken in at one relay is delivered by the other, too.
    for member in [&swapped.0, &swapped.1] {
        let mut mail = Mail::open(member, 1000).await;
        let items = mail.all().await;
        assert_eq!(numbers(&items).last(), Some(&(2 * u64::from(count) + 1)));
        check_chain(world, &items, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_11_one_conversation_at_two_relays_each_message_once_and_in_order() {
    both_send(&World::of_two(true).await, 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_11_the_same_when_no_notification_comes_through() {
    both_send(&World::of_two(false).await, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_11_the_same_message_at_both_relays_at_once_has_one_number() {
    let world = World::of_two(true).await;
    let (mut alice, _bob) = apart(&world).await;
    let mut talk = Talk::new();
    let requests: Vec<_> = (0..40)
        .map(|n| talk.next(&world, &mut alice, &n.to_string()))
        .collect();
    let here = Outgoing::open(&alice).await;
    world.move_over(&mut alice.device);
    let there = Outgoing::open(&alice).await;
    let mut streams = [here, there];
    let mut given: [Vec<u64>; 2] = [Vec::new(), Vec::new()];
    for request in &requests {
        let [one, other] = &mut streams;
        let (first, second) = tokio::join!(one.send(request.clone()), other.send(request.clone()));
        given[0].push(first.sequence);
        given[1].push(second.sequence);
        assert_eq!(
            (first.receipt, first.reason),
            (second.receipt, second.reason)
        );
    }
    assert_eq!(given[0], (2..42).collect::<Vec<u64>>());
    assert_eq!(given[0], given[1]);
    assert_eq!(world.archive.requests().len(), 41);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_13_of_two_commits_at_two_relays_exactly_one_wins() {
    let world = World::of_two(true).await;
    let (alice, bob) = apart(&world).await;
    let mut pair = [alice, bob];
    let mut requests = Vec::new();
    for member in &mut pair {
        let (handshake, change) = member.conversation.update(now()).unwrap();
        member.device.write(&change);
        requests.push(member.commit_request(&handshake));
    }
    let [one, other] = &mut pair;
    let (first, second) = tokio::join!(
        one.submit_raw(requests[0].clone()),
        other.submit_raw(requests[1].clone())
    );
    assert_ne!(first.is_ok(), second.is_ok(), "{first:?} {second:?}");
    let (winner, won, lost) = match first {
        Ok(won) => (0, won, second.unwrap_err()),
        Err(lost) => (1, second.unwrap(), lost),
    };
    assert_eq!(won.sequence, 2);
    let lost = reason(Err::<(), _>(lost));
    assert!(
        ["EPOCH_STALE", "COMMIT_PENDING"].contains(&lost.as_str()),
        "{lost}"
    );
    assert_eq!(world.archive.requests().len(), 2);
    // The same again, at the other relay, is answered the same.
    let mut again = pair.into_iter().nth(winner).unwrap();
    match winner {
        0 => world.move_over(&mut again.device),
        _ => again.device.connect(world.channel("desk")),
    }
    let answer = again.submit_raw(requests[winner].clone()).await.unwrap();
    assert_eq!(answer, won);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_16_a_thousand_claims_at_two_relays_use_each_key_package_once() {
    let world = World::of_two(true).await;
    let mut bob = world.device("bob", 2).await;
    let last_resort = bob.key_packages(1, KeyPackageKind::LastResort).remove(0);
    let key_packages = bob.key_packages(50, KeyPackageKind::Once);
    let request = bob.request(api::PublishKeyPackagesRequest {
        key_packages: key_packages.clone(),
        last_resort: last_resort.clone(),
    });
    bob.directory.publish_key_packages(request).await.unwrap();
    let alice = world.device("alice", 1).await;
    let mut carol = world.device("carol", 3).await;
    world.move_over(&mut carol);
    let claims = (0..1000).map(|n| {
        let device = if n % 2 == 0 { &alice } else { &carol };
        let request = device.request(api::ClaimKeyPackagesRequest {
            users: vec!["bob".into()],
        });
        let mut directory = device.directory.clone();
        async move { directory.claim_key_packages(request).await.unwrap() }
    });
    let mut once = Vec::new();
    for answer in futures::future::join_all(claims).await {
        let claimed = answer.into_inner().key_packages.remove(0);
        if claimed.last_resort {
            assert_eq!(claimed.key_package, last_resort);
        } else {
            once.push(claimed.key_package);
        }
    }
    once.sort();
    let mut published = key_packages;
    published.sort();
    assert_eq!(once, published, "each of the fifty went to one caller");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_relay_was_told_the_other_knows_at_once() {
    // Also when nothing is told.
    for told in [true, false] {
        let world = World::of_two(told).await;
        let (mut alice, bob) = apart(&world).await;
        // An attachment that one took in is named at the other, and fetched from there.
        let bytes = ciphertext(300_000);
        let (digest, size) = (sha256(&bytes), bytes.len() as u64);
        let chunks = bytes.chunks(256 << 10).map(<[u8]>::to_vec).collect();
        upload(&alice, &digest, size, chunks).await.unwrap();
        world.move_over(&mut alice.device);
        let request = Talk::new().seal(&world, &mut alice, "see attached", |header| {
            header.attachments = vec![pb::AttachmentRef {
                digest: digest.to_vec(),
                size,
            }];
        });
        let sent = Outgoing::open(&alice).await.send(request).await;
        assert_eq!((sent.sequence, sent.reason.as_str()), (2, ""));
        assert_eq!(download(&bob, &digest).await.unwrap(), bytes);
        // A device that registered at the first logs in at the second, creates there under what was published at the first,
        // and is served at both.
        let mut carol = world.device("carol", 3).await;
        world.move_over(&mut carol);
        carol.login().await.unwrap();
        let next = world.tenant.next_disclosure(2);
        world.publish(next.raw().clone()).await.unwrap();
        carol.extension = prost::Message::encode_to_vec(next.raw());
        let mut carol = carol.create(6).await.unwrap();
        carol.acknowledge().await.unwrap();
        carol.device.connect(world.channel("desk"));
        assert_eq!(carol.view().await.unwrap().sequence, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_20_a_conversation_that_the_leader_stopped_stands_still_everywhere() {
    let world = World::of_two(true).await;
    let (mut alice, mut bob) = apart(&world).await;
    let mut talk = Talk::new();
    let mut out = Outgoing::open(&alice).await;
    world.archive.fork_next();
    out.push(talk.next(&world, &mut alice, "lost")).await;
    out.silent().await;
    let request = Talk::new().next(&world, &mut bob, "after");
    let mut there = Outgoing::open(&bob).await;
    assert_eq!(there.send(request).await.reason, "CONVERSATION_STALLED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_20_a_stop_that_cannot_be_stored_holds_at_once_and_is_stored_later() {
    let world = World::of_two(true).await;
    let (mut alice, mut bob) = apart(&world).await;
    let store = world.store.as_ref().unwrap();
    store.psql(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'disk full'; END $$;
         CREATE TRIGGER full_disk BEFORE UPDATE OF stalled ON conversation FOR EACH ROW
           WHEN (NEW.stalled <> '') EXECUTE FUNCTION full_disk()",
    );
    let mut talk = Talk::new();
    let mut out = Outgoing::open(&alice).await;
    world.archive.forge_next();
    out.push(talk.next(&world, &mut alice, "lost")).await;
    out.silent().await;
    // At the relay that knows, nothing more gets a number.
    let next = talk.next(&world, &mut alice, "after");
    let mut here = Outgoing::open(&alice).await;
    assert_eq!(here.send(next).await.reason, "CONVERSATION_STALLED");
    store.psql("DROP TRIGGER full_disk ON conversation");
    let waited = Instant::now();
    while store
        .psql("SELECT stalled FROM conversation")
        .trim()
        .is_empty()
    {
        assert!(waited.elapsed() < Duration::from_secs(20), "never stored");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let request = Talk::new().next(&world, &mut bob, "after");
    let mut there = Outgoing::open(&bob).await;
    assert_eq!(there.send(request).await.reason, "CONVERSATION_STALLED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_that_waits_for_the_log_holds_nobody_up() {
    let world = World::of_two(true).await;
    let (mut alice, bob) = apart(&world).await;
    let next = world.tenant.next_disclosure(2);
    world.audit.stall(true);
    let publishing = world.publish(next.raw().clone());
    let meanwhile = async {
        world.audit.holds_up().await;
        let at_once = Duration::from_secs(10);
        // What a client believes, a commit, a message: each of them takes in first what the other relay has stored.
        let mut directory = world.directory();
        let trust = directory.get_trust(api::GetTrustRequest {});
        let trust = tokio::time::timeout(at_once, trust).await;
        assert!(trust.expect("GetTrust waits").is_ok());
        let commit = tokio::time::timeout(at_once, update(&mut alice)).await;
        assert_eq!(commit.expect("a commit waits").unwrap().sequence, 2);
        let request = Talk::new().next(&world, &mut alice, "meanwhile");
        let mut out = Outgoing::open(&alice).await;
        let sent = tokio::time::timeout(at_once, out.send(request)).await;
        assert_eq!(sent.expect("a message waits").sequence, 3);
        let mut mail = Mail::open(&bob, 100).await;
        assert_eq!(numbers(&mail.all().await), [1, 2, 3]);
        // The same statement, found in the log, comes into force before its own answer comes back.
        world.audit.add(Event::Statement(next.raw().clone()));
        let waited = Instant::now();
        loop {
            let trust = directory.get_trust(api::GetTrustRequest {}).await.unwrap();
            let now = &trust.get_ref().disclosures[0].statement;
            if now.as_ref() == Some(next.raw()) {
                break;
            }
            assert!(waited.elapsed() < at_once, "the log is not followed");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        world.audit.stall(false);
    };
    let (published, ()) = tokio::join!(publishing, meanwhile);
    published.unwrap();
}

/// Renews the member's own keys.
async fn update(member: &mut Member) -> Result<api::SubmitCommitResponse, CallError> {
    let (handshake, change) = member.conversation.update(now()).unwrap();
    member.device.write(&change);
    let answer = member.submit(&handshake).await?;
    member.apply();
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_the_database_does_not_give_is_no_fault_of_the_caller() {
    let world = World::of_two(true).await;
    let mut carol = world.device("carol", 3).await;
    carol.publish_key_packages(1).await.unwrap();
    let mut alice = world.device("alice", 1).await.create(6).await.unwrap();
    alice.acknowledge().await.unwrap();
    // The second relay has not seen carol yet.
    world.move_over(&mut alice.device);
    let (handshake, _) = alice.prepare_add(&["carol"]).await;
    alice.view().await.unwrap();
    let store = world.store.as_ref().unwrap();
    let rights = |what: &str, of: &str| {
        store.psql(&format!("{what} SELECT ON device_cert {of} greffe_runtime"));
    };
    rights("REVOKE", "FROM");
    let refused = alice.submit(&handshake).await;
    assert_eq!(reason(refused), "BUSY");
    rights("GRANT", "TO");
    assert_eq!(alice.submit(&handshake).await.unwrap().sequence, 1);
    let blamed =
        |event: &Event| matches!(event, Event::Refusal(r) if r.operation == "SubmitCommit");
    assert!(!world.audit.events().iter().any(blamed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_52_a_leader_fenced_in_the_middle_loses_nothing() {
    let world = World::of_two(true).await;
    let (mut alice, bob) = apart(&world).await;
    world.move_over(&mut alice.device);
    let mut talk = Talk::new();
    let mut out = Outgoing::open(&alice).await;
    let first = talk.next(&world, &mut alice, "first");
    assert_eq!(out.send(first).await.sequence, 2);
    let store = world.store.as_ref().unwrap();
    let epoch = || {
        store
            .psql("SELECT fence FROM lease")
            .trim()
            .parse::<u64>()
            .unwrap()
    };
    let before = epoch();
    // Sequenced by the second while the first one, which leads, is taken its lease.
    world.archive.stall(true);
    for n in 0..20 {
        out.push(talk.next(&world, &mut alice, &format!("{n}")))
            .await;
    }
    out.silent().await;
    let waited = Instant::now();
    while epoch() == before {
        assert!(waited.elapsed() < Duration::from_secs(30));
        store.psql("UPDATE lease SET expires = 0");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.archive.stall(false);
    for sequence in 3..23 {
        assert_eq!(out.answer().await.unwrap().sequence, sequence);
    }
    let last = talk.next(&world, &mut alice, "last");
    assert_eq!(out.send(last).await.sequence, 23);
    let archived = world.archive.requests();
    let given: Vec<u64> = archived.iter().map(|r| r.sequence).collect();
    assert_eq!(given, (1..24).collect::<Vec<u64>>(), "each once");
    assert_eq!(archived.last().unwrap().fence, before + 1);
    let mut mail = Mail::open(&bob, 100).await;
    assert_eq!(numbers(&mail.all().await), given);
    // What was written later carries no earlier epoch.
    let wrong = store.psql(
        "SELECT count(*) FROM item a JOIN item b ON a.id < b.id AND a.release_id < b.release_id WHERE a.fence > b.fence",
    );
    assert_eq!(wrong.trim(), "0");
}
