//! One statement of every kind, signed.

use ed25519_dalek::SigningKey;
use greffe_envelope::label::sha256;
use greffe_envelope::opening::{sealed_opened, sealed_order};
use greffe_envelope::pb;
use greffe_envelope::read::{READ_SALT, read_subject};
use greffe_envelope::statement::{Signed, Statement};
use prost::Message as _;
use serde_json::{Value, json};

use super::json::{Json, hex};
use super::keys::{Secret, Seeded};
use super::message::Plan;

const AT: u64 = 1_790_000_000_000;
const LATER: u64 = AT + 86_400_000;

pub fn cases() -> Vec<Value> {
    let mut make = Maker(Seeded::new("statements"));
    let root = ["root"];
    let record = make.record();
    let record = make.signed(record, &["escrow-3", "root", "escrow-1", "escrow-2"]);
    let mut cases = vec![record.1];
    let disclosure = make.disclosure(record.0);
    cases.push(make.signed(disclosure, &root).1);
    let bundle = make.bundle();
    cases.push(make.signed(bundle, &root).1);
    let epoch = make.epoch();
    cases.push(make.signed(epoch, &["escrow-1", "escrow-2"]).1);
    cases.extend(make.devices());
    cases.extend(make.archive());
    cases.extend(make.people());
    cases.extend(make.ceremonies());
    cases.extend(make.shares());
    cases
}

struct Maker(Seeded);

impl Maker {
    fn digest(&mut self) -> Vec<u8> {
        self.0.bytes(32)
    }

    fn id(&mut self) -> Vec<u8> {
        self.0.bytes(16)
    }

    /// Signs by names, and describes.
    fn signed<M: Statement + Json>(
        &mut self,
        message: M,
        names: &[&str],
    ) -> (pb::SignedStatement, Value) {
        let keys: Vec<SigningKey> = names.iter().map(|_| self.0.signer()).collect();
        let signers: Vec<_> = names.iter().copied().zip(&keys).collect();
        let fields = message.json();
        let signed = Signed::sign(message, &signers);
        for (name, key) in &signers {
            signed.verify(name, key.verifying_key().as_bytes()).unwrap();
        }
        let raw = signed.raw().clone();
        let bytes = raw.encode_to_vec();
        assert!(
            Signed::<M>::decode_bytes(&bytes).is_ok_and(|back| back.digest() == signed.digest())
        );
        let signatures = raw.signatures.iter().map(|signature| {
            let (_, key) = signers
                .iter()
                .find(|(name, _)| *name == signature.signer)
                .unwrap();
            json!({
                "signer": signature.signer,
                "signing_key": hex(key.to_bytes()),
                "verifying_key": hex(key.verifying_key().to_bytes()),
                "signature": hex(&signature.signature),
            })
        });
        let value = json!({
            "type": M::TYPE,
            "fields": fields,
            "statement": hex(&raw.statement),
            "digest": signed.digest().json(),
            "signatures": signatures.collect::<Vec<_>>(),
            "signed_statement": hex(&bytes),
        });
        (raw, value)
    }

    fn one<M: Statement + Json>(&mut self, message: M, name: &str) -> Value {
        self.signed(message, &[name]).1
    }

    fn notice(&mut self, language: &str) -> pb::NoticeRef {
        pb::NoticeRef {
            language: language.into(),
            digest: self.digest(),
        }
    }

    fn record(&mut self) -> pb::KeyRecord {
        let secret = Secret::new("acme");
        pb::KeyRecord {
            tenant: "acme".into(),
            key_id: secret.key.key_id().to_vec(),
            period: "2026".into(),
            not_before: AT,
            not_after: LATER,
            kem: 0x0050,
            public_key: secret.key.public_key().to_vec(),
            t_min: 2,
            committee: (1..=3).map(|i| format!("escrow-{i}")).collect(),
            notices: vec![self.notice("en"), self.notice("fr")],
            purpose: "retention".into(),
            transcript: self.digest(),
        }
    }

    fn disclosure(&mut self, record: pb::SignedStatement) -> pb::Disclosure {
        pb::Disclosure {
            tenants: vec!["acme".into()],
            mode: pb::Mode::Supervised.into(),
            key_records: vec![record],
            policy_id: "us-broker-dealer".into(),
            policy_digest: self.digest(),
            notices: vec![self.notice("en"), self.notice("fr")],
            serial: 3,
            standing_order: self.id(),
        }
    }

    fn bundle(&mut self) -> pb::TrustBundle {
        pb::TrustBundle {
            tenant: "acme".into(),
            version: 2,
            previous: self.digest(),
            issued_at: AT,
            next_root: self.digest(),
            device_issuer: self.digest(),
            log: Some(pb::LogKey {
                origin: "log.acme.example".into(),
                key: self.digest(),
            }),
            receipt_keys: vec![pb::ServiceKey {
                name: "archive".into(),
                key: self.digest(),
                not_before: AT,
                not_after: LATER,
            }],
            services: vec![pb::ServiceName {
                service: "relay".into(),
                spiffe_id: "spiffe://acme/service/relay".into(),
            }],
            tls_authorities: vec![self.0.bytes(300)],
            nodes: (1..=2)
                .map(|index| pb::EscrowNode {
                    index,
                    name: format!("escrow-{index}"),
                    signing_key: self.digest(),
                    witness_key: self.digest(),
                    channel_key: self.0.bytes(1249),
                    trust_domain: "eu-1".into(),
                })
                .collect(),
            witnesses: vec![pb::Witness {
                name: "escrow-1".into(),
                key: self.digest(),
            }],
            cosigner_quorum: 2,
            roster: vec![pb::Person {
                name: "René".into(),
                roles: vec!["approver".into(), "legal".into()],
                signing_key: self.digest(),
                reader_key: vec![],
                not_before: AT,
                not_after: LATER,
                revoked: true,
            }],
            packs: vec![pb::PolicyPack {
                id: "us-broker-dealer".into(),
                digest: self.digest(),
            }],
            development: true,
            revocations: vec![pb::Revocation {
                certificate: self.digest(),
                from: AT,
            }],
            approvals: Some(pb::ApprovalRule {
                minimum: 2,
                required_roles: vec!["legal".into()],
                bulk_threshold: 100,
            }),
            contact: "privacy@acme.example".into(),
        }
    }

    fn epoch(&mut self) -> pb::ShareEpoch {
        pb::ShareEpoch {
            tenant: "acme".into(),
            key_id: self.digest(),
            epoch: 2,
            previous: self.digest(),
            threshold: 2,
            holders: (1..=2)
                .map(|index| pb::ShareHolder {
                    index,
                    node: format!("escrow-{index}"),
                    verification_share: self.0.bytes(33),
                })
                .collect(),
        }
    }

    /// What the issuer says of devices, and what devices and nodes say.
    fn devices(&mut self) -> Vec<Value> {
        let secret = Secret::new("acme");
        let (sealed, _) = Plan::new("a line under one key", &["acme"], &[&secret]).seal();
        let cert = pb::DeviceCert {
            tenant: "acme".into(),
            user: "alice@acme.example".into(),
            device: self.id(),
            mls_key: self.digest(),
            envelope_key: self.digest(),
            not_before: AT,
            not_after: LATER,
        };
        let currency = pb::Currency {
            tenant: "acme".into(),
            mode: pb::Mode::Journaled.into(),
            standing_order: vec![],
            disclosure: self.digest(),
            serial: 1,
            share_epochs: vec![self.digest()],
            at: AT,
        };
        let acknowledgement = pb::Acknowledgement {
            tenant: "acme".into(),
            user: "alice@acme.example".into(),
            device: self.id(),
            conversation: self.id(),
            disclosure: self.digest(),
            language: "fr".into(),
            notice: self.digest(),
            at: AT,
        };
        let report = pb::Report {
            tenant: "acme".into(),
            user: "bob@acme.example".into(),
            device: self.id(),
            envelope: Some(sealed.envelope.into_raw()),
            wraps: sealed.wraps,
            seed: self.digest(),
            reason: "wrap-mismatch".into(),
            at: AT,
        };
        let login = pb::DeviceLogin {
            tenant: "acme".into(),
            device: self.id(),
            device_cert: self.digest(),
            audience: "relay".into(),
            challenge: self.digest(),
            at: AT,
        };
        let device = "000102030405060708090a0b0c0d0e0f";
        vec![
            self.one(cert, "issuer"),
            self.one(currency, "escrow-1"),
            self.one(acknowledgement, device),
            self.one(report, device),
            self.one(login, device),
        ]
    }

    fn archive(&mut self) -> Vec<Value> {
        let receipt = pb::Receipt {
            tenant: "acme".into(),
            conversation: self.id(),
            sequence: 1,
            kind: pb::EntryKind::Message.into(),
            entry_digest: self.digest(),
            previous_head: vec![0; 32],
            head: self.digest(),
            archived_at: AT,
            retain_until: u64::MAX >> 1,
            bundle_version: 1,
        };
        let void = pb::Void {
            tenant: "acme".into(),
            conversation: self.id(),
            sequence: 2,
            refused_digest: self.digest(),
            reason: "CERTIFICATE_REVOKED".into(),
            at: AT,
        };
        let range = pb::RangeStatement {
            tenant: "acme".into(),
            conversation: self.id(),
            first: 1,
            last: 2,
            previous_head: vec![0; 32],
            head: self.digest(),
            entries: (1..=2)
                .map(|kind| pb::RangeEntry {
                    kind,
                    digest: self.digest(),
                })
                .collect(),
            complete: true,
            at: AT,
        };
        vec![
            self.one(receipt, "archive"),
            self.one(void, "archive"),
            self.one(range, "archive"),
        ]
    }

    fn people(&mut self) -> Vec<Value> {
        let order = pb::Order {
            id: self.id(),
            tenant: "acme".into(),
            matter: self.id(),
            purpose: "Enquête 2026-14".into(),
            records_root: self.digest(),
            records_count: 128,
            reader: "ruth".into(),
            reader_key: self.0.bytes(1249),
            not_before: AT,
            expiry: LATER,
            nonce: self.digest(),
            seal_until: LATER,
            requester: "rex".into(),
        };
        let nonce = order.nonce.clone();
        let (order, mut order_case) = self.signed(order, &["rex"]);
        let approval = pb::Approval {
            tenant: "acme".into(),
            order: self.digest(),
            records_root: self.digest(),
            records_count: 128,
            person: "ann".into(),
            at: AT,
        };
        let (approval, approval_case) = self.signed(approval, &["ann"]);
        let order_digest = sha256(&order.statement).to_vec();
        // The log's leaf of this order while it is sealed.
        let released = pb::ReleasedOrder {
            order: Some(order),
            approvals: vec![approval],
            salt: self.digest(),
        };
        let opened = pb::Opened {
            order: order_digest,
            envelope: vec![0xe1; 32],
            key_id: vec![0xe2; 32],
            share_epoch: vec![0xe3; 32],
            node: "escrow-1".into(),
        };
        order_case["sealed_leaf"] = json!({
            "approvals": released.approvals.iter().map(|a| hex(a.encode_to_vec())).collect::<Vec<_>>(),
            "salt": hex(&released.salt),
            "digest": sealed_order(&released).json(),
            // And of an opening under it.
            "opened": {
                "envelope": hex(&opened.envelope),
                "key_id": hex(&opened.key_id),
                "share_epoch": hex(&opened.share_epoch),
                "node": opened.node,
                "digest": sealed_opened(&nonce, &opened).json(),
            },
            // And of somebody's reading the order, as the log commits to it.
            "read": {
                "salt": hex([0xe4; READ_SALT]),
                "subject": hex([0xe5; 16]),
                "digest": read_subject(&[0xe4; READ_SALT], &[0xe5; 16]).json(),
            },
        });
        let token = pb::PersonToken {
            tenant: "acme".into(),
            person: "ruth".into(),
            audience: "archive".into(),
            not_before: AT,
            expiry: AT + 900_000,
            nonce: self.id(),
        };
        let act = pb::PersonAct {
            tenant: "acme".into(),
            person: "lea".into(),
            action: "hold.place".into(),
            act: self.0.bytes(50),
            at: AT,
            nonce: self.id(),
        };
        let production = pb::ProductionStatement {
            tenant: "acme".into(),
            reader: "ruth".into(),
            order: self.digest(),
            manifest: self.digest(),
            records: 0,
            at: AT,
        };
        vec![
            order_case,
            approval_case,
            self.one(token, "ruth"),
            self.one(act, "lea"),
            self.one(production, "ruth"),
        ]
    }

    fn ceremonies(&mut self) -> Vec<Value> {
        let nodes: Vec<String> = (1..=3).map(|i| format!("escrow-{i}")).collect();
        let generation = pb::KeygenDescriptor {
            tenant: "acme".into(),
            session: self.id(),
            period: "2026".into(),
            not_before: AT,
            not_after: LATER,
            threshold: 2,
            nodes: nodes.clone(),
            bundle_version: 1,
            purpose: "retention".into(),
            expiry: LATER,
            notices: vec![self.notice("en")],
        };
        let message = pb::CeremonyMessage {
            session: self.id(),
            round: 2,
            sender: "escrow-1".into(),
            receiver: "escrow-2".into(),
            payload: self.0.bytes(200),
        };
        let resharing = pb::ReshareDescriptor {
            tenant: "acme".into(),
            session: self.id(),
            key_id: self.digest(),
            previous: self.digest(),
            threshold: 2,
            nodes,
            dealers: vec![1, 3, 200],
            expiry: LATER,
        };
        vec![
            self.one(generation, "root"),
            self.one(message, "escrow-1"),
            self.one(resharing, "root"),
        ]
    }

    /// What becomes of shares. Whether the proof is one is asked beside the ceremonies, where there are shares.
    fn shares(&mut self) -> Vec<Value> {
        let (key_id, key_record) = (self.digest(), self.digest());
        let proof = pb::ShareProof {
            tenant: "acme".into(),
            key_id: key_id.clone(),
            share_epoch: self.digest(),
            index: 2,
            node: "escrow-2".into(),
            nonce: self.0.bytes(32),
            at: AT,
            commitment: self.0.bytes(33),
            response: self.0.bytes(32),
        };
        let unused = pb::KeyUnused {
            tenant: "acme".into(),
            key_id: key_id.clone(),
            key_record: key_record.clone(),
            at: LATER,
        };
        let (unused, said) = self.signed(unused, &["archive"]);
        let retirement = pb::KeyRetirement {
            tenant: "acme".into(),
            key_id: key_id.clone(),
            key_record,
            at: LATER,
            unused: Some(unused),
        };
        let destruction = pb::ShareDestruction {
            tenant: "acme".into(),
            node: "escrow-2".into(),
            key_id,
            share_epoch: self.digest(),
            cause: self.digest(),
            at: LATER,
        };
        vec![
            self.one(proof, "escrow-2"),
            said,
            self.one(retirement, "root"),
            self.one(destruction, "escrow-2"),
        ]
    }
}
