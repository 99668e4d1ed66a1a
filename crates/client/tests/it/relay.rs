//! A relay that sequences and delivers as the contract says, without its checks; what it hands over can be changed on the way.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use greffe_api::relay as api;
use greffe_api::relay::directory_service_server::DirectoryService;
use greffe_api::relay::receive_response::Item;
use greffe_api::relay::relay_service_server::RelayService;
use greffe_envelope::chain::{ChainState, handshake_digest};
use greffe_envelope::envelope::{Envelope, envelope_digest};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_mls::{
    Device, DisclosureError, DisclosureInfo, DisclosureVerifier, Observer, PresentedDevices, Trust,
    check_key_package,
};
use greffe_types::{ConversationId, DeviceId, Digest, TenantId};
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::tenant::{FAR, Tenant, now};

type Hook<T, R = ()> = Option<Box<dyn FnMut(&mut T) -> R + Send>>;

/// What may be changed on its way to a client; false drops it.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) trust: Hook<api::GetTrustResponse>,
    pub(crate) claim: Hook<api::ClaimKeyPackagesResponse>,
    pub(crate) certs: Hook<api::GetDeviceCertsResponse>,
    pub(crate) deliver: Hook<api::ReceiveResponse, bool>,
    /// Ends the stream of messages before this many were taken.
    pub(crate) hang_up: bool,
    /// Takes messages and answers none.
    pub(crate) mute: bool,
    /// Takes no creation and no commit: it cannot be reached.
    pub(crate) away: bool,
}

#[derive(Default)]
struct State {
    certs: HashMap<Digest, pb::SignedStatement>,
    current: HashMap<DeviceId, Digest>,
    packages: HashMap<DeviceId, VecDeque<Vec<u8>>>,
    conversations: BTreeMap<ConversationId, Conversation>,
    files: HashMap<Vec<u8>, Vec<u8>>,
    reports: Vec<pb::SignedStatement>,
    calls: Vec<&'static str>,
}

struct Conversation {
    observer: Observer,
    chain: ChainState,
    /// With the disclosure in force when each was made.
    items: Vec<(Digest, api::ReceiveResponse)>,
    members: HashMap<DeviceId, Member>,
    counters: HashMap<DeviceId, (u64, Digest)>,
    sent: HashMap<Digest, api::SendResponse>,
    commits: HashMap<Digest, api::SubmitCommitResponse>,
}

#[derive(Clone, Default)]
struct Member {
    from: u64,
    until: Option<u64>,
    cursor: u64,
    welcome: Option<api::ReceiveResponse>,
    acknowledged: HashSet<Digest>,
}

#[derive(Clone)]
pub(crate) struct Relay {
    tenant: Arc<Tenant>,
    devices: Arc<PresentedDevices>,
    state: Arc<Mutex<State>>,
    pub(crate) hooks: Arc<Mutex<Hooks>>,
    changed: watch::Sender<u64>,
}

/// Believes every disclosure: the checks under test are the client's.
struct Believer;

impl DisclosureVerifier for Believer {
    fn verify(&self, extension: &[u8]) -> Result<DisclosureInfo, DisclosureError> {
        let bad = |_| DisclosureError::new("form");
        let signed = Signed::<pb::Disclosure>::decode_bytes(extension).map_err(bad)?;
        Ok(DisclosureInfo {
            mode: signed.mode(),
            serial: signed.serial,
            tenants: vec![TenantId::new("acme").unwrap()],
            digest: signed.digest(),
            key_ids: vec![],
            policy_digest: Digest::ZERO,
            standing_order: None,
        })
    }

    fn verify_current(&self, _: &DisclosureInfo) -> Result<(), DisclosureError> {
        Ok(())
    }
}

impl Relay {
    pub(crate) fn new(tenant: Arc<Tenant>) -> Self {
        Self {
            tenant,
            devices: Arc::default(),
            state: Arc::default(),
            hooks: Arc::default(),
            changed: watch::Sender::new(0),
        }
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust {
            disclosures: Arc::new(Believer),
            devices: self.devices.clone(),
        }
    }

    /// How often a method was called.
    pub(crate) fn calls(&self, method: &str) -> usize {
        let state = self.state.lock().unwrap();
        state.calls.iter().filter(|call| **call == method).count()
    }

    pub(crate) fn reports(&self) -> Vec<pb::SignedStatement> {
        self.state.lock().unwrap().reports.clone()
    }

    /// How far a device has acknowledged a conversation.
    pub(crate) fn cursor(&self, id: &ConversationId, device: &DeviceId) -> u64 {
        self.state.lock().unwrap().conversations[id].members[device].cursor
    }

    /// Messages with a number.
    pub(crate) fn sequenced(&self, id: &ConversationId) -> u64 {
        self.state.lock().unwrap().conversations[id].chain.sequence
    }

    fn note(&self, call: &'static str) {
        self.state.lock().unwrap().calls.push(call);
    }

    #[allow(clippy::result_large_err)]
    fn reached(&self) -> Result<(), Status> {
        if self.hooks.lock().unwrap().away {
            return Err(Status::unavailable("away"));
        }
        Ok(())
    }

    /// A message as it is delivered.
    pub(crate) fn item(&self, id: &ConversationId, sequence: u64) -> api::ReceiveResponse {
        let state = self.state.lock().unwrap();
        let mut items = state.conversations[id].items.iter();
        let found = items.find(|(_, item)| item.sequence == sequence);
        found.unwrap().1.clone()
    }

    fn wake(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Puts a message into its place whoever made it.
    pub(crate) fn sequence(&self, request: &api::SendRequest) -> api::SendResponse {
        let envelope = Envelope::decode(request.envelope.clone().unwrap()).unwrap();
        let digest = envelope.digest();
        let header = envelope.header();
        let refused = |reason: &str| api::SendResponse {
            envelope: digest.to_vec(),
            reason: reason.into(),
            ..Default::default()
        };
        let mut state = self.state.lock().unwrap();
        let Some(conversation) = state.conversations.get_mut(&header.conversation()) else {
            return refused("CONVERSATION_UNKNOWN");
        };
        if let Some(answer) = conversation.sent.get(&digest) {
            return answer.clone();
        }
        if header.message().mls_epoch != conversation.observer.epoch() {
            return refused("EPOCH_STALE");
        }
        let last = conversation.counters.get(&header.device()).copied();
        let (counter, previous) = last.unwrap_or((0, Digest::ZERO));
        if header.message().device_counter != counter + 1 {
            return refused("COUNTER_MISMATCH");
        }
        if header.previous() != previous {
            return refused("PREVIOUS_MISMATCH");
        }
        if header.message().classification == "refuse" {
            return refused("RECORD_CLASS_UNKNOWN");
        }
        conversation
            .counters
            .insert(header.device(), (counter + 1, digest));
        let (receipt, chain) =
            self.tenant
                .receipt(&conversation.chain, pb::EntryKind::Message, &digest);
        conversation.chain = chain;
        let in_force = conversation.observer.disclosure().digest;
        let item = api::ReceiveResponse {
            conversation: header.conversation().to_vec(),
            sequence: chain.sequence,
            receipt: Some(receipt.clone()),
            item: Some(Item::Message(api::DeliveredMessage {
                envelope: request.envelope.clone(),
                wraps: request.wraps.clone(),
                ciphertext: request.ciphertext.clone(),
                mls_message: request.mls_message.clone(),
            })),
        };
        conversation.items.push((in_force, item));
        let answer = api::SendResponse {
            envelope: digest.to_vec(),
            sequence: chain.sequence,
            receipt: Some(receipt),
            ..Default::default()
        };
        conversation.sent.insert(digest, answer.clone());
        drop(state);
        self.wake();
        answer
    }

    /// Delivers an item once more, under the next number and with a receipt for it: a relay and an archive that cheat together.
    pub(crate) fn replay(&self, id: &ConversationId, sequence: u64) {
        let mut item = self.item(id, sequence);
        let mut state = self.state.lock().unwrap();
        let conversation = state.conversations.get_mut(id).unwrap();
        let Some(Item::Message(message)) = &item.item else {
            panic!("no message");
        };
        let envelope = Envelope::decode(message.envelope.clone().unwrap()).unwrap();
        let digest = envelope.digest();
        let (receipt, chain) =
            self.tenant
                .receipt(&conversation.chain, pb::EntryKind::Message, &digest);
        conversation.chain = chain;
        (item.sequence, item.receipt) = (chain.sequence, Some(receipt));
        let in_force = conversation.observer.disclosure().digest;
        conversation.items.push((in_force, item));
        drop(state);
        self.wake();
    }

    /// What waits for a device after what was sent to it.
    fn pending(
        &self,
        device: &DeviceId,
        sent: &mut HashMap<ConversationId, u64>,
    ) -> Vec<api::ReceiveResponse> {
        let state = self.state.lock().unwrap();
        let mut waiting = Vec::new();
        for (id, conversation) in &state.conversations {
            let Some(member) = conversation.members.get(device) else {
                continue;
            };
            let from = sent.entry(*id).or_insert(member.cursor);
            if *from < member.from
                && let Some(welcome) = &member.welcome
            {
                waiting.push(welcome.clone());
                *from = member.from;
            }
            for (disclosure, item) in &conversation.items {
                if member.acknowledged.contains(disclosure)
                    && item.sequence > *from
                    && member.until.is_none_or(|until| item.sequence <= until)
                {
                    waiting.push(item.clone());
                    *from = item.sequence;
                }
            }
        }
        drop(state);
        let mut hooks = self.hooks.lock().unwrap();
        if let Some(deliver) = &mut hooks.deliver {
            waiting.retain_mut(|item| deliver(item));
        }
        waiting
    }

    fn acknowledge(&self, device: &DeviceId, ack: &api::ReceiveAck) {
        let id = ConversationId::try_from(ack.conversation.as_slice()).unwrap();
        let mut state = self.state.lock().unwrap();
        if let Some(conversation) = state.conversations.get_mut(&id)
            && let Some(member) = conversation.members.get_mut(device)
        {
            member.cursor = member.cursor.max(ack.sequence);
        }
    }
}

#[allow(clippy::result_large_err)]
fn session<T>(request: &Request<T>) -> Result<DeviceId, Status> {
    let token = request
        .metadata()
        .get_bin("greffe-session-bin")
        .ok_or_else(|| Status::unauthenticated("no session"))?
        .to_bytes()
        .map_err(|_| Status::unauthenticated("session"))?;
    DeviceId::try_from(&token[..]).map_err(|_| Status::unauthenticated("session"))
}

#[tonic::async_trait]
impl DirectoryService for Relay {
    async fn get_trust(
        &self,
        _: Request<api::GetTrustRequest>,
    ) -> Result<Response<api::GetTrustResponse>, Status> {
        let tenant = &self.tenant;
        let logged = |statement: &pb::SignedStatement, log_index| api::LoggedStatement {
            statement: Some(statement.clone()),
            log_index,
        };
        let (disclosure, leaf) = tenant.logged_disclosure();
        let mut bundles = tenant.bundles();
        let place = |(bundle, log_index): &(Signed<pb::TrustBundle>, u64)| api::BundlePlace {
            version: bundle.version,
            log_index: *log_index,
        };
        let bundle_places = bundles.iter().map(place).collect();
        let (newest, _) = bundles.pop().unwrap();
        let older = bundles.iter().map(|(bundle, _)| bundle.raw().clone());
        let mut answer = api::GetTrustResponse {
            bundle: Some(newest.raw().clone()),
            older_bundles: older.collect(),
            bundle_places,
            key_records: vec![logged(tenant.key.record.raw(), 1)],
            share_epochs: vec![logged(tenant.key.epoch.raw(), 2)],
            disclosures: vec![logged(disclosure.raw(), leaf)],
            ..api::GetTrustResponse::default()
        };
        if let Some(hook) = &mut self.hooks.lock().unwrap().trust {
            hook(&mut answer);
        }
        Ok(Response::new(answer))
    }

    async fn publish_statement(
        &self,
        _: Request<api::PublishStatementRequest>,
    ) -> Result<Response<api::PublishStatementResponse>, Status> {
        Err(Status::unimplemented("publishing"))
    }

    async fn register_device(
        &self,
        request: Request<api::RegisterDeviceRequest>,
    ) -> Result<Response<api::RegisterDeviceResponse>, Status> {
        let raw = request.into_inner().device_cert.unwrap();
        let cert = Signed::<pb::DeviceCert>::decode(raw.clone()).unwrap();
        let device = DeviceId::try_from(cert.device.as_slice()).unwrap();
        self.devices.present(Device {
            tenant: self.tenant.id.clone(),
            device,
            certificate: cert.digest(),
            mls_key: cert.mls_key.as_slice().try_into().unwrap(),
        });
        let log_index = self.tenant.log_statement(&raw);
        let mut state = self.state.lock().unwrap();
        state.certs.insert(cert.digest(), raw);
        state.current.insert(device, cert.digest());
        Ok(Response::new(api::RegisterDeviceResponse { log_index }))
    }

    async fn create_challenge(
        &self,
        _: Request<api::CreateChallengeRequest>,
    ) -> Result<Response<api::CreateChallengeResponse>, Status> {
        let challenge = vec![5; 32];
        Ok(Response::new(api::CreateChallengeResponse { challenge }))
    }

    async fn login(
        &self,
        request: Request<api::LoginRequest>,
    ) -> Result<Response<api::LoginResponse>, Status> {
        let raw = request.into_inner().login.unwrap();
        let login = Signed::<pb::DeviceLogin>::decode(raw).unwrap();
        Ok(Response::new(api::LoginResponse {
            session: login.device.clone(),
            expiry: FAR,
        }))
    }

    async fn publish_key_packages(
        &self,
        request: Request<api::PublishKeyPackagesRequest>,
    ) -> Result<Response<api::PublishKeyPackagesResponse>, Status> {
        let device = session(&request)?;
        let request = request.into_inner();
        for package in &request.key_packages {
            check_key_package(&self.trust(), package, now()).unwrap();
        }
        let mut state = self.state.lock().unwrap();
        let packages = state.packages.entry(device).or_default();
        packages.extend(request.key_packages);
        let available = packages.len() as u32;
        Ok(Response::new(api::PublishKeyPackagesResponse { available }))
    }

    async fn claim_key_packages(
        &self,
        request: Request<api::ClaimKeyPackagesRequest>,
    ) -> Result<Response<api::ClaimKeyPackagesResponse>, Status> {
        let users = request.into_inner().users;
        let mut answer = api::ClaimKeyPackagesResponse::default();
        let mut state = self.state.lock().unwrap();
        let devices: Vec<_> = state.current.iter().map(|(d, c)| (*d, *c)).collect();
        for (device, certificate) in devices {
            let raw = state.certs[&certificate].clone();
            let user = Signed::<pb::DeviceCert>::decode(raw.clone())
                .unwrap()
                .user
                .clone();
            if !users.contains(&user) {
                continue;
            }
            let packages = state.packages.get_mut(&device);
            if let Some(key_package) = packages.and_then(VecDeque::pop_front) {
                answer.key_packages.push(api::ClaimedKeyPackage {
                    user,
                    device_cert: Some(raw),
                    key_package,
                    last_resort: false,
                });
            }
        }
        drop(state);
        if let Some(hook) = &mut self.hooks.lock().unwrap().claim {
            hook(&mut answer);
        }
        Ok(Response::new(answer))
    }

    async fn get_device_certs(
        &self,
        request: Request<api::GetDeviceCertsRequest>,
    ) -> Result<Response<api::GetDeviceCertsResponse>, Status> {
        let state = self.state.lock().unwrap();
        let digests = request.into_inner().digests;
        let found = digests.iter().filter_map(|digest| {
            state
                .certs
                .get(&Digest::try_from(digest.as_slice()).unwrap())
        });
        let mut answer = api::GetDeviceCertsResponse {
            device_certs: found.cloned().collect(),
        };
        drop(state);
        if let Some(hook) = &mut self.hooks.lock().unwrap().certs {
            hook(&mut answer);
        }
        Ok(Response::new(answer))
    }
}

#[tonic::async_trait]
impl RelayService for Relay {
    async fn create_conversation(
        &self,
        request: Request<api::CreateConversationRequest>,
    ) -> Result<Response<api::CreateConversationResponse>, Status> {
        self.note("CreateConversation");
        self.reached()?;
        let device = session(&request)?;
        let request = request.into_inner();
        let id = ConversationId::try_from(request.conversation.as_slice()).unwrap();
        let observer = Observer::start(self.trust(), &request.group_info).unwrap();
        let mut state = self.state.lock().unwrap();
        state
            .conversations
            .entry(id)
            .or_insert_with(|| Conversation {
                observer,
                chain: ChainState::start(id),
                items: Vec::new(),
                members: HashMap::from([(device, Member::default())]),
                counters: HashMap::new(),
                sent: HashMap::new(),
                commits: HashMap::new(),
            });
        Ok(Response::new(api::CreateConversationResponse::default()))
    }

    async fn get_conversation(
        &self,
        _: Request<api::GetConversationRequest>,
    ) -> Result<Response<api::GetConversationResponse>, Status> {
        Err(Status::unimplemented("state"))
    }

    async fn list_conversations(
        &self,
        _: Request<api::ListConversationsRequest>,
    ) -> Result<Response<api::ListConversationsResponse>, Status> {
        Err(Status::unimplemented("list"))
    }

    async fn acknowledge_notice(
        &self,
        request: Request<api::AcknowledgeNoticeRequest>,
    ) -> Result<Response<api::AcknowledgeNoticeResponse>, Status> {
        let device = session(&request)?;
        let raw = request.into_inner().acknowledgement.unwrap();
        let said = Signed::<pb::Acknowledgement>::decode(raw.clone()).unwrap();
        let id = ConversationId::try_from(said.conversation.as_slice()).unwrap();
        let log_index = self.tenant.log_statement(&raw);
        let mut state = self.state.lock().unwrap();
        let members = &mut state.conversations.get_mut(&id).unwrap().members;
        let disclosure = Digest::try_from(said.disclosure.as_slice()).unwrap();
        let member = members.get_mut(&device).unwrap();
        member.acknowledged.insert(disclosure);
        drop(state);
        self.wake();
        Ok(Response::new(api::AcknowledgeNoticeResponse { log_index }))
    }

    async fn submit_commit(
        &self,
        request: Request<api::SubmitCommitRequest>,
    ) -> Result<Response<api::SubmitCommitResponse>, Status> {
        self.note("SubmitCommit");
        self.reached()?;
        let request = request.into_inner();
        let id = ConversationId::try_from(request.conversation.as_slice()).unwrap();
        let digest = handshake_digest(&request.commit);
        let mut state = self.state.lock().unwrap();
        let conversation = state.conversations.get_mut(&id).unwrap();
        if let Some(answer) = conversation.commits.get(&digest) {
            return Ok(Response::new(answer.clone()));
        }
        let in_force = conversation.observer.disclosure().digest;
        let committed = match conversation.observer.handshake(&request.commit, now()) {
            Ok(committed) => committed,
            Err(greffe_mls::Refusal::Epoch { .. }) => {
                let error = greffe_service_kit::errors::ServiceError::new(
                    tonic::Code::Aborted,
                    greffe_service_kit::errors::Reason::new("EPOCH_STALE"),
                    "stale",
                );
                return Err(error.into());
            }
            Err(refusal) => return Err(Status::invalid_argument(refusal.to_string())),
        };
        let (receipt, chain) =
            self.tenant
                .receipt(&conversation.chain, pb::EntryKind::Handshake, &digest);
        conversation.chain = chain;
        let item = |item| api::ReceiveResponse {
            conversation: id.to_vec(),
            sequence: chain.sequence,
            receipt: Some(receipt.clone()),
            item: Some(item),
        };
        for removed in committed.removed {
            let member = conversation.members.get_mut(&removed.device).unwrap();
            member.until = Some(chain.sequence);
        }
        for added in committed.added {
            let welcome = api::DeliveredWelcome {
                welcome: request.welcome.clone(),
                ratchet_tree: vec![],
            };
            // an acknowledgement outlives a stay
            let earlier = conversation.members.get(&added.device);
            let acknowledged =
                earlier.map_or_else(HashSet::new, |member| member.acknowledged.clone());
            conversation.members.insert(
                added.device,
                Member {
                    acknowledged,
                    from: chain.sequence,
                    cursor: chain.sequence - 1,
                    welcome: Some(item(Item::Welcome(welcome))),
                    ..Default::default()
                },
            );
        }
        conversation
            .items
            .push((in_force, item(Item::Commit(request.commit))));
        let answer = api::SubmitCommitResponse {
            sequence: chain.sequence,
            receipt: Some(receipt.clone()),
        };
        conversation.commits.insert(digest, answer.clone());
        drop(state);
        self.wake();
        Ok(Response::new(answer))
    }

    type SendStream = ReceiverStream<Result<api::SendResponse, Status>>;

    async fn send(
        &self,
        request: Request<Streaming<api::SendRequest>>,
    ) -> Result<Response<Self::SendStream>, Status> {
        session(&request)?;
        let (answers, receiver) = tokio::sync::mpsc::channel(1024);
        let (relay, mut requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                relay.note("Send");
                if relay.hooks.lock().unwrap().hang_up {
                    return;
                }
                let known = envelope_digest(&request.envelope.as_ref().unwrap().body);
                let answer = relay.sequence(&request);
                assert_eq!(answer.envelope, known.to_vec());
                if relay.hooks.lock().unwrap().mute {
                    continue;
                }
                if answers.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type ReceiveStream = ReceiverStream<Result<api::ReceiveResponse, Status>>;

    async fn receive(
        &self,
        request: Request<Streaming<api::ReceiveRequest>>,
    ) -> Result<Response<Self::ReceiveStream>, Status> {
        self.note("Receive");
        let device = session(&request)?;
        let (deliveries, receiver) = tokio::sync::mpsc::channel(1024);
        let (relay, mut requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            let mut sent = HashMap::new();
            let mut changed = relay.changed.subscribe();
            let mut caught_up = false;
            loop {
                let waiting = relay.pending(&device, &mut sent);
                caught_up &= waiting.is_empty();
                for item in waiting {
                    if deliveries.send(Ok(item)).await.is_err() {
                        return;
                    }
                }
                if !caught_up {
                    caught_up = true;
                    let end = api::ReceiveResponse {
                        item: Some(Item::CaughtUp(api::CaughtUp {})),
                        ..Default::default()
                    };
                    let _ = deliveries.send(Ok(end)).await;
                }
                tokio::select! {
                    _ = changed.changed() => {}
                    () = deliveries.closed() => return,
                    request = requests.message() => match request {
                        Ok(Some(request)) => {
                            if let Some(api::receive_request::Part::Ack(ack)) = request.part {
                                relay.acknowledge(&device, &ack);
                            }
                        }
                        _ => return,
                    },
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn upload_attachment(
        &self,
        request: Request<Streaming<api::UploadAttachmentRequest>>,
    ) -> Result<Response<api::UploadAttachmentResponse>, Status> {
        use api::upload_attachment_request::Part;
        let mut requests = request.into_inner();
        let Some(Part::Start(start)) = requests.message().await?.unwrap().part else {
            return Err(Status::invalid_argument("start"));
        };
        let mut bytes = Vec::new();
        while let Some(request) = requests.message().await? {
            let Some(Part::Chunk(chunk)) = request.part else {
                return Err(Status::invalid_argument("chunk"));
            };
            bytes.extend(chunk);
        }
        assert_eq!(bytes.len() as u64, start.size);
        let digest = start.digest.clone();
        self.state.lock().unwrap().files.insert(start.digest, bytes);
        Ok(Response::new(api::UploadAttachmentResponse { digest }))
    }

    type DownloadAttachmentStream = ReceiverStream<Result<api::DownloadAttachmentResponse, Status>>;

    async fn download_attachment(
        &self,
        request: Request<api::DownloadAttachmentRequest>,
    ) -> Result<Response<Self::DownloadAttachmentStream>, Status> {
        let bytes = self.state.lock().unwrap().files[&request.into_inner().digest].clone();
        let (pieces, receiver) = tokio::sync::mpsc::channel(64);
        tokio::spawn(async move {
            for chunk in bytes.chunks(1 << 20) {
                let chunk = chunk.to_vec();
                let piece = api::DownloadAttachmentResponse { chunk };
                if pieces.send(Ok(piece)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn report(
        &self,
        request: Request<api::ReportRequest>,
    ) -> Result<Response<api::ReportResponse>, Status> {
        self.note("Report");
        let report = request.into_inner().report.unwrap();
        let log_index = self.tenant.log_statement(&report);
        self.state.lock().unwrap().reports.push(report);
        Ok(Response::new(api::ReportResponse {
            log_index,
            proves: true,
        }))
    }
}
