//! Commits: one an epoch, by members, adding certified devices only; undone when the archive refuses them.

use greffe_api::archive::ingest_request::Entry;
use greffe_api::relay as api;
use greffe_api::relay::receive_response::Item;
use greffe_envelope::chain::handshake_digest;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::verify_receipt;
use greffe_mls::{Event as MlsEvent, KeyPackageKind};

use crate::support::{Device, Member, World, now, reason};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_archived_before_it_is_answered_and_answers_the_same_again() {
    let world = World::new().await;
    let mut alice = world.device("alice", 1).await.create(5).await.unwrap();
    let mut bob = world.device("bob", 2).await;
    bob.publish_key_packages(1).await.unwrap();
    let (handshake, invited) = alice.prepare_add(&["bob"]).await;
    let answer = alice.submit(&handshake).await.unwrap();
    assert_eq!(answer.sequence, 1);
    let receipt = Signed::<pb::Receipt>::decode(answer.receipt.clone().unwrap()).unwrap();
    let bundle = world.tenant.trust.read().bundle().clone();
    verify_receipt(&receipt, &bundle).unwrap();
    assert_eq!(receipt.kind(), pb::EntryKind::Handshake);
    assert_eq!(
        receipt.entry_digest,
        handshake_digest(&handshake.commit).to_vec()
    );
    let archived = world.archive.requests();
    let Some(Entry::Handshake(entry)) = &archived[0].entry else {
        panic!("no handshake");
    };
    assert_eq!(entry.public_message, handshake.commit);
    assert_eq!(
        entry.disclosure.as_ref(),
        Some(world.tenant.disclosure.raw())
    );
    let users: Vec<_> = archived[0].participants.iter().map(|p| &p.user).collect();
    assert_eq!(users, ["alice", "bob"]);

    assert_eq!(alice.submit(&handshake).await.unwrap(), answer, "a retry");
    let mut request = alice.commit_request(&handshake);
    request.welcome = vec![1];
    let refused = alice.submit_raw(request).await;
    assert_eq!(reason(refused), "IDEMPOTENCY_CONFLICT", "another body");
    world.audit.refusal("IDEMPOTENCY_CONFLICT").await;
    assert_eq!(world.archive.requests().len(), 1);
    alice.apply();
    let bob = bob.join(&invited).unwrap();
    assert_eq!(bob.conversation.epoch(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_13_of_two_commits_for_one_epoch_exactly_one_wins() {
    let world = World::new().await;
    let mut members = world.conversation(5, &["alice", "bob"]).await;
    let bob = members.pop().unwrap();
    let alice = members.pop().unwrap();
    let mut pair = [alice, bob];
    // Several times, so that both are judged before either has its number.
    for epoch in 2..12 {
        one_of_two(&mut pair, epoch).await;
        let view = pair[0].view().await.unwrap();
        assert_eq!((view.epoch, view.sequence), (epoch, epoch));
        let archived = world.archive.requests().len() as u64;
        assert_eq!(archived, epoch, "nothing of the other");
    }
}

/// Both commit at once; who lost takes the other's in.
async fn one_of_two(pair: &mut [Member; 2], epoch: u64) {
    let mut requests = Vec::new();
    for member in pair.iter_mut() {
        let (handshake, change) = member.conversation.update(now()).unwrap();
        member.device.write(&change);
        requests.push(member.commit_request(&handshake));
    }
    let [one, other] = pair;
    let (first, second) = tokio::join!(
        one.submit_raw(requests[0].clone()),
        other.submit_raw(requests[1].clone())
    );
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    let (winner, loser) = if first.is_ok() { (0, 1) } else { (1, 0) };
    let (won, lost) = if winner == 0 {
        (first, second)
    } else {
        (second, first)
    };
    assert_eq!(won.unwrap().sequence, epoch);
    let lost = lost.unwrap_err();
    // the loser is told where the conversation is, once the winner is archived
    match lost.reason.as_deref() {
        Some("EPOCH_STALE") => {
            let told = lost.metadata.get("epoch").cloned();
            assert_eq!(told, Some(epoch.to_string()));
        }
        Some("COMMIT_PENDING") => assert!(lost.is_retryable()),
        other => panic!("{other:?}: {lost}"),
    }
    for (member, request) in pair.iter_mut().zip(&requests) {
        let again = member.submit_raw(request.clone()).await;
        match again {
            Ok(answer) => assert_eq!(answer.sequence, epoch),
            Err(error) => assert_eq!(error.reason.as_deref(), Some("EPOCH_STALE")),
        }
    }
    pair[winner].apply();
    let loser = &mut pair[loser];
    loser.clear();
    let (event, change) = loser
        .conversation
        .receive(&requests[winner].commit)
        .unwrap();
    assert!(matches!(event, MlsEvent::Commit(_)), "{event:?}");
    loser.device.write(&change);
    loser.conversation.persisted();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_sent_several_times_at_once_is_not_stale_to_itself() {
    let world = World::new().await;
    let mut alice = world.conversation(5, &["alice"]).await.pop().unwrap();
    for sequence in 1..=20 {
        let (handshake, change) = alice.conversation.update(now()).unwrap();
        alice.device.write(&change);
        let request = alice.commit_request(&handshake);
        let copies = (0..40).map(|_| {
            // One after another, so that some are judged while the first gets its number.
            std::thread::sleep(std::time::Duration::from_micros(150));
            let mut relay = alice.device.relay.clone();
            let request = alice.device.request(request.clone());
            tokio::spawn(async move { relay.submit_commit(request).await })
        });
        for copy in copies.collect::<Vec<_>>() {
            let answer = copy.await.unwrap().unwrap().into_inner();
            assert_eq!(answer.sequence, sequence);
        }
        alice.apply();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_15_no_device_without_a_certificate_and_nobody_from_outside() {
    let world = World::new().await;
    let mut members = world.conversation(5, &["alice", "bob"]).await;
    let alice = &mut members[0];
    // a device that its own directory vouches for, but that was never registered
    let mut mallory = Device::new(&world.tenant, world.channel("desk"), "mallory", 7);
    let packages = mallory.key_packages(1, KeyPackageKind::Once);
    crate::support::present(&alice.device.known, &mallory.cert);
    let (handshake, change) = alice.conversation.add(&packages, now()).unwrap();
    alice.device.write(&change);
    let refused = alice.submit(&handshake).await;
    assert_eq!(reason(refused), "COMMIT_REFUSED");
    world.audit.refusal("COMMIT_REFUSED").await;
    alice.clear();

    // somebody from outside: a commit that names a new member as its sender, and a member's commit handed in by another
    let (handshake, _) = alice.conversation.update(now()).unwrap();
    let mut external = handshake.commit.clone();
    let sender = 2 + 2 + 1 + 16 + 8;
    assert_eq!(external[sender], 1, "a member");
    external[sender] = 4;
    let mut request = alice.commit_request(&handshake);
    request.commit = external;
    assert_eq!(reason(alice.submit_raw(request).await), "COMMIT_REFUSED");
    let request = alice.commit_request(&handshake);
    let refused = members[1].submit_raw(request.clone()).await;
    assert_eq!(reason(refused), "COMMIT_OF_OTHER_DEVICE");
    let stranger = world.device("carol", 9).await.create(6).await.unwrap();
    let mut stranger = stranger;
    let refused = stranger.submit_raw(request).await;
    assert_eq!(reason(refused), "CONVERSATION_UNKNOWN");
    // a Welcome for nobody
    let alice = &mut members[0];
    let mut request = alice.commit_request(&handshake);
    request.welcome = vec![1; 10];
    assert_eq!(reason(alice.submit_raw(request).await), "WELCOME_MISMATCH");
    // after all that the conversation is where it was, and its members go on
    alice.submit(&handshake).await.unwrap();
    assert_eq!(alice.view().await.unwrap().epoch, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_73_a_commit_that_the_archive_refuses_is_undone_and_the_next_one_goes_through() {
    let mut world = World::new().await;
    let mut alice = world.device("alice", 1).await.create(5).await.unwrap();
    alice.acknowledge().await.unwrap();
    let mut bob = world.device("bob", 2).await;
    bob.publish_key_packages(2).await.unwrap();
    let (handshake, _) = alice.prepare_add(&["bob"]).await;
    world.archive.void_next("DISCLOSURE_UNKNOWN");
    let refused = alice.submit(&handshake).await.unwrap_err();
    assert_eq!(refused.reason.as_deref(), Some("ARCHIVE_REFUSED"));
    assert_eq!(
        refused.metadata.get("reason").map(String::as_str),
        Some("DISCLOSURE_UNKNOWN")
    );
    let view = alice.view().await.unwrap();
    assert_eq!((view.epoch, view.sequence), (0, 1), "the number is taken");
    assert_eq!(view.members.len(), 1);
    assert_eq!(reason(alice.submit(&handshake).await), "ARCHIVE_REFUSED");
    alice.clear();
    world.restart().await;
    let channel = world.channel("desk");
    alice.device.relay = api::relay_service_client::RelayServiceClient::new(channel.clone());
    alice.device.directory = api::directory_service_client::DirectoryServiceClient::new(channel);
    let (handshake, invited) = alice.prepare_add(&["bob"]).await;
    assert_eq!(alice.submit(&handshake).await.unwrap().sequence, 2);
    alice.apply();
    assert_eq!(bob.join(&invited).unwrap().conversation.epoch(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_device_gets_the_commit_that_removed_it_and_nothing_after() {
    let world = World::new().await;
    let mut members = world.conversation(5, &["alice", "bob"]).await;
    let mut bob = members.pop().unwrap();
    let mut alice = members.pop().unwrap();
    let removed = bob.device.id;
    let (handshake, change) = alice.conversation.remove(&[removed], now()).unwrap();
    alice.device.write(&change);
    alice.submit(&handshake).await.unwrap();
    alice.apply();
    let (after, _) = alice.conversation.update(now()).unwrap();
    alice.submit(&after).await.unwrap();
    assert_eq!(alice.view().await.unwrap().members.len(), 1);
    assert_eq!(reason(bob.view().await), "CONVERSATION_UNKNOWN");

    let mut commits = Vec::new();
    for response in mailbox(&mut bob).await {
        match response.item.unwrap() {
            Item::Commit(commit) => commits.push(commit),
            Item::Welcome(_) => assert_eq!(response.sequence, 1),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(commits.len(), 1);
    assert_eq!(commits[0], handshake.commit);
    let (event, _) = bob.conversation.receive(&commits[0]).unwrap();
    let MlsEvent::Commit(committed) = event else {
        panic!("{event:?}");
    };
    assert!(committed.removed_self);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_disclosure_comes_in_by_a_commit_and_wants_a_new_acknowledgement() {
    let world = World::new().await;
    let mut members = world.conversation(5, &["alice", "bob"]).await;
    let next = world.tenant.next_disclosure(2);
    let extension = prost::Message::encode_to_vec(next.raw());
    let alice = &mut members[0];
    let (handshake, change) = alice.conversation.disclose(&extension, now()).unwrap();
    alice.device.write(&change);
    // not in the relay's log yet
    assert_eq!(reason(alice.submit(&handshake).await), "COMMIT_REFUSED");
    world.publish(next.raw().clone()).await.unwrap();
    // consent comes before the commit
    let signed = alice.acknowledgement(&next.digest());
    let signed = alice.device.sign(signed).into_raw();
    alice.acknowledge_with(signed).await.unwrap();
    alice.submit(&handshake).await.unwrap();
    alice.apply();
    let view = alice.view().await.unwrap();
    assert_eq!(view.disclosure, next.digest().to_vec());
    let acknowledged: Vec<_> = view.members.iter().map(|m| m.acknowledged).collect();
    assert_eq!(acknowledged, [true, false]);
    let archived = world.archive.requests();
    let Some(Entry::Handshake(entry)) = &archived[1].entry else {
        panic!("no handshake");
    };
    assert_eq!(entry.disclosure.as_ref(), Some(next.raw()));
}

/// What a mailbox has at the moment.
async fn mailbox(member: &mut Member) -> Vec<api::ReceiveResponse> {
    let open = api::ReceiveRequest {
        part: Some(api::receive_request::Part::Window(100)),
    };
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    sender.send(open).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let request = member.device.request(requests);
    let mut stream = member
        .device
        .relay
        .receive(request)
        .await
        .unwrap()
        .into_inner();
    let mut found = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        if matches!(response.item, Some(Item::CaughtUp(_))) {
            break;
        }
        found.push(response);
    }
    found
}
