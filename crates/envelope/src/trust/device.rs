//! Device certificates, and what devices sign.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use greffe_types::{DeviceId, Digest, Millis, UserId, to_hex};
use prost::Message as _;

use super::bundle::in_period;
use super::{Bundle, ISSUER, TrustError, require};
use crate::label::sha256;
use crate::pb;
use crate::statement::{Signed, Statement, public_key};

/// Most certificates that a bundle remembers; then it begins anew.
const MOST_ISSUED: usize = 4096;

/// Certificates that were found to be issued under a bundle: SHA-256 of every byte that was verified, other signatures included.
/// Copies of the bundle share them; they are no part of what it says.
#[derive(Clone, Default)]
pub(super) struct Issued(Arc<Mutex<HashSet<Digest>>>);

impl Issued {
    fn known(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, cert: &Digest) -> bool {
        self.known().contains(cert)
    }

    fn add(&self, cert: Digest) {
        let mut known = self.known();
        if known.len() >= MOST_ISSUED {
            known.clear();
        }
        known.insert(cert);
    }
}

impl PartialEq for Issued {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl core::fmt::Debug for Issued {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Issued(..)")
    }
}

/// Verifies a device's certificate: issued under the bundle, in its period and not revoked at archive-receipt time `at`.
///
/// # Errors
/// [`TrustError`].
pub fn verify_device_cert(
    cert: &Signed<pb::DeviceCert>,
    bundle: &Bundle,
    at: Millis,
) -> Result<(), TrustError> {
    verify_device_cert_issued(cert, bundle)?;
    verify_device_cert_at(cert, bundle, at)
}

/// The part of [`verify_device_cert`] that no time changes: the issuer of this bundle signed it, and it is well formed. A device
/// sends many messages: a bundle remembers the certificates that passed.
fn verify_device_cert_issued(
    cert: &Signed<pb::DeviceCert>,
    bundle: &Bundle,
) -> Result<(), TrustError> {
    let bytes = sha256(&cert.raw().encode_to_vec());
    if bundle.issued().has(&bytes) {
        return Ok(());
    }
    check_issued(cert, bundle)?;
    bundle.issued().add(bytes);
    Ok(())
}

fn check_issued(cert: &Signed<pb::DeviceCert>, bundle: &Bundle) -> Result<(), TrustError> {
    if cert.tenant != bundle.tenant().as_str() {
        return Err(TrustError::Mismatch("tenant"));
    }
    cert.verify(ISSUER, &bundle.message().device_issuer)?;
    require(UserId::new(cert.user.as_str()).is_ok(), "user")?;
    require(cert.device.len() == 16, "device")?;
    public_key("mls", &cert.mls_key)?;
    public_key("envelope", &cert.envelope_key)?;
    require(cert.mls_key != cert.envelope_key, "envelope_key")
}

/// The other part: in its period and not revoked at `at`.
fn verify_device_cert_at(
    cert: &Signed<pb::DeviceCert>,
    bundle: &Bundle,
    at: Millis,
) -> Result<(), TrustError> {
    in_period("device certificate", cert.not_before, cert.not_after, at)?;
    if bundle.is_revoked(&cert.digest(), at) {
        return Err(TrustError::Revoked);
    }
    Ok(())
}

/// The signer name of a device: its id in lower-case hexadecimal.
pub fn device_signer(device: &DeviceId) -> String {
    to_hex(device.as_bytes())
}

/// Verifies that the device of a certificate (itself verified by the caller) signed a statement with its envelope key.
///
/// # Errors
/// [`TrustError::Statement`], [`TrustError::Field`].
pub fn verify_by_device<M: Statement>(
    signed: &Signed<M>,
    cert: &pb::DeviceCert,
) -> Result<(), TrustError> {
    let device =
        DeviceId::try_from(cert.device.as_slice()).map_err(|_| TrustError::Field("device"))?;
    Ok(signed.verify(&device_signer(&device), &cert.envelope_key)?)
}

#[cfg(test)]
mod tests {
    use super::{Digest, Issued, MOST_ISSUED};
    use crate::label::sha256;

    #[test]
    fn no_more_certificates_are_remembered_than_may_be() {
        let issued = Issued::default();
        let certs: Vec<Digest> = (0..=MOST_ISSUED as u64)
            .map(|number| sha256(&number.to_be_bytes()))
            .collect();
        certs.iter().for_each(|cert| issued.clone().add(*cert));
        assert!(issued.has(&certs[MOST_ISSUED]));
        assert!(!issued.has(&certs[0]));
        assert_eq!(issued.known().len(), 1);
    }
}
