//! What of a request is in memory: a message counts from its first bytes until its handler asks for the next one.
//!
//! gRPC makes room for a message as soon as its length is known, however slowly the rest comes. So the length is what is
//! counted, against what the process and the caller may have, before the handler sees a byte of it.

use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body::Frame;
use tokio::time::Sleep;
use tonic::body::Body;
use tonic::{Code, Status};

use super::access::{CALL_TOO_LONG, TOO_MANY_BYTES};
use crate::errors::ServiceError;
use crate::shares::{Full, Share};

/// No service takes a larger message: one that says it is larger counts as this much, and is refused for its size.
const LARGEST: u64 = 8 << 20;
/// Before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// What a request holds. Shared, so that a unary call holds it until it is answered.
pub(super) type Weight = Arc<Mutex<Share>>;

/// A request's body.
pub(super) struct Metered {
    inner: Body,
    weight: Weight,
    /// Whether more than one message comes; then each is let go of when the next one is asked for.
    streams: bool,
    prefix: [u8; PREFIX],
    /// Of the prefix, how much has come.
    have: usize,
    /// Of the message, how much has not come.
    left: u64,
    /// What the message that has come in part counts.
    current: u64,
    patience: Duration,
    /// Runs while the handler waits for the rest of a message of a stream.
    late: Option<Pin<Box<Sleep>>>,
    refused: bool,
}

impl Metered {
    pub(super) fn new(inner: Body, weight: Weight, streams: bool, patience: Duration) -> Self {
        Self {
            inner,
            weight,
            streams,
            prefix: [0; PREFIX],
            have: 0,
            left: 0,
            current: 0,
            patience,
            late: None,
            refused: false,
        }
    }

    /// Between two messages.
    const fn between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Share> {
        self.weight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&mut self, mut bytes: &[u8]) -> Result<(), Full> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let here = bytes
                    .len()
                    .min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= here as u64;
                bytes = &bytes[here..];
                if self.left == 0 {
                    self.current = 0;
                    self.late = None;
                }
                continue;
            }
            let here = bytes.len().min(PREFIX - self.have);
            let (mine, rest) = bytes.split_at(here);
            self.prefix[self.have..self.have + here].copy_from_slice(mine);
            self.have += here;
            bytes = rest;
            if self.have == PREFIX {
                let [_, length @ ..] = self.prefix;
                self.have = 0;
                self.left = u32::from_be_bytes(length).into();
                self.current = self.left.min(LARGEST);
                self.held().grow(self.current)?;
            }
        }
        Ok(())
    }

    fn refuse(&mut self, refusal: ServiceError) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.refused = true;
        Poll::Ready(Some(Err(refusal.into())))
    }
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.refused {
            return Poll::Ready(None);
        }
        if self.streams {
            // Whoever asks for more has taken out every message that had come whole.
            self.held().keep(self.current);
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let counted = frame.data_ref().map_or(Ok(()), |data| self.count(data));
                if let Err(full) = counted {
                    return self.refuse(full.refuse(TOO_MANY_BYTES, "bytes of requests at once"));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending if self.streams && !self.between() => {
                let patience = self.patience;
                let late = self
                    .late
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
                if late.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.refuse(ServiceError::new(
                    Code::DeadlineExceeded,
                    CALL_TOO_LONG,
                    "a message of the stream took longer to come than any may",
                ))
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.refused || self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::stream;
    use http_body::Body as _;
    use http_body_util::StreamBody;

    use super::*;
    use crate::errors::CallError;
    use crate::shares::Shares;

    fn message(length: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
        bytes.extend(vec![7; length]);
        bytes
    }

    fn metered(shares: &Arc<Shares>, pieces: Vec<Vec<u8>>, streams: bool) -> Metered {
        let frames = pieces
            .into_iter()
            .map(|piece| Ok::<_, Status>(Frame::data(Bytes::from(piece))));
        let body = Body::new(StreamBody::new(stream::iter(frames)));
        let weight = Arc::new(Mutex::new(shares.take("alice", 0).unwrap()));
        Metered::new(body, weight, streams, Duration::from_secs(60))
    }

    async fn next(body: &mut Metered) -> Option<Result<(), CallError>> {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
        Some(frame.map(drop).map_err(CallError::from))
    }

    #[tokio::test]
    async fn a_message_counts_with_its_length_until_the_next_one_is_asked_for() {
        let shares = Shares::new(1000, 500);
        // However it is cut: within the prefix too.
        for cut in [1, 4, 5, 6, 100] {
            let whole = [message(300), message(200), message(0)].concat();
            let pieces = whole.chunks(cut).map(<[u8]>::to_vec).collect();
            let mut body = metered(&shares, pieces, true);
            let mut most = 0;
            while let Some(came) = next(&mut body).await {
                came.unwrap();
                most = most.max(shares.given().1);
            }
            assert!((300..=500).contains(&most), "{cut}: {most}");
            assert_eq!(shares.given(), (0, 0), "{cut}");
        }
        // Nor does it matter that messages never end where a piece does.
        let pieces = vec![message(90); 200].concat();
        let pieces = pieces.chunks(64).map(<[u8]>::to_vec).collect();
        let mut body = metered(&shares, pieces, true);
        while let Some(came) = next(&mut body).await {
            came.unwrap();
        }
        drop(body);
        // One call's message is held until it is answered.
        let mut body = metered(&shares, vec![message(300)], false);
        let weight = body.weight.clone();
        while let Some(came) = next(&mut body).await {
            came.unwrap();
        }
        drop(body);
        assert_eq!(shares.given(), (1, 300));
        drop(weight);
        assert_eq!(shares.given(), (0, 0));
    }

    #[tokio::test]
    async fn what_is_announced_counts_before_it_comes() {
        let shares = Shares::new(1000, 500);
        let first = message(400)[..6].to_vec();
        let mut body = metered(&shares, vec![first, message(400)[6..10].to_vec()], true);
        next(&mut body).await.unwrap().unwrap();
        assert_eq!(shares.given(), (1, 400));
        let mut second = metered(&shares, vec![message(101)], true);
        let refused = next(&mut second).await.unwrap().unwrap_err();
        assert!(refused.is(TOO_MANY_BYTES) && refused.retry_after.is_some());
        assert!(next(&mut second).await.is_none(), "nothing of it is read");
        next(&mut body).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_message_that_comes_in_part_is_not_waited_for_without_end() {
        let shares = Shares::new(1000, 500);
        let first = Ok::<_, Status>(Frame::data(Bytes::from(message(400)[..50].to_vec())));
        let slow = futures::StreamExt::chain(stream::iter([first]), stream::pending());
        let weight = Arc::new(Mutex::new(shares.take("alice", 0).unwrap()));
        let body = Body::new(StreamBody::new(slow));
        let mut body = Metered::new(body, weight, true, Duration::from_millis(50));
        next(&mut body).await.unwrap().unwrap();
        let late = next(&mut body).await.unwrap().unwrap_err();
        assert!(late.is(CALL_TOO_LONG), "{late}");
        drop(body);
        assert_eq!(shares.given(), (0, 0));
    }
}
