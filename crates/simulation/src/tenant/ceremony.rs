//! The first start: the bundle is published, the nodes make the journaling key, and the root discloses it.

use core::time::Duration;

use anyhow::{Context as _, Result, ensure};
use greffe_api::escrow::{ActivateRequest, AdvanceKeygenRequest, AdvanceReshareRequest};
use greffe_api::relay::PublishStatementRequest;
use greffe_client::{Client, Connection};
use greffe_envelope::pb;
use greffe_envelope::statement::{Signed, Statement};
use greffe_envelope::trust::{Bundle, ROOT, RootKey};
use sha2::{Digest as _, Sha256};
use tokio::time::sleep;

use super::{root, statements, tenant};
use crate::clock;

/// Rounds of messages, and one more in which the nodes sign what they made.
const ROUNDS: u32 = 3;

/// Publishes and generates, through an application's connection.
///
/// # Errors
/// What a service refuses.
pub(crate) async fn bring_into_force(
    connection: &Connection,
    bundle: Signed<pb::TrustBundle>,
) -> Result<()> {
    let public = RootKey::new(tenant(), &root().verifying_key().to_bytes())?;
    let bundle = Bundle::verify(bundle, &public)?;
    publish(connection, &bundle, bundle.signed().raw()).await?;
    let (mut record, epoch) = generate(connection, &bundle).await?;
    record.add_signature(ROOT, &root());
    publish(connection, &bundle, record.raw()).await?;
    publish(connection, &bundle, epoch.raw()).await?;
    let disclosure = statements::disclosure(&bundle, record.raw(), epoch.message())?;
    let disclosure = Signed::sign(disclosure, &[(ROOT, &root())]);
    publish(connection, &bundle, disclosure.raw()).await
}

async fn publish(
    connection: &Connection,
    bundle: &Bundle,
    statement: &pb::SignedStatement,
) -> Result<()> {
    let request = PublishStatementRequest {
        statement: Some(statement.clone()),
    };
    let published = connection.directory()?.publish_statement(request).await?;
    let log_index = published.into_inner().log_index;
    for node in &bundle.message().nodes {
        loop {
            let request = ActivateRequest {
                statement: Some(statement.clone()),
                log_index,
            };
            if connection
                .escrow(&node.name)?
                .activate(request)
                .await
                .is_ok()
            {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

async fn generate(
    connection: &Connection,
    bundle: &Bundle,
) -> Result<(Signed<pb::KeyRecord>, Signed<pb::ShareEpoch>)> {
    let wanted = statements::descriptor(bundle.message());
    let wanted = Signed::sign(wanted, &[(ROOT, &root())]).into_raw();
    let (mut messages, mut ends) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let mut next = Vec::new();
        for node in &bundle.message().nodes {
            let request = AdvanceKeygenRequest {
                descriptor: Some(wanted.clone()),
                round,
                messages: to_node(&messages, &node.name)?,
            };
            let mut escrow = connection.escrow(&node.name)?;
            let answer = escrow.advance_keygen(request).await?.into_inner();
            next.extend(answer.messages);
            ends.extend(answer.key_record.zip(answer.share_epoch));
        }
        messages = next;
    }
    let (records, epochs) = ends.into_iter().unzip();
    Ok((merge(records)?, merge(epochs)?))
}

/// Deals the journaling key out to new shares of the same nodes, by all of them. Nobody is asked twice.
///
/// # Errors
/// What a service refuses, or when one is away.
pub(crate) async fn reshare(client: &Client) -> Result<()> {
    client.refresh_trust().await?;
    let trust = client.trust()?;
    let bundle = trust.bundle().message();
    let key = trust.key_ids().next().context("a key")?;
    let previous = trust.share_epoch_statement(key).context("a share epoch")?;
    let now = clock::now();
    let session =
        Sha256::digest([previous.digest().as_bytes(), &now.get().to_be_bytes()[..]].concat());
    let wanted = pb::ReshareDescriptor {
        tenant: tenant().to_string(),
        session: session[..16].to_vec(),
        key_id: key.to_vec(),
        previous: previous.digest().to_vec(),
        threshold: previous.threshold,
        nodes: bundle.nodes.iter().map(|node| node.name.clone()).collect(),
        dealers: previous.holders.iter().map(|holder| holder.index).collect(),
        expiry: now.plus(Duration::from_secs(3_600)).get(),
    };
    let wanted = Signed::sign(wanted, &[(ROOT, &root())]).into_raw();
    let (mut messages, mut epochs) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let mut next = Vec::new();
        for node in &bundle.nodes {
            let request = AdvanceReshareRequest {
                descriptor: Some(wanted.clone()),
                round,
                messages: to_node(&messages, &node.name)?,
            };
            let mut escrow = client.connection().escrow(&node.name)?;
            let answer = escrow.advance_reshare(request).await?.into_inner();
            next.extend(answer.messages);
            epochs.extend(answer.share_epoch);
        }
        messages = next;
    }
    let request = PublishStatementRequest {
        statement: Some(merge::<pb::ShareEpoch>(epochs)?.into_raw()),
    };
    let mut directory = client.connection().directory()?;
    directory.publish_statement(request).await?;
    Ok(())
}

fn to_node(messages: &[pb::SignedStatement], node: &str) -> Result<Vec<pb::SignedStatement>> {
    let mut chosen = Vec::new();
    for message in messages {
        let inner = Signed::<pb::CeremonyMessage>::decode(message.clone())?;
        if inner.receiver.is_empty() || inner.receiver == node {
            chosen.push(message.clone());
        }
    }
    Ok(chosen)
}

/// One statement with everybody's signatures.
fn merge<M: Statement>(statements: Vec<pb::SignedStatement>) -> Result<Signed<M>> {
    let mut merged = statements.first().context("nobody signed")?.clone();
    ensure!(
        statements
            .iter()
            .all(|one| one.statement == merged.statement),
        "the nodes signed different things"
    );
    merged.signatures = statements
        .into_iter()
        .flat_map(|one| one.signatures)
        .collect();
    merged.signatures.sort_by(|a, b| a.signer.cmp(&b.signer));
    Ok(Signed::decode(merged)?)
}
