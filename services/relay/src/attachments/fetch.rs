//! A copy that is missing here, fetched from the archive: as after a take-over, when the disk is another one.

use greffe_api::archive as api;
use greffe_api::archive::ingest_service_client::IngestServiceClient;
use greffe_service_kit::tls::Channel;
use greffe_types::{ConversationId, Digest};
use tonic::Code;

use super::Staging;
use crate::error::RelayError;

/// Stages an attachment from the archive: whole and with the digest it goes by, or not at all.
///
/// # Errors
/// [`RelayError::NoAttachment`] when the archive has it no longer, [`RelayError::Archive`], [`super::StagingError`].
pub(super) async fn restage(
    archive: &Channel,
    staging: &Staging,
    conversation: &ConversationId,
    digest: &Digest,
    size: u64,
) -> Result<(), RelayError> {
    let failed = |status: tonic::Status| match status.code() {
        Code::NotFound => RelayError::NoAttachment,
        _ => RelayError::Archive(Box::new(status)),
    };
    let mut client = IngestServiceClient::new(archive.clone());
    let request = api::GetAttachmentRequest {
        digest: digest.to_vec(),
    };
    let mut pieces = client
        .get_attachment(request)
        .await
        .map_err(failed)?
        .into_inner();
    let mut file = staging.begin().await?;
    while let Some(piece) = pieces.message().await.map_err(failed)? {
        file.write(&piece.chunk, size).await?;
    }
    file.finish(conversation, digest, size).await?;
    tracing::info!(%digest, size, "an attachment was fetched from the archive again");
    Ok(())
}
