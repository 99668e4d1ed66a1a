//! Channels to a peer that is named by its SPIFFE id.

use core::time::Duration;
use std::io;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::identity::{Identity, TlsError};
use super::spiffe::SpiffeId;
use super::{ALPN, client_config};

/// Longest that TCP and TLS handshakes may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A silent peer is asked for a sign of life after this, and given up after as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is not `host:port`.
    #[error("{address:?} is not an address: host:port")]
    Address {
        /// As given.
        address: String,
    },
    /// Our own identity cannot be used.
    #[error("cannot use the TLS identity")]
    Tls(#[from] TlsError),
    /// Nobody answers there, or not the one who was expected.
    #[error("cannot reach {expected} at {address}")]
    Unreachable {
        /// Whom we meant.
        expected: Box<SpiffeId>,
        /// Where.
        address: String,
        /// The transport's reason.
        source: tonic::transport::Error,
    },
}

/// A channel to `expected` at `address` (`host:port`), connected. It reconnects by itself, checking the name each time.
pub async fn connect(
    address: &str,
    expected: &SpiffeId,
    identity: &Identity,
) -> Result<Channel, ConnectError> {
    let config = client_config(identity, expected)?;
    endpoint(address)?
        .connect_with_connector(connector(address, config))
        .await
        .map_err(|source| ConnectError::Unreachable {
            expected: Box::new(expected.clone()),
            address: address.to_owned(),
            source,
        })
}

/// As [`connect`], but the first call connects: for peers that may start later than we do. Needs a tokio runtime.
pub fn connect_lazy(
    address: &str,
    expected: &SpiffeId,
    identity: &Identity,
) -> Result<Channel, ConnectError> {
    let config = client_config(identity, expected)?;
    Ok(endpoint(address)?.connect_with_connector_lazy(connector(address, config)))
}

fn endpoint(address: &str) -> Result<Endpoint, ConnectError> {
    let invalid = || ConnectError::Address {
        address: address.to_owned(),
    };
    // TLS is our connector's: tonic must not look for it in the scheme.
    let uri: Uri = format!("http://{address}").parse().map_err(|_| invalid())?;
    if uri.port().is_none() || uri.path() != "/" || uri.query().is_some() {
        return Err(invalid());
    }
    Ok(Endpoint::from(uri)
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true))
}

fn connector(
    address: &str,
    config: Arc<ClientConfig>,
) -> impl tower::Service<Uri, Response = TokioIo<TlsStream<TcpStream>>, Error = io::Error, Future: Send>
+ Send
+ 'static {
    let address: Arc<str> = address.into();
    let tls = TlsConnector::from(config);
    service_fn(move |_: Uri| {
        let (address, tls) = (address.clone(), tls.clone());
        async move {
            let tcp = TcpStream::connect(&*address).await?;
            tcp.set_nodelay(true)?;
            // Not sent and not checked: the certificate's SPIFFE id is.
            let name = ServerName::try_from("greffe").map_err(io::Error::other)?;
            let stream = tls.connect(name, tcp).await?;
            if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
                return Err(io::Error::other("the peer does not speak HTTP/2"));
            }
            Ok(TokioIo::new(stream))
        }
    })
}
