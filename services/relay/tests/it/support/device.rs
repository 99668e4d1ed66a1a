//! A device as its client would be: keys, certificate, MLS state, a session, its place in each conversation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use greffe_api::relay as api;
use greffe_api::relay::directory_service_client::DirectoryServiceClient;
use greffe_api::relay::relay_service_client::RelayServiceClient;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::device_signer;
use greffe_mls::{
    Client, Conversation, Handshake, KeyPackageKind, PresentedDevices, Row, RowKey, StateChange,
    Table, Trust,
};
use greffe_relay::disclosures::LoggedDisclosures;
use greffe_relay::session::METADATA;
use greffe_service_kit::errors::CallError;
use greffe_service_kit::tls::Channel;
use greffe_types::{ConversationId, DeviceId, Digest, TenantId};
use prost::Message as _;
use tonic::Request;
use tonic::metadata::MetadataValue;
use zeroize::Zeroizing;

use super::now;
use super::tenant::{NAME, Tenant, notice};

const DAY: Duration = Duration::from_secs(86_400);

/// A certified device.
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) user: String,
    pub(crate) cert: Signed<pb::DeviceCert>,
    pub(crate) envelope_key: SigningKey,
    pub(crate) mls_key: greffe_mls::SigningKey,
    pub(crate) client: Client,
    pub(crate) known: Arc<PresentedDevices>,
    pub(crate) session: Vec<u8>,
    pub(crate) directory: DirectoryServiceClient<Channel>,
    pub(crate) relay: RelayServiceClient<Channel>,
    rows: BTreeMap<RowKey, Vec<u8>>,
    /// The disclosure that it creates conversations under.
    pub(crate) extension: Vec<u8>,
}

impl Device {
    /// Certified by the tenant's issuer, not registered yet.
    pub(crate) fn new(tenant: &Tenant, channel: Channel, user: &str, number: u8) -> Self {
        let mls_key = greffe_mls::SigningKey::generate().unwrap();
        let envelope_key = SigningKey::from_bytes(&[100 + number; 32]);
        let id = DeviceId::new([number; 16]);
        let cert = tenant.cert(user, id, mls_key.public(), &envelope_key, &tenant.issuer);
        let known = Arc::new(PresentedDevices::new());
        let trust = Trust {
            disclosures: Arc::new(LoggedDisclosures::new(tenant.trust.clone())),
            devices: known.clone(),
        };
        present(&known, &cert);
        let client = Client::new(id, cert.digest(), mls_key.clone(), trust).unwrap();
        Self {
            id,
            user: user.into(),
            cert,
            envelope_key,
            mls_key,
            client,
            known,
            session: Vec::new(),
            directory: DirectoryServiceClient::new(channel.clone())
                .max_decoding_message_size(8 << 20),
            relay: RelayServiceClient::new(channel).max_decoding_message_size(8 << 20),
            rows: BTreeMap::new(),
            extension: tenant.disclosure.raw().encode_to_vec(),
        }
    }

    /// Goes on at another relay, with the session it has.
    pub(crate) fn connect(&mut self, channel: Channel) {
        self.directory =
            DirectoryServiceClient::new(channel.clone()).max_decoding_message_size(8 << 20);
        self.relay = RelayServiceClient::new(channel).max_decoding_message_size(8 << 20);
    }

    /// A request with the session.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let session = MetadataValue::from_bytes(&self.session);
        request.metadata_mut().insert_bin(METADATA, session);
        request
    }

    /// Signs something with the envelope key.
    pub(crate) fn sign<M: greffe_envelope::statement::Statement>(&self, message: M) -> Signed<M> {
        Signed::sign(message, &[(&device_signer(&self.id), &self.envelope_key)])
    }

    pub(crate) async fn challenge(&mut self) -> Result<Vec<u8>, CallError> {
        let request = api::CreateChallengeRequest {
            device: self.id.to_vec(),
        };
        let answer = self.directory.create_challenge(request).await?;
        Ok(answer.into_inner().challenge)
    }

    /// The login that a challenge asks for.
    pub(crate) fn login_message(&self, challenge: Vec<u8>) -> pb::DeviceLogin {
        pb::DeviceLogin {
            tenant: NAME.into(),
            device: self.id.to_vec(),
            device_cert: self.cert.digest().to_vec(),
            audience: "relay".into(),
            challenge,
            at: now().get(),
        }
    }

    pub(crate) async fn login(&mut self) -> Result<(), CallError> {
        let challenge = self.challenge().await?;
        let login = self.sign(self.login_message(challenge)).into_raw();
        self.login_with(login).await
    }

    pub(crate) async fn login_with(&mut self, login: pb::SignedStatement) -> Result<(), CallError> {
        let request = api::LoginRequest { login: Some(login) };
        self.session = self.directory.login(request).await?.into_inner().session;
        Ok(())
    }

    /// Fresh key packages, stored here.
    pub(crate) fn key_packages(&mut self, count: usize, kind: KeyPackageKind) -> Vec<Vec<u8>> {
        let made = self.client.key_packages(count, kind, now(), DAY);
        let (packages, change) = made.unwrap();
        self.write(&change);
        packages.into_iter().map(|package| package.bytes).collect()
    }

    pub(crate) async fn publish_key_packages(&mut self, count: usize) -> Result<u32, CallError> {
        let key_packages = self.key_packages(count, KeyPackageKind::Once);
        let request = self.request(api::PublishKeyPackagesRequest {
            key_packages,
            last_resort: vec![],
        });
        let answer = self.directory.publish_key_packages(request).await?;
        Ok(answer.into_inner().available)
    }

    pub(crate) async fn claim(
        &mut self,
        users: &[&str],
    ) -> Result<Vec<api::ClaimedKeyPackage>, CallError> {
        let request = self.request(api::ClaimKeyPackagesRequest {
            users: users.iter().map(|user| (*user).to_owned()).collect(),
        });
        let answer = self.directory.claim_key_packages(request).await?;
        Ok(answer.into_inner().key_packages)
    }

    /// A group of this device alone, that the relay does not know yet.
    pub(crate) fn group(&mut self, number: u8) -> Conversation {
        let id = ConversationId::new([number; 16]);
        let rows = self.disclosures();
        let created = self.client.create(id, &self.extension, rows, now());
        let (mut conversation, change) = created.unwrap();
        self.write(&change);
        conversation.persisted();
        conversation
    }

    /// Creates a conversation.
    pub(crate) async fn create(mut self, number: u8) -> Result<Member, CallError> {
        let conversation = self.group(number);
        let group_info = conversation.group_info().unwrap();
        self.create_with(&conversation.id(), group_info).await?;
        Ok(Member {
            device: self,
            conversation,
        })
    }

    pub(crate) async fn create_with(
        &mut self,
        id: &ConversationId,
        group_info: Vec<u8>,
    ) -> Result<api::Conversation, CallError> {
        let request = self.request(api::CreateConversationRequest {
            conversation: id.to_vec(),
            group_info,
        });
        let answer = self.relay.create_conversation(request).await?;
        Ok(answer.into_inner().conversation.unwrap())
    }

    /// Joins by a Welcome. The certificates of the others are presented first.
    pub(crate) fn join(mut self, welcome: &Invited) -> Result<Member, greffe_mls::MlsError> {
        for cert in &welcome.certs {
            present(&self.known, cert);
        }
        let keys = self.client.welcome_rows(&welcome.welcome)?;
        let mut rows: Vec<Row> = keys.iter().filter_map(|key| self.row(key)).collect();
        rows.extend(self.disclosures());
        let (mut conversation, change) = self.client.join(&welcome.welcome, rows)?;
        self.write(&change);
        conversation.persisted();
        Ok(Member {
            device: self,
            conversation,
        })
    }

    pub(crate) fn write(&mut self, change: &StateChange) {
        for (key, value) in change.rows() {
            match value {
                Some(value) => self.rows.insert(key.clone(), value.to_vec()),
                None => self.rows.remove(key),
            };
        }
    }

    fn row(&self, key: &RowKey) -> Option<Row> {
        let value = Zeroizing::new(self.rows.get(key)?.clone());
        let key = key.clone();
        Some(Row { key, value })
    }

    fn disclosures(&self) -> Vec<Row> {
        let keys = self
            .rows
            .keys()
            .filter(|key| key.table == Table::Disclosure);
        keys.filter_map(|key| self.row(key)).collect()
    }
}

/// Adds a certificate to what a client knows.
pub(crate) fn present(known: &PresentedDevices, cert: &Signed<pb::DeviceCert>) {
    known.present(greffe_mls::Device {
        tenant: TenantId::new(cert.tenant.as_str()).unwrap(),
        device: DeviceId::try_from(cert.device.as_slice()).unwrap(),
        certificate: cert.digest(),
        mls_key: cert.mls_key.as_slice().try_into().unwrap(),
    });
}

/// What those who are added need.
#[derive(Clone)]
pub(crate) struct Invited {
    pub(crate) welcome: Vec<u8>,
    pub(crate) certs: Vec<Signed<pb::DeviceCert>>,
}

/// A device in a conversation.
pub(crate) struct Member {
    pub(crate) device: Device,
    pub(crate) conversation: Conversation,
}

impl Member {
    pub(crate) fn id(&self) -> ConversationId {
        self.conversation.id()
    }

    /// The acknowledgement of a disclosure.
    pub(crate) fn acknowledgement(&self, disclosure: &Digest) -> pb::Acknowledgement {
        pb::Acknowledgement {
            tenant: NAME.into(),
            user: self.device.user.clone(),
            device: self.device.id.to_vec(),
            conversation: self.id().to_vec(),
            disclosure: disclosure.to_vec(),
            language: notice().language,
            notice: notice().digest,
            at: now().get(),
        }
    }

    /// Acknowledges the disclosure in force.
    pub(crate) async fn acknowledge(&mut self) -> Result<u64, CallError> {
        let disclosure = self.conversation.disclosure().digest;
        let signed = self.device.sign(self.acknowledgement(&disclosure));
        self.acknowledge_with(signed.into_raw()).await
    }

    pub(crate) async fn acknowledge_with(
        &mut self,
        signed: pb::SignedStatement,
    ) -> Result<u64, CallError> {
        let request = self.device.request(api::AcknowledgeNoticeRequest {
            acknowledgement: Some(signed),
        });
        let answer = self.device.relay.acknowledge_notice(request).await?;
        Ok(answer.into_inner().log_index)
    }

    /// Claims key packages and prepares a commit that adds their devices.
    pub(crate) async fn prepare_add(&mut self, users: &[&str]) -> (Handshake, Invited) {
        let claimed = self.device.claim(users).await.unwrap();
        let mut certs = vec![self.device.cert.clone()];
        let mut packages = Vec::new();
        for claimed in claimed {
            let cert = Signed::decode(claimed.device_cert.unwrap()).unwrap();
            present(&self.device.known, &cert);
            certs.push(cert);
            packages.push(claimed.key_package);
        }
        let (handshake, change) = self.conversation.add(&packages, now()).unwrap();
        self.device.write(&change);
        let welcome = handshake.welcome.clone().unwrap_or_default();
        (handshake, Invited { welcome, certs })
    }

    /// Adds the devices of users and applies the commit once it is archived.
    pub(crate) async fn add(&mut self, users: &[&str]) -> Result<Invited, CallError> {
        let (handshake, invited) = self.prepare_add(users).await;
        self.submit(&handshake).await?;
        self.apply();
        Ok(invited)
    }

    /// Hands a commit to the relay.
    pub(crate) async fn submit(
        &mut self,
        handshake: &Handshake,
    ) -> Result<api::SubmitCommitResponse, CallError> {
        let request = self.commit_request(handshake);
        self.submit_raw(request).await
    }

    pub(crate) fn commit_request(&self, handshake: &Handshake) -> api::SubmitCommitRequest {
        api::SubmitCommitRequest {
            conversation: self.id().to_vec(),
            commit: handshake.commit.clone(),
            welcome: handshake.welcome.clone().unwrap_or_default(),
            ratchet_tree: vec![],
        }
    }

    pub(crate) async fn submit_raw(
        &mut self,
        request: api::SubmitCommitRequest,
    ) -> Result<api::SubmitCommitResponse, CallError> {
        let request = self.device.request(request);
        let answer = self.device.relay.submit_commit(request).await?;
        Ok(answer.into_inner())
    }

    /// Applies the commit of its own that waits.
    pub(crate) fn apply(&mut self) {
        let (_, change) = self.conversation.apply_pending().unwrap();
        self.device.write(&change);
        self.conversation.persisted();
    }

    /// Drops the commit of its own that waits.
    pub(crate) fn clear(&mut self) {
        let change = self.conversation.clear_pending().unwrap();
        self.device.write(&change);
        self.conversation.persisted();
    }

    /// The conversation as the relay has it.
    pub(crate) async fn view(&mut self) -> Result<api::Conversation, CallError> {
        let request = self.device.request(api::GetConversationRequest {
            conversation: self.id().to_vec(),
        });
        let answer = self.device.relay.get_conversation(request).await?;
        Ok(answer.into_inner().conversation.unwrap())
    }
}
