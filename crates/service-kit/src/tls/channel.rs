//! Calls of a peer, each with the trace it is made in.

use core::fmt;
use core::task::{Context, Poll};
use std::error::Error;
use std::sync::Arc;

use futures::TryFutureExt as _;
use futures::future::{Either, MapErr};
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::transport;
use tower::Service;

use super::SpiffeId;
use crate::simulation::{Answer, Hooks};
use crate::telemetry::w3c;

type Cause = Box<dyn Error + Send + Sync>;
type OnWire = <transport::Channel as Service<Request<Body>>>::Future;
type Simulated = Answer<Result<Response<Body>, Status>>;

/// A channel of tonic's. Where a call is made under a span, of ours or of the application that embeds us, it says so to the
/// peer (`traceparent`).
#[derive(Debug, Clone)]
pub struct Channel(Way);

#[derive(Clone)]
enum Way {
    Wire(transport::Channel),
    Simulated {
        from: SpiffeId,
        to: SpiffeId,
        hooks: Arc<dyn Hooks>,
    },
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(channel) => channel.fmt(f),
            Self::Simulated { from, to, .. } => write!(f, "{from} calls {to}"),
        }
    }
}

impl From<transport::Channel> for Channel {
    fn from(channel: transport::Channel) -> Self {
        Self(Way::Wire(channel))
    }
}

impl Channel {
    /// One that goes through the simulation.
    pub(super) const fn simulated(from: SpiffeId, to: SpiffeId, hooks: Arc<dyn Hooks>) -> Self {
        Self(Way::Simulated { from, to, hooks })
    }
}

fn broken(error: transport::Error) -> Cause {
    error.into()
}

fn refused(status: Status) -> Cause {
    status.into()
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Cause;
    type Future = Either<
        MapErr<OnWire, fn(transport::Error) -> Cause>,
        MapErr<Simulated, fn(Status) -> Cause>,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match &mut self.0 {
            Way::Wire(channel) => Service::poll_ready(channel, cx).map_err(Cause::from),
            Way::Simulated { .. } => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        w3c::pass_on(request.headers_mut());
        match &mut self.0 {
            Way::Wire(channel) => {
                Either::Left(Service::call(channel, request).map_err(broken as fn(_) -> _))
            }
            Way::Simulated { from, to, hooks } => {
                Either::Right(hooks.call(from, to, request).map_err(refused as fn(_) -> _))
            }
        }
    }
}
