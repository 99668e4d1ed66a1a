//! `greffe operator nodes`: how each escrow node stands, in its own words.

use clap::Args;
use greffe_api::escrow::GetStatusResponse;
use serde::Serialize;

use super::super::form::hex;
use super::Reach;
use crate::fail::Result;
use crate::output::{Output, print};

/// `greffe operator nodes`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  greffe operator nodes --connection connection.toml")]
pub(super) struct Nodes {
    #[command(flatten)]
    reach: Reach,
}

#[derive(Serialize)]
struct List {
    bundle_version: u64,
    nodes: Vec<NodeView>,
}

#[derive(Serialize)]
struct NodeView {
    node: String,
    trust_domain: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    standing: Option<Standing>,
    /// Why it says nothing; empty when it does.
    problem: String,
}

#[derive(Serialize)]
struct Standing {
    /// Leaves of the log that it has followed.
    followed: u64,
    bundle_version: u64,
    shares: Vec<Share>,
}

#[derive(Serialize)]
struct Share {
    key: String,
    /// Its key record and share epoch are in force by the log.
    active: bool,
    /// Records that it has opened with it.
    opened: u64,
}

impl Standing {
    fn new(status: GetStatusResponse) -> Self {
        let shares = status.keys.into_iter().map(|key| Share {
            key: hex(&key.key_id),
            active: key.active,
            opened: key.opened,
        });
        Self {
            followed: status.followed,
            bundle_version: status.bundle_version,
            shares: shares.collect(),
        }
    }
}

impl NodeView {
    fn text(&self) -> String {
        let mut text = format!("{} ({}): ", self.node, self.trust_domain);
        let Some(standing) = &self.standing else {
            text.push_str(&format!("does not answer: {}\n", self.problem));
            return text;
        };
        text.push_str(&format!(
            "followed {} leaves, trust bundle {}\n",
            standing.followed, standing.bundle_version
        ));
        for share in &standing.shares {
            let state = if share.active {
                "active"
            } else {
                "not in force"
            };
            text.push_str(&format!(
                "  share of {}: {state}, {} records opened\n",
                share.key, share.opened
            ));
        }
        text
    }
}

/// Asks every node of the bundle in force.
pub(super) async fn run(arguments: &Nodes, output: Output) -> Result<()> {
    let network = arguments.reach.network()?;
    let bundle = network.bundle().await?;
    let asked = bundle.message().nodes.iter().map(|node| {
        let network = &network;
        async move {
            let status = network.status(&node.name).await;
            let problem = status.as_ref().err().map(ToString::to_string);
            NodeView {
                node: node.name.clone(),
                trust_domain: node.trust_domain.clone(),
                standing: status.ok().map(Standing::new),
                problem: problem.unwrap_or_default(),
            }
        }
    });
    let list = List {
        bundle_version: bundle.version(),
        nodes: futures::future::join_all(asked).await,
    };
    print(output, &list, |list| {
        list.nodes.iter().map(NodeView::text).collect()
    })
}
