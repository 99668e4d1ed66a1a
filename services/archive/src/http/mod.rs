//! The archive for tools that speak JSON over HTTP: the RPCs of people, one route each, behind the same gate.
//!
//! A request becomes the protobuf message of its RPC and passes through the server's own gate: certificate, person's token, access
//! rule, limits and log are those of gRPC, and so are the refusals, as the JSON of google.rpc.Status. Messages are in the
//! canonical JSON of proto3. What streams ciphertext to a reader's machine stays with gRPC. `/openapi.json` describes it all.

mod json;
pub mod openapi;
mod refusal;
mod route;

use core::future::Future;
use core::time::Duration;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use greffe_service_kit::boot::{Boot, StartError};
use greffe_service_kit::serve::{Door, Https, Incoming, ServeError};
use greffe_service_kit::tls;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use prost_reflect::DescriptorPool;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use self::refusal::{BODY_REFUSED, CONTENT_ENCODING, CONTENT_TYPE};
use crate::people::PERSON_TOKEN;

/// Where the HTTP listener says that it listens, in the data folder.
pub const READY_FILE: &str = "ready-http.json";
/// Where the description is.
pub const DESCRIPTION: &str = "/openapi.json";
/// Longest that a body may take to come.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// Largest body of a request.
const MAX_BODY: usize = 4 << 20;
/// What goes through from a request: who asks, and the trace it belongs to.
const HEADERS: [&str; 2] = [PERSON_TOKEN, "traceparent"];

/// The contracts.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    // Our own, compiled in; were they broken, every route would say that it is not there.
    DescriptorPool::decode(greffe_api::DESCRIPTORS).unwrap_or_default()
});

/// The description, made once.
static OPENAPI: LazyLock<Bytes> = LazyLock::new(|| openapi::document().to_string().into());

/// Listens where the settings say, if they do; the future answers until `stop`. That it ends before means that the process has to:
/// its ready file is not as it says, which may be a disk that keeps nothing.
///
/// # Errors
/// When the address cannot be listened on.
pub(crate) async fn start(
    boot: &Boot,
    listen: Option<std::net::SocketAddr>,
    door: Door,
    stop: CancellationToken,
) -> Result<impl Future<Output = Result<(), ServeError>> + Send + use<>, StartError> {
    let https = match listen {
        Some(listen) => Some(Https::bind(&boot.identity, &boot.limits, listen).await?),
        None => None,
    };
    let ready = boot.data.join(READY_FILE);
    Ok(async move {
        let Some(https) = https else {
            stop.cancelled().await;
            return Ok(());
        };
        let door = Arc::new(door);
        let handler = move |request, peer| {
            let door = door.clone();
            async move { answer(&door, request, &peer).await }
        };
        https.run(&ready, handler, stop).await
    })
}

/// Answers one request.
async fn answer(
    door: &Door,
    request: Request<Incoming>,
    peer: &tls::Caller,
) -> Response<Full<Bytes>> {
    if request.uri().path() == DESCRIPTION && request.method() == Method::GET {
        return respond(StatusCode::OK, OPENAPI.clone());
    }
    match call(door, request, peer).await {
        Ok(json) => respond(StatusCode::OK, json),
        Err(refused) => refused.into_response(),
    }
}

async fn call(
    door: &Door,
    request: Request<Incoming>,
    peer: &tls::Caller,
) -> Result<Bytes, refusal::Refused> {
    let (head, body) = request.into_parts();
    let matched = route::find(&head.method, head.uri.path())?;
    let mut fields = matched.fields;
    fields.extend(route::query(head.uri.query()));
    let input = matched.route.input()?;
    let (takes_body, kind) = (matched.route.body, head.headers.clone());
    // Read once the caller is known, allowed and has a place among the calls.
    let message = async move {
        let body = match takes_body {
            true => Some(read(&kind, body).await?),
            false => None,
        };
        json::request(&input, &fields, body.as_deref())
    };
    let mut headers = HeaderMap::new();
    for name in HEADERS {
        for value in head.headers.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    let path = matched.route.path_of_rpc();
    let answer = door.call(&path, peer, &headers, message).await?;
    Ok(json::response(&matched.route.output()?, &answer)?)
}

/// The body, which has to say that it is JSON, and is not compressed: no body is larger than what came.
async fn read(headers: &HeaderMap, body: Incoming) -> Result<Bytes, Status> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next());
    if !kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err(CONTENT_TYPE.refuse());
    }
    let encoded = headers.get(header::CONTENT_ENCODING);
    if encoded.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(CONTENT_ENCODING.refuse());
    }
    match timeout(BODY_PATIENCE, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) | Err(_) => Err(BODY_REFUSED.refuse()),
    }
}

fn respond(status: StatusCode, json: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(json));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in fixed {
        headers.insert(name, http::HeaderValue::from_static(value));
    }
    response
}
