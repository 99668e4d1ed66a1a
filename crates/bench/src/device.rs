//! A device alone in a conversation of its own, whose messages are sealed before they are sent: what seals is then not part of
//! what is measured.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ed25519_dalek::SigningKey;
use greffe_api::relay as api;
use greffe_api::relay::relay_service_client::RelayServiceClient;
use greffe_client::Client;
use greffe_envelope::attachment::seal_attachment;
use greffe_envelope::chain::{ChainState, check_receipt};
use greffe_envelope::derive::Seed;
use greffe_envelope::envelope::Envelope;
use greffe_envelope::message::{Draft, Opened, open_with_seed};
use greffe_envelope::pb;
use greffe_envelope::recompute::recompute;
use greffe_envelope::statement::{Signed, Statement};
use greffe_envelope::trust::{ISSUER, VerifiedDisclosure, device_signer};
use greffe_mls::{Conversation, Event, KeyPackageKind, PresentedDevices, Row, Trust};
use greffe_policy::Pack;
use greffe_relay::disclosures::LoggedDisclosures;
use greffe_relay::session::METADATA;
use greffe_service_kit::boot::SharedTrust;
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_service_kit::tls::Channel;
use greffe_types::{ConversationId, DeviceId, Digest, MessageId, TenantId};
use prost::Message as _;
use tonic::Request;
use tonic::metadata::{BinaryMetadataValue, MetadataValue};

use crate::up::App;

const DAY: Duration = Duration::from_secs(86_400);
/// Members added by one commit at most.
const AT_ONCE: usize = 250;

/// The device and its conversation.
pub(crate) struct Device {
    id: DeviceId,
    user: String,
    certificate: Digest,
    pub(crate) signed_certificate: pb::SignedStatement,
    key: SigningKey,
    tenant: TenantId,
    disclosure: Arc<VerifiedDisclosure>,
    class: String,
    conversation: Conversation,
    trust: Trust,
    known: Arc<PresentedDevices>,
    session: BinaryMetadataValue,
    relay: RelayServiceClient<Channel>,
    counter: u64,
    previous: Digest,
}

/// 16, or more, bytes of the system's randomness.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

impl Device {
    /// Registers one, logs it in, creates its conversation and acknowledges the notice.
    ///
    /// # Errors
    /// When the relay refuses any of it.
    pub(crate) async fn new(app: &App, number: u8) -> Result<Self> {
        let client = &app.client;
        let (id, key) = (
            {
                let mut id = random::<16>()?;
                // Devices are spread over connections by their first byte.
                id[0] = number;
                DeviceId::new(id)
            },
            SigningKey::from_bytes(&random()?),
        );
        let mls_key = greffe_mls::SigningKey::generate()?;
        let tenant = client.connection().tenant().clone();
        let user = format!("user-{number}");
        let now = SystemClock.now();
        let certificate = Signed::sign(
            pb::DeviceCert {
                tenant: tenant.to_string(),
                user: user.clone(),
                device: id.to_vec(),
                mls_key: mls_key.public().to_vec(),
                envelope_key: key.verifying_key().to_bytes().to_vec(),
                not_before: now.minus(Duration::from_secs(300)).get(),
                not_after: now.plus(DAY).get(),
            },
            &[(ISSUER, &app.issuer)],
        );
        let mut directory = client.connection().directory()?;
        let register = api::RegisterDeviceRequest {
            device_cert: Some(certificate.raw().clone()),
        };
        directory.register_device(register).await?;
        let session = log_in(client, &tenant, &id, certificate.digest(), &key).await?;

        let known = Arc::new(PresentedDevices::new());
        known.present(greffe_mls::Device {
            tenant: tenant.clone(),
            device: id,
            certificate: certificate.digest(),
            mls_key: mls_key.public(),
        });
        let state = client.trust()?;
        let disclosure = state.current_disclosure(pb::Mode::Journaled);
        let disclosure = disclosure.context("no disclosure is in force")?.clone();
        let trust = Trust {
            disclosures: Arc::new(LoggedDisclosures::new(SharedTrust::new((*state).clone()))),
            devices: known.clone(),
        };
        let mls = greffe_mls::Client::new(id, certificate.digest(), mls_key, trust.clone())?;
        let extension = disclosure.signed().raw().encode_to_vec();
        let group = ConversationId::new(random()?);
        let (mut conversation, _) = mls.create(group, &extension, Vec::new(), now)?;
        conversation.persisted();
        let policy = disclosure.message().policy_digest.clone();
        let mut packs = Pack::all_embedded().iter();
        let pack = packs.find(|pack| pack.digest().as_bytes() == policy.as_slice());
        let pack = pack.context("the policy pack is none of ours")?;
        let mut device = Self {
            relay: client.connection().relay(&id)?,
            class: pack.message_class().name().to_owned(),
            certificate: certificate.digest(),
            signed_certificate: certificate.raw().clone(),
            id,
            user,
            key,
            tenant,
            disclosure,
            conversation,
            trust,
            known,
            session,
            counter: 0,
            previous: Digest::ZERO,
        };
        device.open_conversation().await?;
        Ok(device)
    }

    async fn open_conversation(&mut self) -> Result<()> {
        let create = self.request(api::CreateConversationRequest {
            conversation: self.conversation.id().to_vec(),
            group_info: self.conversation.group_info()?,
        });
        self.relay.create_conversation(create).await?;
        let notice = self.disclosure.message().notices.first();
        let notice = notice.context("the disclosure names no notice")?;
        let acknowledgement = self.sign(pb::Acknowledgement {
            tenant: self.tenant.to_string(),
            user: self.user.clone(),
            device: self.id.to_vec(),
            conversation: self.conversation.id().to_vec(),
            disclosure: self.disclosure.digest().to_vec(),
            language: notice.language.clone(),
            notice: notice.digest.clone(),
            at: SystemClock.now().get(),
        });
        let acknowledge = self.request(api::AcknowledgeNoticeRequest {
            acknowledgement: Some(acknowledgement.into_raw()),
        });
        self.relay.acknowledge_notice(acknowledge).await?;
        Ok(())
    }

    /// Takes another device into the conversation, here alone: the relay hears nothing of it, and nothing may be sent any more.
    ///
    /// # Errors
    /// When MLS refuses.
    pub(crate) fn recipient(&mut self) -> Result<Recipient> {
        Ok(self.crowd(1)?.0)
    }

    /// As [`Device::recipient`], of so many devices, of which the last is given, and the bytes of the Welcome that it was added by.
    ///
    /// # Errors
    /// When MLS refuses.
    pub(crate) fn crowd(&mut self, others: usize) -> Result<(Recipient, usize)> {
        let now = SystemClock.now();
        let (mut packages, mut last) = (Vec::with_capacity(others), None);
        for _ in 0..others {
            let (id, certificate) = (DeviceId::new(random()?), Digest::new(random()?));
            let key = greffe_mls::SigningKey::generate()?;
            self.known.present(greffe_mls::Device {
                tenant: self.tenant.clone(),
                device: id,
                certificate,
                mls_key: key.public(),
            });
            let client = greffe_mls::Client::new(id, certificate, key, self.trust.clone())?;
            let (made, stored) = client.key_packages(1, KeyPackageKind::Once, now, DAY)?;
            packages.extend(made.into_iter().map(|package| package.bytes));
            last = Some((client, stored));
        }
        let (client, stored) = last.context("nobody is added")?;
        let mut welcome = None;
        for some in packages.chunks(AT_ONCE) {
            let (handshake, _) = self.conversation.add(some, now)?;
            drop(self.conversation.apply_pending()?);
            self.conversation.persisted();
            welcome = handshake.welcome;
        }
        let welcome = welcome.context("no welcome for a new member")?;
        let rows = stored.rows().filter_map(|(key, value)| {
            Some(Row {
                key: key.clone(),
                value: value?.to_vec().into(),
            })
        });
        let (mut conversation, _) = client.join(&welcome, rows.collect())?;
        conversation.persisted();
        let recipient = Recipient {
            conversation,
            disclosure: self.disclosure.clone(),
            tenant: self.tenant.clone(),
            envelope_key: self.key.verifying_key().to_bytes(),
            receipt_key: SigningKey::from_bytes(&random()?),
            chain: ChainState::start(self.conversation.id()),
        };
        Ok((recipient, welcome.len()))
    }

    /// Commits new keys of its own, and gives the commit.
    ///
    /// # Errors
    /// When MLS refuses.
    pub(crate) fn commit(&mut self) -> Result<Vec<u8>> {
        let (handshake, _) = self.conversation.update(SystemClock.now())?;
        drop(self.conversation.apply_pending()?);
        self.conversation.persisted();
        Ok(handshake.commit)
    }

    /// Logs in again, through an application that was opened anew: as after a restart of the services.
    ///
    /// # Errors
    /// When the relay refuses.
    pub(crate) async fn reconnect(&mut self, app: &App) -> Result<()> {
        let client = &app.client;
        self.relay = client.connection().relay(&self.id)?;
        self.session = log_in(client, &self.tenant, &self.id, self.certificate, &self.key).await?;
        Ok(())
    }

    /// Seals as much as a message carries inside MLS, and nothing else.
    ///
    /// # Errors
    /// When it cannot be sealed.
    pub(crate) fn mls_alone(&mut self) -> Result<Vec<u8>> {
        let seed = Seed::random()?;
        let (message, _) = self.conversation.seal(seed.as_bytes(), &self.previous)?;
        self.conversation.persisted();
        Ok(message)
    }

    fn sign<M: Statement>(&self, message: M) -> Signed<M> {
        Signed::sign(message, &[(&device_signer(&self.id), &self.key)])
    }

    /// A request with the device's session.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert_bin(METADATA, self.session.clone());
        request
    }

    /// Where its calls go.
    pub(crate) fn relay(&self) -> RelayServiceClient<Channel> {
        self.relay.clone()
    }

    /// Seals the next message, of `bytes` bytes of text.
    ///
    /// # Errors
    /// When it cannot be sealed.
    pub(crate) fn seal(&mut self, bytes: usize) -> Result<api::SendRequest> {
        Ok(self.seal_with(bytes, None)?.0)
    }

    /// As [`Device::seal`], with an attachment, whose ciphertext is given too.
    ///
    /// # Errors
    /// When it cannot be sealed.
    pub(crate) fn seal_with(
        &mut self,
        bytes: usize,
        attachment: Option<&[u8]>,
    ) -> Result<(api::SendRequest, Vec<u8>)> {
        let said = self.disclosure.message();
        let keys: Vec<_> = self.disclosure.keys().iter().collect();
        let mut key_ids: Vec<Vec<u8>> = keys.iter().map(|key| key.key_id().to_vec()).collect();
        key_ids.sort();
        let message = MessageId::new(random()?);
        let seed = Seed::random()?;
        let conversation = self.conversation.id();
        let draft = Draft::new(
            &seed,
            self.tenant.as_str(),
            &conversation,
            &message,
            &self.id,
        );
        let (mut references, mut inside, mut attached) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(data) = attachment {
            let (sealed, reference, padded) = seal_attachment(draft.cek(), draft.core(), 0, data)?;
            references.push(reference);
            inside.push(pb::ContentAttachment {
                name: "file.bin".into(),
                media_type: "application/octet-stream".into(),
                size: data.len() as u64,
                padded_digest: padded.to_vec(),
            });
            attached = sealed;
        }
        let header = pb::Header {
            tenants: said.tenants.clone(),
            conversation: self.conversation.id().to_vec(),
            message_id: message.to_vec(),
            mode: said.mode,
            sender_user: self.user.clone(),
            sender_device: self.id.to_vec(),
            device_cert: self.certificate.to_vec(),
            mls_epoch: self.conversation.epoch(),
            sent_at: SystemClock.now().get(),
            record_class: self.class.clone(),
            classification: String::new(),
            key_ids,
            policy_digest: said.policy_digest.clone(),
            attachments: references,
            device_counter: self.counter + 1,
            previous: self.previous.to_vec(),
            seen_seq: 0,
            seen_head: Digest::ZERO.to_vec(),
        };
        let content = pb::Content {
            kind: pb::ContentKind::Text.into(),
            text: vec![b'a'; bytes],
            attachments: inside,
            ..Default::default()
        };
        let sealed = draft.seal(&header, &content, &keys, &self.key)?;
        let digest = sealed.envelope.digest();
        let (mls_message, _) = self.conversation.seal(seed.as_bytes(), &digest)?;
        self.conversation.persisted();
        (self.counter, self.previous) = (self.counter + 1, digest);
        let request = api::SendRequest {
            envelope: Some(sealed.envelope.into_raw()),
            wraps: sealed.wraps,
            ciphertext: sealed.ciphertext,
            mls_message,
        };
        Ok((request, attached))
    }
}

/// Another member of a device's conversation, who takes in what the device sealed.
pub(crate) struct Recipient {
    conversation: Conversation,
    disclosure: Arc<VerifiedDisclosure>,
    tenant: TenantId,
    envelope_key: [u8; 32],
    receipt_key: SigningKey,
    chain: ChainState,
}

impl Recipient {
    /// What an archive would have signed for a message.
    ///
    /// # Errors
    /// When the message is not one.
    pub(crate) fn receipt(&mut self, sent: &api::SendRequest) -> Result<pb::SignedStatement> {
        let body = &sent.envelope.as_ref().context("no envelope")?.body;
        let entry = greffe_envelope::envelope::envelope_digest(body);
        let next = self.chain.next(&entry);
        let receipt = pb::Receipt {
            tenant: self.tenant.to_string(),
            conversation: next.conversation.to_vec(),
            sequence: next.sequence,
            previous_head: self.chain.head.to_vec(),
            head: next.head.to_vec(),
            entry_digest: entry.to_vec(),
            kind: pb::EntryKind::Message.into(),
            archived_at: SystemClock.now().get(),
            ..Default::default()
        };
        self.chain = next;
        Ok(Signed::sign(receipt, &[("archive", &self.receipt_key)]).into_raw())
    }

    /// Everything that a recipient computes of a message: receipt, envelope, signature, MLS, every wrap again, content.
    ///
    /// # Errors
    /// When any of it does not hold.
    pub(crate) fn open(
        &mut self,
        receipt: pb::SignedStatement,
        sent: &api::SendRequest,
    ) -> Result<Opened> {
        let receipt = Signed::<pb::Receipt>::decode(receipt)?;
        receipt.verify("archive", &self.receipt_key.verifying_key().to_bytes())?;
        check_receipt(&receipt)?;
        let envelope = Envelope::decode(sent.envelope.clone().context("no envelope")?)?;
        envelope.verify_signature(&self.envelope_key)?;
        let seed = Seed::from_bytes(self.mls_alone(&sent.mls_message)?);
        let keys: Vec<_> = self.disclosure.keys().iter().collect();
        let tenant = self.tenant.as_str();
        recompute(&seed, tenant, &envelope, &keys, &sent.wraps)?;
        Ok(open_with_seed(&seed, tenant, &envelope, &sent.ciphertext)?)
    }

    /// Takes in a message's part inside MLS, and nothing else.
    ///
    /// # Errors
    /// When MLS refuses it.
    pub(crate) fn mls_alone(&mut self, message: &[u8]) -> Result<[u8; 32]> {
        match self.conversation.receive_next(message)? {
            Event::Application(application) => Ok(*application.seed),
            other => anyhow::bail!("MLS gave {other:?} for a message"),
        }
    }

    /// Takes in a commit.
    ///
    /// # Errors
    /// When MLS refuses it.
    pub(crate) fn commit(&mut self, commit: &[u8]) -> Result<()> {
        drop(self.conversation.receive(commit)?);
        self.conversation.persisted();
        Ok(())
    }

    /// The end of a batch: the state is written into rows once for all of its messages.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn settle(&mut self) -> Result<()> {
        drop(self.conversation.received()?);
        self.conversation.persisted();
        Ok(())
    }
}

async fn log_in(
    client: &Client,
    tenant: &TenantId,
    id: &DeviceId,
    certificate: Digest,
    key: &SigningKey,
) -> Result<BinaryMetadataValue> {
    let mut directory = client.connection().directory()?;
    let ask = api::CreateChallengeRequest {
        device: id.to_vec(),
    };
    let challenge = directory
        .create_challenge(ask)
        .await?
        .into_inner()
        .challenge;
    let login = pb::DeviceLogin {
        tenant: tenant.to_string(),
        device: id.to_vec(),
        device_cert: certificate.to_vec(),
        audience: greffe_relay::session::SERVICE.into(),
        challenge,
        at: SystemClock.now().get(),
    };
    let login = Signed::sign(login, &[(&device_signer(id), key)]);
    let login = api::LoginRequest {
        login: Some(login.into_raw()),
    };
    let session = directory.login(login).await?.into_inner().session;
    Ok(MetadataValue::from_bytes(&session))
}

/// Seals `count` messages of each device, on every core; the devices come back with what they sealed.
///
/// # Errors
/// When one cannot be sealed.
pub(crate) async fn seal_all(
    devices: Vec<Device>,
    count: usize,
    bytes: usize,
) -> Result<Vec<(Device, Vec<api::SendRequest>)>> {
    let tasks = devices.into_iter().map(|mut device| {
        tokio::task::spawn_blocking(move || {
            let sealed = (0..count)
                .map(|_| device.seal(bytes))
                .collect::<Result<_>>()?;
            Ok::<_, anyhow::Error>((device, sealed))
        })
    });
    let mut all = Vec::new();
    for done in futures::future::try_join_all(tasks).await? {
        all.push(done?);
    }
    Ok(all)
}
