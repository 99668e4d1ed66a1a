//! With whose keys and over which connection a command works: from a data folder, or from a connection file and a key folder.

use core::time::Duration;
use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Args;
use ed25519_dalek::SigningKey;
use greffe_client::{Client, Connection, Device, People, Person, SIGNING_FILE};
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_types::DeviceId;
use nix::fcntl::{Flock, FlockArg};
use tokio::time::{Instant, sleep};

use crate::enrol::{USERS, open_client, user_id};
use crate::fail::{Failure, Result, chain};
use crate::layout::{Layout, private_folder};
use crate::operator::read_key;
use crate::up::APP;

/// How long a command waits for another one that uses the same device.
const TURN_WITHIN: Duration = Duration::from_secs(5);
/// Folder of what a client remembers, beside a person's keys or a connection file.
const MEMORY: &str = "client";

/// Where services and keys are.
#[derive(Debug, Clone, Args)]
pub(crate) struct Access {
    /// Data folder of `greffe up`: connection and people's folders are taken from it.
    #[arg(
        long,
        env = "GREFFE_DATA",
        default_value = "greffe-data",
        value_name = "DIR"
    )]
    pub(crate) data: PathBuf,
    /// Connection file, instead of the data folder's.
    #[arg(long, value_name = "FILE")]
    pub(crate) connection: Option<PathBuf>,
    /// Folder of the person's keys, or of the users' devices, instead of the data folder's.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) identity: Option<PathBuf>,
}

/// A person of the roster who acts.
#[derive(Debug, Clone, Args)]
pub(crate) struct AsPerson {
    /// Who acts: a name of the roster.
    #[arg(id = "as", long, value_name = "PERSON")]
    pub(crate) name: String,
    /// Where their keys are.
    #[command(flatten)]
    pub(crate) access: Access,
}

/// A user who speaks.
#[derive(Debug, Clone, Args)]
pub(crate) struct AsUser {
    /// Who speaks: a user with a device here.
    #[arg(id = "as", long, value_name = "USER")]
    pub(crate) name: String,
    /// Which of the user's devices; the first without it.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<DeviceId>,
    /// Where the device is.
    #[command(flatten)]
    pub(crate) access: Access,
}

impl Access {
    /// The data folder's layout.
    pub(crate) fn layout(&self) -> Result<Layout> {
        Layout::new(&self.data)
    }

    /// The connection file.
    fn connection_file(&self) -> Result<PathBuf> {
        if let Some(file) = &self.connection {
            if !file.is_file() {
                return Err(Failure::usage(
                    "CONNECTION_NOT_FOUND",
                    format_args!(
                        "there is no connection file {}: name the right one",
                        file.display()
                    ),
                ));
            }
            return Ok(file.clone());
        }
        let layout = self.layout()?;
        let file = layout.connection(APP);
        if !layout.complete().is_file() || !file.is_file() {
            return Err(Failure::usage(
                "DATA_FOLDER_NOT_FOUND",
                format_args!(
                    "{} is no data folder of Greffe: run `greffe up --data {0}` first, or name --data or --connection",
                    layout.root().display()
                ),
            ));
        }
        Ok(file)
    }

    /// The connection; nobody is called yet.
    pub(crate) fn connect(&self) -> Result<Connection> {
        Ok(Connection::load(&self.connection_file()?)?)
    }

    async fn open(&self, memory: &Path) -> Result<Client> {
        let client = open_client(self.connect()?, memory).await?;
        // What is remembered would do to open; whoever acts wants to know at once that nobody is there.
        client.refresh_trust().await?;
        Ok(client)
    }

    /// A client of nobody in particular: what it knows is beside the connection file.
    pub(crate) async fn client(&self) -> Result<Client> {
        let file = self.connection_file()?;
        let beside = file.parent().unwrap_or_else(|| Path::new("."));
        self.open(&beside.join(MEMORY)).await
    }

    /// Where users' devices are.
    pub(crate) fn devices(&self) -> Result<PathBuf> {
        match &self.identity {
            Some(folder) => Ok(folder.clone()),
            None => Ok(self.layout()?.person(USERS)),
        }
    }

    /// The client that holds users' devices.
    pub(crate) async fn users(&self) -> Result<Client> {
        self.connection_file()?;
        self.open(&self.devices()?).await
    }

    /// Where a person's keys are.
    pub(crate) fn keys(&self, name: &str) -> Result<PathBuf> {
        let folder = match &self.identity {
            Some(folder) => folder.clone(),
            // A name is one folder's, never a way to another place.
            None if name.contains(['/', '\\']) || name.starts_with('.') => {
                return Err(no_person(name, "this is no name of a person"));
            }
            None => self.layout()?.person(name),
        };
        if !folder.join(SIGNING_FILE).is_file() {
            let problem = format!("there is no {SIGNING_FILE} in {}", folder.display());
            return Err(no_person(name, &problem));
        }
        Ok(folder)
    }

    /// A person's keys, which the roster has to know.
    pub(crate) async fn person(&self, name: &str) -> Result<People> {
        self.connection_file()?;
        let folder = self.keys(name)?;
        let person = Person::load(&folder, name)?;
        let client = self.open(&folder.join(MEMORY)).await?;
        check_roster(&client, &person)?;
        Ok(People::new(&client, person))
    }
}

fn no_person(name: &str, problem: &str) -> Failure {
    Failure::refused(
        "PERSON_UNKNOWN",
        format_args!(
            "{name:?} cannot act here: {problem}; name a person of the roster, or the key folder with --identity"
        ),
    )
}

/// The roster knows a person by the key at hand.
pub(crate) fn check_roster(client: &Client, person: &Person) -> Result<()> {
    let trust = client.trust()?;
    let known = trust
        .bundle()
        .person(person.name(), SystemClock.now())
        .map_err(|error| no_person(person.name(), &chain(&error)))?;
    if known.signing_key != person.signing_public() {
        return Err(Failure::refused(
            "PERSON_KEY_MISMATCH",
            format_args!(
                "the key at hand is not the one that the roster has for {:?}: use that person's own key folder",
                person.name()
            ),
        ));
    }
    Ok(())
}

impl AsPerson {
    /// The person at work.
    pub(crate) async fn open(&self) -> Result<People> {
        self.access.person(&self.name).await
    }

    /// The person's signing key, for what is signed outside the client library.
    pub(crate) fn signing_key(&self) -> Result<SigningKey> {
        read_key(&self.access.keys(&self.name)?.join(SIGNING_FILE))
    }
}

/// A device that this command alone uses.
pub(crate) struct Held {
    /// The device.
    pub(crate) device: Device,
    /// Folder of the client that holds it.
    pub(crate) folder: PathBuf,
    _turn: Flock<File>,
}

impl AsUser {
    /// The user's device. Its encryption state belongs to one process at a time.
    pub(crate) async fn open(&self) -> Result<Held> {
        let client = self.access.users().await?;
        user_id(&self.name)?;
        let held = client.devices().await?;
        let mut own = held
            .iter()
            .filter(|held| held.user == self.name && held.certificate.is_some());
        let found = match self.device {
            Some(id) => own.find(|held| held.device == id),
            None => own.next(),
        };
        let found = found.ok_or_else(|| {
            Failure::refused(
                "USER_UNKNOWN",
                format_args!(
                    "{:?} has no such device here: enrol one with `greffe device enrol --user NAME`, or see `greffe device list`",
                    self.name
                ),
            )
        })?;
        let folder = self.access.devices()?;
        let turn = turn(&folder, &found.device).await?;
        Ok(Held {
            device: client.device(&found.device).await?,
            folder,
            _turn: turn,
        })
    }
}

/// Waits for other commands with the same device.
async fn turn(folder: &Path, device: &DeviceId) -> Result<Flock<File>> {
    let folder = folder.join("locks");
    private_folder(&folder)?;
    let path = folder.join(device.to_string());
    let until = Instant::now() + TURN_WITHIN;
    loop {
        let file = File::create(&path).map_err(|error| Failure::io("open", &path, &error))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(turn) => return Ok(turn),
            Err(_) if Instant::now() < until => sleep(Duration::from_millis(50)).await,
            Err(_) => {
                return Err(Failure::refused(
                    "DEVICE_IN_USE",
                    format_args!(
                        "another command uses device {device}, perhaps `greffe watch`: end it, or enrol a second device"
                    ),
                ));
            }
        }
    }
}
