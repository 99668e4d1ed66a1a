//! What the caller vouches for: disclosures and device certificates. This crate checks no root signature itself.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use greffe_envelope::pb::Mode;
use greffe_types::{DeviceId, Digest, TenantId};

/// A verified disclosure: what the journaling extension says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisclosureInfo {
    /// Who can read.
    pub mode: Mode,
    /// Grows with every change, per tenants, mode and standing order.
    pub serial: u64,
    /// Tenants whose devices may take part, sorted.
    pub tenants: Vec<TenantId>,
    /// SHA-256 of the disclosure's statement bytes.
    pub digest: Digest,
    /// Journaling keys, sorted; empty only when private.
    pub key_ids: Vec<Digest>,
    /// Digest of the policy pack.
    pub policy_digest: Digest,
    /// The supervision desk's standing order, when supervised.
    pub standing_order: Option<[u8; 16]>,
}

/// Verifies the journaling extension's bytes, a SignedStatement of type "disclosure".
pub trait DisclosureVerifier: Send + Sync {
    /// Checks deterministic form, the root's signature, the key records inside and the inclusion in the log. Must not
    /// depend on the time: a conversation outlives its first disclosure, and every member has to judge alike.
    fn verify(&self, extension: &[u8]) -> Result<DisclosureInfo, DisclosureError>;

    /// For a joiner: whether this disclosure is the current one (t currency statements of nodes, under 24 hours old).
    fn verify_current(&self, disclosure: &DisclosureInfo) -> Result<(), DisclosureError>;
}

/// Why a verifier refuses a disclosure: a stable, secret-free reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DisclosureError(String);

impl DisclosureError {
    /// With a reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// What a verified device certificate says about an MLS leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The device's tenant.
    pub tenant: TenantId,
    /// The device.
    pub device: DeviceId,
    /// SHA-256 of the certificate's statement bytes.
    pub certificate: Digest,
    /// Ed25519 key of its MLS leaf.
    pub mls_key: [u8; 32],
}

/// Finds device certificates that were presented and verified: issuer's signature, period, not revoked.
pub trait DeviceDirectory: Send + Sync {
    /// The device of a certificate digest.
    fn device(&self, certificate: &Digest) -> Option<Device>;
}

/// A directory in memory: the caller presents certificates to it as it verifies them.
#[derive(Debug, Default)]
pub struct PresentedDevices(RwLock<HashMap<Digest, Device>>);

impl PresentedDevices {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a device whose certificate was verified.
    pub fn present(&self, device: Device) {
        let mut devices = self.0.write().unwrap_or_else(PoisonError::into_inner);
        devices.insert(device.certificate, device);
    }

    /// Forgets a certificate: revoked or expired.
    pub fn withdraw(&self, certificate: &Digest) {
        let mut devices = self.0.write().unwrap_or_else(PoisonError::into_inner);
        devices.remove(certificate);
    }
}

impl DeviceDirectory for PresentedDevices {
    fn device(&self, certificate: &Digest) -> Option<Device> {
        let devices = self.0.read().unwrap_or_else(PoisonError::into_inner);
        devices.get(certificate).cloned()
    }
}

/// Both, as members, joiners and the observer need them.
#[derive(Clone)]
pub struct Trust {
    /// Verifies disclosures.
    pub disclosures: Arc<dyn DisclosureVerifier>,
    /// Finds device certificates.
    pub devices: Arc<dyn DeviceDirectory>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}
