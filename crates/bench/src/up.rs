//! A whole machine of real processes: `greffe up`, what it takes of the processor, and an application on it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use ed25519_dalek::SigningKey;
use greffe_client::{Client, ClientStore, Connection, People, Person};
use greffe_service_kit::clock::SystemClock;
use greffe_types::from_hex;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Ticks of the processor's clock in a second, as `/proc` counts: USER_HZ, 100 on every Linux.
const TICKS: f64 = 100.0;

/// A running `greffe up`; dropping it stops it.
pub(crate) struct Up {
    child: Child,
    data: PathBuf,
}

impl Up {
    /// Starts one and waits until everything serves.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start(greffe: &Path, data: &Path, settings: &[(String, String)]) -> Result<Self> {
        let mut command = Command::new(greffe);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GREFFE") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .args(["up", "--output", "json", "--data"])
            .arg(data)
            .envs(settings.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{} cannot be started", greffe.display()))?;
        let mut line = String::new();
        let output = child.stdout.as_mut().context("no standard output")?;
        BufReader::new(output).read_line(&mut line)?;
        let up = Self {
            child,
            data: data.to_owned(),
        };
        ensure!(
            serde_json::from_str::<Value>(&line).is_ok(),
            "`greffe up` did not start; its services' logs are in {}",
            up.data.display()
        );
        Ok(up)
    }

    /// Processes that serve, by name.
    pub(crate) fn processes(&self) -> BTreeMap<String, u32> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(self.data.join("services"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let ready = fs::read(entry.path().join("ready.json")).unwrap_or_default();
            let pid = serde_json::from_slice::<Value>(&ready)
                .ok()
                .and_then(|ready| ready["pid"].as_u64())
                .and_then(|pid| u32::try_from(pid).ok());
            if let (Some(pid), Ok(name)) = (pid, entry.file_name().into_string()) {
                found.insert(name, pid);
            }
        }
        found
    }

    /// Seconds of processor that each process has taken so far.
    pub(crate) fn seconds(&self) -> BTreeMap<String, f64> {
        let processes = self.processes().into_iter();
        processes
            .map(|(name, pid)| (name, processor_seconds(pid)))
            .collect()
    }

    /// Stops it as an operator does.
    ///
    /// # Errors
    /// When it did not end well.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.terminate();
        let status = self.child.wait()?;
        ensure!(status.success(), "`greffe up` ended with {status}");
        Ok(())
    }

    fn terminate(&mut self) {
        // Once it has ended, its number may be somebody else's.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        if let Ok(id) = i32::try_from(self.child.id()) {
            // Only that it has ended already can make this fail.
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.terminate();
        let _ = self.child.wait();
    }
}

/// Seconds of processor that a process has taken, its threads and its children that ended included.
pub(crate) fn processor_seconds(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the program's name, which may hold anything: state, …, utime, stime, cutime, cstime (proc(5)).
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks = after.split_whitespace().skip(11).take(4);
    ticks
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS
}

/// Processes whose parent is `parent`, and itself.
pub(crate) fn family(parent: u32) -> Vec<u32> {
    let mut found = vec![parent];
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let text = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let after = text.rsplit_once(')').map_or("", |(_, after)| after);
        if after.split_whitespace().nth(1) == Some(parent.to_string().as_str()) {
            found.push(pid);
        }
    }
    found
}

/// An application on the machine.
pub(crate) struct App {
    pub(crate) client: Client,
    pub(crate) issuer: SigningKey,
    people: PathBuf,
    _store: tempfile::TempDir,
}

impl App {
    /// Opens one.
    ///
    /// # Errors
    /// When a service cannot be reached.
    pub(crate) async fn open(data: &Path) -> Result<Self> {
        let people = data.join("people");
        let connection = Connection::load(&people.join("apps/greffe/connection.toml"))?;
        let folder = tempfile::tempdir()?;
        let store = ClientStore::open(folder.path(), connection.tenant()).await?;
        let client = Client::open(connection, store, Arc::new(SystemClock)).await?;
        let issuer = fs::read_to_string(people.join("operator/issuer.key"))?;
        let issuer = from_hex::<32>(issuer.trim()).context("the issuer's key")?;
        Ok(Self {
            client,
            issuer: SigningKey::from_bytes(&issuer),
            people,
            _store: folder,
        })
    }

    /// Somebody with a key of their own.
    ///
    /// # Errors
    /// When there is no such person.
    pub(crate) fn person(&self, name: &str) -> Result<People> {
        let person = Person::load(&self.people.join(name), name)?;
        Ok(People::new(&self.client, person))
    }
}
