//! `greffe operator drill`: whether every node still holds the share that the share epoch in force says.

use core::time::Duration;

use clap::Args;
use greffe_api::escrow::ProveShareRequest;
use greffe_envelope::ceremony::{ShareHolders, verify_share_proof};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::TrustState;
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_types::{Digest, Millis};
use serde::Serialize;

use super::Reach;
use crate::fail::{Exit, Failure, Result, chain};
use crate::operator::network::Network;
use crate::operator::random;
use crate::output::{Output, print};

/// How far a node's clock may be from this one.
const SKEW: Duration = Duration::from_secs(5 * 60);

/// `greffe operator drill`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  greffe operator drill --connection connection.toml\n  greffe operator drill --key KEY --output json\n\nEvery node is asked for a proof of its share, bound to this question, and the log has each proof. Nothing is opened. The exit code\nis 0 when every holder of every key has proved its share."
)]
pub(super) struct Drill {
    /// Journaling key; every one that is not retired without it.
    #[arg(long, value_name = "KEY")]
    key: Option<Digest>,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Serialize)]
struct Table {
    keys: Vec<KeyView>,
}

#[derive(Serialize)]
struct KeyView {
    key: Digest,
    period: String,
    epoch: u64,
    threshold: usize,
    proved: usize,
    holders: Vec<HolderView>,
}

#[derive(Serialize)]
struct HolderView {
    node: String,
    index: u16,
    proved: bool,
    /// Where the log has the proof.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_index: Option<u64>,
    /// Why there is none; empty when there is.
    problem: String,
}

/// Asks everybody.
pub(super) async fn run(arguments: &Drill, output: Output) -> Result<()> {
    let network = arguments.reach.network()?;
    let trust = network.trust().await?;
    let mut keys = Vec::new();
    for key_id in chosen(&trust, arguments.key)? {
        keys.push(ask(&network, &trust, &key_id).await?);
    }
    let table = Table { keys };
    print(output, &table, Table::text)?;
    table.outcome()
}

/// The keys whose shares have to be there, the newest first.
fn chosen(trust: &TrustState, named: Option<Digest>) -> Result<Vec<Digest>> {
    let held = |key: &Digest| trust.retirement(key).is_none() && trust.share_epoch(key).is_some();
    if let Some(named) = named {
        return if held(&named) {
            Ok(vec![named])
        } else {
            Err(Failure::usage(
                "KEY_UNKNOWN",
                format_args!(
                    "nobody has to hold shares of the key {named}: it is retired, or no disclosure names it"
                ),
            ))
        };
    }
    let mut keys: Vec<Digest> = trust.key_ids().copied().filter(held).collect();
    keys.sort_by_key(|key| core::cmp::Reverse(trust.key_record(key).map(|r| r.not_before)));
    if keys.is_empty() {
        return Err(Failure::refused(
            "KEY_UNKNOWN",
            "no journaling key with shares is disclosed: there is nothing to be proved",
        ));
    }
    Ok(keys)
}

async fn ask(network: &Network, trust: &TrustState, key_id: &Digest) -> Result<KeyView> {
    let record = trust.key_record(key_id);
    let epoch = trust.share_epoch_statement(key_id);
    let (record, epoch) = record
        .zip(epoch)
        .ok_or_else(|| Failure::failed("KEY_UNKNOWN", "the key is gone from what is in force"))?;
    let holders = ShareHolders::check(epoch, record.message())
        .map_err(|error| Failure::because("SHARE_EPOCH", "the share epoch is refused", &error))?;
    let asked = holders.holders().iter().map(|holder| async {
        let outcome = ask_one(network, trust, &holders, &holder.node).await;
        HolderView {
            node: holder.node.clone(),
            index: holder.index,
            proved: outcome.is_ok(),
            log_index: outcome.as_ref().ok().copied(),
            problem: outcome.err().unwrap_or_default(),
        }
    });
    let asked = futures::future::join_all(asked).await;
    Ok(KeyView {
        key: *key_id,
        period: record.period.clone(),
        epoch: holders.epoch(),
        threshold: usize::from(holders.threshold()),
        proved: asked.iter().filter(|holder| holder.proved).count(),
        holders: asked,
    })
}

/// Where the log has the node's proof, which is verified here; or why it proves nothing.
async fn ask_one(
    network: &Network,
    trust: &TrustState,
    epoch: &ShareHolders,
    node: &str,
) -> Result<u64, String> {
    let nonce = random::<32>().map_err(|failure| failure.to_string())?;
    let request = ProveShareRequest {
        key_id: epoch.key_id().to_vec(),
        nonce: nonce.to_vec(),
    };
    let answer = network.prove_share(node, request).await;
    let answer = answer.map_err(|failure| failure.to_string())?;
    let proof = answer.proof.unwrap_or_default();
    let proof = Signed::<pb::ShareProof>::decode(proof).map_err(|error| chain(&error))?;
    let bundle = trust.bundle();
    bundle
        .verify_node(&proof, node)
        .map_err(|error| chain(&error))?;
    verify_share_proof(&proof, epoch, node, &nonce).map_err(|error| chain(&error))?;
    let now = SystemClock.now();
    if !(now.minus(SKEW)..=now.plus(SKEW)).contains(&Millis::new(proof.at)) {
        return Err(
            "the proof is dated far from this machine's time: set the clocks right".to_owned(),
        );
    }
    Ok(answer.log_index)
}

impl Table {
    fn text(&self) -> String {
        self.keys.iter().map(KeyView::text).collect()
    }

    /// Fails when a share is missing; worse when as many are as keep records closed.
    fn outcome(&self) -> Result<()> {
        let short = |key: &&KeyView| key.proved < key.threshold;
        if let Some(key) = self.keys.iter().find(short) {
            return Err(Failure::new(
                Exit::Unverified,
                "TOO_FEW_SHARES",
                format_args!(
                    "{} of {} holders have proved their share of the key {}, and {} are needed to open a record: bring nodes back before anything else",
                    key.proved,
                    key.holders.len(),
                    key.key,
                    key.threshold
                ),
            ));
        }
        let missing = |key: &&KeyView| key.proved < key.holders.len();
        match self.keys.iter().find(missing) {
            None => Ok(()),
            Some(key) => Err(Failure::new(
                Exit::Unverified,
                "SHARE_MISSING",
                format_args!(
                    "{} of {} holders have proved their share of the key {}: see deploy/runbooks/lose-a-share.md",
                    key.proved,
                    key.holders.len(),
                    key.key
                ),
            )),
        }
    }
}

impl KeyView {
    fn text(&self) -> String {
        let mut text = format!(
            "key {} (period {}), share epoch {}, {} of {} open a record\n",
            self.key,
            self.period,
            self.epoch,
            self.threshold,
            self.holders.len()
        );
        for holder in &self.holders {
            let said = match holder.log_index {
                Some(index) => format!("holds its share; the log has the proof at {index}"),
                None => format!("does not: {}", holder.problem),
            };
            text.push_str(&format!("  {} ({}): {said}\n", holder.index, holder.node));
        }
        text
    }
}
