//! The services of one machine, each a process of the real program that is started again when it ends, one of them on a disk
//! with faults.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use greffe_service_kit::ready::READY_FILE;
use greffe_testkit::faults::{Disk, Faults};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::support::{Up, greffe, pid};

/// How long a service may take to be there, or to be gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause before a service that ended is started again.
const PAUSE: Duration = Duration::from_millis(20);

/// Every service, as `greffe serve` calls them.
static SERVICES: [(&str, &str); 6] = [
    ("audit", "audit"),
    ("escrow-1", "escrow"),
    ("escrow-2", "escrow"),
    ("escrow-3", "escrow"),
    ("archive", "archive"),
    ("relay", "relay"),
];

/// How a process of a service ended, before anybody asked it to.
#[derive(Debug, Clone)]
pub(super) struct End {
    /// Its exit code; none when a signal ended it.
    pub(super) code: Option<i32>,
    /// The last line that it said.
    pub(super) said: String,
}

/// A set-up machine, its services running.
pub(super) struct Machine {
    folder: tempfile::TempDir,
    faults: Faults,
    services: BTreeMap<&'static str, Service>,
}

impl Machine {
    /// Sets one up and starts its services.
    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Up::start(&folder.path().join("data")).stop();
        let mut machine = Self {
            faults: Faults::build(folder.path()),
            folder,
            services: BTreeMap::new(),
        };
        for (service, _) in SERVICES {
            machine.run(service, None);
        }
        for (service, _) in SERVICES {
            machine.wait(service);
        }
        machine
    }

    /// The data folder.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A disk for a service or a client, nothing having been done on it.
    pub(super) fn disk(&self, name: &str) -> Disk {
        let trace = self.folder.path().join(format!("{name}.trace"));
        self.faults.disk(&trace)
    }

    /// Starts a service that does not run, all its processes on a disk if one is given.
    pub(super) fn run(&mut self, service: &'static str, disk: Option<&Disk>) {
        let known = SERVICES.iter().find(|(name, _)| *name == service);
        let kind = known.expect("a service").1;
        let folder = self.data().join("services").join(service);
        let (disk, log) = (disk.cloned(), folder.join("log.txt"));
        let command = move || {
            let mut command = greffe();
            command
                .args(["serve", kind, "--stop-with-stdin", "--config"])
                .arg(folder.join("config.toml"));
            if let Some(disk) = &disk {
                disk.inject(&mut command, &folder);
            }
            command
        };
        let running = Service::start(command, &log);
        let before = self.services.insert(service, running);
        assert!(before.is_none(), "{service} runs already");
    }

    /// Waits until a present process of a service listens.
    pub(super) fn wait(&self, service: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.is_up(service) {
            let ends = self.ends(service);
            assert!(Instant::now() < end, "{service} does not come up: {ends:?}");
            thread::sleep(Duration::from_millis(3));
        }
    }

    /// Whether a present process of a service listens.
    pub(super) fn is_up(&self, service: &str) -> bool {
        let folder = self.data().join("services").join(service);
        let said = fs::read(folder.join(READY_FILE)).ok();
        let said: Option<Value> = said.and_then(|text| serde_json::from_slice(&text).ok());
        let present = self.services[service].shared.process.load(Ordering::SeqCst);
        present != 0 && said.is_some_and(|said| said["pid"] == present)
    }

    /// Stops a service as an operator does; gives how its processes had ended before that, and how the last one did.
    pub(super) fn stop(&mut self, service: &str) -> (Vec<End>, End) {
        let running = self.services.remove(service).expect("it runs");
        running.stop(service)
    }

    /// How often a service has ended by itself since it was started.
    pub(super) fn ends(&self, service: &str) -> Vec<End> {
        self.services[service].shared.ends.lock().unwrap().clone()
    }

    /// What a service has said so far, and what it says from then on.
    pub(super) fn log(&self, service: &str) -> String {
        let file = self.data().join("services").join(service).join("log.txt");
        fs::read_to_string(file).unwrap_or_default()
    }

    /// Begins its log anew.
    pub(super) fn forget_log(&self, service: &str) {
        let file = self.data().join("services").join(service).join("log.txt");
        fs::write(file, "").unwrap();
    }
}

struct Service {
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    /// 0 between two processes.
    process: AtomicU32,
    ends: Mutex<Vec<End>>,
}

impl Service {
    fn start(command: impl Fn() -> Command + Send + 'static, log: &Path) -> Self {
        let shared = Arc::new(Shared::default());
        let (kept, log) = (shared.clone(), log.to_owned());
        let keeper = thread::spawn(move || keep(&kept, &log, command));
        Self { shared, keeper }
    }

    fn stop(self, name: &str) -> (Vec<End>, End) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let end = Instant::now() + PATIENCE;
        while !self.keeper.is_finished() {
            let process = self.shared.process.load(Ordering::SeqCst);
            if process != 0 {
                // Only that it has just ended can make this fail.
                let _gone = kill(pid(process), Signal::SIGTERM);
            }
            assert!(Instant::now() < end, "{name} does not stop");
            thread::sleep(Duration::from_millis(5));
        }
        self.keeper.join().unwrap();
        let mut ends = core::mem::take(&mut *self.shared.ends.lock().unwrap());
        let last = ends.pop().expect("it has ended");
        (ends, last)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for (name, service) in core::mem::take(&mut self.services) {
            // One that hangs is left to the end of its standard input.
            if thread::panicking() {
                service.shared.stopping.store(true, Ordering::SeqCst);
                let process = service.shared.process.load(Ordering::SeqCst);
                if process != 0 {
                    let _gone = kill(pid(process), Signal::SIGKILL);
                }
            } else {
                service.stop(name);
            }
        }
    }
}

fn keep(shared: &Shared, log: &Path, command: impl Fn() -> Command) {
    loop {
        let said = fs::OpenOptions::new().create(true).append(true).open(log);
        let mut child: Child = command()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(said.unwrap())
            .spawn()
            .unwrap();
        // Held until it has ended: the end of its standard input is an order to stop.
        let order = child.stdin.take();
        shared.process.store(child.id(), Ordering::SeqCst);
        let status = child.wait().unwrap();
        // Asked to stop before it could hear: as good as having stopped.
        let early = shared.stopping.load(Ordering::SeqCst)
            && status.signal() == Some(Signal::SIGTERM as i32);
        let code = if early { Some(0) } else { status.code() };
        shared.process.store(0, Ordering::SeqCst);
        drop(order);
        let text = fs::read_to_string(log).unwrap_or_default();
        let said = text.lines().last().unwrap_or_default().to_owned();
        shared.ends.lock().unwrap().push(End { code, said });
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        thread::sleep(PAUSE);
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
    }
}
