//! `greffe seal`: moves a service's seal key from a file under a key of a PKCS #11 token.

use clap::{Args, Subcommand};
use greffe_service_kit::config::ServiceConfig;
use greffe_service_kit::secrets::{Keystore, Moved};
use serde::Serialize;
use std::path::PathBuf;

use crate::args::Service;
use crate::fail::{Exit, Failure, Result, chain};
use crate::output::{Output, print};
use crate::serve::load;

/// `greffe seal`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  greffe seal wrap escrow --config /etc/greffe/escrow-1.toml")]
pub(crate) struct SealArguments {
    /// What to do.
    #[command(subcommand)]
    command: SealCommand,
}

#[derive(Debug, Subcommand)]
enum SealCommand {
    /// Wrap the plain seal key under the key of the token that `[service.seal]` names, read it back, and remove the plain
    /// one. Its blocks may stay readable on the disk and in backups.
    Wrap(WrapArguments),
}

/// `greffe seal wrap`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  greffe seal wrap escrow --config /etc/greffe/escrow-1.toml")]
struct WrapArguments {
    /// Which service.
    #[arg(value_enum)]
    service: Service,
    /// Its settings, with `[service.seal]`.
    #[arg(long)]
    config: PathBuf,
}

#[derive(Serialize)]
struct Done {
    /// Whether there was a plain key to move.
    moved: bool,
    /// Where the wrapped one is.
    folder: PathBuf,
}

/// Runs it.
pub(crate) fn run(arguments: &SealArguments, output: Output) -> Result<()> {
    let SealCommand::Wrap(wrap) = &arguments.command;
    let path = wrap.config.as_path();
    let service: ServiceConfig = match wrap.service {
        Service::Relay => load::<greffe_relay::Config>(path)?.service,
        Service::Archive => load::<greffe_archive::Config>(path)?.service,
        Service::Escrow => load::<greffe_escrow::Config>(path)?.service,
        Service::Audit => load::<greffe_audit::Config>(path)?.service,
    };
    let moved = Keystore::from(&service)
        .wrap()
        .map_err(|error| Failure::new(Exit::Failed, error.reason(), chain(&error)))?;
    let done = Done {
        moved: moved == Moved::Wrapped,
        folder: service.secrets().to_owned(),
    };
    print(output, &done, |done| {
        let folder = done.folder.display();
        if done.moved {
            format!(
                "the seal key in {folder} is wrapped under the token's key, and the plain one removed"
            )
        } else {
            format!("the seal key in {folder} was wrapped already and opens")
        }
    })
}
