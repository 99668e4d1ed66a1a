//! `greffe tenant`: what the tenant's root vouches for, verified here.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use greffe_client::mode_name;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{Bundle, TrustState, VerifiedDisclosure};
use greffe_policy::Pack;
use greffe_service_kit::checkpoint::log_verifier;
use greffe_tlog::CosignerKey;
use greffe_types::Digest;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::access::Access;
use super::form::{hex, time};
use crate::fail::Result;
use crate::output::{Output, print};

/// `greffe tenant`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  greffe tenant show")]
pub(crate) struct TenantArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Root, trust bundle, nodes, roster, keys, modes and packs, as the services say and the root has signed.
    #[command(
        after_help = "Example:\n  greffe tenant show\n  greffe tenant show --connection connection.toml --output json"
    )]
    Show(Access),
}

#[derive(Serialize)]
struct TenantView {
    tenant: String,
    root_key: String,
    root_fingerprint: String,
    development: bool,
    contact: String,
    bundle: BundleView,
    nodes: Vec<NodeView>,
    log: LogView,
    witnesses: Vec<String>,
    cosigner_quorum: u32,
    approvals: ApprovalView,
    roster: Vec<PersonView>,
    keys: Vec<KeyView>,
    /// Keys of periods that are over for good: nothing that was sealed to them is opened any more.
    retired: Vec<RetiredView>,
    modes: Vec<ModeView>,
    packs: Vec<PackView>,
}

#[derive(Serialize)]
struct BundleView {
    version: u64,
    digest: String,
    issued_at: String,
    revocations: usize,
}

/// The log's and its witnesses' keys, each in the form that tools for such logs are given.
#[derive(Serialize)]
struct LogView {
    origin: String,
    verifier: Option<String>,
    witness_verifiers: Vec<String>,
}

#[derive(Serialize)]
struct NodeView {
    index: u32,
    name: String,
    trust_domain: String,
}

#[derive(Serialize)]
struct ApprovalView {
    minimum: u32,
    required_roles: Vec<String>,
    bulk_threshold: u32,
}

#[derive(Serialize)]
struct PersonView {
    name: String,
    roles: Vec<String>,
    reader: bool,
    not_after: String,
    revoked: bool,
}

#[derive(Serialize)]
struct KeyView {
    key: String,
    period: String,
    not_before: String,
    not_after: String,
    threshold: Option<usize>,
    holders: Vec<String>,
    share_epoch: Option<u64>,
    record: String,
    log_index: Option<u64>,
}

#[derive(Serialize)]
struct RetiredView {
    key: String,
    period: String,
    retired_at: String,
    log_index: Option<u64>,
}

#[derive(Serialize)]
struct ModeView {
    mode: &'static str,
    disclosure: String,
    serial: u64,
    policy: String,
    keys: Vec<String>,
    languages: Vec<String>,
    log_index: Option<u64>,
}

#[derive(Serialize)]
struct PackView {
    id: String,
    digest: String,
    /// This program carries exactly this pack.
    known: bool,
}

/// Shows.
pub(crate) async fn run(arguments: TenantArguments, output: Output) -> Result<()> {
    let What::Show(access) = arguments.what;
    let client = access.client().await?;
    let trust = client.trust()?;
    let view = TenantView::new(&trust);
    print(output, &view, TenantView::text)
}

impl LogView {
    fn new(bundle: &Bundle) -> Self {
        let witnesses = bundle.message().witnesses.iter();
        Self {
            origin: bundle.log().origin.clone(),
            verifier: log_verifier(bundle).ok().map(|key| key.to_string()),
            witness_verifiers: witnesses
                .filter_map(|witness| {
                    let key = witness.key.as_slice().try_into().ok()?;
                    Some(CosignerKey::new(&witness.name, key).ok()?.to_string())
                })
                .collect(),
        }
    }
}

impl TenantView {
    fn new(state: &TrustState) -> Self {
        let bundle = state.bundle().message();
        let approvals = state.bundle().approvals();
        let disclosed = state.current_disclosures().flat_map(|d| d.keys());
        let keys: BTreeSet<Digest> = disclosed.map(|key| *key.key_id()).collect();
        Self {
            tenant: bundle.tenant.clone(),
            root_key: hex(state.root().as_bytes()),
            root_fingerprint: hex(&Sha256::digest(state.root().as_bytes())),
            development: bundle.development,
            contact: bundle.contact.clone(),
            bundle: BundleView {
                version: bundle.version,
                digest: state.bundle().digest().to_string(),
                issued_at: time(bundle.issued_at),
                revocations: bundle.revocations.len(),
            },
            nodes: bundle.nodes.iter().map(NodeView::new).collect(),
            log: LogView::new(state.bundle()),
            witnesses: bundle.witnesses.iter().map(|w| w.name.clone()).collect(),
            cosigner_quorum: bundle.cosigner_quorum,
            approvals: ApprovalView {
                minimum: approvals.minimum,
                required_roles: approvals.required_roles.clone(),
                bulk_threshold: approvals.bulk_threshold,
            },
            roster: bundle.roster.iter().map(PersonView::new).collect(),
            keys: keys
                .iter()
                .filter_map(|key| KeyView::new(state, key))
                .collect(),
            retired: state
                .retirements()
                .map(|retirement| RetiredView::new(state, retirement))
                .collect(),
            modes: state
                .current_disclosures()
                .map(|disclosure| ModeView::new(state, disclosure))
                .collect(),
            packs: bundle.packs.iter().map(PackView::new).collect(),
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![
            format!("tenant {}, root {}", self.tenant, self.root_fingerprint),
            format!(
                "trust bundle {} of {}{}; questions to {}",
                self.bundle.version,
                self.bundle.issued_at,
                if self.development {
                    " (development identity: not for production)"
                } else {
                    ""
                },
                self.contact
            ),
            format!(
                "log witnessed by {} of {}",
                self.cosigner_quorum,
                self.witnesses.join(", ")
            ),
            format!(
                "verifiers: log {}; witnesses {}",
                self.log.verifier.as_deref().unwrap_or_default(),
                self.log.witness_verifiers.join(" ")
            ),
            format!(
                "orders need {} approvers, among them {}; over {} records one more",
                self.approvals.minimum,
                self.approvals.required_roles.join(" and "),
                self.approvals.bulk_threshold
            ),
        ];
        for node in &self.nodes {
            lines.push(format!("node {}: {}", node.name, node.trust_domain));
        }
        for person in &self.roster {
            let revoked = if person.revoked { ", revoked" } else { "" };
            lines.push(format!(
                "person {}: {}{revoked}",
                person.name,
                person.roles.join(", ")
            ));
        }
        for key in &self.keys {
            lines.push(format!(
                "journaling key {} ({}), until {}: {} of {}",
                key.key,
                key.period,
                key.not_after,
                key.threshold.unwrap_or_default(),
                key.holders.join(", ")
            ));
        }
        for key in &self.retired {
            lines.push(format!(
                "journaling key {} ({}) is retired since {}: its shares are destroyed, and what was sealed to it stays closed",
                key.key, key.period, key.retired_at
            ));
        }
        for mode in &self.modes {
            lines.push(format!(
                "mode {}: disclosure {} under {}, notices in {}",
                mode.mode,
                mode.disclosure,
                mode.policy,
                mode.languages.join(", ")
            ));
        }
        for pack in &self.packs {
            lines.push(format!("policy pack {}: {}", pack.id, pack.digest));
        }
        lines.join("\n")
    }
}

impl NodeView {
    fn new(node: &pb::EscrowNode) -> Self {
        Self {
            index: node.index,
            name: node.name.clone(),
            trust_domain: node.trust_domain.clone(),
        }
    }
}

impl PersonView {
    fn new(person: &pb::Person) -> Self {
        Self {
            name: person.name.clone(),
            roles: person.roles.clone(),
            reader: !person.reader_key.is_empty(),
            not_after: time(person.not_after),
            revoked: person.revoked,
        }
    }
}

impl KeyView {
    fn new(state: &TrustState, key: &Digest) -> Option<Self> {
        let record = state.key_record(key)?;
        let epoch = state.share_epoch(key);
        Some(Self {
            key: key.to_string(),
            period: record.period.clone(),
            not_before: time(record.not_before),
            not_after: time(record.not_after),
            threshold: epoch.map(|epoch| epoch.threshold()),
            holders: epoch
                .iter()
                .flat_map(|epoch| epoch.holders())
                .map(|(_, node, _)| node.to_owned())
                .collect(),
            share_epoch: epoch.map(|epoch| epoch.message().epoch),
            record: record.digest().to_string(),
            log_index: state.log_index(&record.digest()),
        })
    }
}

impl RetiredView {
    fn new(state: &TrustState, retirement: &Signed<pb::KeyRetirement>) -> Self {
        let key = Digest::try_from(retirement.key_id.as_slice()).ok();
        let record = key.and_then(|key| state.key_record(&key));
        Self {
            key: hex(&retirement.key_id),
            period: record.map_or_else(String::new, |record| record.period.clone()),
            retired_at: time(retirement.at),
            log_index: state.log_index(&retirement.digest()),
        }
    }
}

impl ModeView {
    fn new(state: &TrustState, disclosure: &VerifiedDisclosure) -> Self {
        let message = disclosure.message();
        Self {
            mode: mode_name(message.mode()),
            disclosure: disclosure.digest().to_string(),
            serial: message.serial,
            policy: message.policy_id.clone(),
            keys: disclosure
                .keys()
                .iter()
                .map(|key| key.key_id().to_string())
                .collect(),
            languages: message.notices.iter().map(|n| n.language.clone()).collect(),
            log_index: state.log_index(&disclosure.digest()),
        }
    }
}

impl PackView {
    fn new(pack: &pb::PolicyPack) -> Self {
        let known = Pack::embedded(&pack.id);
        Self {
            id: pack.id.clone(),
            digest: hex(&pack.digest),
            known: known.is_some_and(|known| known.digest().as_bytes().as_slice() == pack.digest),
        }
    }
}
