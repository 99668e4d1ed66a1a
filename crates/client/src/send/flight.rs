//! A message on its way, and the stream that it goes by.

use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt as _;
use greffe_api::relay as api;
use tokio::sync::{mpsc, oneshot};
use tonic::{Status, Streaming};

use super::seal::Sealed;
use super::{Outgoing, Sent};
use crate::device::Device;
use crate::error::{ClientError, Result};
use crate::receive::Event;

/// A message on its way.
pub(super) struct Flight {
    pub(super) sealed: Sealed,
    pub(super) outgoing: Option<Arc<Outgoing>>,
    pub(super) answer: Option<oneshot::Sender<Result<Sent>>>,
    pub(super) attempts: u32,
    pub(super) since: Instant,
}

/// A stream of messages.
pub(super) struct Open {
    pub(super) requests: mpsc::Sender<api::SendRequest>,
    pub(super) responses: Streaming<api::SendResponse>,
}

impl Flight {
    /// Says to whoever waits, or to whoever reads events next, that it did not work.
    pub(super) fn fail(self, device: &Device, error: ClientError) {
        match self.answer {
            // Whoever asked has gone: nothing more to say.
            Some(answer) => drop(answer.send(Err(error))),
            None => device.keep_events(vec![Event::NotSent {
                conversation: self.sealed.conversation,
                envelope: self.sealed.digest,
                reason: error.reason().to_owned(),
            }]),
        }
    }
}

/// The next answer; waits for ever when there is no stream.
pub(super) async fn next(stream: &mut Option<Open>) -> Option<Result<api::SendResponse, Status>> {
    match stream {
        Some(open) => open.responses.next().await,
        None => core::future::pending().await,
    }
}
