//! Child processes: one a service, started again when they die, stopped when this process ends, however it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::fail::{Exit, Failure, Result};
use crate::layout::Layout;
use crate::output::narrate;

use super::stores::service_of;

/// How long a service may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a service may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// Pause before a service that died is started again; doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A service that has died this often before it listened will not do better.
const DEATHS: u32 = 3;

/// What a service says of itself once it listens.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Ready {
    /// `host:port`.
    pub(crate) address: String,
    /// Its process.
    pub(crate) pid: u32,
}

/// The services of one machine.
pub(crate) struct Children {
    layout: Layout,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    pids: Arc<Mutex<BTreeMap<&'static str, u32>>>,
    deaths: Deaths,
}

/// How often each service has ended by itself.
type Deaths = Arc<Mutex<BTreeMap<&'static str, u32>>>;

impl Children {
    /// None yet.
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            layout,
            stop: watch::Sender::new(false),
            tasks: Vec::new(),
            pids: Arc::default(),
            deaths: Arc::default(),
        }
    }

    /// Starts services all at once and waits until each listens.
    pub(crate) async fn start(&mut self, services: &[&'static str]) -> Result<()> {
        for service in services {
            let child = spawn(&self.layout, service)?;
            let keeper = Keeper {
                service,
                layout: self.layout.clone(),
                stop: self.stop.subscribe(),
                pids: self.pids.clone(),
                deaths: self.deaths.clone(),
            };
            keeper.remember(&child);
            self.tasks.push(tokio::spawn(keeper.keep(child)));
        }
        let mut waited = BTreeSet::new();
        for service in services.iter().map(|process| service_of(process)) {
            if waited.insert(service) {
                self.wait(service).await?;
            }
        }
        Ok(())
    }

    /// The process of a service that listens, if one does.
    pub(crate) fn ready(&self, service: &str) -> Option<Ready> {
        let pids = self.pids.lock().unwrap_or_else(PoisonError::into_inner);
        pids.iter()
            .filter(|(process, _)| service_of(process) == service)
            .find_map(|(process, pid)| {
                ready(&self.layout, process).filter(|ready| ready.pid == *pid)
            })
    }

    /// Waits until a present process of a service listens.
    async fn wait(&self, service: &'static str) -> Result<Ready> {
        let until = Instant::now() + READY_WITHIN;
        loop {
            if let Some(ready) = self.ready(service) {
                return Ok(ready);
            }
            let deaths = self
                .deaths
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(service)
                .copied();
            if Instant::now() > until || deaths >= Some(DEATHS) {
                let log = log_file(&self.layout, service);
                return Err(Failure::new(
                    Exit::Unavailable,
                    "SERVICE_NOT_READY",
                    format_args!(
                        "{service} did not start: {}; its log is {}",
                        last_line(&log),
                        log.display()
                    ),
                ));
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks every service to drain and waits for it.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            // A keeper ends when its child does; a panic in one is no reason to leave the others running.
            let _ = task.await;
        }
    }
}

/// What a process's ready file says.
fn ready(layout: &Layout, service: &str) -> Option<Ready> {
    let text = std::fs::read(layout.ready(service)).ok()?;
    serde_json::from_slice(&text).ok()
}

fn log_file(layout: &Layout, service: &str) -> PathBuf {
    layout.service(service).join("log.txt")
}

/// The last line a service has logged.
fn last_line(log: &std::path::Path) -> String {
    std::fs::read_to_string(log)
        .ok()
        .and_then(|text| {
            text.lines()
                .rev()
                .find(|line| !line.trim().is_empty())
                .map(str::to_owned)
        })
        .unwrap_or_else(|| "it said nothing".to_owned())
}

fn spawn(layout: &Layout, service: &'static str) -> Result<Child> {
    let program = std::env::current_exe().map_err(|error| {
        Failure::failed(
            "NO_PROGRAM",
            format_args!("this program cannot find itself: {error}"),
        )
    })?;
    let path = log_file(layout, service);
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| Failure::io("open", &path, &error))?;
    Command::new(program)
        .arg("serve")
        .arg(service_kind(service_of(service)))
        .arg("--config")
        .arg(layout.service(service).join("config.toml"))
        .arg("--stop-with-stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            Failure::failed(
                "SPAWN_FAILED",
                format_args!("{service} cannot be started: {error}"),
            )
        })
}

/// What `greffe serve` calls a service: every node is an `escrow`.
pub(crate) fn service_kind(service: &str) -> &str {
    if service.starts_with("escrow-") {
        "escrow"
    } else {
        service
    }
}

/// Keeps one service running.
struct Keeper {
    service: &'static str,
    layout: Layout,
    stop: watch::Receiver<bool>,
    pids: Arc<Mutex<BTreeMap<&'static str, u32>>>,
    deaths: Deaths,
}

impl Keeper {
    fn remember(&self, child: &Child) {
        if let Some(pid) = child.id() {
            self.pids
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(self.service, pid);
        }
    }

    async fn keep(mut self, mut child: Child) {
        let mut pause = FIRST_PAUSE;
        loop {
            let started = Instant::now();
            // Waiting for a child closes its standard input when the child still holds it.
            let stdin = child.stdin.take();
            tokio::select! {
                ended = child.wait() => {
                    let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                    narrate(format_args!("{} ended ({how}); it is started again", self.service));
                    let mut deaths = self.deaths.lock().unwrap_or_else(PoisonError::into_inner);
                    *deaths.entry(self.service).or_default() += 1;
                }
                () = stopped(&mut self.stop) => {
                    // The end of its standard input is the sign to drain.
                    drop(stdin);
                    if timeout(STOP_WITHIN, child.wait()).await.is_err() {
                        narrate(format_args!("{} did not drain in time and is killed", self.service));
                        let _ = child.kill().await;
                    }
                    return;
                }
            }
            if started.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = stopped(&mut self.stop) => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            match spawn(&self.layout, self.service) {
                Ok(next) => {
                    child = next;
                    self.remember(&child);
                }
                Err(failure) => {
                    narrate(format_args!("{failure}"));
                    return;
                }
            }
        }
    }
}

/// Waits for the sign to stop; a sender that is gone is one.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await.is_ok();
}
