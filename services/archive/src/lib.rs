//! The archive: records in write-once storage, their retention, holds, search, orders and disposition.
//!
//! Called by the relay (ingest) and by people (auditors, records managers, legal, approvers, readers). It sees headers,
//! ciphertext and wraps; it must never see content, a content key or a share of a journaling key.
//!
//! Invariants: a receipt is signed only for what is durable and was read back; a conversation's numbers are dense and
//! chained; a wrap's ML-KEM ciphertext is accepted once, for ever; an object is never overwritten, and never removed before
//! its lock has run out.
//!
//! Order of every write: objects, then the erasable store, then the rows with the outbox, then the answer, then the log. A
//! crash between any two leaves what the next attempt finds.

pub mod app;
pub mod config;
pub mod error;
pub mod http;
pub mod ingest;
pub mod jobs;
pub mod objects;
pub mod people;
pub mod receipt;
pub mod rpc;
pub mod store;
pub mod uploads;
pub mod verify;

use greffe_service_kit::config::DatabaseConfig;
use greffe_service_kit::db::lease::{TTL, or_lost};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use greffe_api::archive::ingest_service_server::IngestServiceServer;
use greffe_policy::load_folder;
use greffe_service_kit::boot::{Boot, StartError};
use greffe_service_kit::db::{Database, DbOptions, Source};
use greffe_service_kit::errors::Causes;
use tokio_util::sync::CancellationToken;

pub use config::Config;

use app::{App, Packs, Signals};
use config::ArchiveConfig;
use error::ArchiveError;
use ingest::Ingest;
use objects::Objects;
use receipt::ReceiptKey;
use rpc::IngestRpc;
use store::Scope;

/// Keys that `--prepare` makes, by name and kind.
pub const KEYS: &[(&str, &str)] = &[("receipt_key", "ed25519")];

/// Largest request: ciphertext, MLS message, wraps, header and members of one entry.
const MAX_REQUEST: usize = 8 << 20;
/// How often interrupted dispositions are gone on with.
const DISPOSITION_INTERVAL: Duration = Duration::from_secs(5);

/// Serves until `stop`.
///
/// # Errors
/// When configuration, data folder, identity, secrets or trust do not allow to start, and when the server fails.
pub async fn serve(config: Config, stop: impl Future<Output = ()>) -> Result<(), StartError> {
    let boot = Boot::start(&config.service)?;
    let app = open(&boot, config.archive).await?;
    run(&boot, app, config.service.listen, stop).await
}

/// Serves an opened archive until `stop`.
///
/// # Errors
/// When its state cannot be read, and when the server fails.
pub async fn run(
    boot: &Boot,
    app: Arc<App>,
    listen: SocketAddr,
    stop: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let follower = jobs::follow::follower(&app, boot.health.condition("log"))
        .await
        .map_err(failed("cannot follow the log"))?;
    let ingest = Ingest::start(app.clone())
        .await
        .map_err(failed("cannot read the records"))?;
    let (records, orders) = people::services(&app);
    let server = boot
        .server(Arc::new(people::ArchiveAuth::new(app.clone())))
        .add(
            IngestServiceServer::new(IngestRpc::new(app.clone(), ingest))
                .max_decoding_message_size(MAX_REQUEST),
        )
        .add(records)
        .add(orders);
    let stopping = server.stopping();
    let listen_http = app.config.http.as_ref().map(|http| http.listen);
    let http = http::start(boot, listen_http, server.door(), stopping.clone()).await?;
    let tasks = [
        tokio::spawn(http),
        tokio::spawn(jobs::follow::run(app.clone(), follower, stopping.clone())),
        tokio::spawn(jobs::outbox::run(app.clone(), stopping.clone())),
        tokio::spawn(jobs::batches::run(app.clone(), stopping.clone())),
        tokio::spawn(jobs::sweep::run(app.clone(), stopping.clone())),
        tokio::spawn(jobs::scrub::run(app.clone(), stopping.clone())),
        tokio::spawn(jobs::months::run(
            app.clone(),
            boot.health.condition("months"),
            stopping.clone(),
        )),
        tokio::spawn(dispositions(app.clone(), stopping)),
    ];
    let stop = or_lost(&app.db, or_lost(&app.wraps, stop));
    let served = server.run(listen, &boot.ready_file(), stop).await;
    for task in tasks {
        // A task that panicked has said so; what it left undone the next start finds.
        let _ended = task.await;
    }
    app.wraps.close().await?;
    app.db.close().await?;
    Ok(served?)
}

/// Opens the data folder and takes over from any process that wrote before.
///
/// # Errors
/// [`StartError`].
pub async fn open(boot: &Boot, config: ArchiveConfig) -> Result<Arc<App>, StartError> {
    let secret = boot.open_secrets()?.seed("receipt_key")?;
    let packs = config
        .packs
        .iter()
        .map(|folder| load_folder(folder))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| StartError::service("cannot load a policy pack", error))?;
    let options = DbOptions::default();
    let (db, lease) = boot.database("archive.db", &store::MAIN, options).await?;
    let wraps = open_wraps(boot, &config).await?;
    if db.is_shared() && !wraps.is_shared() {
        return Err(StartError::service(
            "the archive's stores do not go together",
            "service.database is a server and archive.wraps is not set: a process that takes over would find no wraps. Name a \
             database of their own in archive.wraps.url",
        ));
    }
    let objects = Objects::open(config.objects.as_ref(), boot.data.join("objects"))
        .await
        .map_err(|error| StartError::service("cannot open the object store", error))?;
    let scope = Scope {
        tenant: boot.tenant().clone(),
        fence: lease.fence(),
    };
    let app = Arc::new(App {
        scope,
        config,
        db,
        wraps,
        objects,
        trust: boot.trust.clone(),
        clock: boot.clock.clone(),
        appender: boot.appender()?,
        audit: boot.channel("audit")?,
        packs: Packs::new(packs),
        receipts: ReceiptKey::new(&secret),
        signals: Signals::default(),
        naming: tokio::sync::Mutex::new(()),
        removing: tokio::sync::Mutex::new(()),
        logged_at: AtomicU64::new(0),
    });
    jobs::follow::restore(&app)
        .await
        .map_err(failed("cannot take in what the log said before"))?;
    Ok(app)
}

/// The erasable store: a database of its own, whose backups are short.
async fn open_wraps(boot: &Boot, config: &ArchiveConfig) -> Result<Database, StartError> {
    let source = match &config.wraps {
        Some(wraps) => Source::postgres(wraps.url.expose(), boot.tenant(), boot.name())?,
        None => Source::File(boot.data.join("wraps.db")),
    };
    let options = DbOptions {
        secure_delete: true,
        migrate: config.wraps.as_ref().is_none_or(|wraps| wraps.migrate),
        ..DbOptions::default()
    };
    let wraps = Database::open(&source, &store::WRAPS, options).await?;
    // Of its own, since no transaction spans two databases: who lost one writes nothing into the other.
    let ttl = config.wraps.as_ref().map_or(TTL, DatabaseConfig::lease);
    wraps
        .take_lease_for(boot.tenant(), boot.name(), ttl)
        .await?;
    Ok(wraps)
}

/// Goes on with interrupted dispositions, until the service stops.
async fn dispositions(app: Arc<App>, stop: CancellationToken) {
    loop {
        if let Err(error) = jobs::disposition::sweep(&app).await {
            tracing::error!(causes = %Causes(&error), "dispositions wait");
        }
        tokio::select! {
            () = tokio::time::sleep(DISPOSITION_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn failed(what: &'static str) -> impl FnOnce(ArchiveError) -> StartError {
    move |error| StartError::service(what, error)
}
