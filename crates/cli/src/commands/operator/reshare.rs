//! `greffe operator ceremony reshare`, and how far a resharing is.

use core::time::Duration;
use std::path::{Path, PathBuf};

use clap::Args;
use greffe_envelope::statement::Signed;
use greffe_types::{Digest, Millis};
use serde::Serialize;

use super::super::form::{duration, hex, time};
use super::Reach;
use crate::fail::Result;
use crate::layout::private_folder;
use crate::operator::ceremony::{KEY_RECORD, SHARE_EPOCH};
use crate::operator::file;
use crate::operator::reshare::{Made, Resharing, Wanted, choose, descriptor};
use crate::operator::transcript::ROUNDS;
use crate::operator::view::View;
use crate::output::{Output, print};

/// File of the draft.
const DRAFT: &str = "reshare.bin";

/// `greffe operator ceremony reshare`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  greffe operator ceremony reshare --out refresh --connection connection.toml\n  greffe operator ceremony reshare --dealers escrow-1,escrow-2 --out replaced --connection connection.toml\n\nThen: sign, ceremony start, publish share-epoch.bin. deploy/runbooks/refresh-shares.md has every step."
)]
pub(super) struct Reshare {
    /// The journaling key; without it the only one that has shares.
    #[arg(long, value_name = "KEY")]
    key: Option<Digest>,
    /// How many nodes together are to open a record, never fewer than the key was made for; as now without it.
    #[arg(long, value_name = "COUNT")]
    threshold: Option<u32>,
    /// Who is to hold shares; every node of the trust bundle in force without it.
    #[arg(long, value_name = "NODES", value_delimiter = ',')]
    nodes: Vec<String>,
    /// Who deals their share out, at least as many as open a record now; every holder whom the bundle still has without it.
    #[arg(long, value_name = "NODES", value_delimiter = ',')]
    dealers: Vec<String>,
    /// How long nodes take part.
    #[arg(long, value_parser = duration, default_value = "1d")]
    within: Duration,
    /// Folder for the draft, and the key's record and share epoch that it is judged by.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Serialize)]
struct Drafted {
    draft: PathBuf,
    digest: String,
    key: String,
    key_record: PathBuf,
    share_epoch: PathBuf,
    threshold: u32,
    nodes: Vec<String>,
    dealers: Vec<u32>,
}

/// Drafts from what is in force.
pub(super) async fn draft(arguments: Reshare, now: Millis, output: Output) -> Result<()> {
    let trust = arguments.reach.network()?.trust().await?;
    let drafted = descriptor(Wanted {
        key_id: choose(&trust, arguments.key)?,
        trust: &trust,
        threshold: arguments.threshold,
        nodes: arguments.nodes,
        dealers: arguments.dealers,
        expiry: now.plus(arguments.within),
    })?;
    private_folder(&arguments.out)?;
    let files = [DRAFT, KEY_RECORD, SHARE_EPOCH].map(|name| arguments.out.join(name));
    let [path, key_record, share_epoch] = files;
    let said = drafted.descriptor.clone();
    let draft = Signed::sign(drafted.descriptor, &[]);
    file::write(&path, draft.raw())?;
    file::write(&key_record, drafted.record.raw())?;
    file::write(&share_epoch, drafted.previous.raw())?;
    let drafted = Drafted {
        digest: View::new(draft.raw())?.digest,
        draft: path,
        key: hex(&said.key_id),
        key_record,
        share_epoch,
        threshold: said.threshold,
        nodes: said.nodes,
        dealers: said.dealers,
    };
    print(output, &drafted, |d| {
        let dealers: Vec<String> = d.dealers.iter().map(u32::to_string).collect();
        format!(
            "journaling key {} is to be shared {} of {} among {}, dealt out by the holders of shares {}\n\
             drafted in {}, digest {}: the root signs it with --key-record {} --share-epoch {}",
            d.key,
            d.threshold,
            d.nodes.len(),
            d.nodes.join(", "),
            dealers.join(", "),
            d.draft.display(),
            d.digest,
            d.key_record.display(),
            d.share_epoch.display()
        )
    })
}

#[derive(Serialize)]
struct Standing {
    key: String,
    /// Number of the share epoch that is left.
    leaves: u64,
    /// Everybody who takes part.
    nodes: Vec<String>,
    holders: Vec<String>,
    threshold: u32,
    /// Rounds that every node has answered, of `rounds`.
    answered: u32,
    rounds: u32,
    /// Nodes that have answered the next round.
    ahead: Vec<String>,
    expiry: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    made: Option<MadeView>,
}

#[derive(Serialize)]
struct MadeView {
    epoch: u64,
    digest: Digest,
    share_epoch: PathBuf,
}

/// Says how far it is.
pub(super) fn report(
    resharing: &Resharing,
    state: &Path,
    made: Option<&Made>,
    output: Output,
) -> Result<()> {
    let wanted = resharing.descriptor();
    let (answered, ahead) = resharing.progress();
    let standing = Standing {
        key: hex(&wanted.key_id),
        leaves: resharing.leaves(),
        nodes: resharing.nodes().to_vec(),
        holders: wanted.nodes.clone(),
        threshold: wanted.threshold,
        answered,
        rounds: ROUNDS + 1,
        ahead,
        expiry: time(wanted.expiry),
        made: made.map(|made| MadeView {
            epoch: made.epoch.epoch,
            digest: made.epoch.digest(),
            share_epoch: state.join(SHARE_EPOCH),
        }),
    };
    print(output, &standing, |s| match &s.made {
        Some(made) => format!(
            "journaling key {} is shared {} of {} as epoch {}\npublish {} next, which needs no signature of the root: until the log has it, \
             the shares of epoch {} open, and then they are destroyed",
            s.key,
            s.threshold,
            s.holders.len(),
            made.epoch,
            made.share_epoch.display(),
            s.leaves
        ),
        None => format!(
            "journaling key {} leaves share epoch {}: {} of {} rounds are answered by all of {}{}; nodes take part until {}",
            s.key,
            s.leaves,
            s.answered,
            s.rounds,
            s.nodes.join(", "),
            if s.ahead.is_empty() {
                String::new()
            } else {
                format!(", the next by {}", s.ahead.join(", "))
            },
            s.expiry
        ),
    })
}
