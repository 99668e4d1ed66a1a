//! Serving: mutual TLS, one rule for every RPC, health, reflection, deadlines, and a drain that ends.

mod accept;
mod access;
mod auth;
mod ending;
mod https;
mod meter;

use core::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use greffe_policy::{AccessRules, Call, Permit};
use http::{Request, Response};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tower::Service;

pub use auth::{Authenticator, TlsOnly, tls_caller};

use access::AccessLayer;
pub use access::{
    CALL_TOO_LONG, CALLER_NOT_ALLOWED, NO_ACCESS_RULE, NO_CERTIFICATE, TOO_MANY_BYTES,
    TOO_MANY_CALLS, TOO_MANY_STREAMS, UNKNOWN_METHOD,
};
pub use ending::SERVICE_STOPPING;
pub use https::{Door, Https, Incoming};

use crate::config::Limits;
use crate::errors::{Causes, Reason, ServiceError};
use crate::files::FileError;
use crate::health::{Health, Phase};
use crate::ready::Ready;
use crate::simulation;
use crate::tls::{self, Identity, TlsError, server_config};

/// A silent connection is asked for a sign of life after this, and closed after as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// After the drain's time is up, connections have this long to notice.
const CUT: Duration = Duration::from_secs(1);
/// A handler asked for something that the access layer puts there before every call.
const NO_CALLER: Reason = Reason::new("NO_CALLER");

/// Why a service does not serve, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken, not ours, or not allowed.
    #[error("cannot listen on {address}: name a free address of this machine in service.listen")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// As the system reported it.
        source: std::io::Error,
    },
    /// The identity cannot be used by a server.
    #[error("cannot use the TLS identity")]
    Tls(#[from] TlsError),
    /// The ready file cannot be written.
    #[error("cannot say where we listen")]
    Ready(#[from] FileError),
    /// The descriptors of the contracts cannot be read.
    #[error("cannot serve reflection")]
    Reflection(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The transport gave up.
    #[error("the server failed")]
    Transport(#[from] tonic::transport::Error),
}

/// A server with its services.
pub struct Server {
    identity: Identity,
    limits: Limits,
    access: &'static AccessRules,
    auth: Arc<dyn Authenticator>,
    routes: Routes,
    services: Vec<&'static str>,
    health: Health,
    stop: CancellationToken,
    /// One for every way in: what they take on together is limited.
    gate: OnceLock<AccessLayer>,
}

impl Server {
    /// Without services yet.
    pub fn new(
        identity: &Identity,
        limits: &Limits,
        access: &'static AccessRules,
        auth: Arc<dyn Authenticator>,
    ) -> Self {
        Self {
            identity: identity.clone(),
            limits: limits.clone(),
            access,
            auth,
            routes: Routes::default(),
            services: Vec::new(),
            health: Health::new(),
            stop: CancellationToken::new(),
            gate: OnceLock::new(),
        }
    }

    fn gate(&self) -> AccessLayer {
        let new = || {
            AccessLayer::new(
                self.access,
                self.auth.clone(),
                &self.limits,
                self.stop.clone(),
            )
        };
        self.gate.get_or_init(new).clone()
    }

    /// Says there when it serves and when it drains.
    #[must_use]
    pub fn with_health(mut self, health: &Health) -> Self {
        self.health = health.clone();
        self
    }

    /// Adds a generated service.
    #[expect(
        clippy::should_implement_trait,
        reason = "a server is no number, and this is what its readers expect"
    )]
    #[must_use]
    pub fn add<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.routes = self.routes.add_service(service);
        self.services.push(S::NAME);
        self
    }

    /// Cancelled when the server begins to stop, for what runs beside it. Streams that it answers end by themselves.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Listens, writes the ready file, serves until `shutdown`, then drains. Calls under way are finished within the
    /// drain's limit; streams end with UNAVAILABLE at once, so that their callers go on elsewhere.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn run(
        self,
        listen: SocketAddr,
        ready_file: &Path,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        // However this ends, a listener that was not free included: what runs beside the server ends with it.
        let _stopped = self.stop.clone().drop_guard();
        let layer = self.gate();
        if let Some(hooks) = simulation::hooks() {
            let serving = hooks.serve(self.identity.id(), self.door().handler());
            self.health.enter(Phase::Serving);
            shutdown.await;
            self.health.enter(Phase::Draining);
            self.stop.cancel();
            drop(serving);
            return Ok(());
        }
        let tls = TlsAcceptor::from(server_config(&self.identity)?);
        let failed = |source| ServeError::Listen {
            address: listen,
            source,
        };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let cut = CancellationToken::new();
        let incoming = accept::incoming(listener, tls, &self.limits, cut.clone());

        let (health, health_service) = tonic_health::server::health_reporter();
        for name in &self.services {
            health
                .set_service_status(*name, ServingStatus::Serving)
                .await;
        }
        let routes = self.routes.add_service(health_service);
        // Clients in other languages still ask for the version before.
        let routes = routes.add_service(reflection()?);
        let routes = routes.add_service(older_reflection()?);
        let ready = Ready {
            service: self.identity.id().name().to_owned(),
            address,
            pid: std::process::id(),
        }
        .write(ready_file)?;
        tracing::info!(service = self.identity.id().name(), %address, "serving");
        self.health.enter(Phase::Serving);

        let stop = self.stop.clone();
        let signal = async {
            shutdown.await;
            self.health.enter(Phase::Draining);
            drop(ready);
            for name in self.services.iter().copied().chain([""]) {
                health
                    .set_service_status(name, ServingStatus::NotServing)
                    .await;
            }
            stop.cancel();
        };
        let serving = tonic::transport::Server::builder()
            .max_concurrent_streams(Some(self.limits.streams))
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .layer(layer)
            .serve_with_incoming_shutdown(routes.prepare(), incoming, signal);
        let drain = self.limits.drain();
        let overtime = async {
            self.stop.cancelled().await;
            tokio::time::sleep(drain).await;
            cut.cancel();
            tokio::time::sleep(CUT).await;
        };
        let outcome = tokio::select! {
            served = serving => served.map_err(ServeError::from),
            () = overtime => {
                tracing::warn!("calls were cut: they outlived the drain");
                Ok(())
            }
        };
        // Also when the transport failed: nothing may go on as if we served.
        self.health.enter(Phase::Draining);
        if let Err(error) = &outcome {
            tracing::error!(causes = %Causes(error), "serving failed");
        }
        outcome
    }
}

fn reflected() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(greffe_api::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

fn reflection() -> Result<
    tonic_reflection::server::v1::ServerReflectionServer<
        impl tonic_reflection::server::v1::ServerReflection,
    >,
    ServeError,
> {
    let built = reflected().build_v1();
    built.map_err(|error| ServeError::Reflection(error.into()))
}

fn older_reflection() -> Result<
    tonic_reflection::server::v1alpha::ServerReflectionServer<
        impl tonic_reflection::server::v1alpha::ServerReflection,
    >,
    ServeError,
> {
    let built = reflected().build_v1alpha();
    built.map_err(|error| ServeError::Reflection(error.into()))
}

/// Who makes this call, as the access layer established it.
///
/// # Errors
/// INTERNAL outside of a [`Server`].
pub fn caller<T>(request: &tonic::Request<T>) -> Result<&greffe_policy::Caller, ServiceError> {
    extension(request)
}

/// The permit for this call.
///
/// # Errors
/// INTERNAL outside of a [`Server`].
pub fn permit<T>(request: &tonic::Request<T>) -> Result<Arc<Permit<Call>>, ServiceError> {
    extension::<Arc<Permit<Call>>, T>(request).cloned()
}

/// The peer of this call, by its certificate.
///
/// # Errors
/// INTERNAL outside of a [`Server`].
pub fn peer<T>(request: &tonic::Request<T>) -> Result<&tls::Caller, ServiceError> {
    extension(request)
}

fn extension<E: Send + Sync + 'static, T>(request: &tonic::Request<T>) -> Result<&E, ServiceError> {
    request.extensions().get().ok_or_else(|| {
        ServiceError::new(
            tonic::Code::Internal,
            NO_CALLER,
            "the call did not pass the access layer",
        )
    })
}
