//! Connections: a bounded number, each with its handshake done before anything is served on it.

use core::convert::Infallible;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::config::Limits;
use crate::shares::{Share, Shares};
use crate::tls::{self, certified_id};

/// Longest a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after the system refused a connection, such as for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the stream is dropped; `cut` breaks every connection.
pub(super) fn incoming(
    listener: TcpListener,
    tls: TlsAcceptor,
    limits: &Limits,
    cut: CancellationToken,
) -> impl Stream<Item = Result<Connection, Infallible>> + use<> {
    let (sender, receiver) = mpsc::channel(64);
    let places = Places {
        slots: Arc::new(Semaphore::new(
            limits.connections.min(Semaphore::MAX_PERMITS),
        )),
        peers: Shares::new(u64::MAX, limits.connections_per_peer),
    };
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = accept(listener, tls, places, cut, sender.clone()) => {}
        }
    });
    ReceiverStream::new(receiver).map(Ok)
}

/// Places for connections, and what of them one peer may have.
struct Places {
    slots: Arc<Semaphore>,
    peers: Arc<Shares>,
}

async fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    places: Places,
    cut: CancellationToken,
    sender: mpsc::Sender<Connection>,
) {
    // Never closed, so this ends with the task.
    while let Ok(slot) = places.slots.clone().acquire_owned().await {
        let tcp = match listener.accept().await {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (tls, cut, sender) = (tls.clone(), cut.clone(), sender.clone());
        let peers = places.peers.clone();
        tokio::spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE, handshake(tls, tcp)).await;
            match shaken {
                Ok(Ok((stream, caller))) => {
                    // No call is there yet that could be told so: the connection is closed.
                    let Ok(share) = peers.take(&caller.id, 1) else {
                        tracing::warn!(peer = %caller.id, "a connection was closed: its peer has as many as it may");
                        return;
                    };
                    let connection = Connection {
                        stream,
                        caller,
                        cut: Box::pin(cut.cancelled_owned()),
                        _held: (slot, share),
                    };
                    // Refused only when the server has stopped.
                    let _ = sender.send(connection).await;
                }
                Ok(Err(error)) => tracing::info!(%error, "a handshake failed"),
                Err(_) => tracing::info!("a handshake took too long"),
            }
        });
    }
}

async fn handshake(
    tls: TlsAcceptor,
    tcp: TcpStream,
) -> io::Result<(TlsStream<TcpStream>, tls::Caller)> {
    tcp.set_nodelay(true)?;
    let stream = tls.accept(tcp).await?;
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .ok_or_else(|| io::Error::other("no certificate"))?;
    let id = certified_id(certificate).map_err(io::Error::other)?;
    Ok((stream, tls::Caller { id }))
}

/// A connection of a verified peer.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    caller: tls::Caller,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _held: (OwnedSemaphorePermit, Share),
}

impl Connected for Connection {
    type ConnectInfo = tls::Caller;

    fn connect_info(&self) -> tls::Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
