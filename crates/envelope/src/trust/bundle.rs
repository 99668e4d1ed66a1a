//! The trust bundle, verified and looked up.

use std::collections::BTreeSet;

use greffe_types::{Digest, Millis, TenantId, TimeRange};

use super::device::Issued;
use super::{ISSUER, ROOT, RootKey, TrustError, require};
use crate::curve::Point;
use crate::limits::{MAX_HOLDERS, MLKEM_KEY, PUBLIC_KEY};
use crate::pb;
use crate::statement::{Signed, Statement, public_key};

/// Roles that a person may hold.
pub const ROLES: [&str; 8] = [
    "administrator",
    "approver",
    "auditor",
    "compliance",
    "legal",
    "reader",
    "records-manager",
    "requester",
];

/// A bundle that the pinned root signed and whose every field is well formed.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    signed: Signed<pb::TrustBundle>,
    tenant: TenantId,
    issued: Issued,
}

impl Bundle {
    /// Verifies a bundle under the pinned root.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn verify(signed: Signed<pb::TrustBundle>, root: &RootKey) -> Result<Self, TrustError> {
        root.verify(&signed)?;
        if signed.tenant != root.tenant().as_str() {
            return Err(TrustError::Mismatch("tenant"));
        }
        check(&signed)?;
        Ok(Self {
            tenant: root.tenant().clone(),
            signed,
            issued: Issued::default(),
        })
    }

    /// Device certificates that were found to be issued under it.
    pub(super) const fn issued(&self) -> &Issued {
        &self.issued
    }

    /// Whether another bundle may take this one's place: never a lower version, the same version only with the same bytes,
    /// the next version only with this one's digest. When nodes change, or the log's key, its witnesses or their quorum,
    /// `threshold` of this bundle's nodes have to have signed the next: the root alone cannot bring in a log of its own.
    ///
    /// # Errors
    /// [`TrustError::Version`], [`TrustError::Quorum`], [`TrustError::Mismatch`].
    pub fn check_successor(&self, next: &Self, threshold: usize) -> Result<(), TrustError> {
        let (known, found) = (self.version(), next.version());
        if next.tenant != self.tenant {
            return Err(TrustError::Mismatch("tenant"));
        }
        let same = next.digest() == self.digest();
        let chained = found != known + 1 || next.signed.previous == self.digest().as_bytes();
        if found < known || (found == known && !same) || !chained {
            return Err(TrustError::Version { known, found });
        }
        if !self.has_nodes_and_log_of(next) {
            let found = self.count_nodes(&next.signed);
            if found < threshold {
                return Err(TrustError::Quorum {
                    needed: threshold,
                    found,
                });
            }
        }
        Ok(())
    }

    /// Whether the other names the same nodes, log, witnesses and quorum of these: a change of them takes the nodes.
    pub fn has_nodes_and_log_of(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.message(), other.message());
        ours.nodes == theirs.nodes
            && ours.log == theirs.log
            && ours.witnesses == theirs.witnesses
            && ours.cosigner_quorum == theirs.cosigner_quorum
    }

    /// The tenant.
    pub const fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The version, from 1: also the serial of the roster.
    pub fn version(&self) -> u64 {
        self.signed.version
    }

    /// SHA-256 of the statement's bytes.
    pub const fn digest(&self) -> Digest {
        self.signed.digest()
    }

    /// The bundle as it was signed.
    pub const fn signed(&self) -> &Signed<pb::TrustBundle> {
        &self.signed
    }

    /// Its fields.
    pub const fn message(&self) -> &pb::TrustBundle {
        self.signed.message()
    }

    /// The audit log's origin and key.
    pub fn log(&self) -> &pb::LogKey {
        self.signed.log.as_ref().expect("checked when verified")
    }

    /// What an order needs.
    pub fn approvals(&self) -> &pb::ApprovalRule {
        self.signed
            .approvals
            .as_ref()
            .expect("checked when verified")
    }

    /// A person who may act at an instant: on the roster, in their period, not revoked.
    ///
    /// # Errors
    /// [`TrustError::Unknown`], [`TrustError::Period`].
    pub fn person(&self, name: &str, at: Millis) -> Result<&pb::Person, TrustError> {
        let person = self
            .signed
            .roster
            .iter()
            .find(|person| person.name == name && !person.revoked)
            .ok_or_else(|| TrustError::Unknown("person", name.to_owned()))?;
        in_period("person", person.not_before, person.not_after, at)?;
        Ok(person)
    }

    /// Verifies that a person who may act, and holds one of the roles when any are given, signed a statement.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn verify_person<M: Statement>(
        &self,
        signed: &Signed<M>,
        name: &str,
        roles: &[&str],
        at: Millis,
    ) -> Result<&pb::Person, TrustError> {
        let person = self.person(name, at)?;
        let holds = |role: &&str| person.roles.iter().any(|held| held == role);
        if !roles.is_empty() && !roles.iter().any(holds) {
            return Err(TrustError::Unknown("role of person", name.to_owned()));
        }
        signed.verify(name, &person.signing_key)?;
        Ok(person)
    }

    /// A node by name.
    ///
    /// # Errors
    /// [`TrustError::Unknown`].
    pub fn node(&self, name: &str) -> Result<&pb::EscrowNode, TrustError> {
        self.signed
            .nodes
            .iter()
            .find(|node| node.name == name)
            .ok_or_else(|| TrustError::Unknown("node", name.to_owned()))
    }

    /// Verifies that a node signed a statement.
    ///
    /// # Errors
    /// [`TrustError::Unknown`], [`TrustError::Statement`].
    pub fn verify_node<M: Statement>(
        &self,
        signed: &Signed<M>,
        name: &str,
    ) -> Result<(), TrustError> {
        Ok(signed.verify(name, &self.node(name)?.signing_key)?)
    }

    /// How many of this bundle's nodes have validly signed a statement.
    pub fn count_nodes<M: Statement>(&self, signed: &Signed<M>) -> usize {
        let nodes = self.signed.nodes.iter();
        nodes
            .filter(|node| signed.verify(&node.name, &node.signing_key).is_ok())
            .count()
    }

    /// A key that signed receipts at an instant.
    ///
    /// # Errors
    /// [`TrustError::Unknown`], [`TrustError::Period`].
    pub fn receipt_key(&self, name: &str, at: Millis) -> Result<&pb::ServiceKey, TrustError> {
        let key = self
            .signed
            .receipt_keys
            .iter()
            .find(|key| key.name == name)
            .ok_or_else(|| TrustError::Unknown("receipt key", name.to_owned()))?;
        in_period("receipt key", key.not_before, key.not_after, at)?;
        Ok(key)
    }

    /// The TLS name of a service.
    ///
    /// # Errors
    /// [`TrustError::Unknown`].
    pub fn service(&self, name: &str) -> Result<&pb::ServiceName, TrustError> {
        self.signed
            .services
            .iter()
            .find(|service| service.service == name)
            .ok_or_else(|| TrustError::Unknown("service", name.to_owned()))
    }

    /// Whether a policy pack may be named.
    pub fn has_pack(&self, digest: &[u8]) -> bool {
        self.signed.packs.iter().any(|pack| pack.digest == digest)
    }

    /// Whether a certificate is revoked for archive-receipt time `at`.
    pub fn is_revoked(&self, certificate: &Digest, at: Millis) -> bool {
        self.signed
            .revocations
            .iter()
            .any(|r| r.certificate == certificate.as_bytes() && r.from <= at.get())
    }
}

/// `Err(Period)` unless an instant lies in a period.
pub(super) fn in_period(
    what: &'static str,
    not_before: u64,
    not_after: u64,
    at: Millis,
) -> Result<(), TrustError> {
    let range = TimeRange::new(Millis::new(not_before), Millis::new(not_after));
    if range.is_some_and(|range| range.contains(at)) {
        Ok(())
    } else {
        Err(TrustError::Period { what, at })
    }
}

/// Every rule that needs the bundle alone.
fn check(b: &pb::TrustBundle) -> Result<(), TrustError> {
    require(b.version >= 1, "version")?;
    let first = b.previous.iter().all(|byte| *byte == 0);
    require(
        b.previous.len() == 32 && first == (b.version == 1),
        "previous",
    )?;
    require(b.next_root.len() == 32, "next_root")?;
    public_key(ISSUER, &b.device_issuer)?;
    let log = b.log.as_ref().ok_or(TrustError::Field("log"))?;
    require(
        !log.origin.is_empty() && !log.origin.contains(char::is_control),
        "log",
    )?;
    public_key(&log.origin, &log.key)?;
    let rule = b.approvals.as_ref().ok_or(TrustError::Field("approvals"))?;
    require(
        rule.minimum >= 1
            && rule
                .required_roles
                .iter()
                .all(|r| ROLES.contains(&r.as_str())),
        "approvals",
    )?;
    require(b.packs.iter().all(|pack| pack.digest.len() == 32), "packs")?;
    require(unique(b.packs.iter().map(|pack| &pack.id)), "packs")?;
    require(unique(b.services.iter().map(|s| &s.service)), "services")?;
    require(
        b.revocations.iter().all(|r| r.certificate.len() == 32)
            && unique(b.revocations.iter().map(|r| &r.certificate)),
        "revocations",
    )?;
    check_names(b)?;
    check_nodes(b)?;
    check_people(b)
}

/// No two keys may be mistaken for one another by name.
fn check_names(b: &pb::TrustBundle) -> Result<(), TrustError> {
    let names = b
        .nodes
        .iter()
        .map(|node| node.name.as_str())
        .chain(b.receipt_keys.iter().map(|key| key.name.as_str()))
        .chain(b.roster.iter().map(|person| person.name.as_str()))
        .chain([ROOT, ISSUER]);
    require(unique(names.clone()), "names")?;
    let mut names = names;
    require(
        names.all(|n| !n.is_empty() && !n.contains(char::is_control)),
        "names",
    )
}

fn check_nodes(b: &pb::TrustBundle) -> Result<(), TrustError> {
    require(!b.nodes.is_empty() && b.nodes.len() <= MAX_HOLDERS, "nodes")?;
    for (node, index) in b.nodes.iter().zip(1..) {
        require(node.index == index, "nodes.index")?;
        public_key(&node.name, &node.signing_key)?;
        public_key(&node.name, &node.witness_key)?;
        require(node.signing_key != node.witness_key, "nodes.witness_key")?;
        check_hybrid_key(&node.channel_key, "nodes.channel_key")?;
    }
    require(
        unique(b.witnesses.iter().map(|witness| &witness.name))
            && b.cosigner_quorum as usize <= b.witnesses.len(),
        "witnesses",
    )?;
    for witness in &b.witnesses {
        public_key(&witness.name, &witness.key)?;
    }
    for key in &b.receipt_keys {
        public_key(&key.name, &key.key)?;
    }
    Ok(())
}

fn check_people(b: &pb::TrustBundle) -> Result<(), TrustError> {
    for person in &b.roster {
        public_key(&person.name, &person.signing_key)?;
        require(
            person
                .roles
                .iter()
                .all(|role| ROLES.contains(&role.as_str())),
            "roster.roles",
        )?;
        if !person.reader_key.is_empty() {
            check_hybrid_key(&person.reader_key, "roster.reader_key")?;
        }
    }
    // One key under two names would let one person approve twice.
    require(
        unique(b.roster.iter().map(|person| &person.signing_key)),
        "roster.signing_key",
    )
}

fn check_hybrid_key(key: &[u8], field: &'static str) -> Result<(), TrustError> {
    let holds = key.len() == PUBLIC_KEY && Point::from_uncompressed(&key[MLKEM_KEY..]).is_ok();
    require(holds, field)
}

fn unique<T: Ord>(mut items: impl Iterator<Item = T>) -> bool {
    let mut seen = BTreeSet::new();
    items.all(|item| seen.insert(item))
}
