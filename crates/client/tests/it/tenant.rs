//! A tenant: root, issuer, three nodes with a key shared 2 of 3, people, a disclosure, and a log that witnesses cosign.

use std::sync::Mutex;

use ed25519_dalek::SigningKey;
use greffe_client::notice::NoticeFacts;
use greffe_envelope::chain::ChainState;
use greffe_envelope::curve::{Point, Scalar};
use greffe_envelope::opening::HybridSecretKey;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{Bundle, RootKey};
use greffe_envelope::wrap::key_id;
use greffe_policy::Pack;
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_tlog::{
    AddCheckpoint, Checkpoint, Cosigner, MemoryHashes, Note, NoteSigner, Tree, Witness, enrol,
    leaf_hash, prove_consistency, prove_inclusion,
};
use greffe_types::{Digest, Millis, TenantId};
use prost::Message as _;

pub(crate) const FAR: u64 = 4_000_000_000_000;

pub(crate) fn signer(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

pub(crate) fn public(key: &SigningKey) -> Vec<u8> {
    key.verifying_key().to_bytes().to_vec()
}

pub(crate) fn now() -> Millis {
    SystemClock.now()
}

/// A key as nodes make it: record signed by root and nodes, and its first share epoch.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) record: Signed<pb::KeyRecord>,
    pub(crate) epoch: Signed<pb::ShareEpoch>,
}

pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) root: SigningKey,
    pub(crate) issuer: SigningKey,
    pub(crate) archive: SigningKey,
    pub(crate) nodes: Vec<SigningKey>,
    pub(crate) bundle: Signed<pb::TrustBundle>,
    pub(crate) key: Key,
    /// Those after the first, with their leaves; the last is in force.
    bundles: Mutex<Vec<(Signed<pb::TrustBundle>, u64)>>,
    /// With their leaves; the last is in force.
    disclosures: Mutex<Vec<(Signed<pb::Disclosure>, u64)>>,
    log: NoteSigner,
    leaves: Mutex<Vec<Vec<u8>>>,
    witnesses: Mutex<Vec<Witness>>,
}

pub(crate) fn pack() -> &'static Pack {
    Pack::embedded("us-broker-dealer").unwrap()
}

impl Tenant {
    pub(crate) fn new() -> Self {
        let id = TenantId::new("acme").unwrap();
        let root = signer(1);
        let nodes: Vec<_> = (10..13).map(signer).collect();
        let log = NoteSigner::new("log.acme", &[3; 32]).unwrap();
        let bundle = Signed::sign(bundle(&nodes), &[("root", &root)]);
        let key = make_key(&root, &nodes, &bundle, 7);
        let disclosure = disclosure(&root, &bundle, &key, 1);
        let witnesses = (1..=3_u8)
            .map(|i| {
                let cosigner = Cosigner::new(&format!("escrow-{i}"), &[50 + i; 32]).unwrap();
                let verifier = log.verifier();
                let stored = enrol(&verifier);
                Witness::start(verifier, cosigner, Some(&stored)).unwrap()
            })
            .collect();
        let tenant = Self {
            id,
            root,
            issuer: signer(2),
            archive: signer(4),
            nodes,
            bundle,
            key,
            bundles: Mutex::default(),
            disclosures: Mutex::new(vec![(disclosure, 3)]),
            log,
            leaves: Mutex::default(),
            witnesses: Mutex::new(witnesses),
        };
        // the bundle, the record, the epoch, the disclosure: leaves 0 to 3
        tenant.log_statement(tenant.bundle.raw());
        tenant.log_statement(tenant.key.record.raw());
        tenant.log_statement(tenant.key.epoch.raw());
        tenant.log_statement(tenant.disclosure().raw());
        tenant
    }

    /// The disclosure in force.
    pub(crate) fn disclosure(&self) -> Signed<pb::Disclosure> {
        self.logged_disclosure().0
    }

    /// With its leaf.
    pub(crate) fn logged_disclosure(&self) -> (Signed<pb::Disclosure>, u64) {
        self.disclosures.lock().unwrap().last().cloned().unwrap()
    }

    /// Every bundle with its leaf, by version.
    pub(crate) fn bundles(&self) -> Vec<(Signed<pb::TrustBundle>, u64)> {
        let later = self.bundles.lock().unwrap().clone();
        [(self.bundle.clone(), 0)]
            .into_iter()
            .chain(later)
            .collect()
    }

    /// The next bundle, signed by the root and as many of the nodes; in no log yet.
    pub(crate) fn next_bundle(
        &self,
        change: impl FnOnce(&mut pb::TrustBundle),
        nodes: usize,
    ) -> Signed<pb::TrustBundle> {
        let (known, _) = self.bundles().pop().unwrap();
        let mut next = known.message().clone();
        next.version += 1;
        next.previous = known.digest().to_vec();
        change(&mut next);
        let names: Vec<String> = (1..=nodes).map(|i| format!("escrow-{i}")).collect();
        let mut signers: Vec<(&str, &SigningKey)> =
            names.iter().map(String::as_str).zip(&self.nodes).collect();
        signers.push(("root", &self.root));
        Signed::sign(next, &signers)
    }

    /// Puts the next bundle in force.
    pub(crate) fn change_bundle(&self, change: impl FnOnce(&mut pb::TrustBundle), nodes: usize) {
        let next = self.next_bundle(change, nodes);
        let index = self.log_statement(next.raw());
        self.bundles.lock().unwrap().push((next, index));
    }

    /// The exact bytes of a leaf.
    pub(crate) fn leaf(&self, index: u64) -> Vec<u8> {
        self.leaves.lock().unwrap()[index as usize].clone()
    }

    /// Puts the next disclosure in force.
    pub(crate) fn rotate(&self) {
        let serial = self.disclosure().serial + 1;
        let next = disclosure(&self.root, &self.bundle, &self.key, serial);
        let index = self.log_statement(next.raw());
        self.disclosures.lock().unwrap().push((next, index));
    }

    /// Puts this disclosure in force.
    pub(crate) fn put_disclosure(&self, disclosure: &pb::Disclosure) {
        let next = Signed::sign(disclosure.clone(), &[("root", &self.root)]);
        let index = self.log_statement(next.raw());
        self.disclosures.lock().unwrap().push((next, index));
    }

    pub(crate) fn root_key(&self) -> RootKey {
        RootKey::new(self.id.clone(), &public(&self.root)).unwrap()
    }

    pub(crate) fn log_statement(&self, statement: &pb::SignedStatement) -> u64 {
        self.append(pb::log_entry::Event::Statement(statement.clone()))
    }

    pub(crate) fn append(&self, event: pb::log_entry::Event) -> u64 {
        let entry = pb::LogEntry {
            tenant: self.id.to_string(),
            recorded_by: "relay".into(),
            at: now().get(),
            event: Some(event),
        };
        let mut leaves = self.leaves.lock().unwrap();
        leaves.push(entry.encode_to_vec());
        leaves.len() as u64 - 1
    }

    fn tree(&self) -> (Tree, MemoryHashes, Vec<Vec<u8>>) {
        let leaves = self.leaves.lock().unwrap().clone();
        let hashes: Vec<Digest> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        let mut tree = Tree::new();
        let nodes = tree.append(&hashes).into_iter().collect();
        (tree, nodes, leaves)
    }

    /// A checkpoint of all leaves, cosigned by the first `cosigners` witnesses.
    pub(crate) fn checkpoint(&self, cosigners: usize) -> Vec<u8> {
        let (tree, nodes, _) = self.tree();
        let body = Checkpoint::new("log.acme", tree.head(), Vec::new()).unwrap();
        let mut note = Note::new(body.body()).unwrap();
        note.sign(&self.log);
        let signed = note.encode();
        for witness in self.witnesses.lock().unwrap().iter_mut().take(cosigners) {
            let old_size = witness.latest().size;
            let proof = if old_size == 0 || old_size == tree.size() {
                Vec::new()
            } else {
                prove_consistency(old_size, tree.size(), &nodes).unwrap()
            };
            let ask = AddCheckpoint {
                old_size,
                proof,
                checkpoint: signed.clone(),
            };
            note.add(witness.add_checkpoint(&ask, now()).unwrap().stored());
        }
        note.encode()
    }

    pub(crate) fn inclusion(&self, index: u64, size: u64) -> (Vec<Vec<u8>>, Vec<u8>) {
        let (_, nodes, leaves) = self.tree();
        let path = prove_inclusion(index, size, &nodes).unwrap();
        let path = path.iter().map(Digest::to_vec).collect();
        (path, leaves[index as usize].clone())
    }

    pub(crate) fn consistency(&self, old: u64, new: u64) -> Vec<Vec<u8>> {
        let (_, nodes, _) = self.tree();
        let proof = prove_consistency(old, new, &nodes).unwrap();
        proof.iter().map(Digest::to_vec).collect()
    }

    pub(crate) fn certify(&self, cert: pb::DeviceCert) -> pb::SignedStatement {
        Signed::sign(cert, &[("issuer", &self.issuer)]).into_raw()
    }

    /// The archive's receipt of the next entry of a chain, and the chain after it.
    pub(crate) fn receipt(
        &self,
        chain: &ChainState,
        kind: pb::EntryKind,
        entry: &Digest,
    ) -> (pb::SignedStatement, ChainState) {
        let next = chain.next(entry);
        let receipt = pb::Receipt {
            tenant: self.id.to_string(),
            conversation: chain.conversation.to_vec(),
            sequence: next.sequence,
            kind: kind.into(),
            entry_digest: entry.to_vec(),
            previous_head: chain.head.to_vec(),
            head: next.head.to_vec(),
            archived_at: now().get(),
            retain_until: FAR,
            bundle_version: 1,
        };
        let signed = Signed::sign(receipt, &[("archive", &self.archive)]);
        (signed.into_raw(), next)
    }

    /// A node's word, by a clock that is so many milliseconds ahead.
    pub(crate) fn currency(&self, node: usize, mode: i32, ahead: u64) -> pb::SignedStatement {
        let currency = pb::Currency {
            tenant: self.id.to_string(),
            mode,
            standing_order: vec![],
            disclosure: self.disclosure().digest().to_vec(),
            serial: self.disclosure().serial,
            share_epochs: vec![self.key.epoch.digest().to_vec()],
            at: now().get() + ahead,
        };
        let name = format!("escrow-{}", node + 1);
        Signed::sign(currency, &[(&name, &self.nodes[node])]).into_raw()
    }
}

fn bundle(nodes: &[SigningKey]) -> pb::TrustBundle {
    let person = |name: &str, role: &str, key: u8| pb::Person {
        name: name.into(),
        roles: vec![role.into()],
        signing_key: public(&signer(key)),
        reader_key: if role == "reader" {
            HybridSecretKey::from_seed(&[90; 32]).public_key()
        } else {
            vec![]
        },
        not_before: 0,
        not_after: FAR,
        revoked: false,
    };
    pb::TrustBundle {
        tenant: "acme".into(),
        version: 1,
        previous: vec![0; 32],
        issued_at: 1,
        next_root: vec![9; 32],
        device_issuer: public(&signer(2)),
        log: Some(pb::LogKey {
            origin: "log.acme".into(),
            key: public(&signer(3)),
        }),
        receipt_keys: vec![pb::ServiceKey {
            name: "archive".into(),
            key: public(&signer(4)),
            not_before: 0,
            not_after: FAR,
        }],
        nodes: (1..=3_u32)
            .map(|index| pb::EscrowNode {
                index,
                name: format!("escrow-{index}"),
                signing_key: public(&nodes[index as usize - 1]),
                witness_key: public(&signer(50 + index as u8)),
                channel_key: HybridSecretKey::from_seed(&[60; 32]).public_key(),
                trust_domain: format!("domain {index}"),
            })
            .collect(),
        witnesses: (1..=3_u8)
            .map(|i| pb::Witness {
                name: format!("escrow-{i}"),
                key: public(&signer(50 + i)),
            })
            .collect(),
        cosigner_quorum: 2,
        roster: vec![
            person("ann", "requester", 80),
            person("bea", "approver", 81),
            person("rea", "reader", 82),
        ],
        contact: "records@acme.example".into(),
        packs: vec![pb::PolicyPack {
            id: pack().id().into(),
            digest: pack().digest().to_vec(),
        }],
        approvals: Some(pb::ApprovalRule {
            minimum: 1,
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A key whose P-256 half is shared 2 of 3 by a polynomial.
pub(crate) fn make_key(
    root: &SigningKey,
    nodes: &[SigningKey],
    bundle: &Signed<pb::TrustBundle>,
    constant: u64,
) -> Key {
    let (c0, c1) = (Scalar::from_u64(constant), Scalar::from_u64(11));
    let mut public_key = HybridSecretKey::from_seed(&[70; 32]).public_key();
    public_key[1184..].copy_from_slice(&Point::mul_base(&c0).to_uncompressed().unwrap());
    let id = key_id("acme", &public_key);
    let epoch = pb::ShareEpoch {
        tenant: "acme".into(),
        key_id: id.to_vec(),
        epoch: 1,
        previous: vec![0; 32],
        threshold: 2,
        holders: (1..=3_u32)
            .map(|index| {
                let share = c1 * Scalar::from_u64(index.into()) + c0;
                pb::ShareHolder {
                    index,
                    node: format!("escrow-{index}"),
                    verification_share: Point::mul_base(&share).to_compressed().unwrap().to_vec(),
                }
            })
            .collect(),
    };
    let verified = Bundle::verify(
        bundle.clone(),
        &RootKey::new(TenantId::new("acme").unwrap(), &public(root)).unwrap(),
    )
    .unwrap();
    let contact = &verified.message().contact;
    let facts = NoticeFacts::new(&verified, pb::Mode::Journaled, &[&epoch], contact).unwrap();
    let record = pb::KeyRecord {
        tenant: "acme".into(),
        key_id: id.to_vec(),
        period: "2026".into(),
        not_before: 0,
        not_after: FAR,
        kem: 0x0050,
        public_key,
        t_min: 2,
        committee: (1..=3).map(|i| format!("escrow-{i}")).collect(),
        notices: facts.references(pack()).unwrap(),
        purpose: "retention".into(),
        transcript: vec![8; 32],
    };
    let names: Vec<String> = (1..=3).map(|i| format!("escrow-{i}")).collect();
    let mut signers: Vec<(&str, &SigningKey)> =
        names.iter().map(String::as_str).zip(nodes).collect();
    let epoch = Signed::sign(epoch, &signers);
    signers.push(("root", root));
    Key {
        record: Signed::sign(record, &signers),
        epoch,
    }
}

pub(crate) fn disclosure(
    root: &SigningKey,
    _bundle: &Signed<pb::TrustBundle>,
    key: &Key,
    serial: u64,
) -> Signed<pb::Disclosure> {
    let disclosure = pb::Disclosure {
        tenants: vec!["acme".into()],
        mode: pb::Mode::Journaled.into(),
        key_records: vec![key.record.raw().clone()],
        policy_id: pack().id().into(),
        policy_digest: pack().digest().to_vec(),
        notices: key.record.notices.clone(),
        serial,
        standing_order: vec![],
    };
    Signed::sign(disclosure, &[("root", root)])
}
