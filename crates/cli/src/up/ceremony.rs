//! Key generation among the escrow nodes, and what the root signs after it. This side only carries the nodes' messages.

use core::time::Duration;

use greffe_api::escrow::escrow_service_client::EscrowServiceClient;
use greffe_api::escrow::{ActivateRequest, AdvanceKeygenRequest, AdvanceKeygenResponse};
use greffe_api::relay::PublishStatementRequest;
use greffe_api::relay::directory_service_client::DirectoryServiceClient;
use greffe_client::notice::NoticeFacts;
use greffe_envelope::ceremony::{Conclusion, Plan};
use greffe_envelope::pb;
use greffe_envelope::statement::{Signed, Statement};
use greffe_envelope::trust::{Bundle, ROOT};
use greffe_policy::{Mode, Pack};
use greffe_service_kit::config::PeerConfig;
use greffe_service_kit::tls::{Identity, SpiffeId, connect_lazy};
use greffe_types::{Digest, Millis, TenantId};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use super::Stores;
use super::config::tls_files;
use super::first::APP;
use crate::fail::{Failure, Result};
use crate::layout::{Layout, NODES};
use crate::operator::{Operator, random};

/// How long a node may take to see in the log what was published.
const ACTIVE_WITHIN: Duration = Duration::from_secs(30);
/// How long a key generation may take.
const EXPIRY: Duration = Duration::from_secs(600);
/// How long a journaling key serves.
const PERIOD: Duration = Duration::from_secs(366 * 86_400);

/// The services that take part.
pub(super) struct Peers {
    directory: DirectoryServiceClient<Channel>,
    nodes: Vec<(&'static str, EscrowServiceClient<Channel>)>,
}

/// What the nodes made.
pub(super) struct Made {
    /// Id of the key.
    pub(super) key_id: Digest,
    /// How many answers open a record.
    pub(super) threshold: u32,
    /// How many nodes hold a share.
    pub(super) nodes: usize,
    /// Signed by the root and every node.
    pub(super) record: Signed<pb::KeyRecord>,
    /// Signed by every node.
    pub(super) epoch: Signed<pb::ShareEpoch>,
}

impl Peers {
    pub(super) fn connect(layout: &Layout, tenant: &TenantId) -> Result<Self> {
        let identity = Identity::load(&tls_files(&layout.app(APP))).map_err(|error| {
            Failure::because("TLS_IDENTITY", "the application's TLS identity", &error)
        })?;
        let stores = Stores::of(layout, None, false)?;
        let channel = |service: &str| -> Result<Channel> {
            let id = SpiffeId::service(tenant, service).map_err(|error| {
                Failure::because("SERVICE_NAME", "a service has no valid name", &error)
            })?;
            let readies = stores.processes_of(service).into_iter();
            let peer = PeerConfig::Readies(readies.map(|process| layout.ready(process)).collect());
            connect_lazy(&peer, &id, &identity).map_err(|error| {
                Failure::because(
                    "UNREACHABLE",
                    format_args!("{service} cannot be reached"),
                    &error,
                )
            })
        };
        let mut nodes = Vec::with_capacity(NODES.len());
        for node in NODES {
            nodes.push((node, EscrowServiceClient::new(channel(node)?)));
        }
        Ok(Self {
            directory: DirectoryServiceClient::new(channel("relay")?),
            nodes,
        })
    }

    /// Has a statement logged and brought into force; gives its place in the log.
    pub(super) async fn publish(&self, statement: &pb::SignedStatement) -> Result<u64> {
        let request = PublishStatementRequest {
            statement: Some(statement.clone()),
        };
        let answer = self.directory.clone().publish_statement(request).await;
        answer
            .map(|answer| answer.into_inner().log_index)
            .map_err(|status| {
                Failure::status(format_args!("publishing the {}", statement.r#type), &status)
            })
    }

    /// Waits until every node has found a statement in the log.
    pub(super) async fn activate(
        &self,
        statement: &pb::SignedStatement,
        log_index: u64,
    ) -> Result<()> {
        let until = Instant::now() + ACTIVE_WITHIN;
        for (name, node) in &self.nodes {
            loop {
                let request = ActivateRequest {
                    statement: Some(statement.clone()),
                    log_index,
                };
                let Err(status) = node.clone().activate(request).await else {
                    break;
                };
                if Instant::now() > until {
                    return Err(Failure::status(
                        format_args!("{name} does not activate the {}", statement.r#type),
                        &status,
                    ));
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    async fn advance(
        &self,
        descriptor: &pb::SignedStatement,
        round: u32,
        messages: &[pb::SignedStatement],
    ) -> Result<Vec<AdvanceKeygenResponse>> {
        let mut answers = Vec::with_capacity(self.nodes.len());
        for (name, node) in &self.nodes {
            let request = AdvanceKeygenRequest {
                descriptor: Some(descriptor.clone()),
                round,
                messages: for_node(messages, name)?,
            };
            let answer = node.clone().advance_keygen(request).await;
            let answer = answer.map_err(|status| {
                Failure::status(
                    format_args!("key generation, round {round}, at {name}"),
                    &status,
                )
            })?;
            answers.push(answer.into_inner());
        }
        Ok(answers)
    }
}

/// Broadcasts and what is addressed to the node, sorted by sender.
fn for_node(messages: &[pb::SignedStatement], node: &str) -> Result<Vec<pb::SignedStatement>> {
    let mut chosen = Vec::with_capacity(messages.len());
    for message in messages {
        let inner = pb::CeremonyMessage::decode(message.statement.as_slice()).map_err(|error| {
            Failure::because("CEREMONY", "a node sent no ceremony message", &error)
        })?;
        if inner.receiver.is_empty() || inner.receiver == node {
            chosen.push((inner.sender, message.clone()));
        }
    }
    chosen.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(chosen.into_iter().map(|(_, message)| message).collect())
}

/// Carries a whole key generation; every node ends with the same public result, signed.
pub(super) async fn generate(
    peers: &Peers,
    operator: &Operator,
    pack: &Pack,
    bundle: &pb::TrustBundle,
    now: Millis,
) -> Result<Made> {
    let descriptor = descriptor(operator, pack, bundle, now)?;
    let failed = |error: greffe_envelope::ceremony::CeremonyError| {
        Failure::because("CEREMONY", "the key generation failed", &error)
    };
    let root = operator.root.verifying_key().to_bytes();
    let plan = Plan::check(&descriptor, &root, bundle, now).map_err(failed)?;

    let mut messages: Vec<pb::SignedStatement> = Vec::new();
    let mut transcript = Vec::new();
    let mut last = Vec::new();
    for round in 0..=3 {
        last = peers.advance(descriptor.raw(), round, &messages).await?;
        messages = last
            .iter()
            .flat_map(|answer| answer.messages.clone())
            .collect();
        transcript.extend(messages.iter().cloned());
    }
    let agreed = Conclusion::collect(&plan, &transcript).map_err(failed)?;

    let mut record = merge::<pb::KeyRecord>(last.iter().map(|answer| answer.key_record.as_ref()))?;
    agreed
        .check_key_record(&plan, record.message())
        .map_err(failed)?;
    record.add_signature(ROOT, &operator.root);
    let epoch = merge::<pb::ShareEpoch>(last.iter().map(|answer| answer.share_epoch.as_ref()))?;
    agreed
        .check_share_epoch(&plan, epoch.message())
        .map_err(failed)?;
    Ok(Made {
        key_id: agreed.key_id(&plan),
        threshold: u32::from(plan.threshold()),
        nodes: peers.nodes.len(),
        record,
        epoch,
    })
}

fn descriptor(
    operator: &Operator,
    pack: &Pack,
    bundle: &pb::TrustBundle,
    now: Millis,
) -> Result<Signed<pb::KeygenDescriptor>> {
    let period = jiff::Timestamp::from_millisecond(i64::try_from(now.get()).unwrap_or(i64::MAX))
        .map(|at| at.strftime("%Y-%m").to_string())
        .map_err(|error| {
            Failure::because(
                "CLOCK",
                "the clock stands at no usable date: set it",
                &error,
            )
        })?;
    let notices = pack
        .texts()
        .notices
        .iter()
        .map(|(language, text)| pb::NoticeRef {
            language: language.clone(),
            digest: Sha256::digest(text.as_bytes()).to_vec(),
        });
    let message = pb::KeygenDescriptor {
        tenant: operator.tenant.to_string(),
        session: random::<16>()?.to_vec(),
        period,
        not_before: now.minus(Duration::from_secs(60)).get(),
        not_after: now.plus(PERIOD).get(),
        threshold: 2,
        nodes: NODES.iter().map(|node| (*node).to_owned()).collect(),
        bundle_version: bundle.version,
        purpose: pack.purpose("en").unwrap_or("retention").to_owned(),
        expiry: now.plus(EXPIRY).get(),
        notices: notices.collect(),
    };
    Ok(Signed::sign(message, &[(ROOT, &operator.root)]))
}

/// One statement that every node has signed alone, with all of the signatures.
fn merge<'a, M: Statement + Clone>(
    copies: impl Iterator<Item = Option<&'a pb::SignedStatement>>,
) -> Result<Signed<M>> {
    let differ = || {
        Failure::refused(
            "CEREMONY",
            format_args!(
                "the nodes did not all sign the same {}: start again",
                M::TYPE
            ),
        )
    };
    let mut merged: Option<pb::SignedStatement> = None;
    for copy in copies {
        let copy = copy.ok_or_else(differ)?;
        match &mut merged {
            None => merged = Some(copy.clone()),
            Some(merged) if merged.statement == copy.statement => {
                merged.signatures.extend(copy.signatures.iter().cloned());
            }
            Some(_) => return Err(differ()),
        }
    }
    let mut merged = merged.ok_or_else(differ)?;
    merged.signatures.sort_by(|a, b| a.signer.cmp(&b.signer));
    Signed::decode(merged)
        .map_err(|error| Failure::because("CEREMONY", "a node's statement is refused", &error))
}

/// What the root discloses to members: one statement for each mode that the pack allows and this version serves.
pub(super) fn disclosures(
    operator: &Operator,
    pack: &Pack,
    bundle: &Bundle,
    made: &Made,
) -> Result<Vec<Signed<pb::Disclosure>>> {
    let modes = [
        (Mode::Journaled, pb::Mode::Journaled),
        (Mode::Private, pb::Mode::Private),
    ];
    let allowed = modes.into_iter().filter(|(mode, _)| pack.allows(*mode));
    allowed
        .map(|(_, mode)| disclosure(operator, pack, bundle, made, mode))
        .collect()
}

fn disclosure(
    operator: &Operator,
    pack: &Pack,
    bundle: &Bundle,
    made: &Made,
    mode: pb::Mode,
) -> Result<Signed<pb::Disclosure>> {
    let journaled = mode != pb::Mode::Private;
    let epochs: Vec<&pb::ShareEpoch> = journaled
        .then(|| made.epoch.message())
        .into_iter()
        .collect();
    let facts = NoticeFacts::new(bundle, mode, &epochs, &bundle.message().contact)?;
    let message = pb::Disclosure {
        tenants: vec![operator.tenant.to_string()],
        mode: mode.into(),
        key_records: journaled
            .then(|| made.record.raw().clone())
            .into_iter()
            .collect(),
        policy_id: pack.id().to_owned(),
        policy_digest: pack.digest().to_vec(),
        notices: facts.references(pack)?,
        serial: 1,
        standing_order: Vec::new(),
    };
    Ok(Signed::sign(message, &[(ROOT, &operator.root)]))
}
