//! One upload: every chunk goes to the archive and into the staged file, a few at a time.

use std::time::Duration;

use greffe_api::archive as archive_api;
use greffe_api::archive::ingest_service_client::IngestServiceClient;
use greffe_api::relay as api;
use greffe_service_kit::tls::Channel;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Announced, MAX_CHUNK, Staging, StagingError};
use crate::error::RelayError;

/// Chunks between the two streams.
const WINDOW: usize = 2;
/// How long a sender may be silent in the middle of an upload.
const SILENCE: Duration = Duration::from_secs(60);

/// Carries an announced attachment.
pub(super) async fn carry(
    archive: &Channel,
    staging: &Staging,
    announced: Announced,
    parts: Streaming<api::UploadAttachmentRequest>,
) -> Result<(), RelayError> {
    let (sender, receiver) = mpsc::channel(WINDOW);
    let mut client = IngestServiceClient::new(archive.clone());
    let put = async move {
        let answer = client.put_attachment(ReceiverStream::new(receiver)).await;
        let answer = answer.map_err(|status| RelayError::Archive(Box::new(status)))?;
        let digest = answer.into_inner().digest;
        if digest == announced.digest.as_bytes() {
            Ok(())
        } else {
            Err(StagingError::Differs("digest in the archive").into())
        }
    };
    let (copied, ()) = tokio::try_join!(copy(staging, announced, parts, sender), put)?;
    let Announced {
        conversation,
        digest,
        size,
    } = announced;
    copied.finish(&conversation, &digest, size).await?;
    Ok(())
}

async fn copy(
    staging: &Staging,
    announced: Announced,
    mut parts: Streaming<api::UploadAttachmentRequest>,
    sender: mpsc::Sender<archive_api::PutAttachmentRequest>,
) -> Result<super::staging::Unfinished, RelayError> {
    use archive_api::put_attachment_request::Part;
    let start = Part::Start(archive_api::AttachmentStart {
        digest: announced.digest.to_vec(),
        size: announced.size,
        conversation: announced.conversation.to_vec(),
    });
    let mut file = staging.begin().await?;
    let send = async |part| {
        let part = archive_api::PutAttachmentRequest { part: Some(part) };
        if sender.send(part).await.is_err() {
            // The archive has answered before the end; its answer says why.
            std::future::pending::<()>().await;
        }
    };
    send(start).await;
    loop {
        let next = tokio::time::timeout(SILENCE, parts.message()).await;
        let next = next.map_err(|_| RelayError::Field("chunk"))?;
        let part = match next {
            Ok(Some(part)) => part.part,
            Ok(None) => break,
            Err(_) => return Err(RelayError::Field("chunk")),
        };
        let Some(api::upload_attachment_request::Part::Chunk(chunk)) = part else {
            return Err(RelayError::Field("chunk"));
        };
        if chunk.is_empty() || chunk.len() > MAX_CHUNK {
            return Err(RelayError::Field("chunk"));
        }
        file.write(&chunk, announced.size).await?;
        send(Part::Chunk(chunk)).await;
    }
    Ok(file)
}
