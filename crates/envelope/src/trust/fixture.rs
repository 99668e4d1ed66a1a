//! A tenant for tests: root, issuer, three nodes, a journaling key shared 2 of 3, people, a disclosure, a device.

use ed25519_dalek::SigningKey;
use greffe_types::{DeviceId, Millis, TenantId};
use hpke::kem::MlKem768P256;
use hpke::{Kem, Serializable};

use super::*;
use crate::curve::{Point, Scalar};
use crate::label::sha256;
use crate::pb;
use crate::statement::Signed;
use crate::wrap::{JournalKey, key_id};

/// When everything in the fixture is valid.
pub(crate) const NOW: Millis = Millis::new(1_000_000);

pub(crate) struct World {
    pub(crate) root_key: SigningKey,
    pub(crate) issuer: SigningKey,
    pub(crate) nodes: Vec<SigningKey>,
    pub(crate) receipts: SigningKey,
    pub(crate) device: SigningKey,
    pub(crate) root: RootKey,
    pub(crate) bundle: Bundle,
    pub(crate) secret: <MlKem768P256 as Kem>::PrivateKey,
    pub(crate) record: Signed<pb::KeyRecord>,
    pub(crate) cert: Signed<pb::DeviceCert>,
    pub(crate) disclosure: Signed<pb::Disclosure>,
}

pub(crate) fn signer(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

pub(crate) fn public(key: &SigningKey) -> Vec<u8> {
    key.verifying_key().to_bytes().to_vec()
}

/// An MLKEM768-P256 key pair.
pub(crate) fn hybrid(n: u8) -> (<MlKem768P256 as Kem>::PrivateKey, Vec<u8>) {
    let (sk, pk) = MlKem768P256::derive_keypair(&[n; 32]);
    (sk, pk.to_bytes().to_vec())
}

pub(crate) fn bundle_message(nodes: &[SigningKey]) -> pb::TrustBundle {
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
            not_after: 2_000_000,
        }],
        nodes: nodes
            .iter()
            .zip(1..)
            .map(|(key, index)| pb::EscrowNode {
                index,
                name: format!("escrow-{index}"),
                signing_key: public(key),
                witness_key: public(&signer(50 + index as u8)),
                channel_key: hybrid(60).1,
                trust_domain: "test".into(),
            })
            .collect(),
        witnesses: vec![pb::Witness {
            name: "w".into(),
            key: public(&signer(51)),
        }],
        cosigner_quorum: 1,
        roster: ["ann", "bea"]
            .iter()
            .zip(80..)
            .map(|(name, key)| pb::Person {
                name: (*name).into(),
                roles: vec!["approver".into()],
                signing_key: public(&signer(key)),
                not_before: 0,
                not_after: 2_000_000,
                ..Default::default()
            })
            .collect(),
        packs: vec![pb::PolicyPack {
            id: "pack".into(),
            digest: vec![7; 32],
        }],
        approvals: Some(pb::ApprovalRule {
            minimum: 1,
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(crate) fn record_message(tenant: &str, public_key: Vec<u8>) -> pb::KeyRecord {
    pb::KeyRecord {
        tenant: tenant.into(),
        key_id: key_id(tenant, &public_key).to_vec(),
        period: "2026".into(),
        not_before: 0,
        not_after: 2_000_000,
        kem: 0x0050,
        public_key,
        t_min: 2,
        committee: (1..=3).map(|i| format!("escrow-{i}")).collect(),
        notices: vec![notice()],
        purpose: "retention".into(),
        transcript: vec![8; 32],
    }
}

pub(crate) fn notice() -> pb::NoticeRef {
    pb::NoticeRef {
        language: "en".into(),
        digest: sha256(b"You are journaled.").to_vec(),
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let root_key = signer(1);
        let nodes: Vec<_> = (10..13).map(signer).collect();
        let root = RootKey::new(TenantId::new("acme").unwrap(), &public(&root_key)).unwrap();
        let bundle = Signed::sign(bundle_message(&nodes), &[(ROOT, &root_key)]);
        let bundle = Bundle::verify(bundle, &root).unwrap();
        let (secret, public_key) = hybrid(70);
        let record = Signed::sign(
            record_message("acme", public_key),
            &[
                (ROOT, &root_key),
                ("escrow-1", &nodes[0]),
                ("escrow-2", &nodes[1]),
                ("escrow-3", &nodes[2]),
            ],
        );
        let (issuer, device) = (signer(2), signer(20));
        let cert = pb::DeviceCert {
            tenant: "acme".into(),
            user: "alice".into(),
            device: vec![3; 16],
            mls_key: public(&signer(21)),
            envelope_key: public(&device),
            not_before: 0,
            not_after: 2_000_000,
        };
        let disclosure = pb::Disclosure {
            tenants: vec!["acme".into()],
            mode: pb::Mode::Journaled.into(),
            key_records: vec![record.raw().clone()],
            policy_id: "pack".into(),
            policy_digest: vec![7; 32],
            notices: vec![notice()],
            serial: 1,
            standing_order: vec![],
        };
        Self {
            cert: Signed::sign(cert, &[(ISSUER, &issuer)]),
            disclosure: Signed::sign(disclosure, &[(ROOT, &root_key)]),
            receipts: signer(4),
            root_key,
            issuer,
            nodes,
            device,
            root,
            bundle,
            secret,
            record,
        }
    }

    pub(crate) fn trust(&self) -> Trust<'_> {
        Trust {
            root: &self.root,
            bundle: &self.bundle,
            older: &[],
        }
    }

    pub(crate) fn journal_key(&self) -> JournalKey {
        JournalKey::from_record(&self.record).unwrap()
    }

    pub(crate) fn device_name(&self) -> String {
        device_signer(&DeviceId::new([3; 16]))
    }

    /// A record whose P-256 half is `coefficients[0] * G`, and its first epoch with shares of that polynomial.
    pub(crate) fn shared(
        &self,
        coefficients: &[Scalar],
        threshold: u32,
        holders: u32,
    ) -> (Signed<pb::KeyRecord>, Signed<pb::ShareEpoch>) {
        let mut public_key = hybrid(70).1;
        public_key[1184..]
            .copy_from_slice(&Point::mul_base(&coefficients[0]).to_uncompressed().unwrap());
        let record = record_message("acme", public_key);
        let epoch = pb::ShareEpoch {
            tenant: "acme".into(),
            key_id: record.key_id.clone(),
            epoch: 1,
            previous: vec![0; 32],
            threshold,
            holders: (1..=holders)
                .map(|index| pb::ShareHolder {
                    index,
                    node: format!("escrow-{index}"),
                    verification_share: Point::mul_base(&evaluate(coefficients, index))
                        .to_compressed()
                        .unwrap()
                        .to_vec(),
                })
                .collect(),
        };
        let names: Vec<String> = (1..=3).map(|i| format!("escrow-{i}")).collect();
        let mut signers: Vec<(&str, &SigningKey)> =
            names.iter().map(String::as_str).zip(&self.nodes).collect();
        let epoch = Signed::sign(epoch, &signers);
        signers.push((ROOT, &self.root_key));
        (Signed::sign(record, &signers), epoch)
    }
}

/// A polynomial's value.
pub(crate) fn evaluate(coefficients: &[Scalar], x: u32) -> Scalar {
    let x = Scalar::from_u64(x.into());
    coefficients
        .iter()
        .rev()
        .fold(Scalar::ZERO, |value, c| value * x + *c)
}

#[test]
fn the_fixture_hangs_together() {
    let world = World::new();
    let public_key = MlKem768P256::sk_to_pk(&world.secret).to_bytes();
    assert_eq!(public_key[..], world.journal_key().public_key()[..]);
    assert_eq!(world.cert.envelope_key, public(&world.device));
}
