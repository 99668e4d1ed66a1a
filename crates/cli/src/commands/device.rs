//! `greffe device`: users' devices, certified by the tenant's issuer.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::access::Access;
use super::form::one_line;
use crate::enrol::{enrol, user_id};
use crate::fail::{Failure, Result};
use crate::operator::read_key;
use crate::output::{Output, narrate, print};

/// How often a device can be invited before its last resort is used; `greffe read` fills this up again.
pub(crate) const KEY_PACKAGES: usize = 16;

/// `greffe device`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  greffe device enrol --user alice")]
pub(crate) struct DeviceArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a device for a user, have the issuer's key certify it, and register it.
    #[command(after_help = "Example:\n  greffe device enrol --user alice")]
    Enrol(Enrol),
    /// The devices that are held here.
    #[command(after_help = "Example:\n  greffe device list")]
    List(Access),
}

#[derive(Debug, Args)]
struct Enrol {
    /// The user, as the directory names them.
    #[arg(long, value_name = "NAME")]
    user: String,
    /// Key file of the device issuer; without it, the development operator's of the data folder.
    #[arg(long, value_name = "FILE")]
    issuer: Option<PathBuf>,
    #[command(flatten)]
    access: Access,
}

#[derive(Serialize)]
struct DeviceView {
    user: String,
    device: String,
    certificate: Option<String>,
}

#[derive(Serialize)]
struct Devices {
    devices: Vec<DeviceView>,
}

/// Enrols or lists.
pub(crate) async fn run(arguments: DeviceArguments, output: Output) -> Result<()> {
    match arguments.what {
        What::Enrol(arguments) => make(arguments, output).await,
        What::List(access) => list(&access, output).await,
    }
}

async fn make(arguments: Enrol, output: Output) -> Result<()> {
    let user = user_id(&arguments.user)?;
    let file = match arguments.issuer {
        Some(file) => file,
        None => arguments.access.layout()?.operator().join("issuer.key"),
    };
    let client = arguments.access.users().await?;
    if !file.is_file() {
        return Err(Failure::usage(
            "ISSUER_NOT_FOUND",
            format_args!(
                "there is no issuer's key {}: name the file with --issuer",
                file.display()
            ),
        ));
    }
    let issuer = read_key(&file)?;
    let device = enrol(&client, &issuer, &user, KEY_PACKAGES).await?;
    if client.trust()?.bundle().message().development {
        narrate("the issuer's key is a development key on this machine: not for production");
    }
    let view = DeviceView {
        user: device.user().to_owned(),
        device: device.id().to_string(),
        certificate: Some(device.certificate().digest().to_string()),
    };
    print(output, &view, |view| {
        format!("{} has device {}\n", one_line(&view.user), view.device)
    })
}

async fn list(access: &Access, output: Output) -> Result<()> {
    let held = access.users().await?.devices().await?;
    let devices = held
        .into_iter()
        .map(|held| DeviceView {
            user: held.user,
            device: held.device.to_string(),
            certificate: held.certificate.map(|digest| digest.to_string()),
        })
        .collect();
    print(output, &Devices { devices }, |list| {
        let line = |view: &DeviceView| {
            let certified = if view.certificate.is_some() {
                ""
            } else {
                " (not certified)"
            };
            format!("{} {}{certified}\n", view.device, one_line(&view.user))
        };
        list.devices.iter().map(line).collect()
    })
}
