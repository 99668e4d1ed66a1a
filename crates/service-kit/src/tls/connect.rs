//! Channels to a peer that is named by its SPIFFE id.

use core::time::Duration;
use std::io;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Endpoint, Uri};
use tower::service_fn;

use super::channel::Channel;
use super::client_config;
use super::identity::{Identity, TlsError};
use super::place::Places;
use super::spiffe::SpiffeId;
use crate::config::PeerConfig;
use crate::simulation;

/// A silent peer is asked for a sign of life after this, and given up after as long again: a process that stands still
/// accepts connections and answers nothing.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

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
    let places = Places::new(peer);
    let config = client_config(identity, expected)?;
    endpoint(&places)?
        .connect_with_connector(connector(places.clone(), config))
        .await
        .map(Channel::from)
        .map_err(|source| ConnectError::Unreachable {
            expected: Box::new(expected.clone()),
            address: places.to_string(),
            source,
        })
}

/// As [`connect`], but the first call connects: for peers that may start later than we do. Needs a tokio runtime.
pub fn connect_lazy(
    peer: &PeerConfig,
    expected: &SpiffeId,
    identity: &Identity,
) -> Result<Channel, ConnectError> {
    if let Some(hooks) = simulation::hooks() {
        let from = identity.id().clone();
        return Ok(Channel::simulated(from, expected.clone(), hooks));
    }
    let places = Places::new(peer);
    let config = client_config(identity, expected)?;
    let channel = endpoint(&places)?.connect_with_connector_lazy(connector(places, config));
    Ok(channel.into())
}

/// That a peer's addresses can be ones.
///
/// # Errors
/// [`ConnectError::Address`].
pub(crate) fn check_peer(peer: &PeerConfig) -> Result<(), ConnectError> {
    endpoint(&Places::new(peer)).map(drop)
}

fn endpoint(places: &Places) -> Result<Endpoint, ConnectError> {
    let mut uri = None;
    for authority in places.authorities() {
        let invalid = || ConnectError::Address {
            address: authority.to_owned(),
        };
        // TLS is our connector's: tonic must not look for it in the scheme.
        let parsed: Uri = format!("http://{authority}")
            .parse()
            .map_err(|_| invalid())?;
        if parsed.port().is_none() || parsed.path() != "/" || parsed.query().is_some() {
            return Err(invalid());
        }
        uri.get_or_insert(parsed);
    }
    // Only what HTTP/2 calls the authority; the places say where to connect.
    let uri = uri.unwrap_or_else(|| Uri::from_static("http://greffe:1"));
    Ok(Endpoint::from(uri)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true))
}

fn connector(
    places: Places,
    config: Arc<ClientConfig>,
) -> impl tower::Service<Uri, Response = TokioIo<TlsStream<TcpStream>>, Error = io::Error, Future: Send>
+ Send
+ 'static {
    service_fn(move |_: Uri| {
        let (places, config) = (places.clone(), config.clone());
        async move { places.connect(config).await.map(TokioIo::new) }
    })
}
