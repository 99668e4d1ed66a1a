//! A device: its session at the relay, its key packages, the conversations it has open.

use core::fmt;
use core::sync::atomic::AtomicBool;
use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};

use ed25519_dalek::SigningKey;
use greffe_api::relay as api;
use greffe_api::relay::relay_service_client::RelayServiceClient;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::device_signer;
use greffe_mls::{KeyPackageKind, Table};
use greffe_service_kit::tls::Channel;
use greffe_types::{ConversationId, DeviceId, Digest, Millis};
use tokio::sync::{Mutex, mpsc, watch};
use tonic::metadata::{Binary, MetadataValue};
use tonic::{Code, Request, Response, Status};

use crate::client::Client;
use crate::error::{ClientError, Result, call};
use crate::live::LiveSlot;
use crate::receive::Event;
use crate::send::Job;

/// Metadata of every call that needs a session.
const SESSION: &str = "greffe-session-bin";
/// A session is renewed this long before it ends.
const RENEWAL: Duration = Duration::from_secs(60);
/// How long key packages stay valid.
const KEY_PACKAGE_LIFETIME: Duration = Duration::from_secs(90 * 86_400);
/// Most key packages the relay takes in one call.
const KEY_PACKAGES_A_CALL: usize = 100;
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Conversations kept open in memory; the database has the others.
const OPEN_CONVERSATIONS: usize = 64;

/// A registered device that this application holds. Cheap to clone; clones are the same device.
#[derive(Clone)]
pub struct Device(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) client: Client,
    pub(crate) id: DeviceId,
    pub(crate) cert: Arc<Signed<pb::DeviceCert>>,
    pub(crate) key: SigningKey,
    pub(crate) mls: greffe_mls::Client,
    session: Mutex<Option<Session>>,
    pub(crate) live: Mutex<HashMap<ConversationId, LiveSlot>>,
    /// Whoever reads the mailbox holds it: a device has one mailbox stream.
    pub(crate) receiving: Arc<Mutex<()>>,
    /// Counts batches taken in, for those who wait for the conversation to move on.
    pub(crate) progress: watch::Sender<u64>,
    /// What was taken in while nobody was reading events.
    pub(crate) events: SyncMutex<VecDeque<Event>>,
    /// One at a time looks after what is stored and was not answered.
    pub(crate) resuming: Mutex<()>,
    /// Nothing is stored that was not answered, but messages.
    pub(crate) resumed: AtomicBool,
    /// The sender that is open; its task clears it when nobody has used it for a while.
    pub(crate) sender: Mutex<Option<mpsc::Sender<Job>>>,
    /// Whoever sends messages holds it: their counters follow one another.
    pub(crate) sending: Arc<Mutex<()>>,
}

struct Session {
    token: MetadataValue<Binary>,
    expiry: Millis,
}

impl Device {
    pub(crate) fn open(
        client: Client,
        cert: Arc<Signed<pb::DeviceCert>>,
        mls: greffe_mls::SigningKey,
        key: SigningKey,
    ) -> Result<Self> {
        let id = DeviceId::try_from(cert.device.as_slice())
            .map_err(|_| ClientError::Answer("a device certificate"))?;
        let trust = greffe_mls::Trust {
            disclosures: client.0.trust.clone(),
            devices: client.0.certificates.clone(),
        };
        let mls = greffe_mls::Client::new(id, cert.digest(), mls, trust)?;
        Ok(Self(Arc::new(Inner {
            client,
            id,
            cert,
            key,
            mls,
            session: Mutex::default(),
            live: Mutex::default(),
            receiving: Arc::default(),
            progress: watch::Sender::new(0),
            events: SyncMutex::default(),
            resuming: Mutex::default(),
            resumed: AtomicBool::new(false),
            sender: Mutex::default(),
            sending: Arc::default(),
        })))
    }

    /// Its id.
    pub fn id(&self) -> DeviceId {
        self.0.id
    }

    /// Its user.
    pub fn user(&self) -> &str {
        &self.0.cert.user
    }

    /// Its certificate.
    pub fn certificate(&self) -> &Signed<pb::DeviceCert> {
        &self.0.cert
    }

    /// The client that holds it.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// How this device signs statements.
    pub(crate) fn signer(&self) -> String {
        device_signer(&self.0.id)
    }

    /// Logs in, unless a session is good for a while yet. Done by itself before every call.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn login(&self) -> Result<()> {
        self.token().await.map(|_| ())
    }

    async fn token(&self) -> Result<MetadataValue<Binary>> {
        let mut session = self.0.session.lock().await;
        let now = self.0.client.now();
        if let Some(session) = &*session
            && now.plus(RENEWAL) < session.expiry
        {
            return Ok(session.token.clone());
        }
        let mut pause = self.0.client.pause();
        // A challenge is good for one login: each try begins with another.
        let answer = loop {
            match self.try_login().await {
                Ok(answer) => break answer,
                Err(error) => pause.after(error).await?,
            }
        };
        let token = MetadataValue::from_bytes(&answer.session);
        *session = Some(Session {
            token: token.clone(),
            expiry: Millis::new(answer.expiry),
        });
        Ok(token)
    }

    async fn try_login(&self) -> Result<api::LoginResponse> {
        let mut directory = self.0.client.connection().directory()?;
        let request = api::CreateChallengeRequest {
            device: self.0.id.to_vec(),
        };
        let answer = directory.create_challenge(request).await;
        let challenge = answer.map_err(call("CreateChallenge"))?.into_inner();
        let login = pb::DeviceLogin {
            tenant: self.0.cert.tenant.clone(),
            device: self.0.id.to_vec(),
            device_cert: self.0.cert.digest().to_vec(),
            audience: "relay".to_owned(),
            challenge: challenge.challenge,
            at: self.0.client.now().get(),
        };
        let signed = Signed::sign(login, &[(&self.signer(), &self.0.key)]);
        let request = api::LoginRequest {
            login: Some(signed.into_raw()),
        };
        let answer = directory.login(request).await;
        Ok(answer.map_err(call("Login"))?.into_inner())
    }

    /// A request that carries the session.
    pub(crate) async fn request<T>(&self, message: T) -> Result<Request<T>> {
        let mut request = Request::new(message);
        let token = self.token().await?;
        request.metadata_mut().insert_bin(SESSION, token);
        Ok(request)
    }

    /// Forgets the session, after the relay did.
    pub(crate) async fn logged_out(&self) {
        *self.0.session.lock().await = None;
    }

    /// The relay, on this device's connection.
    pub(crate) fn relay_client(&self) -> Result<RelayServiceClient<Channel>> {
        self.0.client.connection().relay(&self.0.id)
    }

    /// A unary call with the session. Every call of the relay may be repeated, so a broken connection or an overloaded
    /// relay is tried again for a while, and a session that the relay does not know any more is renewed once.
    pub(crate) async fn unary<Q, A, F, R>(
        &self,
        operation: &'static str,
        message: Q,
        make: F,
    ) -> Result<A>
    where
        Q: Clone,
        F: Fn(Request<Q>) -> R,
        R: Future<Output = Result<Response<A>, Status>>,
    {
        let mut pause = self.0.client.pause();
        let mut renewed = false;
        loop {
            let request = self.request(message.clone()).await?;
            match make(request).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) if status.code() == Code::Unauthenticated && !renewed => {
                    renewed = true;
                    self.logged_out().await;
                }
                Err(status) => pause.after(call(operation)(status)).await?,
            }
        }
    }

    /// Publishes key packages until `target` are unused, and one of last resort with the first. Others can invite this
    /// device from then on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn publish_key_packages(&self, target: usize) -> Result<usize> {
        let held = self
            .0
            .client
            .0
            .store
            .mls_table(&self.0.id, Table::KeyPackage);
        let first = held.await?.is_empty();
        let mut available = self.publish(Vec::new(), Vec::new()).await?;
        let mut last_resort = if first {
            self.make_key_packages(1, KeyPackageKind::LastResort)
                .await?
                .pop()
                .unwrap_or_default()
        } else {
            Vec::new()
        };
        while available < target {
            let count = (target - available).min(KEY_PACKAGES_A_CALL);
            let packages = self.make_key_packages(count, KeyPackageKind::Once).await?;
            let now = self
                .publish(packages, core::mem::take(&mut last_resort))
                .await?;
            if now <= available {
                return Err(ClientError::Answer(
                    "a count of key packages that does not grow",
                ));
            }
            available = now;
        }
        if !last_resort.is_empty() {
            available = self.publish(Vec::new(), last_resort).await?;
        }
        Ok(available)
    }

    /// Makes key packages and stores their secrets before anybody can use them.
    async fn make_key_packages(&self, count: usize, kind: KeyPackageKind) -> Result<Vec<Vec<u8>>> {
        let device = self.clone();
        let now = self.0.client.now();
        let made = self.0.client.compute(move || {
            let made = device
                .0
                .mls
                .key_packages(count, kind, now, KEY_PACKAGE_LIFETIME);
            let (packages, change) = made?;
            let op = device.0.client.0.store.mls_change(&device.0.id, &change)?;
            Ok::<_, ClientError>((packages, op))
        });
        let (packages, op) = made.await??;
        self.0.client.0.store.write(vec![op]).await?;
        Ok(packages.into_iter().map(|package| package.bytes).collect())
    }

    async fn publish(&self, key_packages: Vec<Vec<u8>>, last_resort: Vec<u8>) -> Result<usize> {
        let directory = self.0.client.connection().directory()?;
        let request = api::PublishKeyPackagesRequest {
            key_packages,
            last_resort,
        };
        let answer = self.unary("PublishKeyPackages", request, |request| {
            let mut directory = directory.clone();
            async move { directory.publish_key_packages(request).await }
        });
        Ok(answer.await?.available as usize)
    }

    /// Fetches certificates that are not known yet, verifies them as of an instant and keeps them.
    pub(crate) async fn fetch_certificates(
        &self,
        digests: &[Digest],
        at: Option<Millis>,
    ) -> Result<()> {
        let client = &self.0.client;
        let state = client.trust()?;
        let wanted: Vec<Digest> = {
            let unknown = |digest: &&Digest| client.0.certificates.get(digest).is_none();
            digests.iter().filter(unknown).copied().collect()
        };
        let directory = client.connection().directory()?;
        for part in wanted.chunks(1000) {
            let request = api::GetDeviceCertsRequest {
                digests: part.iter().map(Digest::to_vec).collect(),
            };
            let answer = self.unary("GetDeviceCerts", request, |request| {
                let mut directory = directory.clone();
                async move { directory.get_device_certs(request).await }
            });
            let mut ops = Vec::new();
            for raw in answer.await?.device_certs {
                // Nobody's word for when it counts: judged where it is used, by the archive's time.
                let begun = Signed::<pb::DeviceCert>::decode(raw.clone())
                    .map_or_else(|_| client.now(), |cert| Millis::new(cert.not_before));
                let (cert, new) =
                    client
                        .0
                        .certificates
                        .take_in(&state, raw.clone(), at.unwrap_or(begun))?;
                if new {
                    ops.push(crate::store::Op::Certificate {
                        digest: cert.digest(),
                        statement: raw,
                    });
                }
            }
            client.0.store.write(ops).await?;
        }
        Ok(())
    }

    /// The slot of a conversation; it is loaded by whoever locks it.
    pub(crate) async fn slot(&self, id: &ConversationId) -> LiveSlot {
        let mut live = self.0.live.lock().await;
        if live.len() >= OPEN_CONVERSATIONS && !live.contains_key(id) {
            // Only those that nobody holds: two states of one conversation must never exist.
            live.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        live.entry(*id).or_default().clone()
    }

    pub(crate) fn keep_events(&self, events: Vec<Event>) {
        let mut kept = self.0.events.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(events);
    }

    pub(crate) fn take_events(&self) -> Vec<Event> {
        let mut kept = self.0.events.lock().unwrap_or_else(PoisonError::into_inner);
        kept.drain(..).collect()
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({}, {:?})", self.0.id, self.user())
    }
}

/// Pauses between tries, until patience runs out.
#[derive(Debug)]
pub(crate) struct Pause {
    /// When the first try failed.
    begun: Option<std::time::Instant>,
    next: Duration,
    patience: Duration,
}

impl Pause {
    /// No try has failed yet.
    pub(crate) const fn new(patience: Duration) -> Self {
        Self {
            begun: None,
            next: Duration::from_millis(25),
            patience,
        }
    }

    /// A try has succeeded: the next failure is the first again.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.patience);
    }

    /// Waits before another try, or gives the error back when there should be none.
    pub(crate) async fn after(&mut self, error: ClientError) -> Result<()> {
        let ClientError::Call { source, .. } = &error else {
            return Err(error);
        };
        let begun = *self.begun.get_or_insert_with(std::time::Instant::now);
        if !error.is_retryable() || begun.elapsed() > self.patience {
            return Err(error);
        }
        let pause = source.retry_after.unwrap_or(self.next).min(LONGEST_PAUSE);
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
