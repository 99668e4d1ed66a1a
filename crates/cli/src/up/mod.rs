//! `greffe up`: every service on one machine, each in a process of its own, over one data folder.

mod children;
mod config;
mod first;
mod stores;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use greffe_policy::Pack;
use greffe_types::TenantId;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use children::Children;
pub(crate) use first::{APP, Options, unknown_pack};
pub(crate) use stores::Stores;

use crate::args::{IdentityArguments, UpArguments};
use crate::fail::{Exit, Failure, Result};
use crate::layout::{Layout, SERVICES, private_folder};
use crate::output::{Output, narrate, print};

/// Held by the one `greffe up` that works with a folder.
const LOCK: &str = ".lock";

/// What `greffe.json` says: the folder is complete.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Marker {
    /// Version of the folder's layout.
    pub(crate) layout: u32,
    /// The tenant.
    pub(crate) tenant: TenantId,
    /// Policy pack in force.
    pub(crate) pack: String,
    /// Root, issuer and nodes stand on one machine.
    pub(crate) development: bool,
}

/// A running machine. Dropping it without [`Up::stop`] kills the services.
pub(crate) struct Up {
    /// Where everything is.
    pub(crate) layout: Layout,
    /// What the folder says of itself.
    pub(crate) marker: Marker,
    children: Children,
    _lock: Flock<File>,
}

impl Up {
    /// Starts the services over a folder; an empty or new one is set up first. After a failure, or an interrupt that came
    /// before everything was started, none of them runs any more.
    pub(crate) async fn start(
        folder: &Path,
        options: &Options,
        interrupt: impl Future<Output = ()>,
    ) -> Result<Self> {
        let layout = Layout::new(folder)?;
        if !is_fresh(&layout)? && !layout.root().join(LOCK).exists() {
            // Nothing is written into a folder that is not ours.
            read_marker(&layout)?;
        }
        private_folder(layout.root())?;
        let lock = lock(&layout)?;
        let fresh = is_fresh(&layout)?;
        let mut children = Children::new(layout.clone());
        let begun = async {
            if fresh {
                narrate(format_args!(
                    "first start: making a development identity in {} (root, issuer and all escrow nodes on one machine: not for production)",
                    layout.root().display()
                ));
                first::set_up(&layout, options, &mut children).await
            } else {
                let marker = read_marker(&layout)?;
                let stores = Stores::of(&layout, options.stores.as_ref(), false)?;
                config::write_all(&layout, &marker.tenant, &stores)?;
                children.start(&stores.processes()).await?;
                Ok(marker)
            }
        };
        let begun = tokio::select! {
            begun = begun => begun,
            () = interrupt => Err(interrupted()),
        };
        match begun {
            Ok(marker) => Ok(Self {
                layout,
                marker,
                children,
                _lock: lock,
            }),
            Err(failure) => {
                // Whoever removes the folder next must not race with services that still write into it.
                children.stop().await;
                Err(failure)
            }
        }
    }

    /// Drains and ends every service.
    pub(crate) async fn stop(self) {
        self.children.stop().await;
    }
}

/// `greffe up`: starts everything, says where, and runs until interrupted.
pub(crate) async fn run(arguments: UpArguments, output: Output) -> Result<()> {
    let options = Options::new(&arguments.identity)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let early = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let up = Up::start(&arguments.data, &options, early).await?;
    let services: BTreeMap<&str, String> = SERVICES
        .into_iter()
        .filter_map(|name| Some((name, up.children.ready(name)?.address)))
        .collect();
    let started = Started {
        data: up.layout.root(),
        tenant: &up.marker.tenant,
        tenant_root: &up.layout.root_key(),
        development: up.marker.development,
        connection: &up.layout.connection(APP),
        services,
    };
    print(output, &started, |s| {
        let mut text = format!(
            "tenant {} is up in {}\ntenant root: {}\nconnection:  {}\n",
            s.tenant,
            s.data.display(),
            s.tenant_root.display(),
            s.connection.display()
        );
        for (name, address) in &s.services {
            text.push_str(&format!("{name:<10} {address}\n"));
        }
        text
    })?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    narrate("stopping");
    up.stop().await;
    Ok(())
}

fn no_signals(error: std::io::Error) -> Failure {
    Failure::failed("SIGNALS", format_args!("signals cannot be caught: {error}"))
}

fn interrupted() -> Failure {
    Failure::failed("INTERRUPTED", "stopped before everything was started")
}

/// What `greffe up` prints.
#[derive(Debug, Serialize)]
struct Started<'a> {
    data: &'a Path,
    tenant: &'a TenantId,
    tenant_root: &'a Path,
    development: bool,
    connection: &'a Path,
    services: BTreeMap<&'static str, String>,
}

impl Options {
    /// Checks what the command line says.
    pub(crate) fn new(arguments: &IdentityArguments) -> Result<Self> {
        let tenant = TenantId::new(arguments.tenant.as_str())
            .map_err(|error| Failure::usage("TENANT_NAME", format_args!("--tenant: {error}")))?;
        if Pack::embedded(&arguments.pack).is_none() {
            return Err(unknown_pack(&arguments.pack));
        }
        let contact = &arguments.contact;
        if contact.trim().is_empty() || contact.len() > 200 || contact.contains(char::is_control) {
            return Err(Failure::usage(
                "CONTACT",
                "--contact is one line of 1 to 200 bytes: a name and an address",
            ));
        }
        Ok(Self {
            tenant,
            pack: arguments.pack.clone(),
            contact: contact.clone(),
            stores: arguments.stores.as_deref().map(Stores::read).transpose()?,
        })
    }
}

/// Whether a folder is to be set up: it does not exist, or holds nothing but our lock.
fn is_fresh(layout: &Layout) -> Result<bool> {
    let root = layout.root();
    match std::fs::read_dir(root) {
        Ok(mut entries) => {
            Ok(entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == LOCK)))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(Failure::io("open the folder", root, &error)),
    }
}

fn read_marker(layout: &Layout) -> Result<Marker> {
    let path = layout.complete();
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let ours =
                layout.root().join("services").exists() && layout.root().join("people").exists();
            return Err(if ours {
                Failure::new(
                    Exit::Refused,
                    "DATA_FOLDER_INCOMPLETE",
                    format_args!(
                        "the first start over {} did not end: remove the folder and start again",
                        layout.root().display()
                    ),
                )
            } else {
                Failure::new(
                    Exit::Refused,
                    "DATA_FOLDER_FOREIGN",
                    format_args!(
                        "{} holds files that are not Greffe's: name an empty folder or one that `greffe up` made",
                        layout.root().display()
                    ),
                )
            });
        }
        Err(error) => return Err(Failure::io("read", &path, &error)),
    };
    let marker: Marker = serde_json::from_slice(&bytes).map_err(|error| {
        Failure::refused(
            "DATA_FOLDER_FOREIGN",
            format_args!("{} is not understood: {error}", path.display()),
        )
    })?;
    if marker.layout != 1 {
        return Err(Failure::refused(
            "DATA_FOLDER_VERSION",
            format_args!(
                "{} has layout {}, this program knows 1: use the version that made it",
                path.display(),
                marker.layout
            ),
        ));
    }
    Ok(marker)
}

/// One `greffe up` at a time over a folder.
fn lock(layout: &Layout) -> Result<Flock<File>> {
    let path = layout.root().join(LOCK);
    let file = File::create(&path).map_err(|error| Failure::io("open", &path, &error))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
        Failure::refused(
            "DATA_FOLDER_LOCKED",
            format_args!(
                "another `greffe up` runs over {}: stop it, or name another folder",
                layout.root().display()
            ),
        )
    })
}
