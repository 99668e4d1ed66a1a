//! A trust bundle as text that people read and edit before the root signs it: TOML, digests and keys in hexadecimal.

use greffe_envelope::pb;
use greffe_types::to_hex;
use serde::{Deserialize, Serialize};

use super::decode_hex;
use crate::commands::form::{instant, time};
use crate::fail::{Failure, Result};

/// What stands above every draft.
const HEAD: &str = "\
# Trust bundle, unsigned. See it with `greffe operator show`, change it with `greffe operator bundle edit` or by hand, and have the
# root sign it on its own machine with `greffe operator sign`. Keys and digests are hexadecimal, times RFC 3339 in UTC.

";

/// A trust bundle's every field.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draft {
    tenant: String,
    version: u64,
    previous: String,
    issued_at: String,
    development: bool,
    contact: String,
    device_issuer: String,
    next_root: String,
    tls_authorities: Vec<String>,
    cosigner_quorum: u32,
    approvals: Approvals,
    log: Log,
    nodes: Vec<Node>,
    witnesses: Vec<Witness>,
    services: Vec<Service>,
    receipt_keys: Vec<ReceiptKey>,
    packs: Vec<Pack>,
    #[serde(default)]
    roster: Vec<Person>,
    #[serde(default)]
    revocations: Vec<Revocation>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Approvals {
    minimum: u32,
    required_roles: Vec<String>,
    bulk_threshold: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    origin: String,
    key: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    index: u32,
    name: String,
    trust_domain: String,
    signing_key: String,
    witness_key: String,
    channel_key: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Witness {
    name: String,
    key: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    service: String,
    spiffe_id: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiptKey {
    name: String,
    key: String,
    not_before: String,
    not_after: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pack {
    id: String,
    digest: String,
}

/// A person's entry of the roster: also the file that each person sends.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Person {
    pub(crate) name: String,
    roles: Vec<String>,
    signing_key: String,
    reader_key: String,
    not_before: String,
    not_after: String,
    #[serde(default)]
    revoked: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Revocation {
    certificate: String,
    from: String,
}

impl Draft {
    /// Of a bundle.
    pub(crate) fn new(b: &pb::TrustBundle) -> Self {
        let log = b.log.clone().unwrap_or_default();
        let approvals = b.approvals.clone().unwrap_or_default();
        Self {
            tenant: b.tenant.clone(),
            version: b.version,
            previous: to_hex(&b.previous),
            issued_at: time(b.issued_at),
            development: b.development,
            contact: b.contact.clone(),
            device_issuer: to_hex(&b.device_issuer),
            next_root: to_hex(&b.next_root),
            tls_authorities: b.tls_authorities.iter().map(|der| to_hex(der)).collect(),
            cosigner_quorum: b.cosigner_quorum,
            approvals: Approvals {
                minimum: approvals.minimum,
                required_roles: approvals.required_roles,
                bulk_threshold: approvals.bulk_threshold,
            },
            log: Log {
                origin: log.origin,
                key: to_hex(&log.key),
            },
            nodes: b.nodes.iter().map(Node::new).collect(),
            witnesses: b.witnesses.iter().map(Witness::new).collect(),
            services: b.services.iter().map(Service::new).collect(),
            receipt_keys: b.receipt_keys.iter().map(ReceiptKey::new).collect(),
            packs: b.packs.iter().map(Pack::new).collect(),
            roster: b.roster.iter().map(Person::new).collect(),
            revocations: b.revocations.iter().map(Revocation::new).collect(),
        }
    }

    /// Reads a draft's text.
    pub(crate) fn parse(text: &str, file: &str) -> Result<pb::TrustBundle> {
        let draft: Self = toml::from_str(text).map_err(|error| malformed(file, error.message()))?;
        draft.bundle().map_err(|field| {
            malformed(
                file,
                &format!("{field} is no hexadecimal, or no time such as 2026-03-02T09:30:00Z"),
            )
        })
    }

    /// Its text.
    pub(crate) fn text(&self) -> Result<String> {
        let text = toml::to_string(self)
            .map_err(|error| Failure::because("DRAFT", "the draft cannot be written", &error))?;
        Ok(format!("{HEAD}{text}"))
    }

    /// The bundle; the error names the field that does not parse.
    fn bundle(self) -> core::result::Result<pb::TrustBundle, &'static str> {
        Ok(pb::TrustBundle {
            tenant: self.tenant,
            version: self.version,
            previous: bytes("previous", &self.previous)?,
            issued_at: at("issued_at", &self.issued_at)?,
            next_root: bytes("next_root", &self.next_root)?,
            device_issuer: bytes("device_issuer", &self.device_issuer)?,
            log: Some(pb::LogKey {
                origin: self.log.origin,
                key: bytes("log.key", &self.log.key)?,
            }),
            receipt_keys: all(self.receipt_keys, ReceiptKey::parse)?,
            services: all(self.services, |s| {
                Ok(pb::ServiceName {
                    service: s.service,
                    spiffe_id: s.spiffe_id,
                })
            })?,
            tls_authorities: all(self.tls_authorities, |der| bytes("tls_authorities", &der))?,
            nodes: all(self.nodes, Node::parse)?,
            witnesses: all(self.witnesses, |w| {
                Ok(pb::Witness {
                    name: w.name,
                    key: bytes("witnesses.key", &w.key)?,
                })
            })?,
            cosigner_quorum: self.cosigner_quorum,
            roster: all(self.roster, Person::parse)?,
            packs: all(self.packs, |pack| {
                Ok(pb::PolicyPack {
                    id: pack.id,
                    digest: bytes("packs.digest", &pack.digest)?,
                })
            })?,
            development: self.development,
            revocations: all(self.revocations, |r| {
                Ok(pb::Revocation {
                    certificate: bytes("revocations.certificate", &r.certificate)?,
                    from: at("revocations.from", &r.from)?,
                })
            })?,
            approvals: Some(pb::ApprovalRule {
                minimum: self.approvals.minimum,
                required_roles: self.approvals.required_roles,
                bulk_threshold: self.approvals.bulk_threshold,
            }),
            contact: self.contact,
        })
    }
}

impl Node {
    fn new(node: &pb::EscrowNode) -> Self {
        Self {
            index: node.index,
            name: node.name.clone(),
            trust_domain: node.trust_domain.clone(),
            signing_key: to_hex(&node.signing_key),
            witness_key: to_hex(&node.witness_key),
            channel_key: to_hex(&node.channel_key),
        }
    }

    fn parse(self) -> core::result::Result<pb::EscrowNode, &'static str> {
        Ok(pb::EscrowNode {
            index: self.index,
            name: self.name,
            signing_key: bytes("nodes.signing_key", &self.signing_key)?,
            witness_key: bytes("nodes.witness_key", &self.witness_key)?,
            channel_key: bytes("nodes.channel_key", &self.channel_key)?,
            trust_domain: self.trust_domain,
        })
    }
}

impl Witness {
    fn new(witness: &pb::Witness) -> Self {
        Self {
            name: witness.name.clone(),
            key: to_hex(&witness.key),
        }
    }
}

impl Service {
    fn new(service: &pb::ServiceName) -> Self {
        Self {
            service: service.service.clone(),
            spiffe_id: service.spiffe_id.clone(),
        }
    }
}

impl ReceiptKey {
    fn new(key: &pb::ServiceKey) -> Self {
        Self {
            name: key.name.clone(),
            key: to_hex(&key.key),
            not_before: time(key.not_before),
            not_after: time(key.not_after),
        }
    }

    fn parse(self) -> core::result::Result<pb::ServiceKey, &'static str> {
        Ok(pb::ServiceKey {
            name: self.name,
            key: bytes("receipt_keys.key", &self.key)?,
            not_before: at("receipt_keys.not_before", &self.not_before)?,
            not_after: at("receipt_keys.not_after", &self.not_after)?,
        })
    }
}

impl Pack {
    fn new(pack: &pb::PolicyPack) -> Self {
        Self {
            id: pack.id.clone(),
            digest: to_hex(&pack.digest),
        }
    }
}

impl Person {
    /// Of a roster's entry.
    pub(crate) fn new(person: &pb::Person) -> Self {
        Self {
            name: person.name.clone(),
            roles: person.roles.clone(),
            signing_key: to_hex(&person.signing_key),
            reader_key: to_hex(&person.reader_key),
            not_before: time(person.not_before),
            not_after: time(person.not_after),
            revoked: person.revoked,
        }
    }

    /// The roster's entry; the error names the field that does not parse.
    pub(crate) fn parse(self) -> core::result::Result<pb::Person, &'static str> {
        Ok(pb::Person {
            name: self.name,
            roles: self.roles,
            signing_key: bytes("roster.signing_key", &self.signing_key)?,
            reader_key: bytes("roster.reader_key", &self.reader_key)?,
            not_before: at("roster.not_before", &self.not_before)?,
            not_after: at("roster.not_after", &self.not_after)?,
            revoked: self.revoked,
        })
    }
}

impl Revocation {
    fn new(revocation: &pb::Revocation) -> Self {
        Self {
            certificate: to_hex(&revocation.certificate),
            from: time(revocation.from),
        }
    }
}

fn bytes(field: &'static str, text: &str) -> core::result::Result<Vec<u8>, &'static str> {
    decode_hex(text).ok_or(field)
}

fn at(field: &'static str, text: &str) -> core::result::Result<u64, &'static str> {
    instant(text).map(|at| at.get()).map_err(|_| field)
}

fn all<T, U>(
    list: Vec<T>,
    one: impl Fn(T) -> core::result::Result<U, &'static str>,
) -> core::result::Result<Vec<U>, &'static str> {
    list.into_iter().map(one).collect()
}

fn malformed(file: &str, why: &str) -> Failure {
    Failure::usage(
        "DRAFT_MALFORMED",
        format_args!("{file} is no draft of a trust bundle: {why}; correct it, or draft it anew"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_the_same_after_it_was_text() {
        let bundle = pb::TrustBundle {
            tenant: "acme".into(),
            version: 2,
            previous: vec![7; 32],
            issued_at: 1_772_323_200_001,
            next_root: vec![1; 32],
            device_issuer: vec![2; 32],
            log: Some(pb::LogKey {
                origin: "greffe.acme/log".into(),
                key: vec![3; 32],
            }),
            receipt_keys: vec![pb::ServiceKey {
                name: "archive".into(),
                key: vec![4; 32],
                not_before: 5,
                not_after: 1_772_323_200_999,
            }],
            services: vec![pb::ServiceName {
                service: "relay".into(),
                spiffe_id: "spiffe://acme/service/relay".into(),
            }],
            tls_authorities: vec![vec![0x30, 1]],
            nodes: vec![pb::EscrowNode {
                index: 1,
                name: "escrow-1".into(),
                signing_key: vec![5; 32],
                witness_key: vec![6; 32],
                channel_key: vec![8; 1249],
                trust_domain: "a \"domain\"\nof two lines".into(),
            }],
            witnesses: vec![pb::Witness {
                name: "escrow-1".into(),
                key: vec![6; 32],
            }],
            cosigner_quorum: 1,
            roster: vec![pb::Person {
                name: "eve".into(),
                roles: vec!["reader".into()],
                signing_key: vec![9; 32],
                reader_key: vec![8; 1249],
                not_before: 1,
                not_after: 2,
                revoked: true,
            }],
            packs: vec![pb::PolicyPack {
                id: "p".into(),
                digest: vec![1; 32],
            }],
            development: false,
            revocations: vec![pb::Revocation {
                certificate: vec![2; 32],
                from: 3,
            }],
            approvals: Some(pb::ApprovalRule {
                minimum: 2,
                required_roles: vec!["compliance".into()],
                bulk_threshold: 10,
            }),
            contact: "compliance".into(),
        };
        let text = Draft::new(&bundle).text().unwrap();
        assert_eq!(Draft::parse(&text, "x").unwrap(), bundle);
        let wrong = text.replace("contact", "kontakt");
        assert_eq!(
            Draft::parse(&wrong, "x").unwrap_err().reason(),
            "DRAFT_MALFORMED"
        );
    }
}
