//! `greffe operator disclose`: what members are told of a journaling key, drafted without a network.

use std::path::PathBuf;

use clap::Args;
use greffe_client::mode_name;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{Bundle, verify_key_record, verify_share_epoch};
use serde::Serialize;

use super::bundle::pack;
use super::{Anchors, newest};
use crate::fail::{Failure, Result, chain};
use crate::layout::private_folder;
use crate::operator::disclose::{Disclosed, disclosures};
use crate::operator::file;
use crate::output::{Output, print};

/// `greffe operator disclose`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  greffe operator disclose --root root.pub --bundle bundle.bin --key-record key-record.signed.bin \\\n    --share-epoch share-epoch.bin --pack us-broker-dealer --serial 1 --out ./disclosures"
)]
pub(super) struct Disclose {
    #[command(flatten)]
    anchors: Anchors,
    /// The key record, signed by the root and every node of the ceremony.
    #[arg(long, value_name = "FILE")]
    key_record: PathBuf,
    /// The share epoch, signed by every node; of a key that was shared anew every one from the first, in their order.
    #[arg(long, value_name = "FILE", required = true)]
    share_epoch: Vec<PathBuf>,
    /// Policy pack.
    #[arg(long, value_name = "ID")]
    pack: String,
    /// 1 for the first disclosures, then one more than those in force, as `greffe tenant show --output json` says them.
    #[arg(long)]
    serial: u64,
    /// Folder for the drafts: `disclosure-MODE.bin`.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Drafted {
    drafts: Vec<PathBuf>,
}

/// Drafts.
pub(super) fn run(arguments: &Disclose, output: Output) -> Result<()> {
    let (root, bundles) = arguments.anchors.read()?;
    let all: Vec<&Bundle> = bundles.iter().collect();
    let refused = |what: &str, why: String| {
        Failure::refused(
            "STATEMENT_REFUSED",
            format_args!(
                "the {what} does not hold ({why}): name the one that root and nodes have signed, and every bundle whose nodes have"
            ),
        )
    };
    let record = file::read_as::<pb::KeyRecord>(&arguments.key_record)?;
    let key = verify_key_record(&record, &root, &all)
        .map_err(|error| refused("key record", chain(&error)))?;
    let mut epoch = None;
    for path in &arguments.share_epoch {
        let next = file::read_as::<pb::ShareEpoch>(path)?;
        let verified = verify_share_epoch(&next, record.message(), &key, epoch.as_ref(), &all);
        epoch = Some(verified.map_err(|error| refused("share epoch", chain(&error)))?);
    }
    let epoch = epoch.ok_or_else(|| {
        Failure::usage(
            "SHARE_EPOCH_MISSING",
            "name the key's share epoch with --share-epoch",
        )
    })?;
    let disclosed = Disclosed {
        bundle: newest(&bundles)?,
        pack: pack(&arguments.pack)?,
        record: record.raw(),
        epoch: epoch.message(),
        serial: arguments.serial,
    };
    private_folder(&arguments.out)?;
    let mut drafts = Vec::new();
    for disclosure in disclosures(&disclosed)? {
        let mode = mode_name(disclosure.mode());
        let path = arguments.out.join(format!("disclosure-{mode}.bin"));
        file::write(&path, Signed::sign(disclosure, &[]).raw())?;
        drafts.push(path);
    }
    print(output, &Drafted { drafts }, |drafted| {
        let line = |path: &PathBuf| format!("drafted {}\n", path.display());
        drafted.drafts.iter().map(line).collect()
    })
}
