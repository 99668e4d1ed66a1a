//! TLS in front of a collector that has none itself, as a proxy ends it: it asks for a certificate of its own authority.

use std::fs;
use std::net::{SocketAddr, TcpListener as Listener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The proxy, with the files of those who are to reach the collector through it.
pub(super) struct Front {
    pub(super) ca: PathBuf,
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    pub(super) endpoint: String,
    refused: Arc<AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

impl Front {
    /// Leads to a port of this machine.
    pub(super) fn start(folder: &Path, to: u16) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let issue = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new([name.to_owned()]).unwrap();
            let cert = params.signed_by(&key, &issuer).unwrap();
            (cert.pem(), key.serialize_pem())
        };
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let (server, client) = (issue("localhost"), issue("greffe"));
        let acceptor = acceptor(&ca, &server);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let refused = Arc::new(AtomicUsize::new(0));
        runtime.spawn(serve(listener, acceptor, to, refused.clone()));
        Self {
            ca: file("ca.crt", &ca),
            cert: file("client.crt", &client.0),
            key: file("client.key", &client.1),
            endpoint: format!("https://localhost:{port}"),
            refused,
            _runtime: runtime,
        }
    }

    /// Handshakes that failed.
    pub(super) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }
}

fn acceptor(ca: &str, (cert, key): &(String, String)) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(ca.as_bytes()).unwrap();
    roots.add(authority).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: Listener, acceptor: TlsAcceptor, to: u16, refused: Arc<AtomicUsize>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let (acceptor, refused) = (acceptor.clone(), refused.clone());
        tokio::spawn(async move {
            let Ok(mut tls) = acceptor.accept(tcp).await else {
                refused.fetch_add(1, Ordering::Relaxed);
                return;
            };
            let collector = SocketAddr::from(([127, 0, 0, 1], to));
            let mut plain = TcpStream::connect(collector).await.unwrap();
            // Either side may end it.
            let _ = copy_bidirectional(&mut tls, &mut plain).await;
        });
    }
}
