//! The places where a peer may be, tried one after the other.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::ALPN;
use crate::config::PeerConfig;
use crate::ready::Ready;

/// Longest that finding an address, or TCP and TLS handshakes together, may take before the next is tried.
const ATTEMPT: Duration = Duration::from_secs(3);

/// Where to connect, found out anew each time. Of several places the one that answered last is tried first. Where a channel
/// begins is another place for each channel of this process, and at random for the first one of a process, so that replicas
/// share the work.
#[derive(Clone)]
pub(super) struct Places {
    places: Arc<[Place]>,
    answered: Arc<AtomicUsize>,
}

enum Place {
    Address(Box<str>),
    Ready(Box<Path>),
}

impl Places {
    pub(super) fn new(peer: &PeerConfig) -> Self {
        let address = |text: &String| Place::Address(text.as_str().into());
        let ready = |path: &std::path::PathBuf| Place::Ready(path.as_path().into());
        let places = match peer {
            PeerConfig::Address(text) => Arc::new([address(text)]),
            PeerConfig::Ready(path) => Arc::new([ready(path)]),
            PeerConfig::Addresses(texts) => texts.iter().map(address).collect::<Arc<[_]>>(),
            PeerConfig::Readies(paths) => paths.iter().map(ready).collect(),
        };
        let mut all = Self {
            places,
            answered: Arc::default(),
        };
        all.answered = Arc::new(AtomicUsize::new(turn(all.to_string())));
        all
    }

    /// Those places that are addresses.
    pub(super) fn authorities(&self) -> impl Iterator<Item = &str> {
        self.places.iter().filter_map(|place| match place {
            Place::Address(address) => Some(&**address),
            Place::Ready(_) => None,
        })
    }

    /// Connects to the first that answers, and whose certificate is the one expected.
    pub(super) async fn connect(
        &self,
        config: Arc<ClientConfig>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let first = self.answered.load(Ordering::Relaxed);
        let mut refused = Vec::new();
        for step in 0..self.places.len() {
            let at = first.wrapping_add(step) % self.places.len();
            let place = &self.places[at];
            let addresses = match in_time(place.find()).await {
                Ok(addresses) => addresses,
                Err(error) => {
                    refused.push((place, error));
                    continue;
                }
            };
            for address in addresses {
                match in_time(open(address, &config)).await {
                    Ok(stream) => {
                        self.answered.store(at, Ordering::Relaxed);
                        return Ok(stream);
                    }
                    Err(error) => refused.push((place, error)),
                }
            }
        }
        Err(nobody(refused))
    }
}

/// Which place a channel begins with: one after the other, the first at random.
fn turn(places: String) -> usize {
    static TURNS: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
    let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    // Not by the process's number, which in a container is 1.
    let first = || RandomState::new().hash_one(()) as usize;
    let turn = turns.entry(places).or_insert_with(first);
    *turn = turn.wrapping_add(1);
    *turn
}

/// One failure as it is; of several, each with its place.
fn nobody(mut refused: Vec<(&Place, io::Error)>) -> io::Error {
    match refused.pop() {
        None => io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
        Some((_, error)) if refused.is_empty() => error,
        Some(last) => {
            let kind = last.1.kind();
            refused.push(last);
            let each: Vec<String> = refused
                .iter()
                .map(|(place, error)| format!("{place}: {error}"))
                .collect();
            io::Error::new(kind, each.join("; "))
        }
    }
}

async fn in_time<T>(attempt: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(ATTEMPT, attempt)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn open(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    // Not sent and not checked: the certificate's SPIFFE id is.
    let name = ServerName::try_from("greffe").map_err(io::Error::other)?;
    let stream = TlsConnector::from(config.clone())
        .connect(name, tcp)
        .await?;
    if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(io::Error::other("the peer does not speak HTTP/2"));
    }
    Ok(stream)
}

impl Place {
    async fn find(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Address(address) => Ok(lookup_host(&**address).await?.collect()),
            Self::Ready(path) => {
                let ready = Ready::read(path).map_err(io::Error::other)?;
                Ok(vec![ready.address])
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

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, place) in self.places.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            place.fmt(f)?;
        }
        Ok(())
    }
}
