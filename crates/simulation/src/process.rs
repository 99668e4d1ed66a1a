//! One simulated process: a runtime of its own on the shared thread, so that it can die in the middle of whatever it does.

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use greffe_service_kit::simulation::{self, Act, Answer, Handler, Hooks, Verdict};
use greffe_service_kit::tls::SpiffeId;
use http::{Request, Response};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::body::Body;

use crate::disk::Disk;
use crate::net::Net;
use crate::rng::Rng;
use crate::trace::Trace;

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
    rest: Arc<Rest>,
    life: JoinHandle<Result<(), String>>,
}

struct Machine {
    net: Arc<Net>,
    disk: Arc<Disk>,
}

/// How a turn learns that a runtime has nothing left to do.
#[derive(Debug, Default)]
struct Rest {
    /// How often in this turn no task was ready.
    idle: AtomicUsize,
    turn: Mutex<Option<Waker>>,
}

impl Rest {
    /// Before the runtime would wait: the turn is asked whether it ends, and nothing waits.
    fn nothing_is_ready(&self) {
        self.idle.fetch_add(1, Ordering::Relaxed);
        let turn = self
            .turn
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(turn) = turn {
            turn.wake();
        }
    }

    /// Until all is done that can be done by now. The runtime looks at its timers the first time that no task is ready: the second
    /// time, what they woke is done too.
    async fn reached(&self) {
        self.idle.store(0, Ordering::Relaxed);
        poll_fn(|context| {
            if self.idle.load(Ordering::Relaxed) > 1 {
                return Poll::Ready(());
            }
            let waker = context.waker().clone();
            *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
            Poll::Pending
        })
        .await;
    }
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
        let rest = Arc::new(Rest::default());
        let idle = rest.clone();
        let runtime = Builder::new_current_thread()
            .enable_time()
            .on_thread_park(move || idle.nothing_is_ready())
            .build()
            .expect("a runtime");
        simulation::enter(Some(self.hooks.clone()));
        let life = {
            let _inside = runtime.enter();
            runtime.spawn(life())
        };
        simulation::enter(None);
        self.trace.note(&self.name, format_args!("starts"));
        self.running = Some(Running {
            runtime,
            rest,
            life,
        });
    }

    /// Lets its tasks run until they wait. Gives why it ended, if it did.
    pub(crate) fn turn(&mut self) -> Option<String> {
        let running = self.running.as_mut()?;
        simulation::enter(Some(self.hooks.clone()));
        running.runtime.block_on(running.rest.reached());
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

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::future::pending;

    use tokio::task::yield_now;
    use tokio::time::sleep;

    use super::*;
    use crate::clock;

    #[test]
    fn a_turn_does_all_that_is_ready_and_waits_for_nothing() {
        clock::on_thread(1, || {
            let trace = Arc::new(Trace::default());
            let net = Net::new(Rng::new(1, 1), trace.clone());
            let mut process = Process::new("alone", Rng::new(1, 2), &net, &trace);
            let done = Arc::new(AtomicUsize::new(0));
            let counted = done.clone();
            process.start(|| {
                Box::pin(async move {
                    for _ in 0..100 {
                        yield_now().await;
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    sleep(Duration::from_millis(50)).await;
                    counted.store(1000, Ordering::Relaxed);
                    pending().await
                })
            });
            let mut turn = |after| {
                clock::pass(Duration::from_millis(after));
                assert_eq!(process.turn(), None);
                done.load(Ordering::Relaxed)
            };
            assert_eq!([0, 0, 49, 2].map(&mut turn), [100, 100, 100, 1000]);
        });
    }
}
