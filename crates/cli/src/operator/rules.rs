//! What a root signs, and what a node's operator agrees to: everything else is refused before a signature exists.

use core::time::Duration;

use ed25519_dalek::SigningKey;
use greffe_envelope::ceremony::Plan;
use greffe_envelope::pb;
use greffe_envelope::statement::{Signed, Statement};
use greffe_envelope::trust::{
    Bundle, ROOT, RootKey, Trust, TrustError, verify_disclosure, verify_key_record,
    verify_key_retirement,
};
use greffe_policy::ApprovalRule;
use greffe_service_kit::checkpoint::{log_verifier, quorum};
use greffe_types::Millis;

use super::file::wrong_tenant;
use super::reshare;
use crate::fail::{Failure, Result, chain};

/// How long a change of the nodes stands before the root signs it.
pub(crate) const NODE_CHANGE_NOTICE: Duration = Duration::from_secs(24 * 3600);
/// How far back the date of a change may lie that a node's operator agrees to: a date further back would cut the notice short.
const CONSENT_WITHIN: Duration = Duration::from_secs(3600);

/// Longest text of a bundle that notices print, in bytes.
const MAX_LINE: usize = 200;

/// Whoever holds the root's key, and what they have at hand.
pub(crate) struct Signer<'a> {
    /// The root's key.
    pub(crate) key: &'a SigningKey,
    /// Its public half, with the tenant.
    pub(crate) root: &'a RootKey,
    /// Trust bundles that this root has signed, the one in force first.
    pub(crate) bundles: &'a [Bundle],
    /// The highest threshold of the keys that the present nodes hold, 0 before there is a key; wanted when nodes or log change.
    pub(crate) threshold: Option<usize>,
    /// Record and share epoch in force of the journaling key, for what is said of one that there is.
    pub(crate) journal: Option<(
        &'a Signed<pb::KeyRecord>,
        Option<&'a Signed<pb::ShareEpoch>>,
    )>,
    /// This machine's clock.
    pub(crate) now: Millis,
}

impl Signer<'_> {
    /// Signs a statement, if it is one that a root signs and everything about it holds.
    pub(crate) fn sign(&self, raw: pb::SignedStatement) -> Result<pb::SignedStatement> {
        if self.key.verifying_key().to_bytes() != *self.root.as_bytes() {
            return Err(Failure::refused(
                "KEY_MISMATCH",
                "this is not the private key of that root: name the key file that was made with this root.pub",
            ));
        }
        match raw.r#type.as_str() {
            pb::TrustBundle::TYPE => self.bundle(decode(raw)?),
            pb::KeygenDescriptor::TYPE => self.descriptor(decode(raw)?),
            pb::ReshareDescriptor::TYPE => self.resharing(decode(raw)?),
            pb::KeyRetirement::TYPE => self.retirement(decode(raw)?),
            pb::KeyRecord::TYPE => self.record(decode(raw)?),
            pb::Disclosure::TYPE => self.disclosure(decode(raw)?),
            _ => Err(Failure::refused(
                "NOT_THE_ROOTS",
                "a root signs trust bundles, ceremony descriptors, key records, disclosures and retirements only; share epochs are the nodes' alone",
            )),
        }
    }

    fn bundle(&self, draft: Signed<pb::TrustBundle>) -> Result<pb::SignedStatement> {
        self.own(&draft.tenant)?;
        let signed = self.signed(draft);
        let next = Bundle::verify(signed, self.root).map_err(malformed("trust bundle"))?;
        usable(&next)?;
        match self.bundles.first() {
            None if next.version() > 1 => Err(self.no_bundle("the one before this")),
            None => Ok(next.signed().raw().clone()),
            Some(current) => {
                self.follows(current, &next)?;
                Ok(next.signed().raw().clone())
            }
        }
    }

    /// The next version of the bundle in force; a change of the nodes, the log or its witnesses after its notice, with the nodes'
    /// agreement.
    fn follows(&self, current: &Bundle, next: &Bundle) -> Result<()> {
        if next.version() != current.version() + 1 {
            return Err(Failure::refused(
                "BUNDLE_VERSION",
                format_args!(
                    "it is version {}, and after version {} comes {}: draft it anew with `greffe operator bundle edit` from the bundle in \
                     force",
                    next.version(),
                    current.version(),
                    current.version() + 1
                ),
            ));
        }
        let changed = !current.has_nodes_and_log_of(next);
        let agreed = if changed { self.agreed(current)? } else { 0 };
        let outcome = current.check_successor(next, agreed);
        outcome.map_err(|error| match error {
            TrustError::Version { .. } => Failure::refused(
                "BUNDLE_VERSION",
                "it does not follow from the bundle at hand, whose digest it should name: draft it anew from the bundle in force",
            ),
            TrustError::Quorum { needed, found } => Failure::refused(
                "NODES_NOT_AGREED",
                format_args!(
                    "it changes the nodes, the log or its witnesses, and {found} of the present nodes have agreed where {needed} have \
                     to: have their operators run `greffe operator countersign`"
                ),
            ),
            other => malformed("trust bundle")(other),
        })?;
        let development = current.message().development && next.message().development;
        let from = Millis::new(next.message().issued_at).plus(NODE_CHANGE_NOTICE);
        if changed && !development && self.now < from {
            return Err(Failure::refused(
                "NODE_CHANGE_TOO_EARLY",
                format_args!(
                    "it changes the nodes, the log or its witnesses, and such a change stands for 24 hours before it is signed: sign it \
                     after {}",
                    crate::commands::form::time(from.get())
                ),
            ));
        }
        if current.message().development != next.message().development {
            return Err(Failure::refused(
                "BUNDLE_DEVELOPMENT",
                "a development identity does not become another, nor the other way round: make a new tenant",
            ));
        }
        Ok(())
    }

    /// How many of the present nodes have to agree to a change of nodes, log or witnesses: a majority, and as many as the
    /// threshold of any key that they hold. Whoever follows the log asks for as many, and would refuse what was signed with less.
    fn agreed(&self, current: &Bundle) -> Result<usize> {
        let nodes = current.message().nodes.len();
        let threshold = self.threshold.ok_or_else(|| {
            Failure::usage(
                "THRESHOLD_MISSING",
                "it changes the nodes, the log or its witnesses: say with --threshold the highest threshold of the nodes' keys, which \
                 `greffe tenant show` prints; 0 before there is a key",
            )
        })?;
        if threshold > nodes {
            return Err(Failure::usage(
                "THRESHOLD",
                format_args!(
                    "there are {nodes} nodes, and {threshold} of them cannot agree: see `greffe tenant show`"
                ),
            ));
        }
        Ok(threshold.max(nodes / 2 + 1))
    }

    fn descriptor(&self, draft: Signed<pb::KeygenDescriptor>) -> Result<pb::SignedStatement> {
        self.own(&draft.tenant)?;
        let bundle = self.current()?;
        let signed = self.signed(draft);
        if signed.expiry <= self.now.get() {
            return Err(Failure::refused(
                "CEREMONY_EXPIRED",
                "nodes would take no part in it any more: draft the ceremony anew",
            ));
        }
        Plan::check(&signed, self.root.as_bytes(), bundle.message(), self.now)
            .map_err(|error| malformed("ceremony descriptor")(error))?;
        Ok(signed.into_raw())
    }

    fn resharing(&self, draft: Signed<pb::ReshareDescriptor>) -> Result<pb::SignedStatement> {
        self.own(&draft.tenant)?;
        let bundle = self.current()?;
        let (record, Some(epoch)) = self.of_key()? else {
            return Err(Failure::usage(
                "SHARE_EPOCH_MISSING",
                "a resharing cannot be judged without the share epoch that it leaves: name it with --share-epoch, as it lies beside the draft",
            ));
        };
        let signed = self.signed(draft);
        let root = self.root.as_bytes();
        reshare::plan(&signed, root, record, epoch, bundle.message(), self.now)?;
        Ok(signed.into_raw())
    }

    /// The archive has said that it holds nothing of the key: that is the last thing that is ever looked at before its shares are
    /// destroyed.
    fn retirement(&self, draft: Signed<pb::KeyRetirement>) -> Result<pb::SignedStatement> {
        self.own(&draft.tenant)?;
        self.current()?;
        let (record, _) = self.of_key()?;
        let signed = self.signed(draft);
        let bundles: Vec<&Bundle> = self.bundles.iter().collect();
        verify_key_retirement(&signed, record, self.root, &bundles)
            .map_err(malformed("retirement"))?;
        Ok(signed.into_raw())
    }

    /// The record that the root has signed before, and the share epoch at hand.
    fn of_key(&self) -> Result<(&Signed<pb::KeyRecord>, Option<&Signed<pb::ShareEpoch>>)> {
        let (record, epoch) = self.journal.ok_or_else(|| {
            Failure::usage(
                "KEY_RECORD_MISSING",
                "this cannot be judged without the key's record: name it with --key-record, as it lies beside the draft",
            )
        })?;
        let bundles: Vec<&Bundle> = self.bundles.iter().collect();
        verify_key_record(record, self.root, &bundles).map_err(malformed("key record"))?;
        Ok((record, epoch))
    }

    fn record(&self, draft: Signed<pb::KeyRecord>) -> Result<pb::SignedStatement> {
        self.own(&draft.tenant)?;
        self.current()?;
        let signed = self.signed(draft);
        let bundles: Vec<&Bundle> = self.bundles.iter().collect();
        verify_key_record(&signed, self.root, &bundles).map_err(malformed("key record"))?;
        Ok(signed.into_raw())
    }

    fn disclosure(&self, draft: Signed<pb::Disclosure>) -> Result<pb::SignedStatement> {
        if !draft
            .tenants
            .iter()
            .any(|t| t == self.root.tenant().as_str())
        {
            let found = draft.tenants.first().map_or("", String::as_str);
            return Err(wrong_tenant(found, self.root));
        }
        let bundle = self.current()?;
        let signed = self.signed(draft);
        let older: Vec<&Bundle> = self.bundles.iter().skip(1).collect();
        let trust = Trust {
            root: self.root,
            bundle,
            older: &older,
        };
        let verified =
            verify_disclosure(signed, &[trust]).map_err(|error| malformed("disclosure")(error))?;
        Ok(verified.signed().raw().clone())
    }

    fn signed<M: Statement>(&self, mut draft: Signed<M>) -> Signed<M> {
        draft.add_signature(ROOT, self.key);
        draft
    }

    fn own(&self, tenant: &str) -> Result<()> {
        if tenant == self.root.tenant().as_str() {
            Ok(())
        } else {
            Err(wrong_tenant(tenant, self.root))
        }
    }

    fn current(&self) -> Result<&Bundle> {
        self.bundles
            .first()
            .ok_or_else(|| self.no_bundle("the one in force"))
    }

    fn no_bundle(&self, which: &str) -> Failure {
        Failure::usage(
            "BUNDLE_MISSING",
            format_args!(
                "this cannot be judged without the trust bundle: name {which} with --bundle"
            ),
        )
    }
}

/// What a bundle may say by its format, and nobody could work with: the nodes would refuse every order, no checkpoint would ever
/// be witnessed, no notice could be rendered.
fn usable(next: &Bundle) -> Result<()> {
    let message = next.message();
    log_verifier(next).map_err(malformed("log's key"))?;
    quorum(next).map_err(malformed("quorum of witnesses"))?;
    let rule = next.approvals();
    ApprovalRule::new(rule.minimum, &rule.required_roles, rule.bulk_threshold)
        .map_err(malformed("rule for approvals"))?;
    let is_line = |text: &str| {
        (1..=MAX_LINE).contains(&text.len())
            && !text.trim().is_empty()
            && !text.contains(char::is_control)
    };
    let refused = |what: &str| {
        Err(Failure::refused(
            "STATEMENT_REFUSED",
            format_args!(
                "{what} has to be one line of 1 to {MAX_LINE} bytes, since notices print it: have the draft made anew"
            ),
        ))
    };
    if !is_line(&message.contact) {
        return refused("the contact");
    }
    match message
        .nodes
        .iter()
        .find(|node| !is_line(&node.trust_domain))
    {
        Some(node) => refused(&format!("the trust domain of {}", node.name)),
        None => Ok(()),
    }
}

/// A node's agreement to a change of the nodes: signed with its own key, by its own operator.
pub(crate) fn countersign(
    raw: pb::SignedStatement,
    current: &Bundle,
    node: (&str, &SigningKey),
    now: Millis,
) -> Result<pb::SignedStatement> {
    let (name, key) = node;
    let mut draft: Signed<pb::TrustBundle> = decode(raw)?;
    if draft.tenant != current.tenant().as_str() {
        return Err(Failure::refused(
            "WRONG_TENANT",
            format_args!(
                "the draft is of tenant {:?}, and this node serves {}: have it drafted for this tenant",
                draft.tenant,
                current.tenant()
            ),
        ));
    }
    let follows =
        draft.version == current.version() + 1 && draft.previous == current.digest().as_bytes();
    if !follows {
        return Err(Failure::refused(
            "BUNDLE_VERSION",
            format_args!(
                "the draft is version {} and does not follow from the bundle at hand, version {}: name the signed bundle in force with \
                 --bundle, since the settings name the one that the node started with; if that is it, have the draft made anew from it",
                draft.version,
                current.version()
            ),
        ));
    }
    let known = current.node(name).map(|node| node.signing_key.as_slice());
    if known.ok() != Some(key.verifying_key().as_bytes().as_slice()) {
        return Err(Failure::refused(
            "KEY_MISMATCH",
            format_args!(
                "the bundle in force has no node {name:?} with the key at hand: run this with that node's own settings"
            ),
        ));
    }
    if now.minus(CONSENT_WITHIN).get() > draft.issued_at {
        return Err(Failure::refused(
            "DRAFT_DATE",
            "the draft is dated more than an hour back, which would cut short the 24 hours that a change of nodes stands: have it \
             drafted anew",
        ));
    }
    draft.add_signature(name, key);
    Ok(draft.into_raw())
}

fn decode<M: Statement>(raw: pb::SignedStatement) -> Result<Signed<M>> {
    Signed::decode(raw).map_err(|error| {
        Failure::usage(
            "STATEMENT_FILE",
            format_args!(
                "it does not decode ({}): copy it again from where it was written",
                chain(&error)
            ),
        )
    })
}

fn malformed<E: std::error::Error + 'static>(what: &'static str) -> impl Fn(E) -> Failure {
    move |error| {
        Failure::refused(
            "STATEMENT_REFUSED",
            format_args!(
                "the {what} does not hold ({}): have it made anew",
                chain(&error)
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use greffe_envelope::opening::HybridSecretKey;
    use greffe_types::TenantId;

    use super::*;

    const NOW: Millis = Millis::new(1_772_323_200_000);

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn public(n: u8) -> Vec<u8> {
        key(n).verifying_key().to_bytes().to_vec()
    }

    fn root() -> RootKey {
        RootKey::new(TenantId::new("acme").unwrap(), &public(1)).unwrap()
    }

    fn node(index: u32, n: u8) -> pb::EscrowNode {
        pb::EscrowNode {
            index,
            name: format!("escrow-{index}"),
            signing_key: public(n),
            witness_key: public(n + 100),
            channel_key: HybridSecretKey::from_seed(&[n; 32]).public_key(),
            trust_domain: "somewhere".into(),
        }
    }

    fn witness(n: u8) -> pb::Witness {
        pb::Witness {
            name: format!("escrow-{n}"),
            key: public(n + 110),
        }
    }

    fn first() -> pb::TrustBundle {
        pb::TrustBundle {
            tenant: "acme".into(),
            version: 1,
            previous: vec![0; 32],
            issued_at: NOW.get(),
            next_root: vec![7; 32],
            device_issuer: public(2),
            log: Some(pb::LogKey {
                origin: "log".into(),
                key: public(3),
            }),
            nodes: vec![node(1, 11), node(2, 12), node(3, 13)],
            witnesses: (1..=3).map(witness).collect(),
            cosigner_quorum: 2,
            approvals: Some(pb::ApprovalRule {
                minimum: 2,
                required_roles: vec!["compliance".into()],
                bulk_threshold: 0,
            }),
            contact: "the compliance desk".into(),
            ..pb::TrustBundle::default()
        }
    }

    fn signer<'a>(root: &'a RootKey, key: &'a SigningKey, bundles: &'a [Bundle]) -> Signer<'a> {
        Signer {
            key,
            root,
            bundles,
            threshold: Some(2),
            journal: None,
            now: NOW,
        }
    }

    fn unsigned(bundle: pb::TrustBundle) -> pb::SignedStatement {
        Signed::sign(bundle, &[]).into_raw()
    }

    #[test]
    fn a_change_of_nodes_takes_their_agreement_and_a_day() {
        let (root, root_key) = (root(), key(1));
        let alone = signer(&root, &root_key, &[]);
        let signed = alone.sign(unsigned(first())).unwrap();
        let current = Bundle::verify(Signed::decode(signed).unwrap(), &root).unwrap();

        let mut next = first();
        next.version = 2;
        next.previous = current.digest().to_vec();
        next.nodes[2] = node(3, 14);
        let draft = unsigned(next.clone());
        let bundles = [current];
        let at = |hours: u64| Signer {
            now: NOW.plus(Duration::from_secs(hours * 3600)),
            ..signer(&root, &root_key, &bundles)
        };
        let reason = |outcome: Result<pb::SignedStatement>| {
            outcome.map_err(|failure| failure.reason().to_owned())
        };
        let refused = |why: &str| Err(why.to_owned());
        assert_eq!(
            reason(at(25).sign(draft.clone())),
            refused("NODES_NOT_AGREED")
        );
        let agree = |draft, name: &str, n: u8, hours: u64| {
            let now = NOW.plus(Duration::from_secs(hours * 3600));
            countersign(draft, &bundles[0], (name, &key(n)), now)
        };
        let one = agree(draft.clone(), "escrow-1", 11, 0).unwrap();
        // Nobody agrees for another node, nor twice, nor to what is dated too far back; the new node is not asked.
        assert_eq!(
            reason(agree(draft.clone(), "escrow-2", 11, 0)),
            refused("KEY_MISMATCH")
        );
        assert_eq!(
            reason(agree(draft.clone(), "escrow-3", 14, 0)),
            refused("KEY_MISMATCH")
        );
        assert_eq!(
            reason(agree(draft, "escrow-2", 12, 2)),
            refused("DRAFT_DATE")
        );
        let same = agree(one.clone(), "escrow-1", 11, 0).unwrap();
        assert_eq!(reason(at(25).sign(same)), refused("NODES_NOT_AGREED"));
        let two = agree(one.clone(), "escrow-2", 12, 0).unwrap();
        assert_eq!(
            reason(at(23).sign(two.clone())),
            refused("NODE_CHANGE_TOO_EARLY")
        );
        let done = at(24).sign(two.clone()).unwrap();
        let done = Bundle::verify(Signed::decode(done).unwrap(), &root).unwrap();
        bundles[0].check_successor(&done, 2).unwrap();
        // As many as the threshold of their keys, where that is more, and never fewer than a majority.
        let with = |threshold| Signer {
            threshold,
            ..at(24)
        };
        let signed = |threshold| reason(with(threshold).sign(two.clone()));
        assert_eq!(signed(Some(3)), refused("NODES_NOT_AGREED"));
        assert_eq!(signed(None), refused("THRESHOLD_MISSING"));
        assert_eq!(signed(Some(4)), refused("THRESHOLD"));
        assert_eq!(reason(with(Some(1)).sign(one)), refused("NODES_NOT_AGREED"));
        with(Some(0)).sign(two.clone()).unwrap();
        // Another log takes them, and the day, as well.
        next.nodes = first().nodes;
        next.log.as_mut().unwrap().key = public(99);
        let other_log = unsigned(next.clone());
        assert_eq!(
            reason(at(0).sign(other_log.clone())),
            refused("NODES_NOT_AGREED")
        );
        let one = agree(other_log, "escrow-1", 11, 0).unwrap();
        let two = agree(one, "escrow-2", 12, 0).unwrap();
        assert_eq!(
            reason(at(23).sign(two.clone())),
            refused("NODE_CHANGE_TOO_EARLY")
        );
        at(24).sign(two).unwrap();
        next.log = first().log;
        // People change without any of this.
        next.nodes = first().nodes;
        next.contact = "somebody else".into();
        let people = Signer {
            threshold: None,
            ..at(0)
        };
        people.sign(unsigned(next)).unwrap();
    }

    #[test]
    fn a_change_of_the_log_or_its_witnesses_takes_the_same() {
        type Change = fn(&mut pb::TrustBundle);
        let (root, root_key) = (root(), key(1));
        let alone = signer(&root, &root_key, &[]);
        let signed = alone.sign(unsigned(first())).unwrap();
        let current = Bundle::verify(Signed::decode(signed).unwrap(), &root).unwrap();
        let bundles = [current];
        let changes: [(&str, Change); 5] = [
            ("log", |b| b.log.as_mut().unwrap().key = public(4)),
            ("origin", |b| {
                b.log.as_mut().unwrap().origin = "other".into();
            }),
            ("witness", |b| b.witnesses[2].key = public(5)),
            ("witnesses", |b| b.witnesses.truncate(2)),
            ("quorum", |b| b.cosigner_quorum = 1),
        ];
        for (what, change) in changes {
            let mut next = first();
            (next.version, next.previous) = (2, bundles[0].digest().to_vec());
            change(&mut next);
            let at = |hours: u64, threshold, draft: &pb::SignedStatement| {
                let signer = Signer {
                    now: NOW.plus(Duration::from_secs(hours * 3600)),
                    threshold,
                    ..signer(&root, &root_key, &bundles)
                };
                let outcome = signer.sign(draft.clone());
                outcome
                    .map(drop)
                    .map_err(|failure| failure.reason().to_owned())
            };
            let refused = |why: &str| Err(why.to_owned());
            let draft = unsigned(next);
            assert_eq!(at(25, None, &draft), refused("THRESHOLD_MISSING"), "{what}");
            assert_eq!(
                at(25, Some(2), &draft),
                refused("NODES_NOT_AGREED"),
                "{what}"
            );
            let agreed = [("escrow-1", 11), ("escrow-2", 12)]
                .into_iter()
                .try_fold(draft, |draft, (name, n)| {
                    countersign(draft, &bundles[0], (name, &key(n)), NOW)
                })
                .unwrap();
            let early = refused("NODE_CHANGE_TOO_EARLY");
            assert_eq!(at(23, Some(2), &agreed), early, "{what}");
            assert_eq!(at(24, Some(2), &agreed), Ok(()), "{what}");
        }
    }

    #[test]
    fn the_root_signs_no_bundle_that_nobody_can_work_with() {
        let (root, root_key) = (root(), key(1));
        let sign = |change: &dyn Fn(&mut pb::TrustBundle)| {
            let mut bundle = first();
            change(&mut bundle);
            let outcome = signer(&root, &root_key, &[]).sign(unsigned(bundle));
            outcome
                .map(drop)
                .map_err(|failure| failure.reason().to_owned())
        };
        let rule = |b: &mut pb::TrustBundle, change: fn(&mut pb::ApprovalRule)| {
            change(b.approvals.as_mut().unwrap());
        };
        assert_eq!(sign(&|_| ()), Ok(()));
        let unusable: [&dyn Fn(&mut pb::TrustBundle); 11] = [
            &|b| b.cosigner_quorum = 0,
            &|b| b.cosigner_quorum = 4,
            &|b| b.witnesses[1].key = b.witnesses[0].key.clone(),
            &|b| rule(b, |rule| rule.minimum = 1),
            &|b| rule(b, |rule| rule.required_roles.clear()),
            &|b| rule(b, |rule| rule.minimum = 1000),
            &|b| b.contact.clear(),
            &|b| b.contact = "the desk\nand another line".into(),
            &|b| b.contact = "x".repeat(201),
            &|b| b.nodes[0].trust_domain = " ".into(),
            &|b| {
                let revoked = pb::Revocation {
                    certificate: vec![7; 32],
                    from: 1,
                };
                b.revocations = vec![revoked.clone(), revoked];
            },
        ];
        for (at, change) in unusable.into_iter().enumerate() {
            assert_eq!(sign(change), Err("STATEMENT_REFUSED".into()), "case {at}");
        }
    }

    #[test]
    fn the_root_signs_nothing_that_is_not_its_own() {
        let (root, root_key) = (root(), key(1));
        let reason = |signer: Signer<'_>, raw| signer.sign(raw).unwrap_err().reason().to_owned();
        let other = key(9);
        let draft = unsigned(first());
        assert_eq!(reason(signer(&root, &other, &[]), draft), "KEY_MISMATCH");
        let mut stranger = first();
        stranger.tenant = "other".into();
        let alone = signer(&root, &root_key, &[]);
        assert_eq!(reason(alone, unsigned(stranger)), "WRONG_TENANT");
        let mut second = first();
        second.version = 2;
        second.previous = vec![5; 32];
        let alone = signer(&root, &root_key, &[]);
        assert_eq!(reason(alone, unsigned(second)), "BUNDLE_MISSING");
        let mut nobody = first();
        nobody.nodes.clear();
        let alone = signer(&root, &root_key, &[]);
        assert_eq!(reason(alone, unsigned(nobody)), "STATEMENT_REFUSED");
        let receipt = Signed::sign(pb::ShareEpoch::default(), &[]).into_raw();
        let alone = signer(&root, &root_key, &[]);
        assert_eq!(reason(alone, receipt), "NOT_THE_ROOTS");
    }
}
