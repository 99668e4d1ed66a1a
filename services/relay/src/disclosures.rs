//! The journaling extension judged by the log: only what this tenant's root signed and the log has is a disclosure.

use greffe_envelope::trust::VerifiedDisclosure;
use greffe_envelope::{label, pb};
use greffe_mls::{DisclosureError, DisclosureInfo, DisclosureVerifier};
use greffe_service_kit::boot::SharedTrust;
use greffe_types::{Digest, TenantId};
use prost::Message as _;

/// Verifies extensions against the statements taken in from the log.
pub struct LoggedDisclosures(SharedTrust);

impl LoggedDisclosures {
    /// Over a tenant's trust.
    pub const fn new(trust: SharedTrust) -> Self {
        Self(trust)
    }
}

impl DisclosureVerifier for LoggedDisclosures {
    fn verify(&self, extension: &[u8]) -> Result<DisclosureInfo, DisclosureError> {
        let statement = pb::SignedStatement::decode(extension)
            .map_err(|_| DisclosureError::new("it is not a signed statement"))?;
        let digest = label::sha256(&statement.statement);
        let trust = self.0.read();
        let known = trust
            .disclosure(&digest)
            .ok_or_else(|| DisclosureError::new("it is not in the log"))?;
        // the signatures are part of what members authenticate: other ones would be another extension
        if known.signed().raw().encode_to_vec() != extension {
            return Err(DisclosureError::new(
                "its signatures are not the logged ones",
            ));
        }
        info(known).ok_or_else(|| DisclosureError::new("a field does not parse"))
    }

    fn verify_current(&self, disclosure: &DisclosureInfo) -> Result<(), DisclosureError> {
        let trust = self.0.read();
        let order = disclosure
            .standing_order
            .map_or_else(Vec::new, |o| o.to_vec());
        let current = trust.current_disclosures().any(|current| {
            current.digest() == disclosure.digest && current.message().standing_order == order
        });
        if current {
            Ok(())
        } else {
            Err(DisclosureError::new(
                "it is not the current one of its mode",
            ))
        }
    }
}

fn info(disclosure: &VerifiedDisclosure) -> Option<DisclosureInfo> {
    let message = disclosure.message();
    let mut key_ids: Vec<Digest> = disclosure.keys().iter().map(|key| *key.key_id()).collect();
    key_ids.sort_unstable();
    let standing_order = match message.standing_order.as_slice() {
        [] => None,
        order => Some(order.try_into().ok()?),
    };
    Some(DisclosureInfo {
        mode: message.mode(),
        serial: message.serial,
        tenants: message
            .tenants
            .iter()
            .map(|tenant| TenantId::new(tenant.as_str()).ok())
            .collect::<Option<_>>()?,
        digest: disclosure.digest(),
        key_ids,
        policy_digest: Digest::try_from(message.policy_digest.as_slice()).ok()?,
        standing_order,
    })
}
