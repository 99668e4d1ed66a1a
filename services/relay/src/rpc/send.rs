//! `Send`: messages of one device, checked one after the other, answered in their order, many on their way.

use std::sync::Arc;

use greffe_api::relay as api;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Rpc;
use crate::app::App;
use crate::error::RelayError;
use crate::pipeline::Pending;
use crate::session::{Session, SessionError};

/// Messages of one stream on their way: beyond it the stream is not read on.
const WINDOW: usize = 256;

/// What a Send call answers.
pub(super) type Answers = ReceiverStream<Result<api::SendResponse, Status>>;

/// Serves a Send call.
pub(super) async fn send(
    rpc: &Rpc,
    request: Request<Streaming<api::SendRequest>>,
) -> Result<Response<Answers>, Status> {
    rpc.for_device("Send", request, async |session, requests| {
        let (pending, waiting) = mpsc::channel(WINDOW);
        let (answers, receiver) = mpsc::channel(WINDOW);
        tokio::spawn(take(rpc.app.clone(), session, requests, pending));
        tokio::spawn(answer(waiting, answers));
        Ok(ReceiverStream::new(receiver))
    })
    .await
}

async fn take(
    app: Arc<App>,
    session: Session,
    mut requests: Streaming<api::SendRequest>,
    pending: mpsc::Sender<Result<Pending, Status>>,
) {
    loop {
        let request = tokio::select! {
            request = requests.message() => request,
            () = pending.closed() => return,
        };
        let taken = match request {
            // A stream outlives no session.
            Ok(Some(_)) if app.now() >= session.expiry => {
                Err(RelayError::from(SessionError::Expired))
            }
            Ok(Some(request)) => app.pipeline.accept(&session, request).await,
            Ok(None) => return,
            Err(status) => {
                let _ = pending.send(Err(status)).await;
                return;
            }
        };
        let taken = taken.map_err(Status::from);
        let ends = taken.is_err();
        if pending.send(taken).await.is_err() || ends {
            return;
        }
    }
}

/// Answers in order; what is sequenced stays so when the caller has gone.
async fn answer(
    mut waiting: mpsc::Receiver<Result<Pending, Status>>,
    answers: mpsc::Sender<Result<api::SendResponse, Status>>,
) {
    loop {
        // Also while nothing is on its way: a stream that the server ends is not kept open from behind.
        let pending = tokio::select! {
            pending = waiting.recv() => pending,
            () = answers.closed() => return,
        };
        let Some(pending) = pending else {
            return;
        };
        let answer = match pending {
            Ok(pending) => {
                let answer = tokio::select! {
                    answer = pending.answer() => answer,
                    () = answers.closed() => return,
                };
                answer.map_err(Status::from)
            }
            Err(status) => Err(status),
        };
        let ends = answer.is_err();
        if answers.send(answer).await.is_err() || ends {
            return;
        }
    }
}
