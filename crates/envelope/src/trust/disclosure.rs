//! Disclosures, their currency, and acknowledgements of them.

use core::time::Duration;
use std::collections::BTreeSet;

use greffe_types::{ConversationId, Digest, Millis, TenantId};

use super::bundle::in_period;
use super::device::verify_by_device;
use super::journal::verify_key_record;
use super::{Bundle, RootKey, TrustError, require};
use crate::limits::{MAX_KEYS, MAX_TENANTS};
use crate::pb;
use crate::statement::Signed;
use crate::wrap::JournalKey;

/// How old a currency statement may be: 24 hours.
pub const CURRENCY_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// How far a node's clock may be ahead of whoever reads its currency statement: 60 seconds, as with checkpoints.
pub const CURRENCY_MAX_AHEAD: Duration = Duration::from_secs(60);

/// One tenant's anchors: its pinned root, its current bundle, and older bundles whose nodes made older keys.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// The pinned root.
    pub root: &'a RootKey,
    /// The current bundle.
    pub bundle: &'a Bundle,
    /// Older bundles, verified before; may be empty.
    pub older: &'a [&'a Bundle],
}

impl Trust<'_> {
    fn bundles(&self) -> Vec<&Bundle> {
        let mut bundles = vec![self.bundle];
        bundles.extend_from_slice(self.older);
        bundles
    }
}

/// A disclosure that was verified, with its keys ready for use.
#[derive(Debug)]
pub struct VerifiedDisclosure {
    signed: Signed<pb::Disclosure>,
    records: Vec<Signed<pb::KeyRecord>>,
    keys: Vec<JournalKey>,
}

impl VerifiedDisclosure {
    /// As it was signed.
    pub const fn signed(&self) -> &Signed<pb::Disclosure> {
        &self.signed
    }

    /// Its fields.
    pub const fn message(&self) -> &pb::Disclosure {
        self.signed.message()
    }

    /// SHA-256 of the statement's bytes.
    pub const fn digest(&self) -> Digest {
        self.signed.digest()
    }

    /// Its key records, sorted by tenant and key id.
    pub fn records(&self) -> &[Signed<pb::KeyRecord>] {
        &self.records
    }

    /// Its keys, in the order of the records.
    pub fn keys(&self) -> &[JournalKey] {
        &self.keys
    }

    /// Every key's period contains the instant.
    ///
    /// # Errors
    /// [`TrustError::Period`].
    pub fn check_period(&self, at: Millis) -> Result<(), TrustError> {
        self.records
            .iter()
            .try_for_each(|r| in_period("journaling key", r.not_before, r.not_after, at))
    }

    /// Whether this disclosure may follow another of the same tenants, mode and standing order: serial not lower, an equal
    /// serial only with identical bytes, the mode never weaker.
    ///
    /// # Errors
    /// [`TrustError::Version`], [`TrustError::Mismatch`].
    pub fn check_follows(
        &self,
        earlier: &pb::Disclosure,
        digest: &Digest,
    ) -> Result<(), TrustError> {
        let (known, found) = (earlier.serial, self.message().serial);
        if self.message().mode < earlier.mode {
            return Err(TrustError::Mismatch("mode"));
        }
        let same_line = self.message().mode == earlier.mode
            && self.message().standing_order == earlier.standing_order;
        if same_line && (found < known || (found == known && self.digest() != *digest)) {
            return Err(TrustError::Version { known, found });
        }
        Ok(())
    }
}

/// Verifies a disclosure: signed by the root of `trusts[0]`, every key record by its own tenant's root and committee, the
/// policy pack signed off, every tenant covered unless the conversation is private.
///
/// # Errors
/// [`TrustError`].
pub fn verify_disclosure(
    signed: Signed<pb::Disclosure>,
    trusts: &[Trust<'_>],
) -> Result<VerifiedDisclosure, TrustError> {
    let own = trusts.first().ok_or(TrustError::Mismatch("tenant"))?;
    own.root.verify(&signed)?;
    check(&signed)?;
    require(own.bundle.has_pack(&signed.policy_digest), "policy_digest")?;
    if !signed
        .tenants
        .iter()
        .any(|t| t == own.root.tenant().as_str())
    {
        return Err(TrustError::Mismatch("tenant"));
    }
    let (mut records, mut keys) = (Vec::new(), Vec::new());
    for raw in &signed.key_records {
        let record = Signed::<pb::KeyRecord>::decode(raw.clone())?;
        let trust = trusts
            .iter()
            .find(|trust| trust.root.tenant().as_str() == record.tenant)
            .ok_or_else(|| TrustError::Unknown("tenant", record.tenant.clone()))?;
        require(signed.tenants.contains(&record.tenant), "key_records")?;
        keys.push(verify_key_record(&record, trust.root, &trust.bundles())?);
        records.push(record);
    }
    let names = |r: &Signed<pb::KeyRecord>| (r.tenant.clone(), r.key_id.clone());
    require(
        records.is_sorted_by(|a, b| names(a) < names(b)),
        "key_records",
    )?;
    let covered: BTreeSet<_> = records
        .iter()
        .map(|record| record.tenant.as_str())
        .collect();
    let journaled = signed.mode() != pb::Mode::Private;
    require(
        !journaled || signed.tenants.iter().all(|t| covered.contains(t.as_str())),
        "key_records",
    )?;
    Ok(VerifiedDisclosure {
        signed,
        records,
        keys,
    })
}

/// Verifies that at least `threshold` different nodes say, less than [`CURRENCY_MAX_AGE`] ago, that a disclosure is the
/// current one. Statements dated more than [`CURRENCY_MAX_AHEAD`] after `now` count for nothing.
///
/// # Errors
/// [`TrustError::Quorum`].
pub fn verify_currency(
    statements: &[Signed<pb::Currency>],
    disclosure: &VerifiedDisclosure,
    bundle: &Bundle,
    threshold: usize,
    now: Millis,
) -> Result<(), TrustError> {
    let wanted = disclosure.message();
    let says_so = |s: &Signed<pb::Currency>| {
        s.tenant == bundle.tenant().as_str()
            && s.mode == wanted.mode
            && s.standing_order == wanted.standing_order
            && s.disclosure == disclosure.digest().as_bytes()
            && s.serial == wanted.serial
            && s.share_epochs.len() == wanted.key_records.len()
            && s.at <= now.plus(CURRENCY_MAX_AHEAD).get()
            && now.minus(CURRENCY_MAX_AGE).get() < s.at
    };
    let mut nodes = BTreeSet::new();
    for statement in statements.iter().filter(|s| says_so(s)) {
        let signers = statement.signers();
        nodes.extend(
            signers
                .filter(|name| bundle.verify_node(statement, name).is_ok())
                .map(str::to_owned),
        );
    }
    let needed = threshold.max(1);
    if nodes.len() < needed {
        return Err(TrustError::Quorum {
            needed,
            found: nodes.len(),
        });
    }
    Ok(())
}

/// Verifies that a device (its certificate verified by the caller) acknowledged a disclosure for a conversation, having
/// been shown one of its notices.
///
/// # Errors
/// [`TrustError`].
pub fn verify_acknowledgement(
    signed: &Signed<pb::Acknowledgement>,
    cert: &pb::DeviceCert,
    disclosure: &Signed<pb::Disclosure>,
    conversation: &ConversationId,
) -> Result<(), TrustError> {
    verify_by_device(signed, cert)?;
    if (&signed.tenant, &signed.user, &signed.device) != (&cert.tenant, &cert.user, &cert.device) {
        return Err(TrustError::Mismatch("device"));
    }
    if signed.conversation != conversation.as_bytes() {
        return Err(TrustError::Mismatch("conversation"));
    }
    if signed.disclosure != disclosure.digest().as_bytes() {
        return Err(TrustError::Mismatch("disclosure"));
    }
    let shown = |notice: &pb::NoticeRef| {
        notice.language == signed.language && notice.digest == signed.notice
    };
    if !disclosure.notices.iter().any(shown) {
        return Err(TrustError::Mismatch("notice"));
    }
    Ok(())
}

/// Every rule that needs the disclosure alone.
fn check(d: &pb::Disclosure) -> Result<(), TrustError> {
    require(
        (1..=MAX_TENANTS).contains(&d.tenants.len())
            && d.tenants.is_sorted_by(|a, b| a < b)
            && d.tenants.iter().all(|t| TenantId::new(t.as_str()).is_ok()),
        "tenants",
    )?;
    let mode = pb::Mode::try_from(d.mode).unwrap_or(pb::Mode::Unspecified);
    require(mode != pb::Mode::Unspecified, "mode")?;
    let private = mode == pb::Mode::Private;
    require(
        d.key_records.is_empty() == private && d.key_records.len() <= MAX_KEYS,
        "key_records",
    )?;
    require(!d.policy_id.is_empty(), "policy_id")?;
    require(d.policy_digest.len() == 32, "policy_digest")?;
    require(
        !d.notices.is_empty()
            && d.notices.is_sorted_by(|a, b| a.language < b.language)
            && d.notices.iter().all(|n| n.digest.len() == 32),
        "notices",
    )?;
    require(d.serial >= 1, "serial")?;
    let order = if mode == pb::Mode::Supervised { 16 } else { 0 };
    require(d.standing_order.len() == order, "standing_order")
}
