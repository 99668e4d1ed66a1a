//! One application's client: connection, database, verified trust and the devices it holds.

use core::fmt;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use greffe_api::relay as api;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{TrustState, VerifiedDisclosure};
use greffe_service_kit::clock::SharedClock;
use greffe_types::{DeviceId, Digest, Millis, UserId};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::certificates::Certificates;
use crate::connection::Connection;
use crate::device::{Device, Pause};
use crate::error::{ClientError, Result, call, malformed};
use crate::log::LogView;
use crate::store::{ClientStore, DeviceRow, Op};
use crate::trust::Trust;

/// An application's client, for any number of devices. Cheap to clone.
#[derive(Clone)]
pub struct Client(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) connection: Connection,
    pub(crate) store: ClientStore,
    pub(crate) clock: SharedClock,
    pub(crate) trust: Arc<Trust>,
    pub(crate) log: LogView,
    pub(crate) certificates: Arc<Certificates>,
    /// Cryptography runs beside the runtime, on as many threads as there are cores.
    cpu: Arc<Semaphore>,
}

/// A new device: what its issuer has to sign.
#[derive(Debug, Clone, PartialEq)]
pub struct Enrolment {
    /// The device.
    pub device: DeviceId,
    /// The certificate, without its signature. The issuer may change the period, and nothing else.
    pub certificate: pb::DeviceCert,
}

/// A device that this client holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldDevice {
    /// The device.
    pub device: DeviceId,
    /// Its user.
    pub user: String,
    /// Digest of its certificate; none until the issuer has signed.
    pub certificate: Option<Digest>,
}

impl Client {
    /// Opens: loads what was verified before, then asks relay and log for what is new. When they cannot be reached but
    /// something was verified before, that goes on being used.
    ///
    /// # Errors
    /// [`ClientError`]; what contradicts root, nodes or log stops it.
    pub async fn open(
        connection: Connection,
        store: ClientStore,
        clock: SharedClock,
    ) -> Result<Self> {
        let trust = Trust::open(connection.clone(), &store, clock.clone()).await?;
        let log = LogView::open(connection.log()?, store.clone(), clock.clone()).await?;
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let client = Self(Arc::new(Inner {
            connection,
            store,
            clock,
            trust: Arc::new(trust),
            log,
            certificates: Arc::default(),
            cpu: Arc::new(Semaphore::new(cores)),
        }));
        match client.refresh_trust().await {
            Err(error) if !(error.is_retryable() && client.0.trust.is_known()) => {
                return Err(error);
            }
            _ => {}
        }
        let state = client.0.trust.state()?;
        for cert in client.0.store.certificates().await? {
            client.0.certificates.load(&state, cert)?;
        }
        Ok(client)
    }

    /// Takes in what relay and log say is new.
    ///
    /// # Errors
    /// [`ClientError`]; nothing has changed then.
    pub async fn refresh_trust(&self) -> Result<()> {
        self.0.trust.refresh(&self.0.store, &self.0.log).await
    }

    /// As [`Client::refresh_trust`] when that is some minutes ago: revocations and new keys have to be heard of. What cannot
    /// be asked for now is asked for next time.
    pub(crate) async fn freshen(&self) -> Result<()> {
        if self.0.trust.is_fresh() {
            return Ok(());
        }
        match self.refresh_trust().await {
            Err(error) if error.is_retryable() => Ok(()),
            refreshed => refreshed,
        }
    }

    /// The disclosure in force for a mode, by the word of t nodes; asked for anew when it has been superseded.
    pub(crate) async fn current_disclosure(
        &self,
        mode: pb::Mode,
    ) -> Result<Arc<VerifiedDisclosure>> {
        self.freshen().await?;
        let trust = &self.0.trust;
        if let Ok(disclosure) = trust.disclosure(mode)
            && trust.ensure_current(&disclosure).await.is_ok()
        {
            return Ok(disclosure);
        }
        self.refresh_trust().await?;
        let disclosure = trust.disclosure(mode)?;
        trust.ensure_current(&disclosure).await?;
        Ok(disclosure)
    }

    /// What is in force.
    ///
    /// # Errors
    /// Before the first refresh has succeeded.
    pub fn trust(&self) -> Result<Arc<TrustState>> {
        self.0.trust.state()
    }

    /// The log.
    pub fn log(&self) -> &LogView {
        &self.0.log
    }

    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.0.connection
    }

    /// For a call that is tried again for a while.
    pub(crate) fn pause(&self) -> Pause {
        Pause::new(self.0.connection.patience())
    }

    pub(crate) fn now(&self) -> Millis {
        self.0.clock.now()
    }

    /// Makes the keys of a new device of a user and stores them; gives the certificate for the issuer to sign.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn enrol(&self, user: &UserId, not_after: Millis) -> Result<Enrolment> {
        let device = DeviceId::new(random()?);
        let mls = greffe_mls::SigningKey::generate()?;
        let seed = Zeroizing::new(random::<32>()?);
        let envelope = SigningKey::from_bytes(&seed);
        let certificate = pb::DeviceCert {
            tenant: self.0.connection.tenant().to_string(),
            user: user.as_str().to_owned(),
            device: device.to_vec(),
            mls_key: mls.public().to_vec(),
            envelope_key: envelope.verifying_key().to_bytes().to_vec(),
            // Clocks differ: a certificate that begins now would be refused by a service that is a little behind.
            not_before: self.now().minus(core::time::Duration::from_secs(300)).get(),
            not_after: not_after.get(),
        };
        let store = &self.0.store;
        let row = device.as_bytes();
        let op = Op::Device(DeviceRow {
            device,
            user: user.as_str().to_owned(),
            certificate: None,
            mls_key: store.seal("device", row, "mls_key", &mls.to_bytes())?,
            envelope_key: store.seal("device", row, "envelope_key", seed.as_slice())?,
        });
        store.write(vec![op]).await?;
        Ok(Enrolment {
            device,
            certificate,
        })
    }

    /// Takes the certificate that the issuer has signed and registers the device at the relay.
    ///
    /// # Errors
    /// When it is not for a device that was enrolled here, or the relay refuses it.
    pub async fn register(&self, certificate: pb::SignedStatement) -> Result<Device> {
        let cert = Signed::<pb::DeviceCert>::decode(certificate.clone())
            .map_err(malformed("device certificate"))?;
        let id = DeviceId::try_from(cert.device.as_slice())
            .map_err(|_| ClientError::Answer("a device certificate"))?;
        let row = self.row(&id).await?;
        let (mls, envelope) = self.keys(&row)?;
        if cert.user != row.user
            || cert.mls_key != mls.public()
            || cert.envelope_key != envelope.verifying_key().to_bytes()
        {
            return Err(ClientError::refused(
                "CERTIFICATE_MISMATCH",
                format!("the certificate is not the one that device {id} asked for: enrol again"),
            ));
        }
        let state = self.trust()?;
        let (cert, _) = self
            .0
            .certificates
            .take_in(&state, certificate.clone(), self.now())?;
        let request = api::RegisterDeviceRequest {
            device_cert: Some(certificate.clone()),
        };
        let mut directory = self.0.connection.directory()?;
        let answer = directory.register_device(request).await;
        answer.map_err(call("RegisterDevice"))?;
        let digest = cert.digest();
        self.0
            .store
            .write(vec![
                Op::Certificate {
                    digest,
                    statement: certificate,
                },
                Op::Certified {
                    device: id,
                    certificate: digest,
                },
            ])
            .await?;
        Device::open(self.clone(), cert, mls, envelope)
    }

    /// A device that this client holds.
    ///
    /// # Errors
    /// When it holds none with that id, or it is not registered.
    pub async fn device(&self, id: &DeviceId) -> Result<Device> {
        let row = self.row(id).await?;
        let (mls, envelope) = self.keys(&row)?;
        let certificate = row.certificate.ok_or_else(|| {
            ClientError::refused(
                "DEVICE_NOT_CERTIFIED",
                format!("device {id} has no certificate yet: have the issuer sign it"),
            )
        })?;
        let cert = self.0.certificates.get(&certificate).ok_or_else(|| {
            ClientError::refused(
                "DEVICE_NOT_CERTIFIED",
                format!("the certificate of device {id} is not the issuer's any more: enrol again"),
            )
        })?;
        Device::open(self.clone(), cert, mls, envelope)
    }

    /// The devices that this client holds, by user.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub async fn devices(&self) -> Result<Vec<HeldDevice>> {
        let rows = self.0.store.devices().await?;
        Ok(rows
            .into_iter()
            .map(|row| HeldDevice {
                device: row.device,
                user: row.user,
                certificate: row.certificate,
            })
            .collect())
    }

    async fn row(&self, id: &DeviceId) -> Result<DeviceRow> {
        let rows = self.0.store.devices().await?;
        rows.into_iter()
            .find(|row| row.device == *id)
            .ok_or_else(|| {
                ClientError::refused(
                    "DEVICE_UNKNOWN",
                    format!("this client holds no device {id}: enrol one, or open its own folder"),
                )
            })
    }

    fn keys(&self, row: &DeviceRow) -> Result<(greffe_mls::SigningKey, SigningKey)> {
        let store = &self.0.store;
        let place = row.device.as_bytes();
        let mls = store.unseal("device", place, "mls_key", &row.mls_key)?;
        let seed = store.unseal("device", place, "envelope_key", &row.envelope_key)?;
        let seed = <&[u8; 32]>::try_from(seed.as_slice())
            .map_err(|_| ClientError::store("a device's key is damaged"))?;
        Ok((
            greffe_mls::SigningKey::from_bytes(&mls)?,
            SigningKey::from_bytes(seed),
        ))
    }

    /// Runs cryptography beside the runtime, on at most as many threads as there are cores.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let permit = self.0.cpu.clone().acquire_owned().await;
        let done = greffe_service_kit::blocking(move || {
            let _permit = permit;
            work()
        });
        done.await.map_err(ClientError::store)
    }

    /// The same over a list, in parts when it is long: the order stays.
    pub(crate) async fn compute_all<I: Send + 'static, O: Send + 'static>(
        &self,
        items: Vec<I>,
        work: impl Fn(I) -> O + Send + Sync + 'static,
    ) -> Result<Vec<O>> {
        /// Below this, handing over costs more than it gives.
        const PART: usize = 24;
        let work = Arc::new(work);
        let mut rest = items.into_iter();
        let mut parts = Vec::new();
        loop {
            let part: Vec<I> = rest.by_ref().take(PART).collect();
            if part.is_empty() {
                break;
            }
            let work = work.clone();
            parts.push(self.compute(move || part.into_iter().map(|item| work(item)).collect()));
        }
        let done: Vec<Vec<O>> = futures::future::try_join_all(parts).await?;
        Ok(done.into_iter().flatten().collect())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("tenant", self.0.connection.tenant())
            .finish_non_exhaustive()
    }
}

/// Fresh bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(ClientError::Randomness)?;
    Ok(bytes)
}
