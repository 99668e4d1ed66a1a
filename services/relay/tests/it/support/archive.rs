//! An archive in memory: it checks numbers, extends chains, and signs receipts and voids.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use ed25519_dalek::SigningKey;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use greffe_api::archive::ingest_request::Entry;
use greffe_api::archive::ingest_service_server::{IngestService, IngestServiceServer};
use greffe_api::archive::put_attachment_request::Part;
use greffe_api::archive::*;
use greffe_envelope::chain::{ChainState, handshake_digest, void_digest};
use greffe_envelope::envelope::envelope_digest;
use greffe_envelope::label::sha256;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_service_kit::serve::Server;
use greffe_types::{ConversationId, Digest};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::now;
use super::tenant::{FAR, NAME, Tenant};

#[derive(Default)]
struct State {
    chains: HashMap<Vec<u8>, ChainState>,
    answers: BTreeMap<(Vec<u8>, u64), IngestResponse>,
    requests: Vec<IngestRequest>,
    void_next: Option<&'static str>,
    lose_next: bool,
    fork_next: bool,
    forge_next: bool,
    not_yet: Option<Vec<u8>>,
    attachments: HashMap<Digest, Vec<u8>>,
}

#[derive(Clone)]
pub(crate) struct Archive {
    key: Arc<SigningKey>,
    state: Arc<Mutex<State>>,
    stalled: watch::Sender<bool>,
}

impl Archive {
    pub(crate) fn new(tenant: &Tenant) -> Self {
        Self {
            key: Arc::new(tenant.receipts.clone()),
            state: Arc::default(),
            stalled: watch::Sender::new(false),
        }
    }

    pub(crate) fn serve(&self, server: Server) -> Server {
        let service = IngestServiceServer::new(self.clone());
        server.add(
            service
                .max_decoding_message_size(8 << 20)
                .max_encoding_message_size(8 << 20),
        )
    }

    /// The next new entry is refused for this reason.
    pub(crate) fn void_next(&self, reason: &'static str) {
        self.state.lock().unwrap().void_next = Some(reason);
    }

    /// The next entry is taken in, and its answer lost with the connection.
    pub(crate) fn lose_next(&self) {
        self.state.lock().unwrap().lose_next = true;
    }

    /// The next entry is answered with a receipt of another chain.
    pub(crate) fn fork_next(&self) {
        self.state.lock().unwrap().fork_next = true;
    }

    /// The next entry is answered with a receipt that somebody else signed.
    pub(crate) fn forge_next(&self) {
        self.state.lock().unwrap().forge_next = true;
    }

    /// New entries of a conversation are not taken for the time being.
    pub(crate) fn not_yet(&self, conversation: Option<ConversationId>) {
        self.state.lock().unwrap().not_yet = conversation.map(|id| id.to_vec());
    }

    /// While stalled nothing is answered.
    pub(crate) fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    /// New entries taken in, in order.
    pub(crate) fn requests(&self) -> Vec<IngestRequest> {
        self.state.lock().unwrap().requests.clone()
    }

    /// An attachment's ciphertext.
    pub(crate) fn attachment(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.state.lock().unwrap().attachments.get(digest).cloned()
    }

    /// Flips a bit of an attachment.
    pub(crate) fn rot(&self, digest: &Digest) {
        let mut state = self.state.lock().unwrap();
        state.attachments.get_mut(digest).unwrap()[0] ^= 1;
    }

    fn ingest(&self, request: IngestRequest) -> IngestResponse {
        let mut state = self.state.lock().unwrap();
        let place = (request.conversation.clone(), request.sequence);
        if let Some(known) = state.answers.get(&place) {
            return known.clone();
        }
        let id = ConversationId::try_from(request.conversation.as_slice()).unwrap();
        let chain = state.chains.get(&request.conversation);
        let chain = chain.copied().unwrap_or_else(|| ChainState::start(id));
        let not_yet = state.not_yet.as_ref() == Some(&request.conversation);
        if not_yet || request.sequence != chain.sequence + 1 {
            return IngestResponse {
                conversation: request.conversation,
                sequence: request.sequence,
                retry_reason: "SEQUENCE_GAP".into(),
                ..IngestResponse::default()
            };
        }
        let (mut kind, mut digest) = match request.entry.as_ref().unwrap() {
            Entry::Message(message) => (
                pb::EntryKind::Message,
                envelope_digest(&message.envelope.as_ref().unwrap().body),
            ),
            Entry::Handshake(handshake) => (
                pb::EntryKind::Handshake,
                handshake_digest(&handshake.public_message),
            ),
        };
        let at = now().get();
        let void = state.void_next.take().map(|reason| {
            let void = pb::Void {
                tenant: NAME.into(),
                conversation: request.conversation.clone(),
                sequence: request.sequence,
                refused_digest: digest.to_vec(),
                reason: reason.into(),
                at,
            };
            (kind, digest) = (pb::EntryKind::Void, void_digest(&digest, reason));
            Signed::sign(void, &[("archive", &self.key)]).into_raw()
        });
        let chain = match std::mem::take(&mut state.fork_next) {
            false => chain,
            true => ChainState {
                head: Digest::new([66; 32]),
                ..chain
            },
        };
        let after = chain.next(&digest);
        let receipt = pb::Receipt {
            tenant: NAME.into(),
            conversation: request.conversation.clone(),
            sequence: request.sequence,
            kind: kind.into(),
            entry_digest: digest.to_vec(),
            previous_head: chain.head.to_vec(),
            head: after.head.to_vec(),
            archived_at: at,
            retain_until: FAR,
            bundle_version: 1,
        };
        let key = match std::mem::take(&mut state.forge_next) {
            false => (*self.key).clone(),
            true => SigningKey::from_bytes(&[66; 32]),
        };
        let answer = IngestResponse {
            conversation: request.conversation.clone(),
            sequence: request.sequence,
            receipt: Some(Signed::sign(receipt, &[("archive", &key)]).into_raw()),
            void,
            retry_reason: String::new(),
        };
        state.chains.insert(request.conversation.clone(), after);
        state.answers.insert(place, answer.clone());
        state.requests.push(request);
        answer
    }
}

#[tonic::async_trait]
impl IngestService for Archive {
    type IngestStream = BoxStream<'static, Result<IngestResponse, Status>>;

    async fn ingest(
        &self,
        request: Request<Streaming<IngestRequest>>,
    ) -> Result<Response<Self::IngestStream>, Status> {
        let archive = self.clone();
        let answers = request.into_inner().then(move |asked| {
            let archive = archive.clone();
            async move {
                let mut stalled = archive.stalled.subscribe();
                let _ = stalled.wait_for(|stalled| !*stalled).await;
                let answer = archive.ingest(asked?);
                if std::mem::take(&mut archive.state.lock().unwrap().lose_next) {
                    return Err(Status::unavailable("the connection broke"));
                }
                Ok(answer)
            }
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn put_attachment(
        &self,
        request: Request<Streaming<PutAttachmentRequest>>,
    ) -> Result<Response<PutAttachmentResponse>, Status> {
        let mut parts = request.into_inner();
        let (mut start, mut bytes) = (None, Vec::new());
        while let Some(part) = parts.message().await? {
            match part.part {
                Some(Part::Start(announced)) => start = Some(announced),
                Some(Part::Chunk(chunk)) => bytes.extend(chunk),
                None => return Err(Status::invalid_argument("no part")),
            }
        }
        let start = start.ok_or_else(|| Status::invalid_argument("no start"))?;
        let digest = sha256(&bytes);
        if start.digest != digest.as_bytes() || start.size != bytes.len() as u64 {
            return Err(Status::invalid_argument("other bytes than announced"));
        }
        let mut state = self.state.lock().unwrap();
        state.attachments.insert(digest, bytes);
        Ok(Response::new(PutAttachmentResponse {
            digest: digest.to_vec(),
        }))
    }

    type GetAttachmentStream = BoxStream<'static, Result<GetAttachmentResponse, Status>>;

    async fn get_attachment(
        &self,
        request: Request<GetAttachmentRequest>,
    ) -> Result<Response<Self::GetAttachmentStream>, Status> {
        let digest = Digest::try_from(request.get_ref().digest.as_slice()).unwrap();
        let bytes = self
            .attachment(&digest)
            .ok_or_else(|| Status::not_found("no such attachment"))?;
        let chunks: Vec<_> = bytes
            .chunks(100_000)
            .map(|chunk| {
                Ok(GetAttachmentResponse {
                    chunk: chunk.to_vec(),
                })
            })
            .collect();
        Ok(Response::new(futures::stream::iter(chunks).boxed()))
    }

    async fn get_conversation_state(
        &self,
        request: Request<GetConversationStateRequest>,
    ) -> Result<Response<GetConversationStateResponse>, Status> {
        let state = self.state.lock().unwrap();
        let chain = state.chains.get(&request.get_ref().conversation);
        Ok(Response::new(GetConversationStateResponse {
            sequence: chain.map_or(0, |chain| chain.sequence),
            head: chain.map_or(Digest::ZERO, |chain| chain.head).to_vec(),
        }))
    }
}
