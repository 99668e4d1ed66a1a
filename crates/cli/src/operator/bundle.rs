//! The first trust bundle of a tenant, from what each service says of its own keys.

use std::collections::BTreeMap;

use core::time::Duration;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::ROOT;
use greffe_policy::Pack;
use greffe_service_kit::prepare::Prepared;
use greffe_types::Millis;
use sha2::{Digest as _, Sha256};

use super::Operator;
use crate::fail::{Failure, Result};

/// How long what a bundle names is valid: ten years, as evidence lasts.
const YEARS_10: Duration = Duration::from_secs(3653 * 86_400);

/// What a bundle is made of.
pub(crate) struct BundleParts<'a> {
    /// What each service prepared, by its name.
    pub(crate) services: &'a BTreeMap<String, Prepared>,
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

/// Puts the bundle together and signs it with the root.
pub(crate) fn bundle(
    operator: &Operator,
    parts: BundleParts<'_>,
    now: Millis,
) -> Result<Signed<pb::TrustBundle>> {
    let tenant = &operator.tenant;
    let key = |service: &str, name: &str| -> Result<Vec<u8>> {
        let prepared = parts.services.get(service);
        let hex = prepared.and_then(|p| p.keys.get(name)).ok_or_else(|| {
            Failure::failed(
                "SERVICE_KEYS",
                format_args!("{service} has prepared no {name}"),
            )
        })?;
        decode_hex(hex).ok_or_else(|| {
            Failure::failed(
                "SERVICE_KEYS",
                format_args!("the {name} of {service} is not hexadecimal"),
            )
        })
    };
    let nodes: Vec<&str> = parts
        .services
        .keys()
        .filter(|n| n.starts_with("escrow-"))
        .map(String::as_str)
        .collect();
    let mut escrow = Vec::with_capacity(nodes.len());
    let mut witnesses = Vec::with_capacity(nodes.len());
    for (name, index) in nodes.iter().zip(1..) {
        let witness_key = key(name, "witness_key")?;
        witnesses.push(pb::Witness {
            name: (*name).to_owned(),
            key: witness_key.clone(),
        });
        escrow.push(pb::EscrowNode {
            index,
            name: (*name).to_owned(),
            signing_key: key(name, "signing_key")?,
            witness_key,
            channel_key: key(name, "channel_key")?,
            trust_domain: if parts.development {
                "this machine (development)".to_owned()
            } else {
                (*name).to_owned()
            },
        });
    }
    let pack = parts
        .packs
        .first()
        .ok_or_else(|| Failure::usage("NO_POLICY_PACK", "no policy pack was named"))?;
    let message = pb::TrustBundle {
        tenant: tenant.to_string(),
        version: 1,
        previous: vec![0; 32],
        issued_at: now.get(),
        next_root: Sha256::digest(operator.next_root.verifying_key().to_bytes()).to_vec(),
        device_issuer: operator.issuer.verifying_key().to_bytes().to_vec(),
        log: Some(pb::LogKey {
            origin: format!("greffe.{tenant}/log"),
            key: key("audit", "log_key")?,
        }),
        receipt_keys: vec![pb::ServiceKey {
            name: "archive".to_owned(),
            key: key("archive", "receipt_key")?,
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
        tls_authorities: vec![operator.authority.der()?],
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
    };
    Ok(Signed::sign(message, &[(ROOT, &operator.root)]))
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
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
