//! A server that is known by its host name and is none of ours: the collector of telemetry.

use std::io;
use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, version};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Uri;
use tower::service_fn;

use super::identity::{TlsError, certificates};
use super::{ALPN, PROVIDER};
use crate::config::CollectorTls;

/// The port of `https`.
const PORT: u16 = 443;

/// What a client of such a server accepts: a certificate of these authorities for the name it connects to, over TLS 1.3.
pub(crate) fn named_config(files: &CollectorTls) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(&read(&files.ca)?, "authority")? {
        roots.add(authority).map_err(TlsError::Refused)?;
    }
    let builder = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(TlsError::Refused)?
        .with_root_certificates(roots);
    let mut config = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates(&read(cert)?, "certificate")?;
            let key = zeroize::Zeroizing::new(read(key)?);
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| TlsError::Pem {
                what: "private key",
            })?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(TlsError::Refused)?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// Connects to the host of `uri`. The files are read for each connection, so that renewed ones count from the next one on.
pub(crate) fn named_connector(
    uri: &Uri,
    files: &CollectorTls,
) -> impl tower::Service<Uri, Response = TokioIo<TlsStream<TcpStream>>, Error = io::Error, Future: Send>
+ Send
+ 'static {
    // An address of version 6 stands in brackets, which are not part of it.
    let host = uri.host().unwrap_or_default().to_owned();
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let port = uri.port_u16().unwrap_or(PORT);
    let files = files.clone();
    service_fn(move |_: Uri| {
        let (host, files) = (host.clone(), files.clone());
        async move { open(host, port, &files).await.map(TokioIo::new) }
    })
}

async fn open(host: String, port: u16, files: &CollectorTls) -> io::Result<TlsStream<TcpStream>> {
    let config = named_config(files).map_err(io::Error::other)?;
    let tcp = TcpStream::connect((host.as_str(), port)).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, tcp).await?;
    if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(io::Error::other("the collector does not speak HTTP/2"));
    }
    Ok(stream)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}
