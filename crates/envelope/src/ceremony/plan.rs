//! What a key generation is to make: the root's descriptor, checked.

use greffe_types::{Digest, Millis, SessionId, TenantId, TimeRange};

use super::epoch::check_threshold;
use super::error::CeremonyError;
use super::members::Members;
use crate::pb;
use crate::statement::Signed;

/// A key generation that the root has asked for, checked against the trust bundle.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(crate) descriptor: pb::KeygenDescriptor,
    pub(crate) digest: Digest,
    pub(crate) session: SessionId,
    pub(crate) threshold: u16,
    pub(crate) members: Members,
}

impl Plan {
    /// Checks a descriptor: the root's signature, tenant, committee, threshold, period and expiry.
    ///
    /// # Errors
    /// When any of them is wrong.
    pub fn check(
        descriptor: &Signed<pb::KeygenDescriptor>,
        root_key: &[u8],
        bundle: &pb::TrustBundle,
        now: Millis,
    ) -> Result<Self, CeremonyError> {
        descriptor
            .verify("root", root_key)
            .map_err(CeremonyError::Descriptor)?;
        let d = descriptor.message();
        if d.tenant != bundle.tenant || TenantId::new(d.tenant.as_str()).is_err() {
            return Err(CeremonyError::Field("tenant"));
        }
        if d.bundle_version != bundle.version {
            return Err(CeremonyError::Field("bundle version"));
        }
        if d.expiry <= now.get() {
            return Err(CeremonyError::Field("expiry"));
        }
        if d.period.is_empty() || d.period.len() > 64 {
            return Err(CeremonyError::Field("period"));
        }
        if TimeRange::new(Millis::new(d.not_before), Millis::new(d.not_after)).is_none() {
            return Err(CeremonyError::Field("validity"));
        }
        let session = SessionId::try_from(d.session.as_slice())
            .map_err(|_| CeremonyError::Field("session"))?;
        let members = Members::from_bundle(&d.nodes, bundle)?;
        let threshold =
            check_threshold(d.threshold, 2, d.nodes.len()).map_err(CeremonyError::Threshold)?;
        Ok(Self {
            descriptor: d.clone(),
            digest: descriptor.digest(),
            session,
            threshold,
            members,
        })
    }

    /// The session.
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// The nodes.
    pub const fn members(&self) -> &Members {
        &self.members
    }

    /// How many answers will open a record.
    pub const fn threshold(&self) -> u16 {
        self.threshold
    }
}
