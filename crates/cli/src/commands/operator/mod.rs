//! `greffe operator`: what the people who run a tenant do, each on their own machine: keys, trust bundle, journaling key.

mod bundle;
mod ceremony;
mod disclose;
mod drill;
mod edit;
mod keys;
mod nodes;
mod publish;
mod reshare;
mod retire;
mod sign;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use greffe_envelope::trust::{Bundle, RootKey};

use super::access::Access;
use crate::fail::{Failure, Result};
use crate::operator::network::Network;
use crate::operator::{file, read_root};
use crate::output::Output;

/// `greffe operator`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct OperatorArguments {
    #[command(subcommand)]
    what: What,
}

const EXAMPLES: &str = "\
Examples, in the order of an install:
  greffe operator init ./root --tenant acme --part root          offline
  greffe operator init ./issuer --tenant acme --part issuer      where devices are certified
  greffe operator person eve --role reader --out ./eve           each on their own machine
  greffe operator bundle new --help                              from what services and people sent
  greffe operator sign bundle.toml --key root/root.key --out bundle.bin
  greffe operator publish bundle.bin
  greffe operator ceremony new --help                            then: sign, ceremony start, sign, disclose, sign, publish

deploy/runbooks/install.md has every step.";

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "one is parsed a process")]
enum What {
    /// Make the keys of people who run a tenant: root, device issuer, TLS authority, each where it shall stay.
    Init(keys::Init),
    /// Make the keys of a person of the roster, in their own folder, and the public file that they send.
    Person(keys::PersonNew),
    /// Make the TLS key of an application and the request for its certificate.
    App(keys::App),
    /// Certify a request of a service or application with a TLS authority that `init --part authority` made.
    Certify(keys::Certify),
    /// Draft a trust bundle, as text.
    Bundle(bundle::BundleArguments),
    /// Print every field of a draft or statement, and what differs from another one.
    Show(sign::Show),
    /// Have the root sign a draft or statement, after showing it; what does not hold is refused.
    Sign(sign::Sign),
    /// Agree, as the operator of an escrow node, to a bundle that changes the nodes: signed with the node's key.
    Countersign(sign::Countersign),
    /// Have the escrow nodes generate a journaling key, or share one anew.
    Ceremony(ceremony::CeremonyArguments),
    /// Draft what members are told of a journaling key: one disclosure for each mode of the policy pack.
    Disclose(disclose::Disclose),
    /// How each escrow node stands: how far it has followed the log, and which shares it holds.
    Nodes(nodes::Nodes),
    /// Have every node prove that it still holds its share of each journaling key; nothing is opened.
    Drill(drill::Drill),
    /// Draft the end of a journaling key, when nothing is left that it opens: its shares are destroyed.
    Retire(retire::Retire),
    /// Hand signed statements to the relay, which logs them, and wait until the nodes have found them there.
    Publish(publish::Publish),
}

/// Runs one of them.
pub(crate) async fn run(arguments: OperatorArguments, output: Output) -> Result<()> {
    match arguments.what {
        What::Init(arguments) => keys::init(&arguments, output),
        What::Person(arguments) => keys::person(&arguments, output),
        What::App(arguments) => keys::app(&arguments, output),
        What::Certify(arguments) => keys::certify(&arguments, output),
        What::Bundle(arguments) => bundle::run(arguments, output),
        What::Show(arguments) => sign::show(&arguments, output),
        What::Sign(arguments) => sign::sign(&arguments, output),
        What::Countersign(arguments) => sign::countersign(&arguments, output),
        What::Ceremony(arguments) => ceremony::run(arguments, output).await,
        What::Disclose(arguments) => disclose::run(&arguments, output),
        What::Nodes(arguments) => nodes::run(&arguments, output).await,
        What::Drill(arguments) => drill::run(&arguments, output).await,
        What::Retire(arguments) => retire::run(&arguments, output).await,
        What::Publish(arguments) => publish::run(&arguments, output).await,
    }
}

/// Where the services are.
#[derive(Debug, Clone, Args)]
struct Reach {
    /// Data folder of `greffe up`: the connection is taken from it.
    #[arg(
        long,
        env = "GREFFE_DATA",
        default_value = "greffe-data",
        value_name = "DIR"
    )]
    data: PathBuf,
    /// Connection file, instead of the data folder's.
    #[arg(long, value_name = "FILE")]
    connection: Option<PathBuf>,
}

impl Reach {
    fn network(&self) -> Result<Network> {
        let access = Access {
            data: self.data.clone(),
            connection: self.connection.clone(),
            identity: None,
        };
        Ok(Network::new(access.connect()?))
    }
}

/// The root's public half, and the bundles that it has signed.
#[derive(Debug, Clone, Args)]
struct Anchors {
    /// The tenant root's public key: one line, `greffe-root-v1 TENANT HEX`.
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// Signed trust bundle in force; older ones too where nodes of theirs made a key. May be repeated.
    #[arg(long, value_name = "FILE", required = true)]
    bundle: Vec<PathBuf>,
}

impl Anchors {
    fn read(&self) -> Result<(RootKey, Vec<Bundle>)> {
        let root = read_root(&self.root)?;
        let bundles = bundles(&self.bundle, &root)?;
        Ok((root, bundles))
    }
}

/// Signed bundles, the newest first.
fn bundles(files: &[PathBuf], root: &RootKey) -> Result<Vec<Bundle>> {
    let read = files.iter().map(|path| file::read_bundle(path, root));
    let mut bundles = read.collect::<Result<Vec<_>>>()?;
    bundles.sort_by_key(|bundle| core::cmp::Reverse(bundle.version()));
    Ok(bundles)
}

/// The newest of bundles.
fn newest(bundles: &[Bundle]) -> Result<&Bundle> {
    bundles
        .first()
        .ok_or_else(|| Failure::usage("BUNDLE_MISSING", "name the trust bundle with --bundle"))
}
