//! Device certificates: verified once by the issuer's signature, judged by period and revocation at each use.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{TrustError, TrustState, verify_device_cert};
use greffe_mls::{Device, DeviceDirectory, PresentedDevices};
use greffe_types::{DeviceId, Digest, Millis, TenantId};

use crate::error::{Result, malformed, untrusted};

/// Certificates by digest, shared by all devices of the process.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    known: RwLock<HashMap<Digest, Arc<Signed<pb::DeviceCert>>>>,
    presented: PresentedDevices,
}

impl Certificates {
    /// A certificate whose issuer was verified.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Arc<Signed<pb::DeviceCert>>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(digest).cloned()
    }

    /// Verifies a certificate as of an instant and keeps it. True when it was not known before.
    ///
    /// # Errors
    /// [`crate::ClientError::Trust`]: another issuer, outside its period, or revoked.
    pub(crate) fn take_in(
        &self,
        state: &TrustState,
        raw: pb::SignedStatement,
        at: Millis,
    ) -> Result<(Arc<Signed<pb::DeviceCert>>, bool)> {
        let cert =
            Signed::<pb::DeviceCert>::decode(raw).map_err(malformed("device certificate"))?;
        let digest = cert.digest();
        if let Some(known) = self.get(&digest)
            && known.raw() == cert.raw()
        {
            self.check(state, &known, at)
                .map_err(untrusted("device certificate"))?;
            return Ok((known, false));
        }
        verify_device_cert(&cert, state.bundle(), at).map_err(untrusted("device certificate"))?;
        let cert = Arc::new(cert);
        self.keep(cert.clone());
        Ok((cert, true))
    }

    /// From this client's own database: verified before it was stored.
    pub(crate) fn load(&self, state: &TrustState, raw: pb::SignedStatement) -> Result<()> {
        let cert =
            Signed::<pb::DeviceCert>::decode(raw).map_err(malformed("device certificate"))?;
        // The issuer may have been replaced since; then the certificate is asked for again.
        let begun = Millis::new(cert.not_before);
        if verify_device_cert(&cert, state.bundle(), begun).is_ok() {
            self.keep(Arc::new(cert));
        }
        Ok(())
    }

    fn keep(&self, cert: Arc<Signed<pb::DeviceCert>>) {
        if let Some(device) = leaf(&cert) {
            self.presented.present(device);
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(cert.digest(), cert);
    }

    /// Period and revocation of a certificate whose issuer was verified, at archive-receipt time.
    pub(crate) fn check(
        &self,
        state: &TrustState,
        cert: &Signed<pb::DeviceCert>,
        at: Millis,
    ) -> Result<(), TrustError> {
        if at.get() < cert.not_before || at.get() >= cert.not_after {
            return Err(TrustError::Period {
                what: "device certificate",
                at,
            });
        }
        if state.bundle().is_revoked(&cert.digest(), at) {
            return Err(TrustError::Revoked);
        }
        Ok(())
    }
}

impl DeviceDirectory for Certificates {
    fn device(&self, certificate: &Digest) -> Option<Device> {
        self.presented.device(certificate)
    }
}

/// What MLS wants to know of a certificate.
fn leaf(cert: &Signed<pb::DeviceCert>) -> Option<Device> {
    Some(Device {
        tenant: TenantId::new(cert.tenant.as_str()).ok()?,
        device: DeviceId::try_from(cert.device.as_slice()).ok()?,
        certificate: cert.digest(),
        mls_key: cert.mls_key.as_slice().try_into().ok()?,
    })
}
