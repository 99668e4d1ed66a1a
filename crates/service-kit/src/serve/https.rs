//! The same RPCs for callers that speak JSON over HTTP: a door into the server's gate, and a listener with mutual TLS.

use core::convert::Infallible;
use core::future::Future;
use core::time::Duration;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::server::Connected as _;
use tonic::{Code, Status};
use tower::util::BoxCloneSyncService;
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::{ServeError, Server, accept};
use crate::config::Limits;
use crate::errors::{Reason, ServiceError};
use crate::ready::Ready;
use crate::simulation;
use crate::tls::{self, Identity, server_config};

/// An answer that no caller can be given.
const GATEWAY: Reason = Reason::new("GATEWAY");
/// A caller that sends no request for this long is let go.
const SILENCE: Duration = Duration::from_secs(20);
/// Bytes before a message: a flag for compression, which is not used, and the length.
const PREFIX: usize = 5;

/// What a request of this listener carries.
pub type Incoming = hyper::body::Incoming;

/// Calls the server's RPCs from within the process. A call passes the same gate as one from outside.
#[derive(Debug, Clone)]
pub struct Door(BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>);

impl Server {
    /// A door into this server, after every service was added.
    pub fn door(&self) -> Door {
        Door(BoxCloneSyncService::new(
            self.gate().layer(self.routes.clone().prepare()),
        ))
    }
}

impl Door {
    /// For the simulation, which brings calls itself.
    pub(super) fn handler(self) -> simulation::Handler {
        Arc::new(move |request| {
            let routes = self.0.clone();
            Box::pin(async move {
                let Ok(response) = routes.oneshot(request).await;
                response
            })
        })
    }

    /// A unary call of `peer`, with the credentials among `headers`. Message and answer are protobuf; the message is waited for
    /// only once the gate has let the call in.
    ///
    /// # Errors
    /// The status that a caller over gRPC would get.
    pub async fn call(
        &self,
        path: &str,
        peer: &tls::Caller,
        headers: &HeaderMap,
        message: impl Future<Output = Result<Vec<u8>, Status>> + Send + 'static,
    ) -> Result<Bytes, Status> {
        let message = async move { framed(&message.await?).map(Frame::data) };
        let mut request = Request::new(Body::new(StreamBody::new(stream::once(message))));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path
            .parse::<Uri>()
            .map_err(|_| gateway("the RPC has no path"))?;
        *request.version_mut() = Version::HTTP_2;
        for (name, value) in headers {
            request.headers_mut().append(name, value.clone());
        }
        request.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        request
            .headers_mut()
            .insert(header::TE, HeaderValue::from_static("trailers"));
        request.extensions_mut().insert(peer.clone());
        let Ok(response) = self.0.clone().oneshot(request).await;
        answer(response).await
    }
}

/// A message as gRPC sends it.
fn framed(message: &[u8]) -> Result<Bytes, Status> {
    let length = u32::try_from(message.len()).map_err(|_| gateway("the message is too large"))?;
    let framed = [&[0], length.to_be_bytes().as_slice(), message].concat();
    Ok(framed.into())
}

/// The one message of an answer, or its status.
async fn answer(response: Response<Body>) -> Result<Bytes, Status> {
    if let Some(status) = Status::from_header_map(response.headers())
        && status.code() != Code::Ok
    {
        return Err(status);
    }
    let collected = response.into_body().collect().await?;
    let status = collected.trailers().and_then(Status::from_header_map);
    if let Some(status) = status
        && status.code() != Code::Ok
    {
        return Err(status);
    }
    let mut bytes = collected.to_bytes();
    let length = bytes
        .get(1..PREFIX)
        .and_then(|length| length.try_into().ok())
        .map(u32::from_be_bytes);
    if bytes.first() != Some(&0) || length.map(|l| l as usize + PREFIX) != Some(bytes.len()) {
        return Err(gateway("the answer is not one message"));
    }
    Ok(bytes.split_off(PREFIX))
}

fn gateway(what: &'static str) -> Status {
    ServiceError::new(Code::Internal, GATEWAY, what).into()
}

/// A listener for HTTP/1.1 and HTTP/2 with the mutual TLS of the RPCs.
pub struct Https {
    listener: TcpListener,
    tls: TlsAcceptor,
    limits: Limits,
    ready: Ready,
    name: String,
}

impl Https {
    /// Listens; nothing is accepted yet.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn bind(
        identity: &Identity,
        limits: &Limits,
        listen: SocketAddr,
    ) -> Result<Self, ServeError> {
        let mut config = (*server_config(identity)?).clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let failed = |source| ServeError::Listen {
            address: listen,
            source,
        };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let name = identity.id().name().to_owned();
        Ok(Self {
            listener,
            tls: TlsAcceptor::from(Arc::new(config)),
            limits: limits.clone(),
            ready: Ready {
                service: name.clone(),
                address,
                pid: std::process::id(),
            },
            name,
        })
    }

    /// Says in `ready_file` where it listens and answers until `stop`, then drains within the limit.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn run<H, F>(
        self,
        ready_file: &Path,
        handler: H,
        stop: CancellationToken,
    ) -> Result<(), ServeError>
    where
        H: Fn(Request<Incoming>, tls::Caller) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let address = self.ready.address;
        let ready = self.ready.write(ready_file)?;
        tracing::info!(service = self.name, %address, "serving HTTP");
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(SILENCE);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.streams)
            .keep_alive_interval(SILENCE)
            .keep_alive_timeout(SILENCE);
        let cut = CancellationToken::new();
        let mut incoming = accept::incoming(self.listener, self.tls, &self.limits, cut.clone());
        let graceful = GracefulShutdown::new();
        loop {
            let connection = tokio::select! {
                next = incoming.next() => match next {
                    Some(Ok(connection)) => connection,
                    None => break,
                },
                () = stop.cancelled() => break,
            };
            let peer = connection.connect_info();
            let handler = handler.clone();
            let service = service_fn(move |request| {
                let answered = handler(request, peer.clone());
                async move { Ok::<_, Infallible>(answered.await) }
            });
            let served = builder
                .serve_connection(TokioIo::new(connection), TowerToHyperService::new(service));
            let served = graceful.watch(served.into_owned());
            // A connection that breaks is its caller's loss.
            tokio::spawn(async move { drop(served.await) });
        }
        drop(ready);
        drop(incoming);
        let drained = tokio::time::timeout(self.limits.drain(), graceful.shutdown()).await;
        if drained.is_err() {
            tracing::warn!("HTTP calls were cut: they outlived the drain");
        }
        cut.cancel();
        Ok(())
    }
}
