//! All processes of a tenant on one thread, turn by turn.

use core::time::Duration;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use greffe_service_kit::boot::StartError;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::oneshot;

use crate::clock;
use crate::ledger::Ledger;
use crate::net::Net;
use crate::process::{Life, Process};
use crate::rng::Rng;
use crate::tenant::{self, APPS, SERVICES};
use crate::trace::Trace;
use crate::user::Shared;
use crate::{office, user};

/// The shortest step of time, while anything moves.
const STEP: Duration = Duration::from_millis(5);
/// The longest, when nothing does.
const LEAP: Duration = Duration::from_millis(80);
/// A process that ended by itself is started again after this.
const RESTART: Duration = Duration::from_secs(1);

/// The processes of a seed and what is between them.
pub(crate) struct World {
    /// The folder of everything.
    pub(crate) base: PathBuf,
    /// The network.
    pub(crate) net: Arc<Net>,
    /// What users and office were told.
    pub(crate) ledger: Arc<Ledger>,
    /// What happened.
    pub(crate) trace: Arc<Trace>,
    processes: Vec<Process>,
    users: BTreeMap<&'static str, UnboundedSender<user::Command>>,
    office: Option<UnboundedSender<office::Command>>,
    stops: BTreeMap<&'static str, oneshot::Sender<()>>,
    due: BTreeMap<&'static str, Instant>,
    step: Duration,
}

impl World {
    /// Over a tenant's folder; nothing runs yet.
    pub(crate) fn new(base: &Path, seed: u64) -> Self {
        let trace = Arc::new(Trace::default());
        let net = Net::new(Rng::new(seed, 1), trace.clone());
        let names = SERVICES.iter().chain(&APPS);
        let processes = names
            .zip(2..)
            .map(|(name, purpose)| Process::new(name, Rng::new(seed, purpose), &net, &trace))
            .collect();
        Self {
            base: base.to_owned(),
            net,
            ledger: Arc::default(),
            trace,
            processes,
            users: BTreeMap::new(),
            office: None,
            stops: BTreeMap::new(),
            due: BTreeMap::new(),
            step: STEP,
        }
    }

    fn shared(&self) -> Shared {
        Shared {
            ledger: self.ledger.clone(),
            trace: self.trace.clone(),
        }
    }

    /// Starts every service and application.
    pub(crate) fn start_all(&mut self) {
        for name in SERVICES.iter().chain(&APPS) {
            self.start(name);
        }
    }

    /// Starts a process.
    pub(crate) fn start(&mut self, name: &'static str) {
        self.due.remove(name);
        let (base, shared) = (self.base.clone(), self.shared());
        let life: Box<dyn FnOnce() -> Life> = match name {
            "office" => {
                let (sender, commands) = mpsc::unbounded_channel();
                self.office = Some(sender);
                Box::new(move || office::live(&base, shared, commands))
            }
            "alice" | "bob" | "carol" => {
                let (sender, commands) = mpsc::unbounded_channel();
                self.users.insert(name, sender);
                Box::new(move || user::live(&base, name, shared, commands))
            }
            _ => {
                let (stop, stopped) = oneshot::channel();
                self.stops.insert(name, stop);
                Box::new(move || serve(&base, name, stopped))
            }
        };
        if let Some(process) = self.process(name)
            && !process.runs()
        {
            process.start(life);
        }
    }

    /// A process that ended stays away.
    pub(crate) fn forget(&mut self, name: &str) {
        self.due.retain(|due, _| *due != name);
        if let Some(process) = self.process(name) {
            process.end();
        }
    }

    /// Runs an application that is none of the simulation's own, in the place of one.
    pub(crate) fn start_as(&mut self, name: &str, life: Life) {
        if let Some(process) = self.process(name) {
            process.start(|| life);
        }
    }

    fn process(&mut self, name: &str) -> Option<&mut Process> {
        self.processes.iter_mut().find(|p| p.name == name)
    }

    /// A process's disk.
    pub(crate) fn disk(&mut self, name: &str) -> Option<Arc<crate::disk::Disk>> {
        self.process(name).map(|process| process.disk.clone())
    }

    /// Tells a user's application something, if it runs.
    pub(crate) fn tell(&self, name: &str, command: user::Command) {
        if let Some(user) = self.users.get(name) {
            let _ = user.send(command);
        }
    }

    /// Tells the office something, if it runs.
    pub(crate) fn ask(&self, command: office::Command) {
        if let Some(office) = &self.office {
            let _ = office.send(command);
        }
    }

    /// Kills a process, which stays away for a while.
    pub(crate) fn crash(&mut self, name: &'static str, away: Duration) {
        if let Some(process) = self.process(name)
            && process.runs()
        {
            process.crash();
            self.due.insert(name, Instant::now() + away);
        }
    }

    /// Every process works, and goes on working.
    pub(crate) fn heal(&mut self) {
        self.net.heal();
        for process in &self.processes {
            process.disk.set(None);
        }
        let now = Instant::now();
        for due in self.due.values_mut() {
            *due = now;
        }
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.turn();
            self.step = if self.net.moved() > 0 {
                STEP
            } else {
                (self.step * 2).min(LEAP)
            };
            clock::pass(
                self.step
                    .min(until.saturating_duration_since(Instant::now())),
            );
        }
    }

    fn turn(&mut self) {
        let now = Instant::now();
        let due = self.due.iter().filter(|(_, due)| **due <= now);
        for name in due.map(|(name, _)| *name).collect::<Vec<_>>() {
            self.start(name);
        }
        for process in &mut self.processes {
            if let Some(why) = process.turn() {
                let name = SERVICES.iter().chain(&APPS).find(|n| **n == process.name);
                if let Some(name) = name {
                    self.trace.note(name, format_args!("is down: {why}"));
                    self.due.insert(name, now + RESTART);
                }
            }
        }
    }

    /// Ends every process in good order.
    ///
    /// # Errors
    /// When one does not end.
    pub(crate) fn stop_all(&mut self) -> Result<()> {
        self.users.clear();
        self.office = None;
        for name in APPS {
            if let Some(process) = self.process(name) {
                process.end();
            }
        }
        for name in SERVICES.iter().rev() {
            drop(self.stops.remove(name));
            for _ in 0..10_000 {
                self.turn();
                self.due.clear();
                clock::pass(STEP);
                if !self.process(name).context("a process")?.runs() {
                    break;
                }
            }
            if self.process(name).context("a process")?.runs() {
                return Err(anyhow!("{name} does not stop"));
            }
        }
        Ok(())
    }
}

/// A service's life.
fn serve(base: &Path, name: &'static str, stopped: oneshot::Receiver<()>) -> Life {
    let config = tenant::service(base, name);
    let stop = async {
        let _ = stopped.await;
    };
    Box::pin(async move {
        let service = config.map_err(|error| error.to_string())?;
        let ended: Result<(), StartError> = match name {
            "audit" => {
                let audit = Default::default();
                greffe_audit::serve(greffe_audit::Config { service, audit }, stop).await
            }
            "archive" => {
                let archive = Default::default();
                greffe_archive::serve(greffe_archive::Config { service, archive }, stop).await
            }
            "relay" => {
                let relay = Default::default();
                greffe_relay::serve(greffe_relay::Config { service, relay }, stop).await
            }
            _ => {
                let escrow = Default::default();
                greffe_escrow::serve(greffe_escrow::Config { service, escrow }, stop).await
            }
        };
        ended.map_err(|error| format!("{:#}", anyhow!(error)))
    })
}
