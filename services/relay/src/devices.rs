//! Registered device certificates in memory: who a session, a leaf or an envelope belongs to.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_mls::{Device, DeviceDirectory, Refusal};
use greffe_service_kit::boot::SharedTrust;
use greffe_service_kit::db::Database;
use greffe_service_kit::simulation;
use greffe_types::{DeviceId, Digest, Millis, TenantId};
use tokio::runtime::Handle;

use crate::error::RelayError;
use crate::store::Scope;
use crate::store::devices::{self, CertRow};

/// A registered certificate.
pub type Cert = Arc<Signed<pb::DeviceCert>>;

/// Every certificate that was verified and logged, at this replica or another. Whether one is valid now is asked anew each
/// time: bundles revoke.
pub struct Devices {
    db: Database,
    scope: Scope,
    trust: SharedTrust,
    /// MLS asks from threads of its own.
    runtime: Handle,
    certs: RwLock<HashMap<Digest, Cert>>,
}

impl Devices {
    /// Starts with what is stored. Needs a tokio runtime.
    ///
    /// # Errors
    /// When stored bytes do not parse.
    pub fn new(
        db: Database,
        scope: Scope,
        trust: SharedTrust,
        stored: Vec<Vec<u8>>,
    ) -> Result<Self, RelayError> {
        let certs = stored
            .iter()
            .map(|bytes| {
                let cert = decode(bytes)?;
                Ok((cert.digest(), Arc::new(cert)))
            })
            .collect::<Result<_, RelayError>>()?;
        Ok(Self {
            db,
            scope,
            trust,
            runtime: Handle::current(),
            certs: RwLock::new(certs),
        })
    }

    /// Adds one that is verified, logged and stored.
    pub fn insert(&self, cert: Signed<pb::DeviceCert>) {
        let mut certs = self.certs.write().unwrap_or_else(PoisonError::into_inner);
        certs.insert(cert.digest(), Arc::new(cert));
    }

    /// A registered certificate, whether valid now or not; read from the database when another replica registered it.
    ///
    /// # Errors
    /// The database's.
    pub async fn find(&self, certificate: &Digest) -> Result<Option<Cert>, RelayError> {
        if let Some(known) = self.known(certificate) {
            return Ok(Some(known));
        }
        let found = devices::cert(self.db.read(), &self.scope, certificate).await?;
        let Some((bytes, _)) = found else {
            return Ok(None);
        };
        self.insert(decode(&bytes)?);
        Ok(self.known(certificate))
    }

    /// What MLS refused, once it is sure that it was not refused for a database that did not answer: MLS asks for
    /// certificates without a way to be told so.
    ///
    /// # Errors
    /// [`RelayError::Busy`]: the same is to be asked again.
    pub async fn confirm(&self, refusal: Refusal) -> Result<Refusal, RelayError> {
        if let Refusal::UnknownCertificate(certificate) = &refusal
            && !matches!(self.find(certificate).await, Ok(None))
        {
            return Err(RelayError::Busy(
                "a certificate could not be looked up in the database",
            ));
        }
        Ok(refusal)
    }

    fn known(&self, certificate: &Digest) -> Option<Cert> {
        let certs = self.certs.read().unwrap_or_else(PoisonError::into_inner);
        certs.get(certificate).cloned()
    }

    /// A registered certificate that is valid at an instant: in its period, not revoked, of the present issuer.
    ///
    /// # Errors
    /// [`RelayError::CertificateUnknown`], [`RelayError::CertificateInvalid`], the database's.
    pub async fn valid(&self, certificate: &Digest, at: Millis) -> Result<Cert, RelayError> {
        let cert = self
            .find(certificate)
            .await?
            .ok_or(RelayError::CertificateUnknown)?;
        self.verify(&cert, at)
            .map_err(RelayError::CertificateInvalid)?;
        Ok(cert)
    }

    /// Verifies a certificate by the bundle in force.
    ///
    /// # Errors
    /// What does not hold.
    pub fn verify(
        &self,
        cert: &Signed<pb::DeviceCert>,
        at: Millis,
    ) -> Result<(), greffe_envelope::trust::TrustError> {
        let trust = self.trust.read();
        trust.verify_device_cert(cert, at)
    }
}

impl core::fmt::Debug for Devices {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Devices")
    }
}

impl DeviceDirectory for Devices {
    /// Registered, in whatever period: a leaf outlives its certificate's validity. What a commit adds or renews is
    /// judged by `valid` beside this. Called on the blocking pool, where MLS is checked.
    fn device(&self, certificate: &Digest) -> Option<Device> {
        let find = self.find(certificate);
        let found = simulation::block_on(&self.runtime, find);
        let cert = found
            .inspect_err(|error| tracing::warn!(%error, "a certificate could not be looked up"))
            .ok()??;
        Some(Device {
            tenant: TenantId::new(cert.tenant.as_str()).ok()?,
            device: DeviceId::try_from(cert.device.as_slice()).ok()?,
            certificate: *certificate,
            mls_key: cert.mls_key.as_slice().try_into().ok()?,
        })
    }
}

fn decode(bytes: &[u8]) -> Result<Signed<pb::DeviceCert>, RelayError> {
    Signed::<pb::DeviceCert>::decode_bytes(bytes)
        .map_err(|_| RelayError::Damaged("device certificate"))
}

/// A verified certificate as a row.
///
/// # Errors
/// [`RelayError::Field`], which verification has excluded.
pub fn row(cert: &Signed<pb::DeviceCert>, log_index: u64) -> Result<CertRow, RelayError> {
    use prost::Message as _;
    Ok(CertRow {
        device: DeviceId::try_from(cert.device.as_slice())
            .map_err(|_| RelayError::Field("device"))?,
        user: cert.user.clone(),
        not_before: Millis::new(cert.not_before),
        not_after: Millis::new(cert.not_after),
        statement: cert.raw().encode_to_vec(),
        log_index,
    })
}
