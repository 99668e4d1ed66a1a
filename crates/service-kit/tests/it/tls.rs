//! Handshakes: who gets in, who is meant to answer, and the hybrid key exchange.

use std::sync::Arc;

use greffe_policy::AccessRules;
use greffe_service_kit::config::{Limits, PeerConfig};
use greffe_service_kit::serve::{Server, TlsOnly};
use greffe_service_kit::tls::{
    ConnectError, Identity, SpiffeId, client_config, connect, server_config,
};
use greffe_types::TenantId;
use rustls::NamedGroup;
use rustls_pki_types::ServerName;
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::world::{Authority, Running, app, run, service};

fn server(identity: &Identity) -> Server {
    Server::new(
        identity,
        &Limits::default(),
        AccessRules::embedded(),
        Arc::new(TlsOnly),
    )
}

async fn refused(running: &Running, expected: &SpiffeId, identity: &Identity) -> String {
    match connect(&running.peer(), expected, identity).await {
        Err(error @ ConnectError::Unreachable { .. }) => {
            greffe_service_kit::errors::Causes(&error).to_string()
        }
        Err(other) => panic!("{other}"),
        // In TLS 1.3 the client is done before the server has judged it: the first call tells.
        Ok(channel) => tonic_health::pb::health_client::HealthClient::new(channel)
            .check(tonic_health::pb::HealthCheckRequest::default())
            .await
            .map(|_| String::new())
            .unwrap_err()
            .to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_peers_of_the_tenant_that_mean_this_server_get_in() {
    let ours = Authority::new();
    let running = run(server(&ours.identity(&service("audit")))).await;
    let alice = ours.identity(&app("desk"));

    let channel = connect(&running.peer(), &service("audit"), &alice)
        .await
        .unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let answer = health.check(tonic_health::pb::HealthCheckRequest::default());
    assert_eq!(answer.await.unwrap().into_inner().status, 1);

    // By its ready file, too.
    let by_file = PeerConfig::Ready(running.ready.clone());
    connect(&by_file, &service("audit"), &alice).await.unwrap();

    // Not the server that was meant.
    let wrong = refused(&running, &service("archive"), &alice).await;
    assert!(wrong.contains("name: \"audit\""), "{wrong}");

    // Another tenant's name, certified by an authority that we do trust.
    let other = TenantId::new("other").unwrap();
    let stranger = ours.identity(&SpiffeId::app(&other, "desk").unwrap());
    refused(&running, &service("audit"), &stranger).await;

    // Our name, certified by an authority that we do not trust.
    let (cert, key) = Authority::new().issue(&app("desk"));
    let forged = Identity::from_pem(cert.as_bytes(), key.as_bytes(), ours.pem.as_bytes()).unwrap();
    refused(&running, &service("audit"), &forged).await;

    // No certificate at all.
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_protocol_versions(&[&rustls::version::TLS13])
    .unwrap()
    .dangerous()
    .with_custom_certificate_verifier(Arc::new(AnyServer))
    .with_no_client_auth();
    let tcp = tokio::net::TcpStream::connect(running.address)
        .await
        .unwrap();
    let mut nobody = TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("greffe").unwrap(), tcp)
        .await
        .unwrap();
    let mut byte = [0];
    let read = tokio::io::AsyncReadExt::read(&mut nobody, &mut byte).await;
    assert!(
        read.is_err(),
        "the server ends the connection with an alert"
    );

    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_exchange_is_hybrid() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor =
        TlsAcceptor::from(server_config(&authority.identity(&service("audit"))).unwrap());
    let accepted = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let stream = acceptor.accept(tcp).await.unwrap();
        stream
            .get_ref()
            .1
            .negotiated_key_exchange_group()
            .map(|g| g.name())
    });
    let client = client_config(&authority.identity(&app("desk")), &service("audit")).unwrap();
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let _stream = TlsConnector::from(client)
        .connect(ServerName::try_from("greffe").unwrap(), tcp)
        .await
        .unwrap();
    assert_eq!(accepted.await.unwrap(), Some(NamedGroup::X25519MLKEM768));
}

/// A client that looks at nothing.
#[derive(Debug)]
struct AnyServer;

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
