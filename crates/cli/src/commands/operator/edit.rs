//! `greffe operator bundle edit`: the next bundle, from the one in force.

use std::path::PathBuf;

use clap::Args;
use greffe_envelope::pb;
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_types::{Digest, Millis, TenantId};

use super::super::form::{instant, time};
use super::bundle::{authorities, draft_file, pack, pair, person, prepared};
use crate::fail::{Failure, Result};
use crate::operator::{file, is_node, node, read_public, read_root};

/// `greffe operator bundle edit`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  greffe operator bundle edit bundle.bin --root root.pub --person mia.toml --revoke-person rita --out next.toml\n  greffe operator bundle edit bundle.bin --root root.pub --node escrow-3.json --trust-domain 'escrow-3=Trust AG' --out next.toml"
)]
pub(super) struct Edit {
    /// The signed bundle in force.
    from: PathBuf,
    /// The root's public line.
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// What an escrow node's `--prepare` printed: a node of that name is replaced, a new one added. May be repeated.
    #[arg(long, value_name = "FILE")]
    node: Vec<PathBuf>,
    /// A node that leaves; may be repeated.
    #[arg(long, value_name = "NAME")]
    remove_node: Vec<String>,
    /// Whose domain a node stands in; may be repeated.
    #[arg(long, value_name = "NODE=TEXT", value_parser = pair)]
    trust_domain: Vec<(String, String)>,
    /// A person's public file: replaces the entry of that name, or is added. May be repeated.
    #[arg(long, value_name = "FILE")]
    person: Vec<PathBuf>,
    /// A person who may not act any more; may be repeated. The entry stays, since what they signed before has to verify.
    #[arg(long, value_name = "NAME")]
    revoke_person: Vec<String>,
    /// A device certificate, by its digest, that is not valid any more from now on; may be repeated.
    #[arg(long, value_name = "DIGEST")]
    revoke_certificate: Vec<Digest>,
    /// A new device issuer's public line. Certificates of the one before are not valid any more once the bundle is in force:
    /// every device is out at once, and every conversation ends. See the runbook replace-the-issuer.
    #[arg(long, value_name = "FILE")]
    issuer: Option<PathBuf>,
    /// Says that this is meant: a new issuer ends every device and conversation.
    #[arg(long, requires = "issuer")]
    end_every_device: bool,
    /// Certificate of a further TLS authority, PEM; may be repeated.
    #[arg(long, value_name = "FILE")]
    authority: Vec<PathBuf>,
    /// A further policy pack; may be repeated.
    #[arg(long, value_name = "ID")]
    pack: Vec<String>,
    /// Whom notices tell members to ask.
    #[arg(long)]
    contact: Option<String>,
    /// Date of the bundle; now without it. Operators countersign a bundle that changes the nodes within an hour of this date; the
    /// root signs it no sooner than 24 hours after it.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    issued_at: Option<Millis>,
    /// File for the draft, `.toml`.
    #[arg(long, value_name = "FILE", value_parser = draft_file)]
    pub(super) out: PathBuf,
}

/// Drafts the next bundle.
pub(super) fn make(edit: &Edit) -> Result<pb::TrustBundle> {
    let root = read_root(&edit.root)?;
    let current = file::read_bundle(&edit.from, &root)?;
    let now = SystemClock.now();
    let mut next = current.message().clone();
    next.version += 1;
    next.previous = current.digest().to_vec();
    next.issued_at = edit.issued_at.unwrap_or(now).get();
    nodes(edit, root.tenant(), &mut next)?;
    people(edit, &mut next)?;
    for certificate in &edit.revoke_certificate {
        let known = next
            .revocations
            .iter()
            .find(|known| known.certificate == certificate.as_bytes());
        if let Some(known) = known {
            return Err(Failure::refused(
                "CERTIFICATE_REVOKED",
                format_args!(
                    "{certificate} is revoked already, from {}: leave it out, or change that date in the draft",
                    time(known.from)
                ),
            ));
        }
        next.revocations.push(pb::Revocation {
            certificate: certificate.to_vec(),
            from: now.get(),
        });
    }
    if let Some(path) = &edit.issuer {
        next.device_issuer = read_public(path, "issuer", root.tenant())?.to_vec();
        if next.device_issuer != current.message().device_issuer && !edit.end_every_device {
            return Err(Failure::refused(
                "ISSUER_ENDS_DEVICES",
                "another issuer ends every device and every conversation as soon as the bundle is in force, with nobody left \
                 to invite anybody: where only some devices are in doubt, use --revoke-certificate; where the issuer's key is \
                 known to others, follow the runbook replace-the-issuer and say --end-every-device",
            ));
        }
    }
    for der in authorities(&edit.authority)? {
        if !next.tls_authorities.contains(&der) {
            next.tls_authorities.push(der);
        }
    }
    for id in &edit.pack {
        let pack = pack(id)?;
        next.packs.retain(|known| known.id != *id);
        next.packs.push(pb::PolicyPack {
            id: id.clone(),
            digest: pack.digest().to_vec(),
        });
    }
    if let Some(contact) = &edit.contact {
        next.contact.clone_from(contact);
    }
    Ok(next)
}

fn nodes(edit: &Edit, tenant: &TenantId, next: &mut pb::TrustBundle) -> Result<()> {
    for name in &edit.remove_node {
        let before = next.nodes.len();
        next.nodes.retain(|node| node.name != *name);
        if next.nodes.len() == before {
            return Err(unknown("node", name));
        }
        next.witnesses.retain(|witness| witness.name != *name);
        next.services.retain(|service| service.service != *name);
    }
    for path in &edit.node {
        let prepared = prepared(path, tenant)?;
        if !is_node(&prepared.service) {
            return Err(Failure::usage(
                "SERVICE_KEYS",
                format_args!(
                    "{} is of {}, which is no escrow node",
                    path.display(),
                    prepared.service
                ),
            ));
        }
        let place = next
            .nodes
            .iter()
            .position(|node| node.name == prepared.service);
        let domain = place.map_or_else(
            || prepared.service.clone(),
            |at| next.nodes[at].trust_domain.clone(),
        );
        let (made, witness) = node(&prepared, 0, &domain)?;
        next.witnesses.retain(|known| known.name != witness.name);
        next.witnesses.push(witness);
        match place {
            Some(at) => next.nodes[at] = made,
            None => next.nodes.push(made),
        }
        next.services
            .retain(|known| known.service != prepared.service);
        next.services.push(pb::ServiceName {
            service: prepared.service,
            spiffe_id: prepared.spiffe_id,
        });
    }
    for (name, domain) in &edit.trust_domain {
        let node = next.nodes.iter_mut().find(|node| node.name == *name);
        node.ok_or_else(|| unknown("node", name))?
            .trust_domain
            .clone_from(domain);
    }
    for (node, index) in next.nodes.iter_mut().zip(1..) {
        node.index = index;
    }
    if !edit.node.is_empty() || !edit.remove_node.is_empty() {
        next.witnesses.sort_by(|a, b| a.name.cmp(&b.name));
        next.services.sort_by(|a, b| a.service.cmp(&b.service));
        next.cosigner_quorum = u32::try_from(next.witnesses.len() / 2 + 1).unwrap_or(u32::MAX);
    }
    Ok(())
}

fn people(edit: &Edit, next: &mut pb::TrustBundle) -> Result<()> {
    for path in &edit.person {
        let person = person(path)?;
        let known = next
            .roster
            .iter_mut()
            .find(|known| known.name == person.name);
        match known {
            Some(known) => *known = person,
            None => next.roster.push(person),
        }
    }
    for name in &edit.revoke_person {
        let known = next.roster.iter_mut().find(|person| person.name == *name);
        known.ok_or_else(|| unknown("person", name))?.revoked = true;
    }
    Ok(())
}

fn unknown(what: &str, name: &str) -> Failure {
    Failure::usage(
        "NOT_IN_BUNDLE",
        format_args!("the bundle in force has no {what} {name:?}: see `greffe operator show`"),
    )
}
