//! Appending through broken streams, and what the log refuses or falsifies.

use std::sync::Arc;

use greffe_api::audit::audit_service_server::AuditServiceServer;
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::decode_strict;
use greffe_policy::AccessRules;
use greffe_service_kit::append::{AppendError, Appender};
use greffe_service_kit::config::{Limits, PeerConfig};
use greffe_service_kit::serve::{Server, TlsOnly};
use greffe_service_kit::tls::connect_lazy;

use crate::log::{Lie, Log};
use crate::world::{Authority, run, service, tenant};

fn event(n: u32) -> Event {
    Event::SealedOrder(n.to_be_bytes().repeat(8))
}

fn id(n: u32) -> [u8; 16] {
    u128::from(n).to_be_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_entry_is_logged_once_whatever_breaks() {
    let authority = Authority::new();
    let log = Log::new();
    log.state.lock().unwrap().break_after = Some(40);
    let server = || {
        Server::new(
            &authority.identity(&service("audit")),
            &Limits::default(),
            AccessRules::embedded(),
            Arc::new(TlsOnly),
        )
        .add(AuditServiceServer::new(log.clone()))
    };
    let running = run(server()).await;
    let relay = authority.identity(&service("relay"));
    let peer = PeerConfig::Ready(running.ready.clone());
    let channel = connect_lazy(&peer, &service("audit"), &relay).unwrap();
    let appender = Appender::new(channel, &tenant());

    let appended =
        futures::future::join_all((0..200).map(|n| appender.append_event(id(n), event(n)))).await;
    let mut indices: Vec<u64> = Vec::new();
    for (n, appended) in (0..).zip(appended) {
        let appended = appended.unwrap();
        let leaf: pb::LogEntry = decode_strict("log-entry", &appended.leaf).unwrap();
        assert_eq!(leaf.event, Some(event(n)));
        assert_eq!(
            (leaf.tenant.as_str(), leaf.recorded_by.as_str()),
            ("acme", "service:relay")
        );
        indices.push(appended.index);
    }
    indices.sort_unstable();
    assert_eq!(indices, (0..200).collect::<Vec<_>>());
    assert!(log.state.lock().unwrap().streams >= 2, "one broke");

    // Again: the same index. Untyped: refused, and the stream goes on.
    let again = appender.append_event(id(7), event(7)).await.unwrap();
    assert!(indices.contains(&again.index));
    assert_eq!(log.state.lock().unwrap().leaves.len(), 200);
    let untyped = appender.append(id(300), pb::LogEntry::default()).await;
    assert!(matches!(
        untyped,
        Err(AppendError::Refused { reason, .. }) if reason == "ENTRY_UNTYPED"
    ));

    // Refusals go their own way.
    appender.append_refusal("/x.Y/Z", "app:desk", "CALLER_NOT_ALLOWED", &[]);
    while log.state.lock().unwrap().leaves.len() < 201 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }

    log.lie(Lie::Entry);
    let forged = appender.append_event(id(400), event(400)).await;
    assert_eq!(forged, Err(AppendError::Forged));
    running.stop().await;
}
