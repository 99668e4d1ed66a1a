//! The log as files over plain HTTP, for tools that know the C2SP tlog-tiles layout: `/checkpoint`, `/tile/…`, and where an
//! operator has said so `/tile/entries/…`.
//!
//! Nobody is asked who they are, so entries, which name persons, are not served unless the settings say so. What is served is
//! what a quorum has cosigned; nothing in it needs the transport to be believed.

use core::convert::Infallible;
use core::time::Duration;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;

use bytes::Bytes;
use greffe_service_kit::errors::{Causes, Reason, ServiceError};
use greffe_tlog::Tile;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tonic::Code;

use crate::app::{App, TILE_NOT_FOUND};
use crate::config::TilesConfig;

/// No checkpoint has been published yet.
pub const CHECKPOINT_NOT_FOUND: Reason = Reason::new("CHECKPOINT_NOT_FOUND");
/// The settings do not have entries served.
pub const ENTRIES_NOT_SERVED: Reason = Reason::new("ENTRIES_NOT_SERVED");
/// Nothing has this path.
pub const PATH_UNKNOWN: Reason = Reason::new("PATH_UNKNOWN");
/// Files are read, and nothing else.
pub const METHOD_NOT_ALLOWED: Reason = Reason::new("METHOD_NOT_ALLOWED");

/// Longest that a request's head may take, and that an idle connection is kept.
const HEAD: Duration = Duration::from_secs(10);
/// Longest that a connection may last: those who read on open another.
const CONNECTION: Duration = Duration::from_secs(300);
/// Pause after the system refused a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// What never changes.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// The checkpoint changes with the log.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");
/// What is not there now may be there soon.
const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-store");

/// Serves until it is dropped.
#[derive(Debug)]
pub(crate) struct Listening(AbortHandle);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listening {
    /// Listens. Needs a tokio runtime.
    ///
    /// # Errors
    /// As the system reports it.
    pub(crate) fn start(config: &TilesConfig, app: App) -> io::Result<Self> {
        let listener = StdListener::bind(config.listen)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address: SocketAddr = listener.local_addr()?;
        tracing::info!(%address, entries = config.entries, "serving the log's files over HTTP");
        let files = Files {
            app,
            entries: config.entries,
        };
        let slots = Semaphore::new(config.connections.get().min(Semaphore::MAX_PERMITS));
        Ok(Self(
            tokio::spawn(accept(listener, files, Arc::new(slots))).abort_handle(),
        ))
    }
}

async fn accept(listener: TcpListener, files: Files, slots: Arc<Semaphore>) {
    // Ends with this task.
    let mut connections = JoinSet::new();
    while let Ok(slot) = slots.clone().acquire_owned().await {
        let tcp = match listener.accept().await {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                tracing::warn!(%error, "a connection to the log's files could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let files = files.clone();
        connections.spawn(async move {
            let answer = service_fn(move |request: Request<_>| {
                let files = files.clone();
                async move {
                    let path = request.uri().path();
                    let answer = files.answer(request.method(), path).await;
                    Ok::<_, Infallible>(answer.unwrap_or_else(refused))
                }
            });
            // HTTP/1 alone: while a server waits to learn the version, whoever says nothing is not timed.
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(tcp), answer);
            // A connection that breaks, or that lasts too long, concerns nobody.
            let _ended = timeout(CONNECTION, serving).await;
            drop(slot);
        });
    }
}

/// The files of the published log.
#[derive(Debug, Clone)]
struct Files {
    app: App,
    entries: bool,
}

type Answer = Response<Full<Bytes>>;

impl Files {
    async fn answer(&self, method: &Method, path: &str) -> Result<Answer, ServiceError> {
        let path = path.strip_prefix('/').unwrap_or_default();
        let known = path == "checkpoint" || path.starts_with("tile/");
        if !known {
            return Err(not_found(
                PATH_UNKNOWN,
                "there are /checkpoint, /tile/LEVEL/INDEX and /tile/entries/INDEX",
            ));
        }
        if method != Method::GET && method != Method::HEAD {
            return Err(ServiceError::new(
                Code::Unimplemented,
                METHOD_NOT_ALLOWED,
                "the log's files are read with GET or HEAD",
            ));
        }
        if path == "checkpoint" {
            let note = self.app.published().ok_or_else(|| {
                not_found(
                    CHECKPOINT_NOT_FOUND,
                    "no checkpoint has been published yet: ask again",
                )
            })?;
            return Ok(file(note, "text/plain; charset=utf-8", ASK_AGAIN));
        }
        let tile = path
            .parse::<Tile>()
            .map_err(|_| not_found(TILE_NOT_FOUND, "this is not the path of a tile"))?;
        if tile.level().is_none() && !self.entries {
            return Err(not_found(
                ENTRIES_NOT_SERVED,
                "entries are not served here: the log's operator has not set audit.tiles.entries",
            ));
        }
        let bytes = self.app.tile(path).await?;
        Ok(file(bytes, "application/octet-stream", FOR_EVER))
    }
}

fn not_found(reason: Reason, message: &'static str) -> ServiceError {
    ServiceError::new(Code::NotFound, reason, message)
}

fn file(bytes: Vec<u8>, kind: &'static str, keep: HeaderValue) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(bytes)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, keep);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A line with the reason and what to do.
fn refused(error: ServiceError) -> Answer {
    let status = match error.code() {
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Unimplemented => StatusCode::METHOD_NOT_ALLOWED,
        _ => {
            tracing::error!(reason = %error.reason(), causes = %Causes(&error), "a file of the log cannot be served");
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    let line = format!("{error}\n");
    let mut response = file(line.into_bytes(), "text/plain; charset=utf-8", NOT_KEPT);
    *response.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}
