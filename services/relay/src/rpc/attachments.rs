//! `UploadAttachment` and `DownloadAttachment`.

use greffe_api::relay as api;
use greffe_types::Digest;
use tonic::{Request, Response, Status, Streaming};

use super::{Rpc, conversation_id};
pub(super) use crate::attachments::Chunks;
use crate::error::RelayError;

/// Serves an UploadAttachment call.
pub(super) async fn upload(
    rpc: &Rpc,
    request: Request<Streaming<api::UploadAttachmentRequest>>,
) -> Result<Response<api::UploadAttachmentResponse>, Status> {
    rpc.for_device("UploadAttachment", request, async |session, parts| {
        let digest = rpc.app.attachments.upload(&session, parts).await?.to_vec();
        Ok(api::UploadAttachmentResponse { digest })
    })
    .await
}

/// Serves a DownloadAttachment call.
pub(super) async fn download(
    rpc: &Rpc,
    request: Request<api::DownloadAttachmentRequest>,
) -> Result<Response<Chunks>, Status> {
    rpc.for_device("DownloadAttachment", request, async |session, asked| {
        let id = conversation_id(&asked.conversation)?;
        let digest =
            Digest::try_from(asked.digest.as_slice()).map_err(|_| RelayError::Field("digest"))?;
        rpc.app.attachments.download(&session, id, digest).await
    })
    .await
}
