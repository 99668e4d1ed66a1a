//! `greffe operator show`, `sign` and `countersign`: nobody signs what they were not shown.

use std::path::PathBuf;

use clap::Args;
use ed25519_dalek::SigningKey;
use greffe_envelope::pb;
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_service_kit::secrets::Keystore;
use greffe_service_kit::tls::Identity;
use greffe_types::Digest;
use serde::Serialize;

use super::{bundles, newest};
use crate::fail::{Exit, Failure, Result, chain};
use crate::operator::rules::{self, Signer};
use crate::operator::view::{Difference, View};
use crate::operator::{ROOT_PUBLIC, file, read_key, read_root};
use crate::output::{Output, narrate, print};
use crate::serve;

/// `greffe operator show`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  greffe operator show bundle.toml\n  greffe operator show next.toml --against bundle.bin"
)]
pub(super) struct Show {
    /// Draft (`.toml`) or statement.
    file: PathBuf,
    /// Another one: what differs from it is printed, and nothing else.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    view: View,
    #[serde(skip_serializing_if = "Option::is_none")]
    differences: Option<Vec<Difference>>,
}

/// Shows.
pub(super) fn show(arguments: &Show, output: Output) -> Result<()> {
    let view = View::new(&file::read(&arguments.file)?)?;
    let differences = match &arguments.against {
        Some(other) => Some(view.differences(&View::new(&file::read(other)?)?)),
        None => None,
    };
    let shown = Shown { view, differences };
    print(output, &shown, |shown| match &shown.differences {
        None => shown.view.text(),
        Some(differences) => {
            let lines: String = differences.iter().map(Difference::text).collect();
            format!("{}, digest {}\n{lines}", shown.view.kind, shown.view.digest)
        }
    })
}

/// `greffe operator sign`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  greffe operator sign bundle.toml --key root/root.key --out bundle.bin\n  greffe operator sign next.toml --key root/root.key --bundle bundle.bin --out next.bin\n  greffe operator sign key-record.bin --key root/root.key --bundle bundle.bin --out key-record.signed.bin"
)]
pub(super) struct Sign {
    /// Draft or statement: trust bundle, descriptor of a ceremony or a resharing, key record, disclosure or retirement of a key.
    file: PathBuf,
    /// The root's private key.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The root's public line; `root.pub` beside the key without it.
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Signed trust bundle in force, for everything but a first bundle; older ones too where nodes of theirs made a key. May be
    /// repeated.
    #[arg(long, value_name = "FILE")]
    bundle: Vec<PathBuf>,
    /// For a bundle that changes the nodes, the log or its witnesses: the highest threshold of the keys that the present ones hold, as `greffe tenant show`
    /// prints it, 0 before there is a key. As many of them have to have agreed, and a majority in any case.
    #[arg(long, value_name = "COUNT")]
    threshold: Option<usize>,
    /// For a resharing or retirement: the key's signed record, as it lies beside the draft.
    #[arg(long, value_name = "FILE")]
    key_record: Option<PathBuf>,
    /// For a resharing: the share epoch that it leaves, as it lies beside the draft.
    #[arg(long, value_name = "FILE")]
    share_epoch: Option<PathBuf>,
    /// The digest that was compared on another machine: anything else is not signed.
    #[arg(long, value_name = "DIGEST")]
    digest: Option<Digest>,
    /// File for the signed statement.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Signed {
    kind: String,
    digest: String,
    signers: Vec<String>,
    file: PathBuf,
}

/// Signs with the root.
pub(super) fn sign(arguments: &Sign, output: Output) -> Result<()> {
    let key = read_key(&arguments.key)?;
    let beside = arguments.key.with_file_name(ROOT_PUBLIC);
    let root = read_root(arguments.root.as_ref().unwrap_or(&beside))?;
    let bundles = bundles(&arguments.bundle, &root)?;
    let raw = file::read(&arguments.file)?;
    let view = View::new(&raw)?;
    narrate(format_args!("to be signed: {}", view.text()));
    if let Some(current) = bundles.first()
        && view.kind == current.signed().raw().r#type
    {
        let differences = view.differences(&View::new(current.signed().raw())?);
        let lines: String = differences.iter().map(Difference::text).collect();
        narrate(format_args!(
            "what differs from version {}:\n{lines}",
            current.version()
        ));
    }
    if arguments
        .digest
        .is_some_and(|wanted| wanted.to_string() != view.digest)
    {
        return Err(Failure::refused(
            "DIGEST_MISMATCH",
            format_args!(
                "this is {}, not what was compared: find out who changed it before anything is signed",
                view.digest
            ),
        ));
    }
    let record = match &arguments.key_record {
        Some(path) => Some(file::read_as::<pb::KeyRecord>(path)?),
        None => None,
    };
    let epoch = match &arguments.share_epoch {
        Some(path) => Some(file::read_as::<pb::ShareEpoch>(path)?),
        None => None,
    };
    let signer = Signer {
        key: &key,
        root: &root,
        bundles: &bundles,
        threshold: arguments.threshold,
        journal: record.as_ref().map(|record| (record, epoch.as_ref())),
        now: SystemClock.now(),
    };
    let signed = signer.sign(raw)?;
    file::write(&arguments.out, &signed)?;
    report(&signed, &arguments.out, output)
}

fn report(signed: &pb::SignedStatement, out: &std::path::Path, output: Output) -> Result<()> {
    let view = View::new(signed)?;
    let signed = Signed {
        kind: view.kind,
        digest: view.digest,
        signers: view.signers,
        file: out.to_owned(),
    };
    print(output, &signed, |signed| {
        format!(
            "{} {} is signed by {} in {}",
            signed.kind,
            signed.digest,
            signed.signers.join(", "),
            signed.file.display()
        )
    })
}

/// `greffe operator countersign`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  greffe operator countersign next.toml --config /etc/greffe/escrow-1.toml --bundle bundle.bin --out next.bin"
)]
pub(super) struct Countersign {
    /// Draft of the bundle, or what another node's operator has countersigned.
    file: PathBuf,
    /// The node's settings; variables GREFFE__TABLE__KEY override them. The node may be running.
    #[arg(long)]
    config: PathBuf,
    /// A setting over file and variables; may be repeated.
    #[arg(long, value_name = "TABLE.KEY=VALUE")]
    set: Vec<String>,
    /// The signed bundle in force. Without it the one that the settings name, which is the first that the node started with: that
    /// of a tenant whose bundle was changed since is named here.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// File for the countersigned statement.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Signs with a node's key.
pub(super) fn countersign(arguments: &Countersign, output: Output) -> Result<()> {
    let settings = serve::settings(&arguments.config, &arguments.set)?;
    let config: greffe_escrow::Config = serve::read(&settings)?;
    let service = &config.service;
    let root = read_root(&service.root_key)?;
    let current = bundles(
        &[arguments
            .bundle
            .clone()
            .unwrap_or_else(|| service.bundle.clone())],
        &root,
    )?;
    let current = newest(&current)?;
    let identity = Identity::load(&service.tls)
        .map_err(|error| Failure::because("TLS_IDENTITY", "the node's TLS identity", &error))?;
    let secrets = Keystore::from(service)
        .open()
        .map_err(|error| Failure::new(Exit::Failed, error.reason(), chain(&error)))?;
    let seed = secrets
        .seed("signing_key")
        .map_err(|error| Failure::new(Exit::Failed, error.reason(), chain(&error)))?;
    let key = SigningKey::from_bytes(&seed);
    let raw = file::read(&arguments.file)?;
    let view = View::new(&raw)?;
    let differences = view.differences(&View::new(current.signed().raw())?);
    let lines: String = differences.iter().map(Difference::text).collect();
    narrate(format_args!(
        "to be agreed to: {} {}, which differs from version {} in\n{lines}",
        view.kind,
        view.digest,
        current.version()
    ));
    let signed = rules::countersign(
        raw,
        current,
        (identity.id().name(), &key),
        SystemClock.now(),
    )?;
    file::write(&arguments.out, &signed)?;
    report(&signed, &arguments.out, output)
}
