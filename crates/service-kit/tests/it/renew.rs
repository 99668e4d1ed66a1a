//! Certificates that are replaced while both sides run: new handshakes use them, open connections live on.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greffe_policy::AccessRules;
use greffe_service_kit::config::{Limits, TlsFiles};
use greffe_service_kit::serve::{Server, TlsOnly};
use greffe_service_kit::tls::Channel;
use greffe_service_kit::tls::{Identity, SpiffeId, client_config, connect, connect_lazy, renew};
use nix::sys::signal::{Signal, raise};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::world::{Authority, app, run, service};

fn files(folder: &Path) -> TlsFiles {
    TlsFiles {
        cert: folder.join("tls.crt"),
        key: folder.join("tls.key"),
        ca: folder.join("ca.crt"),
    }
}

fn write(files: &TlsFiles, (cert, key): &(String, String), authorities: &str) {
    std::fs::write(&files.cert, cert).unwrap();
    std::fs::write(&files.key, key).unwrap();
    std::fs::write(&files.ca, authorities).unwrap();
}

/// What a handshake of now is shown, if it succeeds.
async fn shown(at: SocketAddr, as_: &Identity) -> Option<Vec<u8>> {
    let tls = TlsConnector::from(client_config(as_, &service("audit")).unwrap());
    let tcp = TcpStream::connect(at).await.unwrap();
    let name = ServerName::try_from("greffe").unwrap();
    let stream = tls.connect(name, tcp).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?[0].to_vec())
}

fn der(pem: &str) -> Vec<u8> {
    use rustls_pki_types::pem::PemObject as _;
    rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes())
        .unwrap()
        .to_vec()
}

async fn answers(channel: &Channel) -> bool {
    let request = HealthCheckRequest::default();
    HealthClient::new(channel.clone())
        .check(request)
        .await
        .is_ok()
}

async fn becomes(at: SocketAddr, as_: &Identity, pem: &str) -> Duration {
    let begun = Instant::now();
    while shown(at, as_).await != Some(der(pem)) {
        assert!(begun.elapsed() < Duration::from_secs(15), "not in use");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_are_used_and_bad_ones_are_not() {
    let (old, new) = (Authority::new(), Authority::named("the next"));
    let both = format!("{}{}", old.pem, new.pem);
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("audit"), folder.path().join("desk"));
    for folder in [&ours, &theirs] {
        std::fs::create_dir(folder).unwrap();
    }
    let (ours, theirs) = (files(&ours), files(&theirs));
    let audit = |by: &Authority| by.issue(&service("audit"));
    let first = audit(&old);
    write(&ours, &first, &old.pem);
    write(&theirs, &old.issue(&app("desk")), &old.pem);
    let identity = Identity::load(&ours).unwrap();
    renew::watch(&identity, &ours, true, renew::usable());
    let running = run(Server::new(
        &identity,
        &Limits::default(),
        AccessRules::embedded(),
        Arc::new(TlsOnly),
    ))
    .await;
    let at = running.address;
    let desk = Identity::load(&theirs).unwrap();
    renew::watch(&desk, &theirs, false, renew::usable());
    let open = connect(&running.peer(), &service("audit"), &desk)
        .await
        .unwrap();
    assert!(answers(&open).await);
    assert_eq!(shown(at, &desk).await, Some(der(&first.0)));

    // By themselves, within some seconds.
    let second = audit(&old);
    write(&ours, &second, &both);
    let took = becomes(at, &desk, &second.0).await;
    assert!(took < 4 * renew::EVERY, "{took:?}");
    assert!(answers(&open).await, "an open connection lives on");

    // What no peer would take is not used: at a signal, and by itself.
    let stranger = Authority::named("a stranger");
    let wrong: [((String, String), &str); 4] = [
        (old.issue_until(&service("audit"), 2020), &both),
        (audit(&stranger), &both),
        (old.issue(&service("archive")), &both),
        ((second.0.clone(), audit(&old).1), &both),
    ];
    for (pair, authorities) in &wrong {
        write(&ours, pair, authorities);
        raise(Signal::SIGHUP).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(shown(at, &desk).await, Some(der(&second.0)));
    }
    tokio::time::sleep(2 * renew::EVERY + Duration::from_millis(500)).await;
    assert_eq!(shown(at, &desk).await, Some(der(&second.0)));

    // To another authority: first everybody trusts both, then each gets its new certificate, at once with a signal.
    write(&theirs, &new.issue(&app("desk")), &both);
    let third = audit(&new);
    write(&ours, &third, &new.pem);
    raise(Signal::SIGHUP).unwrap();
    let took = becomes(at, &desk, &third.0).await;
    assert!(took < 4 * renew::EVERY, "{took:?}");
    assert!(answers(&open).await, "an open connection lives on");
    let lazy = connect_lazy(&running.peer(), &service("audit"), &desk).unwrap();
    assert!(answers(&lazy).await);
    // Who comes with the old authority's does not get in any more.
    let late = old.identity(&SpiffeId::clone(&app("desk")));
    let late = connect_lazy(&running.peer(), &service("audit"), &late).unwrap();
    assert!(!answers(&late).await);
    running.stop().await;
}
