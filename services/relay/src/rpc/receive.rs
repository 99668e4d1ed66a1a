//! `Receive`: a device's mailbox.

use greffe_api::relay as api;
use tonic::{Request, Response, Status, Streaming};

use super::Rpc;
pub(super) use crate::mailbox::Deliveries;

/// Serves a Receive call.
pub(super) async fn receive(
    rpc: &Rpc,
    request: Request<Streaming<api::ReceiveRequest>>,
) -> Result<Response<Deliveries>, Status> {
    rpc.for_device("Receive", request, async |session, requests| {
        rpc.app.mailbox.receive(session, requests).await
    })
    .await
}
