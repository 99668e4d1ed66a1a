//! The start of every service: logs, data folder, identity, pinned root, trust.

mod leadership;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use crate::tls::Channel;
use greffe_envelope::trust::{RootKey, TrustError, TrustState};
use greffe_policy::AccessRules;
use greffe_types::TenantId;

use crate::append::Appender;
use crate::check;
use crate::clock::{SharedClock, SystemClock};
use crate::config::{ConfigError, DatabaseConfig, Limits, PeerConfig, SealConfig, ServiceConfig};
use crate::db::lease::{Lease, TTL};
use crate::db::{Database, DbError, DbOptions, Ended, Migrations, Source, Writers};
use crate::files::FileError;
use crate::folder::{DataFolder, FolderError};
use crate::health::server::Listening;
use crate::health::{self, Guard, Health, Phase};
use crate::ready::READY_FILE;
use crate::secrets::{Keystore, Secrets, SecretsError};
use crate::serve::{Authenticator, ServeError, Server};
use crate::simulation;
use crate::telemetry::{self, Origin, TelemetryError, metrics};
use crate::tls::{self, ConnectError, Identity, SpiffeError, SpiffeId, TlsError, connect_lazy};

pub use leadership::Leadership;

/// Why a service does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its configuration.
    #[error("the configuration is refused")]
    Config(#[from] ConfigError),
    /// Its log.
    #[error("cannot start logging")]
    Telemetry(#[from] TelemetryError),
    /// Its data folder.
    #[error("the data folder is refused")]
    Folder(#[from] FolderError),
    /// Its certificate.
    #[error("the TLS identity is refused")]
    Tls(#[from] TlsError),
    /// Its certificate is another tenant's, or not a service's.
    #[error("the certificate is for {found}, not for a service of tenant {tenant}")]
    Identity {
        /// Whose the certificate is.
        found: Box<SpiffeId>,
        /// Who is served.
        tenant: TenantId,
    },
    /// Production was asked for, and this is a development identity.
    #[error(
        "DEVELOPMENT_IDENTITY: {what} is of a development identity, made by `greffe up` on one machine, and service.mode is \"production\": \
         use one whose root, issuer and nodes are apart, or set service.mode = \"development\""
    )]
    Development {
        /// What shows it.
        what: &'static str,
    },
    /// The first bundle.
    #[error("the first trust bundle is not the pinned root's")]
    Trust(#[from] TrustError),
    /// A peer's name cannot be one.
    #[error("a peer cannot be named so")]
    Peer(#[from] SpiffeError),
    /// A peer's address cannot be one.
    #[error("a peer cannot be reached")]
    Connect(#[from] ConnectError),
    /// Its health port.
    #[error(
        "cannot listen on {address}: name a free address of this machine in service.health.listen"
    )]
    Health {
        /// Which address.
        address: SocketAddr,
        /// As the system reported it.
        source: std::io::Error,
    },
    /// Its database.
    #[error("the database is refused")]
    Database(#[from] DbError),
    /// Another process took over while this one ran, or the disk failed.
    #[error("this process has to stop")]
    Ended(#[from] Ended),
    /// A file of its data folder.
    #[error("a file of the data folder is refused")]
    File(#[from] FileError),
    /// Its secrets.
    #[error("the secrets are refused")]
    Secrets(#[from] SecretsError),
    /// Its server.
    #[error("the server stopped")]
    Serve(#[from] ServeError),
    /// What only this service checks.
    #[error("{what}")]
    Service {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StartError {
    /// Stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Config(_) => "SETTINGS_REFUSED",
            Self::Telemetry(_) => "LOGGING_FAILED",
            Self::Folder(error) => error.reason().as_str(),
            Self::Tls(_) | Self::Identity { .. } => "TLS_IDENTITY",
            Self::Development { .. } => "DEVELOPMENT_IDENTITY",
            Self::Trust(_) => "TRUST_BUNDLE",
            Self::Peer(_) | Self::Connect(_) => "PEER_REFUSED",
            Self::Database(_) => "DATABASE_FAILED",
            Self::Ended(ended) => ended.reason().as_str(),
            Self::File(error) => error.reason().as_str(),
            Self::Secrets(error) => error.reason(),
            Self::Health { source, .. } | Self::Serve(ServeError::Listen { source, .. })
                if source.kind() == std::io::ErrorKind::AddrInUse =>
            {
                "PORT_IN_USE"
            }
            Self::Health { .. } | Self::Serve(_) | Self::Service { .. } => "SERVICE_FAILED",
        }
    }

    /// What only one service checks.
    pub fn service(
        what: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Service {
            what,
            source: source.into(),
        }
    }
}

/// New certificates are taken while the service runs, under the rules of its start.
fn renew(identity: &Identity, config: &ServiceConfig) {
    let rules = config.clone();
    let admit: tls::renew::Admit = Box::new(move |new| Ok(check::admit(&rules, new)?));
    tls::renew::watch(identity, &config.tls, true, admit);
}

fn health_port(config: &ServiceConfig, health: &Health) -> Result<Option<Listening>, StartError> {
    let Some(address) = config.health.as_ref().map(|health| health.listen) else {
        return Ok(None);
    };
    Listening::start(address, health.clone())
        .map(Some)
        .map_err(|source| StartError::Health { address, source })
}

/// The tenant's trust, shared by a service's tasks. A state whose holder panicked is still whole: changes are applied in
/// one step after everything was verified.
#[derive(Debug, Clone)]
pub struct SharedTrust(Arc<RwLock<TrustState>>);

impl SharedTrust {
    /// Shares a state.
    pub fn new(state: TrustState) -> Self {
        Self(Arc::new(RwLock::new(state)))
    }

    /// To look something up. Not across an await.
    pub fn read(&self) -> RwLockReadGuard<'_, TrustState> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// To take a statement in. Not across an await.
    pub fn write(&self) -> RwLockWriteGuard<'_, TrustState> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What every service starts with.
#[derive(Debug)]
pub struct Boot {
    /// Who we are.
    pub identity: Identity,
    /// The pinned root.
    pub root: RootKey,
    /// What the root has vouched for; at first only the first bundle.
    pub trust: SharedTrust,
    /// The system's clock.
    pub clock: SharedClock,
    /// The data folder, ours alone.
    pub data: PathBuf,
    /// Folder with the seal key and the sealed secrets.
    pub secrets: PathBuf,
    /// What protects the seal key, if not a file.
    pub seal: Option<SealConfig>,
    /// The database, if not SQLite in the data folder.
    pub database: Option<DatabaseConfig>,
    /// What one process takes on.
    pub limits: Limits,
    /// Whether the process lives and is ready; what the health port tells.
    pub health: Health,
    peers: BTreeMap<String, PeerConfig>,
    listening: Option<Listening>,
    watched: Arc<Mutex<Vec<Guard>>>,
    _folder: DataFolder,
}

impl Boot {
    /// Starts: nothing is served yet and nobody called.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(config: &ServiceConfig) -> Result<Self, StartError> {
        let identity = check::identity(config)?;
        let origin = Origin {
            service: identity.id().name().to_owned(),
            tenant: config.tenant.to_string(),
        };
        if !simulation::is_on() {
            match telemetry::init(&config.log, &config.telemetry, &origin) {
                // Several services of one process share its log.
                Ok(()) | Err(TelemetryError::Twice) => {}
                Err(error) => return Err(error.into()),
            }
        }
        metrics::CERTIFICATE_NOT_AFTER.set(identity.not_after().try_into().unwrap_or(0));
        renew(&identity, config);
        let health = Health::new();
        let listening = health_port(config, &health)?;
        let folder = DataFolder::open(&config.data, &config.tenant, identity.id().name())?;
        let (root, trust) = check::trust(config)?;
        Ok(Self {
            identity,
            root,
            trust: SharedTrust::new(trust),
            clock: Arc::new(SystemClock),
            data: config.data.clone(),
            secrets: config.secrets().to_owned(),
            seal: config.seal.clone(),
            database: config.database.clone(),
            limits: config.limits.clone(),
            health,
            peers: config.peers.clone(),
            listening,
            watched: Arc::default(),
            _folder: folder,
        })
    }

    /// Our own name, such as `escrow-2`.
    pub fn name(&self) -> &str {
        self.identity.id().name()
    }

    /// The tenant served.
    pub fn tenant(&self) -> &TenantId {
        self.root.tenant()
    }

    /// Opens the service's secrets. Blocking.
    ///
    /// # Errors
    /// [`StartError::Secrets`].
    pub fn open_secrets(&self) -> Result<Secrets, StartError> {
        Ok(Keystore::new(&self.secrets, self.tenant(), self.seal.as_ref()).open()?)
    }

    /// Opens the service's database, the configured one or a file of the data folder, and waits for its lease: of several
    /// processes one serves, and the others stand by.
    ///
    /// # Errors
    /// [`StartError::Database`].
    pub async fn database(
        &self,
        file: &str,
        migrations: &Migrations,
        mut options: DbOptions,
    ) -> Result<(Database, Lease), StartError> {
        options.writers = Writers::Leader;
        self.health.enter(Phase::Standby);
        metrics::LEASE_HELD.set(0);
        let database = self.open(file, migrations, options).await?;
        let holder = leadership::holder();
        let lease = database
            .take_lease_for(self.tenant(), &holder, self.lease())
            .await?;
        self.health.enter(Phase::Starting);
        leadership::leads(&lease);
        self.watch([
            health::watch_lease(&self.health, &lease),
            health::watch_database(&self.health, &database),
        ]);
        Ok((database, lease))
    }

    /// Opens the service's database for a process that serves whoever has the lease: several do at once, and each writes
    /// ([`Writers::Any`]). What only one may do begins when [`Leadership::gained`] comes back.
    ///
    /// # Errors
    /// [`StartError::Database`].
    pub async fn replicated(
        &self,
        file: &str,
        migrations: &Migrations,
        mut options: DbOptions,
    ) -> Result<(Database, Leadership), StartError> {
        options.writers = Writers::Any;
        metrics::LEASE_HELD.set(0);
        let database = self.open(file, migrations, options).await?;
        let holder = leadership::holder();
        let candidate = database
            .candidate(self.tenant(), &holder, self.lease())
            .await?;
        self.watch([health::watch_database(&self.health, &database)]);
        let leadership = Leadership::new(candidate, self.health.clone(), self.watched.clone());
        Ok((database, leadership))
    }

    async fn open(
        &self,
        file: &str,
        migrations: &Migrations,
        mut options: DbOptions,
    ) -> Result<Database, DbError> {
        let source = match &self.database {
            Some(config) => {
                options.migrate = config.migrate;
                Source::postgres(config.url.expose(), self.tenant(), self.name())?
            }
            None => Source::File(self.data.join(file)),
        };
        Database::open(&source, migrations, options).await
    }

    /// How long the lease holds without being renewed.
    fn lease(&self) -> Duration {
        self.database.as_ref().map_or(TTL, DatabaseConfig::lease)
    }

    /// A channel to the service of that name, where the configuration says it is. The first call connects. Needs a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`StartError::Config`] without such a peer, [`StartError::Peer`], [`StartError::Connect`].
    pub fn channel(&self, name: &str) -> Result<Channel, StartError> {
        let peer = self.peers.get(name).ok_or_else(|| ConfigError::Peer {
            name: name.to_owned(),
        })?;
        let expected = SpiffeId::service(self.tenant(), name)?;
        Ok(connect_lazy(peer, &expected, &self.identity)?)
    }

    /// The peers configured.
    pub fn peers(&self) -> impl Iterator<Item = &str> {
        self.peers.keys().map(String::as_str)
    }

    /// Appends to the log through the configured audit service.
    ///
    /// # Errors
    /// As [`Boot::channel`].
    pub fn appender(&self) -> Result<Appender, StartError> {
        Ok(Appender::new(self.channel("audit")?, self.tenant()))
    }

    /// A server of this identity under the embedded access rules.
    pub fn server(&self, auth: Arc<dyn Authenticator>) -> Server {
        Server::new(&self.identity, &self.limits, AccessRules::embedded(), auth)
            .with_health(&self.health)
    }

    fn watch(&self, guards: impl IntoIterator<Item = Guard>) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.extend(guards);
    }

    /// Where the health port listens, if there is one.
    pub fn health_address(&self) -> Option<SocketAddr> {
        self.listening.as_ref().map(Listening::address)
    }

    /// Where [`Server::run`] says that it listens.
    pub fn ready_file(&self) -> PathBuf {
        self.data.join(READY_FILE)
    }
}

/// This machine's name, for people: Kubernetes and most shells set it.
fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}
