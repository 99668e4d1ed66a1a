//! A member whose program is not ours, and an archive that shows orders as it likes.

use std::sync::{Arc, Mutex};

use ed25519_dalek::SigningKey;
use greffe_api::archive as archive_api;
use greffe_api::archive::order_service_server::OrderService;
use greffe_api::relay as api;
use greffe_api::relay::directory_service_server::DirectoryService as _;
use greffe_api::relay::relay_service_server::RelayService as _;
use greffe_envelope::derive::{Seed, SeedKeys, core};
use greffe_envelope::envelope::{Envelope, Header, record_digest};
use greffe_envelope::label::sha256;
use greffe_envelope::message::{Draft, Sealed, wrap_ref};
use greffe_envelope::padding::pad;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::stream::seal_all;
use greffe_envelope::wrap::{JournalKey, make_wrap};
use greffe_types::{ConversationId, DeviceId, Digest, MessageId};
use mls_rs::extension::ExtensionType;
use mls_rs::identity::SigningIdentity;
use mls_rs::identity::basic::{BasicCredential, BasicIdentityProvider};
use mls_rs::{CipherSuite, ExtensionList};
use mls_rs_core::crypto::{SignaturePublicKey, SignatureSecretKey};
use mls_rs_crypto_awslc::AwsLcCryptoProvider;
use prost::Message as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};

use crate::tenant::{FAR, now, public, signer};
use crate::world::World;

/// What a dishonest sender does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cheat {
    Honest,
    /// The journal gets another key than the recipients.
    Wrap,
    /// The recipients get another seed than the one committed to.
    Seed,
    /// The body commits to another content key.
    Commitment,
    /// MLS authenticates another envelope.
    Splice,
    /// The header names another chain than the recipients see.
    Seen,
}

pub(crate) struct Mallory {
    pub(crate) id: ConversationId,
    pub(crate) cert: Signed<pb::DeviceCert>,
    device: DeviceId,
    key: SigningKey,
    mls: greffe_mls::Conversation,
    counter: u64,
    previous: Digest,
}

fn with_session<T>(message: T, device: &DeviceId) -> Request<T> {
    let mut request = Request::new(message);
    let token = MetadataValue::from_bytes(device.as_bytes());
    request
        .metadata_mut()
        .insert_bin("greffe-session-bin", token);
    request
}

impl Mallory {
    /// Creates a conversation and invites a user.
    pub(crate) async fn inviting(world: &World, user: &str) -> Self {
        let (relay, tenant) = (&world.relay, &world.tenant);
        let (device, key) = (DeviceId::new([0x66; 16]), signer(200));
        let mls_key = greffe_mls::SigningKey::generate().unwrap();
        let cert = tenant.certify(pb::DeviceCert {
            tenant: "acme".into(),
            user: "mallory".into(),
            device: device.to_vec(),
            mls_key: mls_key.public().to_vec(),
            envelope_key: public(&key),
            not_before: 0,
            not_after: FAR,
        });
        let request = api::RegisterDeviceRequest {
            device_cert: Some(cert.clone()),
        };
        relay.register_device(Request::new(request)).await.unwrap();
        let cert = Signed::<pb::DeviceCert>::decode(cert).unwrap();
        let client =
            greffe_mls::Client::new(device, cert.digest(), mls_key, relay.trust()).unwrap();
        let id = ConversationId::new([0x77; 16]);
        let extension = tenant.disclosure().raw().encode_to_vec();
        let (mut mls, _) = client.create(id, &extension, vec![], now()).unwrap();
        let request = api::CreateConversationRequest {
            conversation: id.to_vec(),
            group_info: mls.group_info().unwrap(),
        };
        let request = with_session(request, &device);
        relay.create_conversation(request).await.unwrap();
        let request = api::ClaimKeyPackagesRequest {
            users: vec![user.into()],
        };
        let request = with_session(request, &device);
        let claimed = relay
            .claim_key_packages(request)
            .await
            .unwrap()
            .into_inner();
        let packages = claimed
            .key_packages
            .into_iter()
            .map(|claimed| claimed.key_package);
        let packages: Vec<Vec<u8>> = packages.collect();
        let (handshake, _) = mls.add(&packages, now()).unwrap();
        let request = api::SubmitCommitRequest {
            conversation: id.to_vec(),
            commit: handshake.commit,
            welcome: handshake.welcome.unwrap(),
            ratchet_tree: vec![],
        };
        let request = with_session(request, &device);
        relay.submit_commit(request).await.unwrap();
        let _ = mls.apply_pending().unwrap();
        Self {
            id,
            cert,
            device,
            key,
            mls,
            counter: 0,
            previous: Digest::ZERO,
        }
    }

    /// Sends a message that is false in one way; gives its envelope digest.
    pub(crate) fn send(&mut self, world: &World, cheat: Cheat, salt: u8) -> Digest {
        let tenant = &world.tenant;
        let journal = JournalKey::from_record(&tenant.key.record).unwrap();
        let message = MessageId::new([salt; 16]);
        let (seed, other) = (Seed::from_bytes([salt; 32]), Seed::from_bytes([!salt; 32]));
        let header = pb::Header {
            tenants: vec!["acme".into()],
            conversation: self.id.to_vec(),
            message_id: message.to_vec(),
            mode: pb::Mode::Journaled.into(),
            sender_user: "mallory".into(),
            sender_device: self.device.to_vec(),
            device_cert: self.cert.digest().to_vec(),
            mls_epoch: self.mls.epoch(),
            sent_at: now().get(),
            record_class: "communication".into(),
            classification: String::new(),
            key_ids: vec![journal.key_id().to_vec()],
            policy_digest: tenant.disclosure().policy_digest.clone(),
            attachments: vec![],
            device_counter: self.counter + 1,
            previous: self.previous.to_vec(),
            seen_seq: if cheat == Cheat::Seen { 1 } else { 0 },
            seen_head: if cheat == Cheat::Seen {
                vec![1; 32]
            } else {
                vec![0; 32]
            },
        };
        let content = pb::Content {
            kind: pb::ContentKind::Text.into(),
            text: b"as you see it".to_vec(),
            ..Default::default()
        };
        let seal = |seed: &Seed| -> Sealed {
            Draft::new(seed, "acme", &self.id, &message, &self.device)
                .seal(&header, &content, &[&journal], &self.key)
                .unwrap()
        };
        let (honest, false_one) = (seal(&seed), seal(&other));
        let mut body = honest.envelope.body().clone();
        let mut wraps = honest.wraps;
        match cheat {
            Cheat::Wrap => {
                wraps = false_one.wraps;
                body.wraps = wraps.iter().map(|wrap| wrap_ref(wrap).unwrap()).collect();
            }
            Cheat::Commitment => body.commitment = false_one.envelope.commitment().to_vec(),
            Cheat::Honest | Cheat::Seed | Cheat::Splice | Cheat::Seen => {}
        }
        let envelope = Envelope::sign(&body, &self.key).unwrap();
        let digest = envelope.digest();
        let carried = if cheat == Cheat::Seed { &other } else { &seed };
        let named = if cheat == Cheat::Splice {
            Digest::new([1; 32])
        } else {
            digest
        };
        let (mls_message, _) = self.mls.seal(carried.as_bytes(), &named).unwrap();
        let answer = world.relay.sequence(&api::SendRequest {
            envelope: Some(envelope.into_raw()),
            wraps,
            ciphertext: honest.ciphertext,
            mls_message,
        });
        assert!(answer.sequence > 0, "{}", answer.reason);
        (self.counter, self.previous) = (self.counter + 1, digest);
        digest
    }
}

impl Mallory {
    /// Says whatever these bytes are, and is honest in all else; gives the envelope digest.
    pub(crate) fn say(&mut self, world: &World, content: &[u8], salt: u8) -> Digest {
        let journal = JournalKey::from_record(&world.tenant.key.record).unwrap();
        let message = MessageId::new([salt; 16]);
        let seed = Seed::from_bytes([salt; 32]);
        let header = pb::Header {
            tenants: vec!["acme".into()],
            conversation: self.id.to_vec(),
            message_id: message.to_vec(),
            mode: pb::Mode::Journaled.into(),
            sender_user: "mallory".into(),
            sender_device: self.device.to_vec(),
            device_cert: self.cert.digest().to_vec(),
            mls_epoch: self.mls.epoch(),
            sent_at: now().get(),
            record_class: "communication".into(),
            key_ids: vec![journal.key_id().to_vec()],
            policy_digest: world.tenant.disclosure().policy_digest.clone(),
            device_counter: self.counter + 1,
            previous: self.previous.to_vec(),
            seen_head: vec![0; 32],
            ..Default::default()
        };
        let header = Header::build(&header).unwrap();
        let keys = SeedKeys::new(&seed, &core("acme", &self.id, &message, &self.device));
        let (key, commitment) = keys.cek().content(&header.digest());
        let ciphertext = seal_all(&key, &pad(content)).unwrap();
        let ct = sha256(&ciphertext);
        let rd = record_digest(&header.digest(), &ct, &commitment, &keys.commitment());
        let wrap = make_wrap(&keys, &rd, &journal).unwrap();
        let body = pb::EnvelopeBody {
            header: header.bytes().to_vec(),
            ciphertext_digest: ct.to_vec(),
            ciphertext_size: ciphertext.len() as u64,
            commitment: commitment.to_vec(),
            seed_commitment: keys.commitment().to_vec(),
            wraps: vec![wrap_ref(&wrap).unwrap()],
        };
        let envelope = Envelope::sign(&body, &self.key).unwrap();
        let digest = envelope.digest();
        let (mls_message, _) = self.mls.seal(seed.as_bytes(), &digest).unwrap();
        let answer = world.relay.sequence(&api::SendRequest {
            envelope: Some(envelope.into_raw()),
            wraps: vec![wrap],
            ciphertext,
            mls_message,
        });
        assert!(answer.sequence > 0, "{}", answer.reason);
        (self.counter, self.previous) = (self.counter + 1, digest);
        digest
    }
}

/// Registers a device of a user whose client is of before edits, retractions and reactions: its leaf says nothing of them.
pub(crate) async fn older_client(world: &World, user: &str) {
    let (device, key) = (DeviceId::new([0x55; 16]), signer(201));
    let mls_key = greffe_mls::SigningKey::generate().unwrap();
    let cert = world.tenant.certify(pb::DeviceCert {
        tenant: "acme".into(),
        user: user.into(),
        device: device.to_vec(),
        mls_key: mls_key.public().to_vec(),
        envelope_key: public(&key),
        not_before: 0,
        not_after: FAR,
    });
    let request = api::RegisterDeviceRequest {
        device_cert: Some(cert.clone()),
    };
    let registered = world.relay.register_device(Request::new(request)).await;
    registered.unwrap();
    let digest = Signed::<pb::DeviceCert>::decode(cert).unwrap().digest();
    let credential = [&device.to_vec()[..], digest.as_bytes()].concat();
    let identity = SigningIdentity::new(
        BasicCredential::new(credential).into_credential(),
        SignaturePublicKey::new_slice(&mls_key.public()),
    );
    let secret = SignatureSecretKey::new_slice(&mls_key.to_bytes());
    let client = mls_rs::Client::builder()
        .identity_provider(BasicIdentityProvider::new())
        .crypto_provider(AwsLcCryptoProvider::new())
        .extension_type(ExtensionType::new(greffe_mls::EXTENSION_TYPE))
        .signing_identity(identity, secret, CipherSuite::CURVE25519_AES128)
        .build();
    let package = client
        .generate_key_package_message(ExtensionList::new(), ExtensionList::new(), None)
        .unwrap();
    let request = api::PublishKeyPackagesRequest {
        key_packages: vec![package.to_bytes().unwrap()],
        last_resort: Vec::new(),
    };
    let request = with_session(request, &device);
    world.relay.publish_key_packages(request).await.unwrap();
}

/// An archive's orders: what it shows, and how often it was given an approval.
#[derive(Clone, Default)]
pub(crate) struct Orders(pub(crate) Arc<Mutex<Shown>>);

#[derive(Default)]
pub(crate) struct Shown {
    pub(crate) order: Option<pb::SignedStatement>,
    pub(crate) records: Vec<Vec<u8>>,
    pub(crate) approvals: Vec<pb::SignedStatement>,
    /// Leaf of the order, once it is released.
    pub(crate) released: Option<u64>,
    /// What is handed out under it.
    pub(crate) fetched: Vec<archive_api::FetchedRecord>,
    /// What is listed.
    pub(crate) listed: Vec<pb::SignedStatement>,
}

impl Orders {
    fn status(&self) -> archive_api::OrderStatus {
        let shown = self.0.lock().unwrap();
        if let Some(log_index) = shown.released {
            return archive_api::OrderStatus {
                state: archive_api::OrderState::Released.into(),
                order: shown.order.clone(),
                approvals: shown.approvals.clone(),
                log_index,
                ..Default::default()
            };
        }
        archive_api::OrderStatus {
            state: archive_api::OrderState::Pending.into(),
            order: shown.order.clone(),
            approvals: shown.approvals.clone(),
            missing: "an approval".into(),
            ..Default::default()
        }
    }
}

#[tonic::async_trait]
impl OrderService for Orders {
    async fn file_order(
        &self,
        request: Request<archive_api::FileOrderRequest>,
    ) -> Result<Response<archive_api::FileOrderResponse>, Status> {
        let request = request.into_inner();
        {
            let mut shown = self.0.lock().unwrap();
            shown.order = request.order;
            shown.records = request.records;
        }
        Ok(Response::new(archive_api::FileOrderResponse {
            status: Some(self.status()),
        }))
    }

    async fn approve_order(
        &self,
        request: Request<archive_api::ApproveOrderRequest>,
    ) -> Result<Response<archive_api::ApproveOrderResponse>, Status> {
        let approval = request.into_inner().approval.unwrap();
        self.0.lock().unwrap().approvals.push(approval);
        Ok(Response::new(archive_api::ApproveOrderResponse {
            status: Some(self.status()),
        }))
    }

    async fn get_order(
        &self,
        _: Request<archive_api::GetOrderRequest>,
    ) -> Result<Response<archive_api::GetOrderResponse>, Status> {
        let records = self.0.lock().unwrap().records.clone();
        Ok(Response::new(archive_api::GetOrderResponse {
            status: Some(self.status()),
            records,
        }))
    }

    async fn list_orders(
        &self,
        _: Request<archive_api::ListOrdersRequest>,
    ) -> Result<Response<archive_api::ListOrdersResponse>, Status> {
        let listed = self.0.lock().unwrap().listed.clone();
        let orders = listed.into_iter().map(|order| archive_api::OrderStatus {
            state: archive_api::OrderState::Pending.into(),
            order: Some(order),
            ..Default::default()
        });
        Ok(Response::new(archive_api::ListOrdersResponse {
            orders: orders.collect(),
            next_page_token: String::new(),
        }))
    }

    type FetchRecordsStream = ReceiverStream<Result<archive_api::FetchRecordsResponse, Status>>;

    async fn fetch_records(
        &self,
        _: Request<archive_api::FetchRecordsRequest>,
    ) -> Result<Response<Self::FetchRecordsStream>, Status> {
        use archive_api::fetch_records_response::Part;
        let fetched = self.0.lock().unwrap().fetched.clone();
        let (records, receiver) = tokio::sync::mpsc::channel(128);
        for record in fetched {
            let part = Some(Part::Record(record));
            let record = archive_api::FetchRecordsResponse { part };
            records.send(Ok(record)).await.unwrap();
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type FetchAttachmentStream =
        ReceiverStream<Result<archive_api::FetchAttachmentResponse, Status>>;

    async fn fetch_attachment(
        &self,
        _: Request<archive_api::FetchAttachmentRequest>,
    ) -> Result<Response<Self::FetchAttachmentStream>, Status> {
        Err(Status::unimplemented("fetch"))
    }
}
