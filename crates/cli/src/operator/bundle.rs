//! The trust bundle of a tenant, from what each service says of its own keys: the first one, and what a node's keys are in any.

use std::collections::BTreeMap;

use core::time::Duration;
use greffe_envelope::pb;
use greffe_policy::Pack;
use greffe_service_kit::prepare::Prepared;
use greffe_types::{Millis, TenantId};
use sha2::{Digest as _, Sha256};

use crate::fail::{Failure, Result};

/// How long what a bundle names is valid: ten years, as evidence lasts.
const YEARS_10: Duration = Duration::from_secs(3653 * 86_400);

/// What a bundle is made of: public halves only.
pub(crate) struct BundleParts<'a> {
    /// The tenant.
    pub(crate) tenant: &'a TenantId,
    /// The next root's public key; the bundle commits to it.
    pub(crate) next_root: [u8; 32],
    /// The device issuer's public key.
    pub(crate) issuer: [u8; 32],
    /// Authorities of the services' TLS certificates, DER.
    pub(crate) tls_authorities: Vec<Vec<u8>>,
    /// What each service prepared, by its name.
    pub(crate) services: &'a BTreeMap<String, Prepared>,
    /// Where each node stands, by its name; a node that is not named stands in a domain of its own name.
    pub(crate) trust_domains: &'a BTreeMap<String, String>,
    /// People.
    pub(crate) roster: Vec<pb::Person>,
    /// Policy packs, the one in force first.
    pub(crate) packs: &'a [&'a Pack],
    /// Whom members may ask.
    pub(crate) contact: &'a str,
    /// Made by one person on one machine.
    pub(crate) development: bool,
}

/// The end of the validity of what a bundle of this instant names.
pub(crate) fn valid_until(now: Millis) -> Millis {
    now.plus(YEARS_10)
}

/// Puts the first bundle together, for the root to sign.
pub(crate) fn bundle(parts: BundleParts<'_>, now: Millis) -> Result<pb::TrustBundle> {
    let tenant = parts.tenant;
    let of = |service: &str| {
        parts.services.get(service).ok_or_else(|| {
            Failure::usage(
                "SERVICE_KEYS",
                format_args!("{service} is missing: prepare it with `greffe serve {service} --prepare {service}` and name the file"),
            )
        })
    };
    let (mut escrow, mut witnesses) = (Vec::new(), Vec::new());
    let nodes = parts.services.values().filter(|p| is_node(&p.service));
    for (prepared, index) in nodes.zip(1..) {
        let domain = parts.trust_domains.get(&prepared.service);
        let domain = domain.unwrap_or(&prepared.service);
        let (node, witness) = node(prepared, index, domain)?;
        escrow.push(node);
        witnesses.push(witness);
    }
    if escrow.is_empty() {
        return Err(Failure::usage(
            "SERVICE_KEYS",
            "no escrow node is named: give the file of each that `greffe serve escrow --prepare escrow-N` printed",
        ));
    }
    let pack = parts
        .packs
        .first()
        .ok_or_else(|| Failure::usage("NO_POLICY_PACK", "no policy pack was named"))?;
    Ok(pb::TrustBundle {
        tenant: tenant.to_string(),
        version: 1,
        previous: vec![0; 32],
        issued_at: now.get(),
        next_root: Sha256::digest(parts.next_root).to_vec(),
        device_issuer: parts.issuer.to_vec(),
        log: Some(pb::LogKey {
            origin: format!("greffe.{tenant}/log"),
            key: key(of("audit")?, "log_key")?,
        }),
        receipt_keys: vec![pb::ServiceKey {
            name: "archive".to_owned(),
            key: key(of("archive")?, "receipt_key")?,
            not_before: now.minus(Duration::from_secs(60)).get(),
            not_after: valid_until(now).get(),
        }],
        services: parts
            .services
            .values()
            .map(|p| pb::ServiceName {
                service: p.service.clone(),
                spiffe_id: p.spiffe_id.clone(),
            })
            .collect(),
        tls_authorities: parts.tls_authorities,
        cosigner_quorum: u32::try_from(escrow.len() / 2 + 1).unwrap_or(u32::MAX),
        nodes: escrow,
        witnesses,
        roster: parts.roster,
        packs: parts
            .packs
            .iter()
            .map(|pack| pb::PolicyPack {
                id: pack.id().to_owned(),
                digest: pack.digest().to_vec(),
            })
            .collect(),
        development: parts.development,
        revocations: Vec::new(),
        approvals: Some(pb::ApprovalRule {
            minimum: pack.approval().minimum(),
            required_roles: pack
                .approval()
                .required_roles()
                .iter()
                .map(ToString::to_string)
                .collect(),
            bulk_threshold: pack.approval().bulk_threshold(),
        }),
        contact: parts.contact.to_owned(),
    })
}

/// Whether a service of that name is an escrow node.
pub(crate) fn is_node(service: &str) -> bool {
    service.starts_with("escrow-")
}

/// A node and the witness that it is, from what it prepared.
pub(crate) fn node(
    prepared: &Prepared,
    index: u32,
    trust_domain: &str,
) -> Result<(pb::EscrowNode, pb::Witness)> {
    let witness_key = key(prepared, "witness_key")?;
    let witness = pb::Witness {
        name: prepared.service.clone(),
        key: witness_key.clone(),
    };
    let node = pb::EscrowNode {
        index,
        name: prepared.service.clone(),
        signing_key: key(prepared, "signing_key")?,
        witness_key,
        channel_key: key(prepared, "channel_key")?,
        trust_domain: trust_domain.to_owned(),
    };
    Ok((node, witness))
}

/// A public key that a service prepared.
fn key(prepared: &Prepared, name: &str) -> Result<Vec<u8>> {
    let service = &prepared.service;
    let hex = prepared.keys.get(name).ok_or_else(|| {
        Failure::usage(
            "SERVICE_KEYS",
            format_args!(
                "{service} has prepared no {name}: name the file that its own --prepare printed"
            ),
        )
    })?;
    decode_hex(hex).ok_or_else(|| {
        Failure::usage(
            "SERVICE_KEYS",
            format_args!("the {name} of {service} is not hexadecimal: copy the file again"),
        )
    })
}

/// Bytes of any number in lower-case hexadecimal.
pub(crate) fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    bytes
        .chunks_exact(2)
        .map(|pair| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok())
        .collect()
}
