//! The plaintext port of a process: gRPC health, `/livez`, `/readyz` and `/metrics`, and nothing else.

use core::convert::Infallible;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{interval, timeout};
use tokio_stream::wrappers::IntervalStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthRpc, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tower::Service;

use super::Health;
use crate::telemetry::prometheus;

/// Every path over HTTP; the gRPC service is the one beside them.
pub(crate) const PATHS: [&str; 3] = ["/livez", "/readyz", "/metrics"];
const HEALTH_SERVICE: &str = "/grpc.health.v1.Health/";
/// A handful of probes and scrapers; whoever opens more waits.
const CONNECTIONS: usize = 64;
/// Longest that a request's head may take.
const HEAD: Duration = Duration::from_secs(5);
/// Longest that a connection may last, watchers' too: they ask again.
const CONNECTION: Duration = Duration::from_secs(300);
/// How often a watcher is looked after.
const WATCH: Duration = Duration::from_secs(1);
/// Pause after the system refused a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is dropped.
#[derive(Debug)]
pub(crate) struct Listening {
    address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listening {
    /// Listens. Needs a tokio runtime.
    ///
    /// # Errors
    /// As the system reports it.
    pub(crate) fn start(listen: SocketAddr, health: Health) -> io::Result<Self> {
        let listener = StdListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(accept(listener, health)).abort_handle();
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, health: Health) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let rpc = HealthServer::new(Rpc(health.clone()));
    while let Ok(slot) = slots.clone().acquire_owned().await {
        let tcp = match listener.accept().await {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                tracing::warn!(%error, "a connection to the health port could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let pages = Pages {
            health: health.clone(),
            rpc: rpc.clone(),
        };
        tokio::spawn(async move {
            let mut builder = Builder::new(TokioExecutor::new());
            builder
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD);
            builder.http2().max_concurrent_streams(16);
            let serving =
                builder.serve_connection(TokioIo::new(tcp), TowerToHyperService::new(pages));
            // A connection that breaks, or that lasts too long, concerns nobody.
            let _ended = timeout(CONNECTION, serving).await;
            drop(slot);
        });
    }
}

/// What one connection is answered.
#[derive(Clone)]
struct Pages {
    health: Health,
    rpc: HealthServer<Rpc>,
}

impl<B> Service<Request<B>> for Pages
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if request.uri().path().starts_with(HEALTH_SERVICE) {
            return self.rpc.call(request.map(Body::new));
        }
        let answer = page(&self.health, request.method(), request.uri().path());
        Box::pin(core::future::ready(Ok(answer)))
    }
}

/// The answer of one path.
fn page(health: &Health, method: &Method, path: &str) -> Response<Body> {
    if !PATHS.contains(&path) {
        // Empty: a gRPC client takes a body for a message.
        return text(StatusCode::NOT_FOUND, String::new());
    }
    if method != Method::GET && method != Method::HEAD {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned());
        let allowed = HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, allowed);
        return refused;
    }
    match path {
        "/livez" => verdict(health.alive().map_err(|why| vec![why])),
        "/readyz" => verdict(health.ready()),
        _ => match prometheus::text() {
            Ok(metrics) => {
                let mut response = text(StatusCode::OK, metrics);
                let kind = HeaderValue::from_static(prometheus::CONTENT_TYPE);
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be shown");
                text(StatusCode::INTERNAL_SERVER_ERROR, "no metrics\n".to_owned())
            }
        },
    }
}

fn verdict(outcome: Result<(), Vec<String>>) -> Response<Body> {
    match outcome {
        Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
        Err(why) => {
            let lines: String = why.iter().map(|line| format!("{line}\n")).collect();
            text(StatusCode::SERVICE_UNAVAILABLE, lines)
        }
    }
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::new(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// gRPC health: "" and "readiness" are whether we are ready, "liveness" whether we live.
struct Rpc(Health);

impl Rpc {
    fn status(health: &Health, service: &str) -> Option<ServingStatus> {
        let good = match service {
            "" | "readiness" => health.ready().is_ok(),
            "liveness" => health.alive().is_ok(),
            _ => return None,
        };
        Some(if good {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        })
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

type Watching = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl HealthRpc for Rpc {
    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        Self::status(&self.0, &request.get_ref().service)
            .map(|status| tonic::Response::new(answer(status)))
            .ok_or_else(|| Status::new(Code::NotFound, "readiness or liveness"))
    }

    type WatchStream = Watching;

    async fn watch(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Watching>, Status> {
        let service = request.into_inner().service;
        let health = self.0.clone();
        let mut last = None;
        let changes = IntervalStream::new(interval(WATCH)).filter_map(move |_| {
            let status = Self::status(&health, &service).unwrap_or(ServingStatus::ServiceUnknown);
            (last.replace(status) != Some(status)).then(|| Ok(answer(status)))
        });
        Ok(tonic::Response::new(Box::pin(changes)))
    }
}
