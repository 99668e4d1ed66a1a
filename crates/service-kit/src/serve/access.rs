//! What stands in front of every handler: the rule of its RPC, the caller, a place among the calls, a deadline.

use core::convert::Infallible;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Instant;

use greffe_policy::{AccessRules, CallRefused, Caller};
use http::{Request, Response};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span};

use super::auth::Authenticator;
use super::ending::{Ending, stopping};
use super::meter::Metered;
use crate::config::Limits;
use crate::errors::{Reason, ServiceError};
use crate::shares::{Full, Share, Shares};
use crate::telemetry::trace;
use crate::{telemetry, tls};

/// No RPC of that name.
pub const UNKNOWN_METHOD: Reason = Reason::new("UNKNOWN_METHOD");
/// No rule says who may call the RPC.
pub const NO_ACCESS_RULE: Reason = Reason::new("NO_ACCESS_RULE");
/// The RPC's rule does not name the caller.
pub const CALLER_NOT_ALLOWED: Reason = Reason::new("CALLER_NOT_ALLOWED");
/// The connection has no verified certificate.
pub const NO_CERTIFICATE: Reason = Reason::new("NO_CERTIFICATE");
/// More calls than one process takes on, or than one caller may have there.
pub const TOO_MANY_CALLS: Reason = Reason::new("TOO_MANY_CALLS");
/// As many open streams.
pub const TOO_MANY_STREAMS: Reason = Reason::new("TOO_MANY_STREAMS");
/// As many bytes of requests in memory.
pub const TOO_MANY_BYTES: Reason = Reason::new("TOO_MANY_BYTES");
/// The call took longer than any may.
pub const CALL_TOO_LONG: Reason = Reason::new("CALL_TOO_LONG");

/// Whoever has a certificate of the tenant may ask these: they show nothing but the contract and whether we live.
const OPEN: [&str; 3] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];

/// Of every RPC of the contracts, whether caller and server stream. The keys are labels of metrics.
static RPCS: LazyLock<BTreeMap<String, greffe_api::Rpc>> = LazyLock::new(|| {
    greffe_api::rpcs()
        .into_iter()
        .map(|rpc| (rpc.path.clone(), rpc))
        .collect()
});

struct Gate {
    access: &'static AccessRules,
    auth: Arc<dyn Authenticator>,
    calls: Places,
    streams: Places,
    bytes: Places,
    deadline: Duration,
    stop: CancellationToken,
}

/// Whose place a call takes.
struct Who {
    name: String,
    service: bool,
}

/// So many of something, of which a caller has a share.
struct Places {
    shares: Arc<Shares>,
    of_a_service: u64,
    of_others: u64,
}

impl Places {
    /// Several processes of a service have one name, and speak for everybody behind them: they may have half of all.
    fn new(all: u64, each: u64) -> Self {
        Self {
            shares: Shares::new(all, each),
            of_a_service: each.max(all.div_ceil(2)),
            of_others: each,
        }
    }

    fn place(&self, who: &Who, amount: u64) -> Result<Share, Full> {
        let each = if who.service {
            self.of_a_service
        } else {
            self.of_others
        };
        self.shares.take_within(&who.name, each, amount)
    }
}

/// Puts the gate in front of the routes.
#[derive(Clone)]
pub(super) struct AccessLayer(Arc<Gate>);

impl AccessLayer {
    pub(super) fn new(
        access: &'static AccessRules,
        auth: Arc<dyn Authenticator>,
        limits: &Limits,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(Gate {
            access,
            auth,
            calls: Places::new(limits.calls, limits.calls_per_caller),
            streams: Places::new(limits.open_streams, limits.streams_per_caller),
            bytes: Places::new(limits.request_bytes, limits.request_bytes_per_caller),
            deadline: limits.deadline(),
            stop,
        }))
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Access<S>;

    fn layer(&self, inner: S) -> Access<S> {
        Access {
            gate: self.0.clone(),
            inner,
        }
    }
}

/// The routes behind the gate.
#[derive(Clone)]
pub(super) struct Access<S> {
    gate: Arc<Gate>,
    inner: S,
}

impl<S> Service<Request<Body>> for Access<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let gate = self.gate.clone();
        // The one that was polled ready is the one to use.
        let next = self.inner.clone();
        let mut inner = core::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            let begun = Instant::now();
            let known = RPCS.get_key_value(request.uri().path());
            let span =
                known.map_or_else(Span::none, |(_, rpc)| trace::call(rpc, request.headers()));
            let answered = async {
                let served = match gate.admit(&mut request).await {
                    Ok(who) => {
                        let rpc = known.map(|k| k.1);
                        gate.serve(&mut inner, request, &who, rpc).await
                    }
                    Err(refusal) => Err(refusal),
                };
                served.unwrap_or_else(|refusal| Status::from(refusal).into_http())
            };
            let response = answered.instrument(span.clone()).await;
            if let Some((method, _)) = known {
                let code =
                    Status::from_header_map(response.headers()).map_or(Code::Ok, |s| s.code());
                telemetry::call(method, code, begun.elapsed());
                trace::answered(&span, code);
            }
            Ok(response)
        })
    }
}

impl Gate {
    /// Finds the rule, authenticates, checks, and leaves caller and permit with the request. Gives who it counts against.
    async fn admit(&self, request: &mut Request<Body>) -> Result<Who, ServiceError> {
        let path = request.uri().path().to_owned();
        let peer = request
            .extensions()
            .get::<tls::Caller>()
            .cloned()
            .ok_or_else(|| {
                ServiceError::new(
                    Code::Unauthenticated,
                    NO_CERTIFICATE,
                    "a certificate is needed",
                )
            })?;
        if OPEN.iter().any(|open| path.starts_with(open)) {
            return Ok(Who {
                name: peer.id.to_string(),
                service: false,
            });
        }
        let Some(kinds) = self.access.callers(&path) else {
            self.auth
                .refused(&path, &peer.id.to_string(), UNKNOWN_METHOD.as_str());
            return Err(ServiceError::new(
                Code::Unimplemented,
                UNKNOWN_METHOD,
                "not found",
            ));
        };
        let caller = self
            .auth
            .authenticate(&path, kinds, &peer, request.headers())
            .await
            .inspect_err(|refusal| {
                self.auth
                    .refused(&path, &peer.id.to_string(), refusal.reason().as_str());
            })?;
        let permit = self.access.check(&path, &caller).map_err(|refused| {
            self.auth
                .refused(&path, &caller.to_string(), refused.reason());
            let reason = match refused {
                CallRefused::NoRule(_) => NO_ACCESS_RULE,
                CallRefused::NotAllowed { .. } => CALLER_NOT_ALLOWED,
            };
            ServiceError::new(Code::PermissionDenied, reason, refused.to_string())
        })?;
        let who = Who {
            name: caller.to_string(),
            service: matches!(caller, Caller::Service(_)),
        };
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(Arc::new(permit));
        Ok(who)
    }

    async fn serve<S>(
        &self,
        inner: &mut S,
        request: Request<Body>,
        who: &Who,
        rpc: Option<&greffe_api::Rpc>,
    ) -> Result<Response<Body>, ServiceError>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        if self.stop.is_cancelled() {
            return Ok(stopping().into_http());
        }
        // Held until the answer begins; a stream has a place among the streams until it ends.
        let _call = self
            .calls
            .place(who, 1)
            .map_err(|full| full.refuse(TOO_MANY_CALLS, "calls at once"))?;
        let streams = rpc.is_none_or(|rpc| rpc.client_streams || rpc.server_streams);
        let stream = match streams {
            true => Some(
                self.streams
                    .place(who, 1)
                    .map_err(|full| full.refuse(TOO_MANY_STREAMS, "streams at once"))?,
            ),
            false => None,
        };
        let weight = self
            .bytes
            .place(who, 0)
            .map_err(|full| full.refuse(TOO_MANY_BYTES, "bytes of requests at once"))?;
        let weight = Arc::new(Mutex::new(weight));
        // A caller that streams decides itself how long it takes.
        let bounded = rpc.is_some_and(|rpc| !rpc.client_streams);
        let held = weight.clone();
        let request =
            request.map(|body| Body::new(Metered::new(body, held, !bounded, self.deadline)));
        let answer = inner.call(request);
        let answered = if bounded {
            tokio::time::timeout(self.deadline, answer).await
        } else {
            Ok(answer.await)
        };
        drop(weight);
        let Ok(Ok(response)) = answered else {
            return Err(ServiceError::new(
                Code::DeadlineExceeded,
                CALL_TOO_LONG,
                "the call took longer than any may",
            ));
        };
        if rpc.is_none_or(|rpc| rpc.server_streams) {
            let stop = self.stop.clone();
            return Ok(response.map(|body| Body::new(Ending::new(body, stop, stream))));
        }
        Ok(response)
    }
}
