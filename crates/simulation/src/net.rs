//! The network: every call, and every piece of a stream, takes its time, may be lost, doubled, or find its way cut.
//!
//! A call passes from the caller's process to the server's as HTTP, above the connection: a lost piece is a broken stream and
//! never a hole in one, as with TCP, and calls overtake each other, as on several connections. A process that dies takes its
//! half of everything with it, which the other side sees as a broken connection.

use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use greffe_service_kit::simulation::{Answer, Handler};
use greffe_service_kit::tls::{Caller, SpiffeId};
use http::{Request, Response, request, response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tonic::Status;
use tonic::body::Body;

use crate::rng::Rng;
use crate::trace::Trace;

/// Pieces of a stream on their way.
const WINDOW: usize = 16;
/// A call whose way is cut, or that was lost, fails after this: so long a connection stays silent before it is given up.
const SILENCE: Duration = Duration::from_secs(10);

/// How bad the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// Of a thousand calls, how many never arrive.
    pub lost: u64,
    /// Of a thousand calls, how many are done and their answer is lost.
    pub unanswered: u64,
    /// Of a thousand calls without streams, how many arrive twice.
    pub doubled: u64,
    /// Of a thousand, how many are late by up to three seconds.
    pub late: u64,
}

impl Weather {
    /// Nothing is lost.
    pub const FAIR: Self = Self {
        lost: 0,
        unanswered: 0,
        doubled: 0,
        late: 0,
    };
}

/// RPCs without streams.
static UNARY: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    greffe_api::rpcs()
        .into_iter()
        .filter(|rpc| !rpc.client_streams && !rpc.server_streams)
        .map(|rpc| rpc.path)
        .collect()
});

/// The network of one seed.
pub(crate) struct Net {
    state: Mutex<State>,
    trace: Arc<Trace>,
}

struct State {
    rng: Rng,
    weather: Weather,
    servers: BTreeMap<String, (u64, mpsc::UnboundedSender<Arriving>)>,
    registered: u64,
    cut: BTreeSet<(String, String)>,
    moved: u64,
}

struct Arriving {
    parts: request::Parts,
    body: Pieces,
    answer: oneshot::Sender<(response::Parts, Pieces)>,
}

/// What becomes of one call.
struct Fate {
    there: Duration,
    back: Duration,
    again: Option<Duration>,
    lost: bool,
    unanswered: bool,
}

impl Net {
    /// Without anybody on it.
    pub(crate) fn new(rng: Rng, trace: Arc<Trace>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                rng,
                weather: Weather::FAIR,
                servers: BTreeMap::new(),
                registered: 0,
                cut: BTreeSet::new(),
                moved: 0,
            }),
            trace,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes how bad it is.
    pub(crate) fn set(&self, weather: Weather) {
        self.state().weather = weather;
    }

    /// Cuts two processes off from one another, or connects them again.
    pub(crate) fn cut(&self, one: &str, other: &str, cut: bool) {
        let mut state = self.state();
        for pair in [(one, other), (other, one)] {
            let pair = (pair.0.to_owned(), pair.1.to_owned());
            if cut {
                state.cut.insert(pair);
            } else {
                state.cut.remove(&pair);
            }
        }
    }

    /// Nothing is lost, everybody reaches everybody.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.cut.clear();
        state.weather = Weather::FAIR;
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        let pair = (from.to_owned(), to.to_owned());
        self.state().cut.contains(&pair)
    }

    /// How much has moved since this was asked last.
    pub(crate) fn moved(&self) -> u64 {
        core::mem::take(&mut self.state().moved)
    }

    fn delay(&self) -> Duration {
        let mut state = self.state();
        state.moved += 1;
        let late = state.weather.late;
        if state.rng.happens(late) {
            Duration::from_millis(50 + state.rng.below(2950))
        } else {
            Duration::from_micros(500 + state.rng.below(9500))
        }
    }

    fn fate(&self, path: &str) -> Fate {
        let (there, back, again) = (self.delay(), self.delay(), self.delay());
        let mut state = self.state();
        let weather = state.weather;
        let doubled = state.rng.happens(weather.doubled) && UNARY.contains(path);
        Fate {
            there,
            back,
            again: doubled.then_some(again),
            lost: state.rng.happens(weather.lost),
            unanswered: state.rng.happens(weather.unanswered),
        }
    }

    /// A server takes calls until what is given is dropped. In the server's runtime.
    pub(crate) fn serve(self: &Arc<Self>, id: &SpiffeId, handler: Handler) -> Box<dyn Send + Sync> {
        let (sender, mut arriving) = mpsc::unbounded_channel();
        let name = id.name().to_owned();
        let number = {
            let mut state = self.state();
            state.registered += 1;
            let number = state.registered;
            state.servers.insert(name.clone(), (number, sender));
            number
        };
        let net = self.clone();
        let server = name.clone();
        let taking = tokio::spawn(async move {
            while let Some(call) = arriving.recv().await {
                tokio::spawn(take(net.clone(), server.clone(), handler.clone(), call));
            }
        });
        Box::new(Serving {
            net: Arc::downgrade(self),
            name,
            number,
            taking: taking.abort_handle(),
        })
    }

    /// A call. In the caller's runtime.
    pub(crate) fn call(
        self: &Arc<Self>,
        from: &SpiffeId,
        to: &SpiffeId,
        mut request: Request<Body>,
    ) -> Answer<Result<Response<Body>, Status>> {
        let net = self.clone();
        let caller = Caller { id: from.clone() };
        let (from, to) = (from.name().to_owned(), to.name().to_owned());
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let fate = net.fate(&path);
            request.extensions_mut().insert(caller);
            let outcome = net.carry(&from, &to, &fate, request).await;
            let said = match &outcome {
                Ok(response) => response
                    .headers()
                    .get("grpc-status")
                    .and_then(|code| code.to_str().ok())
                    .unwrap_or("0")
                    .to_owned(),
                Err(status) => status.message().to_owned(),
            };
            net.trace.note(&from, format_args!("{to}{path} {said}"));
            outcome
        })
    }

    async fn carry(
        self: &Arc<Self>,
        from: &str,
        to: &str,
        fate: &Fate,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        sleep(fate.there).await;
        if fate.lost || self.is_cut(from, to) {
            sleep(SILENCE).await;
            return Err(Status::unavailable("no answer"));
        }
        let (parts, body) = request.into_parts();
        let body = if let Some(again) = fate.again {
            let whole = body.collect().await?.to_bytes();
            self.double(to, again, parts.clone(), whole.clone());
            Body::new(Full::new(whole))
        } else {
            body
        };
        let way = Way(self.clone(), from.to_owned(), to.to_owned());
        let answer = self.deliver(to, parts, way.pieces(body))?;
        let (parts, pieces) = answer
            .await
            .map_err(|_| Status::unavailable("connection lost"))?;
        sleep(fate.back).await;
        if fate.unanswered || self.is_cut(from, to) {
            sleep(SILENCE).await;
            return Err(Status::unavailable("no answer"));
        }
        Ok(Response::from_parts(parts, Body::new(pieces)))
    }

    fn deliver(
        &self,
        to: &str,
        parts: request::Parts,
        body: Pieces,
    ) -> Result<oneshot::Receiver<(response::Parts, Pieces)>, Status> {
        let (answer, answered) = oneshot::channel();
        let call = Arriving {
            parts,
            body,
            answer,
        };
        let state = self.state();
        let server = state.servers.get(to);
        let taken = server.is_some_and(|(_, server)| server.send(call).is_ok());
        drop(state);
        if taken {
            Ok(answered)
        } else {
            Err(Status::unavailable("connection refused"))
        }
    }

    /// The same call a second time, to which nobody listens.
    fn double(self: &Arc<Self>, to: &str, after: Duration, parts: request::Parts, whole: Bytes) {
        let (net, to) = (self.clone(), to.to_owned());
        tokio::spawn(async move {
            sleep(after).await;
            let way = Way(net.clone(), to.clone(), to.clone());
            let body = way.pieces(Body::new(Full::new(whole)));
            if let Ok(answer) = net.deliver(&to, parts, body)
                && let Ok((_, pieces)) = answer.await
            {
                let _ = pieces.collect().await;
            }
        });
    }
}

/// Answers one call, until nobody waits for it any more.
async fn take(net: Arc<Net>, server: String, handler: Handler, call: Arriving) {
    let Arriving {
        parts,
        body,
        mut answer,
    } = call;
    let caller = parts.extensions.get::<Caller>();
    let caller = caller.map_or_else(String::new, |caller| caller.id.name().to_owned());
    let response = tokio::select! {
        biased;
        response = handler(Request::from_parts(parts, Body::new(body))) => response,
        () = answer.closed() => return,
    };
    let (parts, body) = response.into_parts();
    let way = Way(net, server, caller);
    let _ = answer.send((parts, way.pieces(body)));
}

struct Serving {
    net: Weak<Net>,
    name: String,
    number: u64,
    taking: tokio::task::AbortHandle,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.taking.abort();
        let Some(net) = self.net.upgrade() else {
            return;
        };
        let mut state = net.state();
        if state
            .servers
            .get(&self.name)
            .is_some_and(|s| s.0 == self.number)
        {
            state.servers.remove(&self.name);
        }
    }
}

/// From one process to another.
struct Way(Arc<Net>, String, String);

impl Way {
    /// Carries a body over, in the sender's runtime.
    fn pieces(self, mut body: Body) -> Pieces {
        let (sender, receiver) = mpsc::channel(WINDOW);
        tokio::spawn(async move {
            loop {
                let frame = tokio::select! {
                    biased;
                    frame = body.frame() => frame,
                    // Whoever does not listen any more has hung up.
                    () = sender.closed() => return,
                };
                let piece = match frame {
                    Some(Ok(frame)) => Piece::Frame(frame),
                    None => Piece::End,
                    // A broken body breaks on the other side too.
                    Some(Err(_)) => return,
                };
                let Self(net, from, to) = &self;
                if matches!(piece, Piece::Frame(_)) {
                    sleep(net.delay()).await;
                }
                if net.is_cut(from, to) {
                    sleep(SILENCE).await;
                    return;
                }
                let end = matches!(piece, Piece::End);
                if sender.send(piece).await.is_err() || end {
                    return;
                }
            }
        });
        Pieces {
            receiver,
            ended: false,
        }
    }
}

enum Piece {
    Frame(Frame<Bytes>),
    End,
}

/// A body that arrives.
struct Pieces {
    receiver: mpsc::Receiver<Piece>,
    ended: bool,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.receiver.poll_recv(context).map(|piece| match piece {
            Some(Piece::Frame(frame)) => Some(Ok(frame)),
            Some(Piece::End) => {
                self.ended = true;
                None
            }
            None => {
                self.ended = true;
                Some(Err(Status::unavailable("connection lost")))
            }
        })
    }
}
