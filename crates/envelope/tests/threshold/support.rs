//! Committees, bundles and whole ceremonies for the tests, all from one seeded generator.

use core::convert::Infallible;
use std::collections::VecDeque;

use ed25519_dalek::SigningKey;
use greffe_envelope::ceremony::{
    CeremonyError, Conclusion, KeyGeneration, NodeIdentity, NodeShare, Plan, ShareHolders,
};
use greffe_envelope::opening::HybridSecretKey;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_types::Millis;
use rand_core::{Rng as _, TryCryptoRng, TryRng};
use shake::{ExtendableOutput, Shake256, Update, XofReader};

/// SHAKE256 of a seed: every test run sees the same bytes.
pub struct Seeded(<Shake256 as ExtendableOutput>::Reader);

impl Seeded {
    pub fn new(seed: &str) -> Self {
        let mut xof = Shake256::default();
        xof.update(seed.as_bytes());
        Self(xof.finalize_xof())
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.fill_bytes(&mut out);
        out
    }
}

impl TryRng for Seeded {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_be_bytes(self.array()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_be_bytes(self.array()))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.read(out);
        Ok(())
    }
}

impl TryCryptoRng for Seeded {}

pub const NOW: Millis = Millis::new(1_000_000);

/// A tenant with a root and some nodes.
pub struct World {
    pub rng: Seeded,
    pub root: SigningKey,
    pub nodes: Vec<NodeIdentity>,
    pub bundle: pb::TrustBundle,
}

impl World {
    pub fn new(seed: &str, count: u32) -> Self {
        let mut rng = Seeded::new(seed);
        let root = SigningKey::from_bytes(&rng.array());
        let nodes: Vec<NodeIdentity> = (1..=count)
            .map(|i| NodeIdentity {
                name: format!("escrow-{i}"),
                signing_key: SigningKey::from_bytes(&rng.array()),
                channel_key: HybridSecretKey::generate(&mut rng),
            })
            .collect();
        let bundle = pb::TrustBundle {
            tenant: "acme".into(),
            version: 3,
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
            bundle,
        }
    }

    pub fn root_key(&self) -> [u8; 32] {
        self.root.verifying_key().to_bytes()
    }

    pub fn node_key(&self, name: &str) -> Option<&[u8]> {
        let node = self.bundle.nodes.iter().find(|node| node.name == name)?;
        Some(&node.signing_key)
    }

    pub fn descriptor(&mut self, threshold: u32, count: usize) -> pb::KeygenDescriptor {
        pb::KeygenDescriptor {
            tenant: "acme".into(),
            session: self.rng.array::<16>().to_vec(),
            period: "2026".into(),
            not_before: 10,
            not_after: 2_000_000,
            threshold,
            nodes: self.nodes[..count].iter().map(|n| n.name.clone()).collect(),
            bundle_version: 3,
            purpose: "journal".into(),
            expiry: 1_500_000,
            notices: vec![],
        }
    }

    pub fn plan(&self, descriptor: pb::KeygenDescriptor) -> Result<Plan, CeremonyError> {
        let signed = Signed::sign(descriptor, &[("root", &self.root)]);
        Plan::check(&signed, &self.root_key(), &self.bundle, NOW)
    }

    /// Runs a whole ceremony, passing every message through `tamper`, which may change or drop it for a receiver.
    pub fn generate(
        &mut self,
        plan: &Plan,
        mut tamper: impl FnMut(usize, pb::SignedStatement) -> Option<pb::SignedStatement>,
    ) -> Result<Generated, CeremonyError> {
        let mut queue = VecDeque::new();
        let mut machines = Vec::new();
        let count = usize::from(plan.members().count());
        for identity in &self.nodes[..count] {
            let (machine, message) = KeyGeneration::start(plan.clone(), identity, &mut self.rng)?;
            machines.push(machine);
            queue.push_back(message);
        }
        let mut seen = Vec::new();
        while let Some(message) = queue.pop_front() {
            seen.push(message.clone());
            let receiver = Signed::<pb::CeremonyMessage>::decode(message.clone()).unwrap();
            for (at, machine) in machines.iter_mut().enumerate() {
                let identity = &self.nodes[at];
                if !receiver.receiver.is_empty() && receiver.receiver != identity.name {
                    continue;
                }
                if let Some(message) = tamper(at, message.clone()) {
                    queue.extend(machine.receive(identity, message, &mut self.rng)?);
                }
            }
        }
        let conclusion = Conclusion::collect(plan, &seen)?;
        let mut shares = Vec::new();
        for machine in &machines {
            let (share, own) = machine
                .agreed()
                .ok_or_else(|| CeremonyError::Missing("agreement".into()))?;
            assert_eq!(*own, conclusion);
            shares.push(share.clone());
        }
        let record = conclusion.key_record(plan, vec![]);
        let mut epoch = Signed::sign(conclusion.share_epoch(plan), &[]);
        for node in &self.nodes[..count] {
            epoch.add_signature(&node.name, &node.signing_key);
        }
        let holders = ShareHolders::check(&epoch, &record).unwrap();
        holders
            .check_signatures(&epoch, None, |name| self.node_key(name))
            .unwrap();
        Ok(Generated {
            conclusion,
            record,
            epoch,
            holders,
            shares,
            messages: seen,
        })
    }

    /// An honest ceremony.
    pub fn key(&mut self, threshold: u32, count: usize) -> Generated {
        let descriptor = self.descriptor(threshold, count);
        let plan = self.plan(descriptor).unwrap();
        self.generate(&plan, |_, message| Some(message)).unwrap()
    }
}

/// What a ceremony gave.
pub struct Generated {
    pub conclusion: Conclusion,
    pub record: pb::KeyRecord,
    pub epoch: Signed<pb::ShareEpoch>,
    pub holders: ShareHolders,
    pub shares: Vec<NodeShare>,
    pub messages: Vec<pb::SignedStatement>,
}
