//! Following a log that tells the truth, and logs that do not.

use std::sync::Arc;

use greffe_api::audit::log_service_server::LogServiceServer;
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::Signed;
use greffe_policy::AccessRules;
use greffe_service_kit::clock::ManualClock;
use greffe_service_kit::config::Limits;
use greffe_service_kit::follow::{FollowError, FollowState, Follower};
use greffe_service_kit::serve::{Server, TlsOnly};
use greffe_service_kit::tls::Channel;
use greffe_service_kit::tls::connect;
use greffe_types::Millis;

use crate::log::{Lie, Log};
use crate::world::{Authority, Running, bundle, run, service, signer, trust};

async fn start(log: &Log) -> (Running, Channel) {
    let authority = Authority::new();
    let server = Server::new(
        &authority.identity(&service("audit")),
        &Limits::default(),
        AccessRules::embedded(),
        Arc::new(TlsOnly),
    )
    .add(LogServiceServer::new(log.clone()));
    let running = run(server).await;
    let relay = authority.identity(&service("relay"));
    let channel = connect(&running.peer(), &service("audit"), &relay)
        .await
        .unwrap();
    (running, channel)
}

fn follower(channel: &Channel, state: FollowState) -> Follower {
    let clock = ManualClock::at(Millis::new(1_000_000));
    Follower::new(channel.clone(), trust(), Arc::new(clock), state).unwrap()
}

fn entry(at: u64) -> pb::LogEntry {
    pb::LogEntry {
        tenant: "acme".into(),
        at,
        event: Some(Event::SealedOrder(vec![1; 32])),
        ..pb::LogEntry::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_come_verified_in_order_and_go_on_where_they_were_stored() {
    let log = Log::new();
    for at in 1..=10 {
        log.add(&entry(at));
    }
    let (running, channel) = start(&log).await;
    let mut first = follower(&channel, FollowState::default());
    // Ten leaves, four at a time, under a checkpoint of ten: the first two parts need consistency proofs.
    let mut seen = Vec::new();
    for expected in [4, 8] {
        let followed = first.next().await.unwrap();
        assert_eq!((followed.state.size, followed.size), (expected, 10));
        assert_eq!(followed.witnessed_at, Millis::new(1_000_000));
        seen.extend(followed.leaves.into_iter().map(|(_, entry)| entry.at));
    }
    let stored = first.state();
    let bytes = stored.frontier_bytes();
    let stored = FollowState::from_parts(stored.size, &bytes).unwrap();
    assert!(FollowState::from_parts(7, &bytes).is_none());
    let mut second = follower(&channel, stored);
    let followed = second.next().await.unwrap();
    assert_eq!((followed.start, followed.state.size), (8, 10));
    seen.extend(followed.leaves.into_iter().map(|(_, entry)| entry.at));
    assert_eq!(seen, (1..=10).collect::<Vec<_>>());
    log.add(&entry(11));
    let followed = second.next().await.unwrap();
    assert_eq!((followed.start, followed.size), (10, 11));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_23_a_log_that_lies_is_not_followed() {
    let log = Log::new();
    for at in 1..=6 {
        log.add(&entry(at));
    }
    let (running, channel) = start(&log).await;
    let mut follower = follower(&channel, FollowState::default());
    for lie in [Lie::Unwitnessed, Lie::Leaf, Lie::Fork, Lie::Gap] {
        log.lie(lie);
        let error = follower.next().await.unwrap_err();
        let expected = match lie {
            Lie::Unwitnessed => matches!(error, FollowError::Unwitnessed(_)),
            Lie::Gap => matches!(error, FollowError::Gap { .. }),
            _ => matches!(error, FollowError::Root { size: 4, .. }),
        };
        assert!(expected && error.is_forgery(), "{lie:?}: {error:?}");
        assert_eq!(follower.state(), FollowState::default(), "{lie:?}");
    }
    // The same follower goes on once the log tells the truth.
    log.lie(Lie::None);
    assert_eq!(follower.next().await.unwrap().leaves.len(), 4);
    // And a stored state that another tree had is refused, not built upon.
    let mut forged = follower.state();
    forged.frontier[0] = greffe_types::Digest::ZERO;
    let mut elsewhere = self::follower(&channel, forged);
    let error = elsewhere.next().await.unwrap_err();
    assert!(matches!(error, FollowError::Root { .. }), "{error:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_witnesses_are_believed_only_under_a_bundle_of_the_root_and_the_nodes() {
    let log = Log::new();
    log.add(&entry(1));
    log.state.lock().unwrap().witnesses = 90;
    let (running, channel) = start(&log).await;
    let mut follower = follower(&channel, FollowState::default());
    let error = follower.next().await.unwrap_err();
    assert!(matches!(error, FollowError::Unwitnessed(_)), "{error:?}");
    // The bundle that brings them is one of the leaves; the root alone brings in none.
    let previous = trust().read().bundle().digest().to_vec();
    let alone = bundle(2, previous, 90);
    let mut agreed = Signed::<pb::TrustBundle>::decode(alone.clone()).unwrap();
    agreed.add_signature("escrow-1", &signer(10));
    let leaf = |bundle: pb::SignedStatement| pb::LogEntry {
        event: Some(Event::Statement(bundle)),
        ..entry(2)
    };
    log.add(&leaf(alone));
    let error = follower.next().await.unwrap_err();
    assert!(matches!(error, FollowError::Unwitnessed(_)), "{error:?}");
    log.add(&leaf(agreed.into_raw()));
    assert_eq!(follower.next().await.unwrap().leaves.len(), 3);
    running.stop().await;
}
