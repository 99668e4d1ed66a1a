//! One simulated process: a runtime of its own on the shared thread, so that it can die in the middle of whatever it does.

use std::fmt;
use std::sync::Arc;

use greffe_service_kit::simulation::{self, Act, Answer, Handler, Hooks, Verdict};
use greffe_service_kit::tls::SpiffeId;
use http::{Request, Response};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, yield_now};
use tonic::Status;
use tonic::body::Body;

use crate::disk::Disk;
use crate::net::Net;
use crate::rng::Rng;
use crate::trace::Trace;

/// Rounds of its tasks in one turn. What is not done by then goes on in the next.
const ROUNDS: usize = 6;

/// What a process does until it ends.
pub(crate) type Life = Answer<Result<(), String>>;

/// A process that can be started again.
pub(crate) struct Process {
    /// Its name.
    pub(crate) name: String,
    /// Its disk.
    pub(crate) disk: Arc<Disk>,
    hooks: Arc<Machine>,
    running: Option<Running>,
    trace: Arc<Trace>,
}

struct Running {
    runtime: Runtime,
    life: JoinHandle<Result<(), String>>,
}

struct Machine {
    net: Arc<Net>,
    disk: Arc<Disk>,
}

impl Hooks for Machine {
    fn serve(&self, id: &SpiffeId, handler: Handler) -> Box<dyn Send + Sync> {
        self.net.serve(id, handler)
    }

    fn call(
        &self,
        from: &SpiffeId,
        to: &SpiffeId,
        request: Request<Body>,
    ) -> Answer<Result<Response<Body>, Status>> {
        self.net.call(from, to, request)
    }

    fn act(&self, act: Act<'_>) -> Verdict {
        self.disk.act(act)
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({})", self.name)
    }
}

impl Process {
    /// One that does not run yet.
    pub(crate) fn new(name: &str, rng: Rng, net: &Arc<Net>, trace: &Arc<Trace>) -> Self {
        let disk = Arc::new(Disk::new(rng));
        let hooks = Arc::new(Machine {
            net: net.clone(),
            disk: disk.clone(),
        });
        Self {
            name: name.to_owned(),
            disk,
            hooks,
            running: None,
            trace: trace.clone(),
        }
    }

    /// Whether it runs.
    pub(crate) fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// Starts it.
    ///
    /// # Panics
    /// When the system gives no runtime.
    pub(crate) fn start(&mut self, life: impl FnOnce() -> Life) {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        simulation::enter(Some(self.hooks.clone()));
        let life = {
            let _inside = runtime.enter();
            runtime.spawn(life())
        };
        simulation::enter(None);
        self.trace.note(&self.name, format_args!("starts"));
        self.running = Some(Running { runtime, life });
    }

    /// Lets its tasks run. Gives why it ended, if it did.
    pub(crate) fn turn(&mut self) -> Option<String> {
        let running = self.running.as_mut()?;
        simulation::enter(Some(self.hooks.clone()));
        running.runtime.block_on(async {
            for _ in 0..ROUNDS {
                yield_now().await;
            }
        });
        simulation::enter(None);
        if self.disk.is_dead() {
            self.crash();
            return Some("died at an act of its disk".to_owned());
        }
        if !running.life.is_finished() {
            return None;
        }
        let why = match running.runtime.block_on(&mut running.life) {
            Ok(Ok(())) => "ended".to_owned(),
            Ok(Err(why)) => why,
            Err(panic) => format!("panicked: {panic}"),
        };
        self.trace.note(&self.name, format_args!("{why}"));
        self.drop_it();
        Some(why)
    }

    /// Kills it: everything that it was doing stops where it stands, and its disk keeps what was durable.
    pub(crate) fn crash(&mut self) {
        self.trace.note(&self.name, format_args!("crashes"));
        self.disk.kill();
        self.drop_it();
        self.disk.after_power_cut();
    }

    /// Ends it without a word; its disk is sound.
    pub(crate) fn end(&mut self) {
        self.drop_it();
    }

    fn drop_it(&mut self) {
        simulation::enter(Some(self.hooks.clone()));
        self.running = None;
        simulation::enter(None);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.drop_it();
    }
}
