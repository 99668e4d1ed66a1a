//! The services of a data folder, each started by itself with settings of its own, as an orchestrator does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::support::{Up, greffe, pid};

/// Every service, in the order in which they start.
pub(crate) const SERVICES: [&str; 6] = [
    "audit", "escrow-1", "escrow-2", "escrow-3", "archive", "relay",
];
/// How long a start or an end may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Running services; those that still run are killed when it is dropped.
pub(crate) struct Served {
    data: PathBuf,
    children: BTreeMap<&'static str, Child>,
}

impl Served {
    /// Makes a data folder and starts its services; settings are `service` and `name=value`.
    pub(crate) fn start(data: &Path, settings: &[(&str, &str)]) -> Self {
        Up::start(data).stop();
        let mut served = Self {
            data: data.to_owned(),
            children: BTreeMap::new(),
        };
        for service in SERVICES {
            served.spawn(service, settings);
        }
        for service in SERVICES {
            served.wait(service);
        }
        served
    }

    /// Starts one.
    pub(crate) fn spawn(&mut self, service: &'static str, settings: &[(&str, &str)]) {
        let folder = self.data.join("services").join(service);
        let log = fs::File::options()
            .append(true)
            .create(true)
            .open(folder.join("log.txt"))
            .unwrap();
        let mut command = greffe();
        command
            .args(["serve", service.split('-').next().unwrap(), "--config"])
            .arg(folder.join("config.toml"));
        for (_, setting) in settings.iter().filter(|(of, _)| *of == service) {
            command.args(["--set", setting]);
        }
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.children.insert(service, child);
    }

    /// Waits until the present process of a service listens.
    pub(crate) fn wait(&mut self, service: &str) {
        let until = Instant::now() + PATIENCE;
        let ready = self.data.join("services").join(service).join("ready.json");
        loop {
            let child = self.children.get_mut(service).unwrap();
            let said = fs::read(&ready).ok();
            let said = said.and_then(|text| serde_json::from_slice::<Value>(&text).ok());
            if said.is_some_and(|ready| ready["pid"] == child.id()) {
                return;
            }
            let ended = child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < until,
                "{service} does not serve ({ended:?}): {}",
                self.said(service)
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What a service has logged.
    pub(crate) fn said(&self, service: &str) -> String {
        let log = self.data.join("services").join(service).join("log.txt");
        fs::read_to_string(log).unwrap_or_default()
    }

    /// Its process.
    pub(crate) fn pid(&self, service: &str) -> u32 {
        self.children[service].id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, service: &str, signal: Signal) {
        kill(pid(self.pid(service)), signal).unwrap();
    }

    /// How one that was told to end has ended.
    pub(crate) fn ended(&mut self, service: &str) -> ExitStatus {
        let mut child = self.children.remove(service).unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "{service} does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops all of them as an orchestrator does.
    pub(crate) fn stop(mut self) {
        for service in SERVICES.iter().rev() {
            if self.children.contains_key(service) {
                self.signal(service, Signal::SIGTERM);
                assert!(self.ended(service).success(), "{service}");
            }
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
