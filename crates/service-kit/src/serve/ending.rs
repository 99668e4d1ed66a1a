//! The answer of a streaming call, ended with UNAVAILABLE when the server stops; it has its place until it ends.

use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::errors::{Reason, ServiceError};
use crate::shares::Share;

/// The service is stopping; the call can be made again at once where another replica serves, or when this one is back.
pub const SERVICE_STOPPING: Reason = Reason::new("SERVICE_STOPPING");

/// A body that the server may end. Without this, one follower would keep a stopping server until its drain is cut.
pub(super) struct Ending {
    inner: Body,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: Option<Share>,
    ended: bool,
}

impl Ending {
    pub(super) fn new(inner: Body, stop: CancellationToken, place: Option<Share>) -> Self {
        Self {
            inner,
            stop: Box::pin(stop.cancelled_owned()),
            _place: place,
            ended: false,
        }
    }
}

pub(super) fn stopping() -> Status {
    ServiceError::new(
        Code::Unavailable,
        SERVICE_STOPPING,
        "the service is stopping",
    )
    .retry_after(Duration::from_secs(1))
    .into()
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // What is ready goes out first.
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        if self.stop.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.ended = true;
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(
            stopping()
                .add_header(&mut trailers)
                .map(|()| Frame::trailers(trailers)),
        ))
    }
}
