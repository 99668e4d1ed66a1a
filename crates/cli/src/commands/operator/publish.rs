//! `greffe operator publish`: signed statements into the log and into force.

use std::path::PathBuf;

use clap::Args;
use greffe_envelope::pb;
use greffe_envelope::statement::{Signed, Statement};
use greffe_envelope::trust::RootKey;
use serde::Serialize;

use super::Reach;
use crate::fail::{Exit, Failure, Result, chain};
use crate::operator::file;
use crate::operator::network::Network;
use crate::operator::view::View;
use crate::output::{Output, narrate, print};

/// `greffe operator publish`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  greffe operator publish bundle.bin --connection connection.toml\n  greffe operator publish key-record.signed.bin share-epoch.bin disclosure-journaled.signed.bin"
)]
pub(super) struct Publish {
    /// Signed statements, in the order in which they shall be logged: key record, share epoch, disclosures. One that is in the
    /// log already stays there.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Serialize)]
struct Published {
    statements: Vec<One>,
}

#[derive(Serialize)]
struct One {
    kind: String,
    digest: String,
    log_index: u64,
    /// Nodes that have not found it in the log yet; they follow when they are back.
    missing: Vec<String>,
}

/// Publishes.
pub(super) async fn run(arguments: &Publish, output: Output) -> Result<()> {
    let network = arguments.reach.network()?;
    let mut read = Vec::with_capacity(arguments.files.len());
    for path in &arguments.files {
        let raw = file::read(path)?;
        // Before the first of them is logged, as far as the root's signature says: share epochs are the nodes' statements, and
        // one that does not hold is refused by the relay when what stands before it is in the log already.
        signed(&raw, network.root()).map_err(|why| {
            Failure::unverified(
                "NOT_SIGNED_BY_ROOT",
                format_args!(
                    "{} is not signed by the root of this connection ({why}): have it signed with `greffe operator sign`, and name that file",
                    path.display()
                ),
            )
        })?;
        read.push(raw);
    }
    let mut statements = Vec::with_capacity(read.len());
    for raw in &read {
        statements.push(publish(&network, raw).await?);
    }
    print(output, &Published { statements }, |published| {
        let line = |one: &One| {
            format!(
                "{} {} is in the log at {}\n",
                one.kind, one.digest, one.log_index
            )
        };
        published.statements.iter().map(line).collect()
    })
}

async fn publish(network: &Network, raw: &pb::SignedStatement) -> Result<One> {
    let view = View::new(raw)?;
    let log_index = network.publish(raw).await?;
    let bundle = network.bundle().await?;
    let missing = network.activate(raw, log_index, bundle.message()).await;
    let active = bundle.message().nodes.len() - missing.len();
    for (node, why) in &missing {
        narrate(format_args!(
            "{node} has not found the {} in the log: {why}",
            view.kind
        ));
    }
    if active < bundle.message().cosigner_quorum as usize {
        return Err(Failure::new(
            Exit::Unavailable,
            "NOT_ACTIVE",
            format_args!(
                "the {} is in the log at {log_index}, and {active} nodes have found it there where {} have to: see to the nodes and run \
                 this again",
                view.kind,
                bundle.message().cosigner_quorum
            ),
        ));
    }
    Ok(One {
        kind: view.kind,
        digest: view.digest,
        log_index,
        missing: missing.into_iter().map(|(node, _)| node).collect(),
    })
}

/// That the root has signed what a root signs; share epochs are the nodes'.
fn signed(raw: &pb::SignedStatement, root: &RootKey) -> core::result::Result<(), String> {
    match raw.r#type.as_str() {
        pb::TrustBundle::TYPE => by_root::<pb::TrustBundle>(raw, root),
        pb::KeyRecord::TYPE => by_root::<pb::KeyRecord>(raw, root),
        pb::Disclosure::TYPE => by_root::<pb::Disclosure>(raw, root),
        pb::KeyRetirement::TYPE => by_root::<pb::KeyRetirement>(raw, root),
        _ => Ok(()),
    }
}

fn by_root<M: Statement>(
    raw: &pb::SignedStatement,
    root: &RootKey,
) -> core::result::Result<(), String> {
    let signed = Signed::<M>::decode(raw.clone()).map_err(|error| chain(&error))?;
    root.verify(&signed).map_err(|error| chain(&error))
}
