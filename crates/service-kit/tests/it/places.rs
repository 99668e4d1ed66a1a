//! A peer with several addresses: the first that answers is taken, and one that stands still is left.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greffe_service_kit::config::{Limits, PeerConfig};
use greffe_service_kit::serve::{Server, TlsOnly};
use greffe_service_kit::tls::Channel;
use greffe_service_kit::tls::{connect, connect_lazy};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::world::{Authority, Running, app, run, service};
use greffe_policy::AccessRules;

async fn audit(authority: &Authority) -> Running {
    let identity = authority.identity(&service("audit"));
    run(Server::new(
        &identity,
        &Limits::default(),
        AccessRules::embedded(),
        Arc::new(TlsOnly),
    ))
    .await
}

async fn answers(channel: &Channel) -> Result<(), tonic::Status> {
    let request = HealthCheckRequest::default();
    let mut client = HealthClient::new(channel.clone());
    client.check(request).await.map(drop)
}

fn places(places: &[SocketAddr]) -> PeerConfig {
    PeerConfig::Addresses(places.iter().map(ToString::to_string).collect())
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_is_tried_when_the_first_refuses_or_is_somebody_else() {
    let authority = Authority::new();
    let running = audit(&authority).await;
    let other = {
        let identity = authority.identity(&service("archive"));
        run(Server::new(
            &identity,
            &Limits::default(),
            AccessRules::embedded(),
            Arc::new(TlsOnly),
        ))
        .await
    };
    let desk = authority.identity(&app("desk"));
    let peer = places(&[nobody().await, other.address, running.address]);
    let channel = connect(&peer, &service("audit"), &desk).await.unwrap();
    answers(&channel).await.unwrap();

    // Nobody at all: each is named, with its reason.
    let peer = places(&[nobody().await, other.address]);
    let error = connect(&peer, &service("audit"), &desk).await.unwrap_err();
    let said = greffe_service_kit::errors::Causes(&error).to_string();
    assert!(
        said.contains("refused") && said.contains("name: \"archive\""),
        "{said}"
    );
    // Ready files, of which one is not there.
    let peer = PeerConfig::Readies(vec!["/nowhere/ready.json".into(), running.ready.clone()]);
    let channel = connect_lazy(&peer, &service("audit"), &desk).unwrap();
    answers(&channel).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_accepts_and_says_nothing_is_left_after_three_seconds() {
    let authority = Authority::new();
    let running = audit(&authority).await;
    // The system accepts for a process that stands still.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let desk = authority.identity(&app("desk"));
    let peer = places(&[silent.local_addr().unwrap(), running.address]);
    // Of two channels one begins there.
    let mut took = Vec::new();
    for _ in 0..2 {
        let begun = Instant::now();
        let channel = connect_lazy(&peer, &service("audit"), &desk).unwrap();
        answers(&channel).await.unwrap();
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    assert!(took[0] < Duration::from_millis(2500), "{took:?}");
    assert!(
        (Duration::from_millis(2500)..Duration::from_secs(20)).contains(&took[1]),
        "{took:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stands_still_is_noticed_and_the_other_taken() {
    let authority = Authority::new();
    let (first, second) = (audit(&authority).await, audit(&authority).await);
    // In between, so that it can be made to stand still.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let between = listener.local_addr().unwrap();
    let (still, stands) = tokio::sync::watch::channel(false);
    let behind = first.address;
    let relay = tokio::spawn(async move {
        loop {
            let (mut from, _) = listener.accept().await.unwrap();
            let mut stands = stands.clone();
            tokio::spawn(async move {
                let mut to = TcpStream::connect(behind).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut from, &mut to) => {}
                    _ = stands.changed() => {}
                }
                // Open, and silent.
                core::future::pending::<()>().await;
            });
        }
    });
    let desk = authority.identity(&app("desk"));
    let peer = places(&[between, second.address]);
    // Of two channels one begins there.
    let mut channels = Vec::new();
    for _ in 0..2 {
        let channel = connect(&peer, &service("audit"), &desk).await.unwrap();
        answers(&channel).await.unwrap();
        channels.push(channel);
    }
    still.send(true).unwrap();
    let begun = Instant::now();
    let mut lost = Vec::new();
    for channel in &channels {
        if answers(channel).await.is_err() {
            lost.push(channel);
        }
    }
    let noticed = begun.elapsed();
    let [channel] = lost[..] else {
        panic!("{} were lost", lost.len());
    };
    assert!(noticed < Duration::from_secs(40), "{noticed:?}");
    // It accepts still, and does not answer: the other one does.
    answers(channel).await.unwrap();
    let answered = begun.elapsed();
    assert!(answered < Duration::from_secs(60), "{answered:?}");
    // Which is the one that is kept to.
    second.stop().await;
    relay.abort();
}
