//! A key generation and a resharing, every message of them.

use std::collections::VecDeque;

use ed25519_dalek::SigningKey;
use greffe_envelope::ceremony::{
    Conclusion, KeyGeneration, NodeIdentity, NodeShare, Plan, ShareHolders, prove_with_salt,
};
use greffe_envelope::opening::HybridSecretKey;
use greffe_envelope::pb;
use greffe_envelope::reshare::{ResharePlan, Resharing};
use greffe_envelope::statement::Signed;
use greffe_types::Millis;
use prost::Message as _;
use serde_json::{Value, json};

use super::json::{Json as _, hex};
use super::keys::Seeded;

const NOW: Millis = Millis::new(1_000);
/// Of every proof that a share is held.
const SALT: [u8; 32] = [7; 32];
const NONCE: [u8; 32] = [9; 32];

/// A tenant's root and nodes.
struct World {
    rng: Seeded,
    root: SigningKey,
    nodes: Vec<NodeIdentity>,
    channels: Vec<[u8; 32]>,
    bundle: pb::TrustBundle,
}

pub fn cases() -> Vec<Value> {
    let mut world = World::new();
    let (generation, record, holders, shares) = world.generate();
    vec![generation, world.reshare(&record, &holders, &shares)]
}

impl World {
    fn new() -> Self {
        let mut rng = Seeded::new("ceremony");
        let root = rng.signer();
        let channels: Vec<[u8; 32]> = (0..4).map(|_| rng.array()).collect();
        let nodes: Vec<NodeIdentity> = (1..)
            .zip(&channels)
            .map(|(i, seed)| NodeIdentity {
                name: format!("escrow-{i}"),
                signing_key: rng.signer(),
                channel_key: HybridSecretKey::from_seed(seed),
            })
            .collect();
        let bundle = pb::TrustBundle {
            tenant: "acme".into(),
            version: 1,
            nodes: (1..)
                .zip(&nodes)
                .map(|(index, node)| pb::EscrowNode {
                    index,
                    name: node.name.clone(),
                    signing_key: node.signing_key.verifying_key().to_bytes().to_vec(),
                    channel_key: node.channel_key.public_key(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        Self {
            rng,
            root,
            nodes,
            channels,
            bundle,
        }
    }

    fn root_key(&self) -> [u8; 32] {
        self.root.verifying_key().to_bytes()
    }

    /// Three nodes make a key that two of them open with.
    fn generate(&mut self) -> (Value, pb::KeyRecord, ShareHolders, Vec<NodeShare>) {
        let descriptor = pb::KeygenDescriptor {
            tenant: "acme".into(),
            session: self.rng.bytes(16),
            period: "2026".into(),
            not_before: 10,
            not_after: 2_000,
            threshold: 2,
            nodes: (1..=3).map(|i| format!("escrow-{i}")).collect(),
            bundle_version: 1,
            purpose: "retention".into(),
            expiry: 1_500,
            notices: vec![],
        };
        let signed = Signed::sign(descriptor, &[("root", &self.root)]);
        let plan = Plan::check(&signed, &self.root_key(), &self.bundle, NOW).unwrap();
        let (mut machines, mut queue) = (Vec::new(), VecDeque::new());
        for node in &self.nodes[..3] {
            let (machine, message) =
                KeyGeneration::start(plan.clone(), node, &mut self.rng).unwrap();
            machines.push(machine);
            queue.push_back(message);
        }
        let mut messages = Vec::new();
        while let Some(message) = queue.pop_front() {
            messages.push(message.clone());
            for (machine, node) in machines.iter_mut().zip(&self.nodes) {
                if is_for(&message, node) {
                    queue.extend(
                        machine
                            .receive(node, message.clone(), &mut self.rng)
                            .unwrap(),
                    );
                }
            }
        }
        let conclusion = Conclusion::collect(&plan, &messages).unwrap();
        let shares: Vec<NodeShare> = machines
            .iter()
            .map(|machine| machine.agreed().unwrap().0.clone())
            .collect();
        let record = conclusion.key_record(&plan, vec![]);
        let epoch = Signed::sign(conclusion.share_epoch(&plan), &[]);
        let holders = ShareHolders::check(&epoch, &record).unwrap();
        let mut value = self.describe("generation", &messages, &shares, &epoch);
        value["descriptor"] = signed.message().json();
        value["descriptor_digest"] = signed.digest().json();
        value["key_record"] = record.json();
        value["key_record_bytes"] = hex(record.encode_to_vec());
        (value, record, holders, shares)
    }

    /// Nodes 1 and 3 deal out to nodes 1 to 4, of whom three will be needed.
    fn reshare(
        &mut self,
        record: &pb::KeyRecord,
        holders: &ShareHolders,
        old: &[NodeShare],
    ) -> Value {
        let descriptor = pb::ReshareDescriptor {
            tenant: "acme".into(),
            session: self.rng.bytes(16),
            key_id: record.key_id.clone(),
            previous: holders.digest().to_vec(),
            threshold: 3,
            nodes: (1..=4).map(|i| format!("escrow-{i}")).collect(),
            dealers: vec![1, 3],
            expiry: 1_500,
        };
        let signed = Signed::sign(descriptor, &[("root", &self.root)]);
        let root = self.root_key();
        let plan = ResharePlan::check(&signed, &root, record, holders, &self.bundle, NOW).unwrap();
        let (mut machines, mut queue) = (Vec::new(), VecDeque::new());
        for (at, node) in self.nodes.iter().enumerate() {
            let share = plan.is_dealer(&node.name).then(|| &old[at]);
            let (machine, message) =
                Resharing::start(plan.clone(), node, share, &mut self.rng).unwrap();
            machines.push(machine);
            queue.extend(message);
        }
        let mut messages = Vec::new();
        while let Some(message) = queue.pop_front() {
            messages.push(message.clone());
            for (machine, node) in machines.iter_mut().zip(&self.nodes) {
                if is_for(&message, node) {
                    queue.extend(
                        machine
                            .receive(node, message.clone(), &mut self.rng)
                            .unwrap(),
                    );
                }
            }
        }
        let (epoch, _) = machines[0].agreed().unwrap();
        let shares: Vec<NodeShare> = machines
            .iter()
            .map(|machine| machine.agreed().unwrap().1.unwrap().clone())
            .collect();
        let epoch = Signed::sign(epoch, &[]);
        ShareHolders::check(&epoch, record).unwrap();
        let mut value = self.describe("resharing", &messages, &shares, &epoch);
        value["descriptor"] = signed.message().json();
        value["descriptor_digest"] = signed.digest().json();
        value["public_key"] = record.public_key.json();
        let images = holders.holders().iter().map(|h| hex(h.verification_share));
        value["old_verification_shares"] = images.collect();
        value
    }

    /// What both have.
    fn describe(
        &self,
        kind: &str,
        messages: &[pb::SignedStatement],
        shares: &[NodeShare],
        epoch: &Signed<pb::ShareEpoch>,
    ) -> Value {
        let nodes = shares.iter().zip(&self.nodes).zip(&self.channels).map(
            |((share, node), channel)| {
                json!({
                    "name": node.name,
                    "verifying_key": hex(node.signing_key.verifying_key().to_bytes()),
                    "channel_seed": hex(channel),
                    "channel_key": hex(node.channel_key.public_key()),
                    "stored_share": hex(share.to_bytes().as_slice()),
                    "proof_salt": hex(SALT),
                    "proof": prove_with_salt(share, &node.name, &NONCE, NOW, &SALT).unwrap().json(),
                })
            },
        );
        json!({
            "kind": kind,
            "nodes": nodes.collect::<Vec<_>>(),
            "messages": messages.iter().map(|m| hex(m.encode_to_vec())).collect::<Vec<_>>(),
            "share_epoch": epoch.message().json(),
            "share_epoch_digest": epoch.digest().json(),
        })
    }
}

/// Whether a message is broadcast or for this node.
fn is_for(message: &pb::SignedStatement, node: &NodeIdentity) -> bool {
    let message = Signed::<pb::CeremonyMessage>::decode(message.clone()).unwrap();
    message.receiver.is_empty() || message.receiver == node.name
}
