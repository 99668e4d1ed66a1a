//! RelayService: conversations; sending, receiving and attachments are handed on to their own files.

use greffe_api::relay as api;
use greffe_api::relay::relay_service_server::RelayService;
use greffe_types::{ConversationId, to_hex};
use tonic::{Request, Response, Status, Streaming};

use super::{Rpc, attachments, conversation_id, receive, send};
use crate::app::{Place, Submitted, View};
use crate::error::RelayError;

/// Conversations of a page when the caller does not say.
const PAGE: u32 = 100;
/// And at most.
const PAGE_MAX: u32 = 1000;

#[tonic::async_trait]
impl RelayService for Rpc {
    type SendStream = send::Answers;
    type ReceiveStream = receive::Deliveries;
    type DownloadAttachmentStream = attachments::Chunks;

    async fn create_conversation(
        &self,
        request: Request<api::CreateConversationRequest>,
    ) -> Result<Response<api::CreateConversationResponse>, Status> {
        self.for_device("CreateConversation", request, async |session, asked| {
            let id = conversation_id(&asked.conversation)?;
            let view = self
                .app
                .create_conversation(&session, id, asked.group_info)
                .await?;
            Ok(api::CreateConversationResponse {
                conversation: Some(conversation(view)),
            })
        })
        .await
    }

    async fn get_conversation(
        &self,
        request: Request<api::GetConversationRequest>,
    ) -> Result<Response<api::GetConversationResponse>, Status> {
        self.for_device("GetConversation", request, async |session, asked| {
            let id = conversation_id(&asked.conversation)?;
            let view = self.app.view(&session, &id).await?;
            Ok(api::GetConversationResponse {
                conversation: Some(conversation(view)),
            })
        })
        .await
    }

    async fn list_conversations(
        &self,
        request: Request<api::ListConversationsRequest>,
    ) -> Result<Response<api::ListConversationsResponse>, Status> {
        self.for_device("ListConversations", request, async |session, asked| {
            let limit = match asked.page_size {
                0 => PAGE,
                size if size <= PAGE_MAX => size,
                _ => return Err(RelayError::Field("page_size")),
            };
            let after = place(&asked.page_token)?;
            let (views, next) = self.app.list_conversations(&session, after, limit).await?;
            Ok(api::ListConversationsResponse {
                conversations: views.into_iter().map(conversation).collect(),
                next_page_token: next.map(token).unwrap_or_default(),
            })
        })
        .await
    }

    async fn acknowledge_notice(
        &self,
        request: Request<api::AcknowledgeNoticeRequest>,
    ) -> Result<Response<api::AcknowledgeNoticeResponse>, Status> {
        self.for_device("AcknowledgeNotice", request, async |session, asked| {
            let signed = asked
                .acknowledgement
                .ok_or(RelayError::Field("acknowledgement"))?;
            let log_index = self.app.acknowledge(&session, signed).await?;
            Ok(api::AcknowledgeNoticeResponse { log_index })
        })
        .await
    }

    async fn submit_commit(
        &self,
        request: Request<api::SubmitCommitRequest>,
    ) -> Result<Response<api::SubmitCommitResponse>, Status> {
        self.for_device("SubmitCommit", request, async |session, asked| {
            let submitted = Submitted {
                conversation: conversation_id(&asked.conversation)?,
                commit: asked.commit,
                welcome: asked.welcome,
                ratchet_tree: asked.ratchet_tree,
            };
            let settled = self.app.submit_commit(&session, submitted).await?;
            Ok(api::SubmitCommitResponse {
                sequence: settled.sequence,
                receipt: Some(settled.receipt.clone()),
            })
        })
        .await
    }

    async fn send(
        &self,
        request: Request<Streaming<api::SendRequest>>,
    ) -> Result<Response<Self::SendStream>, Status> {
        send::send(self, request).await
    }

    async fn receive(
        &self,
        request: Request<Streaming<api::ReceiveRequest>>,
    ) -> Result<Response<Self::ReceiveStream>, Status> {
        receive::receive(self, request).await
    }

    async fn upload_attachment(
        &self,
        request: Request<Streaming<api::UploadAttachmentRequest>>,
    ) -> Result<Response<api::UploadAttachmentResponse>, Status> {
        attachments::upload(self, request).await
    }

    async fn download_attachment(
        &self,
        request: Request<api::DownloadAttachmentRequest>,
    ) -> Result<Response<Self::DownloadAttachmentStream>, Status> {
        attachments::download(self, request).await
    }

    async fn report(
        &self,
        request: Request<api::ReportRequest>,
    ) -> Result<Response<api::ReportResponse>, Status> {
        self.for_device("Report", request, async |session, asked| {
            let report = asked.report.ok_or(RelayError::Field("report"))?;
            let (log_index, proves) = self.app.report(&session, report).await?;
            Ok(api::ReportResponse { log_index, proves })
        })
        .await
    }
}

fn conversation(view: View) -> api::Conversation {
    api::Conversation {
        conversation: view.id.to_vec(),
        mode: view.row.mode,
        epoch: view.row.epoch,
        sequence: view.row.sequence,
        disclosure: view.row.disclosure.to_vec(),
        members: view
            .members
            .into_iter()
            .map(|(user, device, acknowledged)| api::Member {
                user,
                device: device.to_vec(),
                acknowledged,
            })
            .collect(),
    }
}

/// `LOG-INDEX.CONVERSATION` of the last one of the page before.
fn token((index, id): Place) -> String {
    let id = id.map(|id| to_hex(id.as_bytes())).unwrap_or_default();
    format!("{index}.{id}")
}

fn place(token: &str) -> Result<Place, RelayError> {
    if token.is_empty() {
        return Ok((0, None));
    }
    let parse = || {
        let (index, id) = token.split_once('.')?;
        let id: [u8; 16] = greffe_types::from_hex(id).ok()?;
        Some((index.parse().ok()?, Some(ConversationId::new(id))))
    };
    parse().ok_or(RelayError::Field("page_token"))
}
