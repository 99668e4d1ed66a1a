//! What the root signs: the bundle, the key generation's descriptor, the disclosure.

use core::time::Duration;

use anyhow::{Context as _, Result, ensure};
use greffe_client::Person;
use greffe_client::notice::NoticeFacts;
use greffe_envelope::pb;
use greffe_envelope::trust::Bundle;
use greffe_service_kit::prepare::Prepared;
use sha2::{Digest as _, Sha256};

use super::{PACK, Services, issuer, pack, tenant};
use crate::clock;

/// Later than any simulation goes.
const END: u64 = 4_000_000_000_000;

pub(super) fn entry(name: &str, roles: &[&str], person: &Person) -> pb::Person {
    pb::Person {
        name: name.to_owned(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        signing_key: person.signing_public().to_vec(),
        reader_key: person.reader_public(),
        not_before: 0,
        not_after: END,
        revoked: false,
    }
}

fn key(prepared: &Prepared, name: &str) -> Result<Vec<u8>> {
    let text = prepared.keys.get(name).context("a prepared key")?;
    ensure!(text.len().is_multiple_of(2), "hexadecimal");
    (0..text.len())
        .step_by(2)
        .map(|at| Ok(u8::from_str_radix(&text[at..at + 2], 16)?))
        .collect()
}

pub(super) fn bundle(services: &Services, roster: Vec<pb::Person>) -> Result<pb::TrustBundle> {
    let of = |name: &str| services.get(name).context("a prepared service");
    let (mut nodes, mut witnesses) = (Vec::new(), Vec::new());
    let escrow = services
        .values()
        .filter(|s| s.service.starts_with("escrow-"));
    for (prepared, index) in escrow.zip(1..) {
        let witness_key = key(prepared, "witness_key")?;
        witnesses.push(pb::Witness {
            name: prepared.service.clone(),
            key: witness_key.clone(),
        });
        nodes.push(pb::EscrowNode {
            index,
            name: prepared.service.clone(),
            signing_key: key(prepared, "signing_key")?,
            witness_key,
            channel_key: key(prepared, "channel_key")?,
            trust_domain: prepared.service.clone(),
        });
    }
    let approval = pack().approval();
    let roles = approval.required_roles().iter();
    Ok(pb::TrustBundle {
        tenant: tenant().to_string(),
        version: 1,
        previous: vec![0; 32],
        issued_at: clock::now().get(),
        next_root: vec![9; 32],
        device_issuer: issuer().verifying_key().to_bytes().to_vec(),
        log: Some(pb::LogKey {
            origin: "greffe.acme/log".to_owned(),
            key: key(of("audit")?, "log_key")?,
        }),
        receipt_keys: vec![pb::ServiceKey {
            name: "archive".to_owned(),
            key: key(of("archive")?, "receipt_key")?,
            not_before: 0,
            not_after: END,
        }],
        services: services
            .values()
            .map(|prepared| pb::ServiceName {
                service: prepared.service.clone(),
                spiffe_id: prepared.spiffe_id.clone(),
            })
            .collect(),
        cosigner_quorum: 2,
        nodes,
        witnesses,
        roster,
        packs: vec![pb::PolicyPack {
            id: PACK.to_owned(),
            digest: pack().digest().to_vec(),
        }],
        approvals: Some(pb::ApprovalRule {
            minimum: approval.minimum(),
            required_roles: roles.map(ToString::to_string).collect(),
            bulk_threshold: approval.bulk_threshold(),
        }),
        contact: "registry@acme.example".to_owned(),
        ..Default::default()
    })
}

pub(super) fn descriptor(bundle: &pb::TrustBundle) -> pb::KeygenDescriptor {
    let now = clock::now();
    pb::KeygenDescriptor {
        tenant: tenant().to_string(),
        session: vec![7; 16],
        period: "2026".to_owned(),
        not_before: now.minus(Duration::from_secs(60)).get(),
        not_after: END,
        threshold: 2,
        nodes: bundle.nodes.iter().map(|node| node.name.clone()).collect(),
        bundle_version: bundle.version,
        purpose: pack().purpose("en").unwrap_or("retention").to_owned(),
        expiry: now.plus(Duration::from_secs(600)).get(),
        notices: notices(),
    }
}

fn notices() -> Vec<pb::NoticeRef> {
    let texts = pack().texts().notices.iter();
    texts
        .map(|(language, text)| pb::NoticeRef {
            language: language.clone(),
            digest: Sha256::digest(text.as_bytes()).to_vec(),
        })
        .collect()
}

pub(super) fn disclosure(
    bundle: &Bundle,
    record: &pb::SignedStatement,
    epoch: &pb::ShareEpoch,
) -> Result<pb::Disclosure> {
    let mode = pb::Mode::Journaled;
    let facts = NoticeFacts::new(bundle, mode, &[epoch], &bundle.message().contact)?;
    Ok(pb::Disclosure {
        tenants: vec![tenant().to_string()],
        mode: mode.into(),
        key_records: vec![record.clone()],
        policy_id: PACK.to_owned(),
        policy_digest: pack().digest().to_vec(),
        notices: facts.references(pack())?,
        serial: 1,
        standing_order: Vec::new(),
    })
}
