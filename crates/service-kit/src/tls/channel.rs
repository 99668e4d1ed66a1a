//! Calls of a peer, each with the trace it is made in.

use core::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tonic::transport;
use tower::Service;

use crate::telemetry::w3c;

/// A channel of tonic's. Where a call is made under a span, of ours or of the application that embeds us, it says so to the
/// peer (`traceparent`).
#[derive(Debug, Clone)]
pub struct Channel(transport::Channel);

impl From<transport::Channel> for Channel {
    fn from(channel: transport::Channel) -> Self {
        Self(channel)
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = transport::Error;
    type Future = <transport::Channel as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        w3c::pass_on(request.headers_mut());
        Service::call(&mut self.0, request)
    }
}
