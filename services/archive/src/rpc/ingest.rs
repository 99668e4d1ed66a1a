//! IngestService: parse, hand on, answer in order.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use greffe_api::archive as api;
use greffe_api::archive::ingest_service_server::IngestService;
use greffe_service_kit::errors::ServiceError;
use greffe_service_kit::telemetry::trace;
use greffe_types::{ConversationId, Digest};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::Span;

use crate::app::App;
use crate::error::{ArchiveError, invalid};
use crate::ingest::entry::Entry;
use crate::ingest::{Answer, Ingest};
use crate::store::conversations::{self, Conversation};
use crate::uploads;

/// Entries of one stream that may wait for their answers.
const WINDOW: usize = 512;

/// The service.
#[derive(Debug, Clone)]
pub struct IngestRpc {
    app: Arc<App>,
    ingest: Ingest,
}

impl IngestRpc {
    /// Over an archive and its ingest task.
    pub const fn new(app: Arc<App>, ingest: Ingest) -> Self {
        Self { app, ingest }
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<api::IngestResponse, Status>> + Send>>;

#[tonic::async_trait]
impl IngestService for IngestRpc {
    type IngestStream = Answers;

    async fn ingest(
        &self,
        request: Request<Streaming<api::IngestRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let ingest = self.ingest.clone();
        // `then` queues one entry after the other, so that their order stays; `buffered` waits for many at once.
        let queued = request.into_inner().then(move |request| {
            let ingest = ingest.clone();
            async move { queue(&ingest, request?).await }
        });
        let answers = queued
            .map(|queued| async move {
                let (answered, _span) = queued?;
                let answered = answered.await.map_err(|_| ArchiveError::Stopping)?;
                Ok(answered?)
            })
            .buffered(WINDOW)
            .scan(false, |ended, answer: Result<_, Status>| {
                // A refusal is the stream's last word: what was sent after it rests on what was refused.
                let last = core::mem::replace(ended, answer.is_err());
                core::future::ready((!last).then_some(answer))
            });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn put_attachment(
        &self,
        request: Request<Streaming<api::PutAttachmentRequest>>,
    ) -> Result<Response<api::PutAttachmentResponse>, Status> {
        let digest = uploads::receive(&self.app, request.into_inner()).await?;
        Ok(Response::new(api::PutAttachmentResponse {
            digest: Digest::to_vec(&digest),
        }))
    }

    type GetAttachmentStream = ReceiverStream<Result<api::GetAttachmentResponse, Status>>;

    async fn get_attachment(
        &self,
        request: Request<api::GetAttachmentRequest>,
    ) -> Result<Response<Self::GetAttachmentStream>, Status> {
        let digest = Digest::try_from(request.get_ref().digest.as_slice())
            .map_err(|_| invalid("digest: 32 bytes"))?;
        Ok(Response::new(uploads::give(&self.app, digest).await?))
    }

    async fn get_conversation_state(
        &self,
        request: Request<api::GetConversationStateRequest>,
    ) -> Result<Response<api::GetConversationStateResponse>, Status> {
        let id = ConversationId::try_from(request.get_ref().conversation.as_slice())
            .map_err(|_| invalid("conversation: 16 bytes"))?;
        let found = async {
            let mut db = self.app.db.read().acquire().await?;
            conversations::find(&mut db, &self.app.scope, &id).await
        };
        let found = found.await.map_err(ArchiveError::from)?;
        let chain = found.unwrap_or_else(|| Conversation::start(id)).chain;
        Ok(Response::new(api::GetConversationStateResponse {
            sequence: chain.sequence,
            head: chain.head.to_vec(),
        }))
    }
}

async fn queue(
    ingest: &Ingest,
    request: api::IngestRequest,
) -> Result<(tokio::sync::oneshot::Receiver<Answer>, Span), Status> {
    let entry = Entry::parse(request).map_err(|error: ServiceError| Status::from(error))?;
    let span = tracing::info_span!("archive.ingest");
    let span = trace::of(entry.subject.as_bytes(), span);
    Ok((ingest.submit(entry).await?, span))
}
