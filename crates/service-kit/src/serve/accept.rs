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

use crate::tls::{self, certified_id};

/// Longest a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after the system refused a connection, such as for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the stream is dropped; `cut` breaks every connection.
pub(super) fn incoming(
    listener: TcpListener,
    tls: TlsAcceptor,
    limit: usize,
    cut: CancellationToken,
) -> impl Stream<Item = Result<Connection, Infallible>> {
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = accept(listener, tls, limit, cut, sender.clone()) => {}
        }
    });
    ReceiverStream::new(receiver).map(Ok)
}

async fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    limit: usize,
    cut: CancellationToken,
    sender: mpsc::Sender<Connection>,
) {
    let slots = Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
    // Never closed, so this ends with the task.
    while let Ok(slot) = slots.clone().acquire_owned().await {
        let tcp = match listener.accept().await {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (tls, cut, sender) = (tls.clone(), cut.clone(), sender.clone());
        tokio::spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE, handshake(tls, tcp)).await;
            match shaken {
                Ok(Ok((stream, caller))) => {
                    let connection = Connection {
                        stream,
                        caller,
                        cut: Box::pin(cut.cancelled_owned()),
                        _slot: slot,
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
    _slot: OwnedSemaphorePermit,
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
