//! Channels to a peer that is named by its SPIFFE id.

use core::fmt;
use core::time::Duration;
use std::io;
use std::path::Path;
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
use crate::config::PeerConfig;
use crate::ready::Ready;

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

/// A channel to `expected` where `peer` says it is, connected. It reconnects by itself, checking the name each time.
pub async fn connect(
    peer: &PeerConfig,
    expected: &SpiffeId,
    identity: &Identity,
) -> Result<Channel, ConnectError> {
    let place = Place::new(peer);
    let config = client_config(identity, expected)?;
    place
        .endpoint()?
        .connect_with_connector(connector(place.clone(), config))
        .await
        .map_err(|source| ConnectError::Unreachable {
            expected: Box::new(expected.clone()),
            address: place.to_string(),
            source,
        })
}

/// As [`connect`], but the first call connects: for peers that may start later than we do. Needs a tokio runtime.
pub fn connect_lazy(
    peer: &PeerConfig,
    expected: &SpiffeId,
    identity: &Identity,
) -> Result<Channel, ConnectError> {
    let place = Place::new(peer);
    let config = client_config(identity, expected)?;
    Ok(place
        .endpoint()?
        .connect_with_connector_lazy(connector(place, config)))
}

/// Where to connect, found out anew each time.
#[derive(Clone)]
enum Place {
    Address(Arc<str>),
    Ready(Arc<Path>),
}

impl Place {
    fn new(peer: &PeerConfig) -> Self {
        match peer {
            PeerConfig::Address(address) => Self::Address(address.as_str().into()),
            PeerConfig::Ready(path) => Self::Ready(path.as_path().into()),
        }
    }

    fn endpoint(&self) -> Result<Endpoint, ConnectError> {
        let authority = match self {
            Self::Address(address) => address,
            // Only what HTTP/2 calls the authority; the ready file says where to connect.
            Self::Ready(_) => "greffe:1",
        };
        let invalid = || ConnectError::Address {
            address: authority.to_owned(),
        };
        // TLS is our connector's: tonic must not look for it in the scheme.
        let uri: Uri = format!("http://{authority}")
            .parse()
            .map_err(|_| invalid())?;
        if uri.port().is_none() || uri.path() != "/" || uri.query().is_some() {
            return Err(invalid());
        }
        Ok(Endpoint::from(uri)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true))
    }

    async fn tcp(&self) -> io::Result<TcpStream> {
        match self {
            Self::Address(address) => TcpStream::connect(&**address).await,
            Self::Ready(path) => {
                let ready = Ready::read(path).map_err(io::Error::other)?;
                TcpStream::connect(ready.address).await
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => f.write_str(address),
            Self::Ready(path) => write!(f, "the address in {}", path.display()),
        }
    }
}

fn connector(
    place: Place,
    config: Arc<ClientConfig>,
) -> impl tower::Service<Uri, Response = TokioIo<TlsStream<TcpStream>>, Error = io::Error, Future: Send>
+ Send
+ 'static {
    let tls = TlsConnector::from(config);
    service_fn(move |_: Uri| {
        let (place, tls) = (place.clone(), tls.clone());
        async move {
            let tcp = place.tcp().await?;
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
