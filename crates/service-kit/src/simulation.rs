//! The seam for `crates/simulation`: on a thread that has entered it, calls between services pass through the simulation,
//! what would block is done at once, and databases and files ask before they act.
//!
//! Nothing of it happens in a service that runs: [`enter`] is called by the simulation alone, and elsewhere each of these
//! functions looks at one thread-local flag and goes on.

use core::cell::{Cell, RefCell};
use core::future::{pending, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Context, Poll};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};

use http::{Request, Response};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::task::coop::unconstrained;
use tonic::Status;
use tonic::body::Body;

use crate::tls::SpiffeId;

/// A future that a hook gives.
pub type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// What a service does with a call.
pub type Handler = Arc<dyn Fn(Request<Body>) -> Answer<Response<Body>> + Send + Sync>;

/// What is about to happen, or has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act<'a> {
    /// A transaction of this name begins.
    Begin(&'static str),
    /// A transaction of this name was committed, and nobody knows of it yet.
    Committed(&'static str),
    /// Bytes of a new file are written.
    Write(&'a Path),
    /// A file's bytes are made durable.
    Sync(&'a Path),
    /// A file comes by a name, in the place of whatever had it.
    Name {
        /// The name it had.
        from: &'a Path,
        /// The name it gets.
        to: &'a Path,
    },
    /// A name is given up.
    Remove(&'a Path),
    /// The names of a folder are made durable.
    SyncFolder(&'a Path),
}

/// What the simulation says to an act.
#[derive(Debug)]
pub enum Verdict {
    /// Do it.
    Go,
    /// It fails in this way, and did nothing.
    Fail(io::Error),
    /// The process has died here: nothing more of it happens.
    Dead,
}

/// What the simulation decides.
pub trait Hooks: Send + Sync {
    /// A service takes calls from now on, until what is given is dropped.
    fn serve(&self, id: &SpiffeId, handler: Handler) -> Box<dyn Send + Sync>;

    /// A call.
    fn call(
        &self,
        from: &SpiffeId,
        to: &SpiffeId,
        request: Request<Body>,
    ) -> Answer<Result<Response<Body>, Status>>;

    /// What becomes of an act.
    fn act(&self, act: Act<'_>) -> Verdict;
}

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
    static HOOKS: RefCell<Option<Arc<dyn Hooks>>> = const { RefCell::new(None) };
}

/// Puts this thread under the hooks of one simulated process, or, with none, under nobody's.
pub fn enter(hooks: Option<Arc<dyn Hooks>>) {
    ON.set(hooks.is_some());
    HOOKS.replace(hooks);
}

/// Whether this thread is simulated.
pub fn is_on() -> bool {
    ON.get()
}

pub(crate) fn hooks() -> Option<Arc<dyn Hooks>> {
    if !is_on() {
        return None;
    }
    HOOKS.with_borrow(Clone::clone)
}

/// Asks whether a file may be touched.
///
/// # Errors
/// What the simulation wants to see go wrong.
pub fn file(act: Act<'_>) -> io::Result<()> {
    match hooks().map_or(Verdict::Go, |hooks| hooks.act(act)) {
        Verdict::Go => Ok(()),
        Verdict::Fail(error) => Err(error),
        Verdict::Dead => Err(io::Error::other("the process has died")),
    }
}

/// Asks whether a transaction may go on. A process that has died never hears of it.
pub(crate) async fn transaction(act: Act<'static>) -> sqlx::Result<()> {
    match hooks().map_or(Verdict::Go, |hooks| hooks.act(act)) {
        Verdict::Go => Ok(()),
        Verdict::Fail(error) => Err(sqlx::Error::Io(error)),
        Verdict::Dead => pending().await,
    }
}

/// Runs what blocks on a thread for that; here and now under simulation.
pub fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    if !is_on() {
        return tokio::task::spawn_blocking(work);
    }
    let done = catch_unwind(AssertUnwindSafe(work));
    tokio::spawn(async move { done.unwrap_or_else(|panic| resume_unwind(panic)) })
}

/// A database's answer. Under simulation the thread waits for it, and so every act is one step.
pub(crate) async fn settled<T>(answer: impl Future<Output = T>) -> T {
    let mut answer = pin!(answer);
    poll_fn(|context| {
        if is_on() {
            Poll::Ready(wait(answer.as_mut()))
        } else {
            answer.as_mut().poll(context)
        }
    })
    .await
}

/// Waits, on a thread for what blocks; under simulation that is the thread of everything.
pub fn block_on<T>(runtime: &Handle, answer: impl Future<Output = T>) -> T {
    if is_on() {
        wait(answer)
    } else {
        runtime.block_on(answer)
    }
}

struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// Waits on this thread. What waits for anything but its database waits for ever: whoever simulates watches for that.
pub(crate) fn wait<T>(answer: impl Future<Output = T>) -> T {
    let mut answer = pin!(unconstrained(answer));
    let unpark = Arc::new(Unpark {
        thread: thread::current(),
        woken: AtomicBool::new(false),
    });
    let waker = Waker::from(unpark.clone());
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(done) = answer.as_mut().poll(&mut context) {
            return done;
        }
        while !unpark.woken.swap(false, Ordering::SeqCst) {
            thread::park();
        }
    }
}
