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

use greffe_service_kit::db::lease::or_lost;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use greffe_api::archive::ingest_service_server::IngestServiceServer;
use greffe_policy::load_folder;
use greffe_service_kit::boot::{Boot, Leadership, StartError};
use greffe_service_kit::db::{Database, DbOptions, Source, Writers};
use greffe_service_kit::errors::Causes;
use greffe_service_kit::shares::Shares;
use tokio_util::sync::CancellationToken;

pub use config::Config;

use app::{App, News, Packs, Signals};
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
    let (app, leadership) = open(&boot, config.archive).await?;
    run(&boot, app, leadership, config.service.listen, stop).await
}

/// Serves an opened archive until `stop`. Several may serve at once; the one that leads also does the background work of all.
///
/// # Errors
/// When its state cannot be read, and when the server fails.
pub async fn run(
    boot: &Boot,
    app: Arc<App>,
    leadership: Leadership,
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
    let months = boot.health.condition("months");
    let http_ended = CancellationToken::new();
    let ending = http_ended.clone().drop_guard();
    let http = tokio::spawn(async move {
        let _ending = ending;
        http.await
    });
    let tasks = [
        tokio::spawn(jobs::follow::run(app.clone(), follower, stopping.clone())),
        tokio::spawn(jobs::wake::run(app.clone(), stopping.clone())),
        tokio::spawn(jobs::months::run(app.clone(), months, stopping.clone())),
        tokio::spawn(lead(app.clone(), leadership, stopping)),
    ];
    let stop = async {
        tokio::select! {
            () = or_lost(&app.db, stop) => {}
            () = http_ended.cancelled() => {}
        }
    };
    let served = server.run(listen, &boot.ready_file(), stop).await;
    for task in tasks {
        // A task that panicked has said so; what it left undone the next start finds.
        let _ended = task.await;
    }
    // As an error, a panic ends the process with a status that says so.
    let http = http.await;
    let wraps = app.wraps.close().await;
    app.db.close().await?;
    wraps?;
    served?;
    Ok(http.map_err(|panic| StartError::service("the HTTP port stopped", panic))??)
}

/// What one process does for all, from when it leads until the service stops.
async fn lead(app: Arc<App>, leadership: Leadership, stop: CancellationToken) {
    tokio::select! {
        _lease = leadership.gained() => {}
        () = stop.cancelled() => return,
    }
    app.leads.store(true, Ordering::Relaxed);
    // Whoever waits for another process to lead sees that it is this one.
    app.signals.wake(News::Disposals);
    app.signals.months.notify_one();
    tokio::join!(
        jobs::outbox::run(app.clone(), stop.clone()),
        jobs::batches::run(app.clone(), stop.clone()),
        jobs::sweep::run(app.clone(), stop.clone()),
        jobs::scrub::run(app.clone(), stop.clone()),
        dispositions(app, stop),
    );
}

/// Opens the data folder and the stores.
///
/// # Errors
/// [`StartError`].
pub async fn open(
    boot: &Boot,
    config: ArchiveConfig,
) -> Result<(Arc<App>, Leadership), StartError> {
    let secret = boot.open_secrets()?.seed("receipt_key")?;
    let packs = config
        .packs
        .iter()
        .map(|folder| load_folder(folder))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| StartError::service("cannot load a policy pack", error))?;
    let options = DbOptions::default();
    let (db, leadership) = boot.replicated("archive.db", &store::MAIN, options).await?;
    let wraps = open_wraps(boot, &config).await?.sharing(&db);
    if db.is_shared() && !wraps.is_shared() {
        return Err(StartError::service(
            "the archive's stores do not go together",
            "service.database is a server and archive.wraps is not set: a process that takes over would find no wraps. Name a \
             database of their own in archive.wraps.url",
        ));
    }
    if db.is_shared() && config.objects.is_none() {
        // Which of several archives this is, and what is mounted where, nobody here can tell.
        tracing::warn!(
            folder = %boot.data.join("objects").display(),
            "records are in a database that several archives may share, their content is in a folder: every archive of this \
             database has to see this same folder. Where they run on several machines, set archive.objects to a bucket"
        );
    }
    let folder = boot.data.join("objects");
    let objects = Objects::open(config.objects.as_ref(), folder, db.disk())
        .await
        .map_err(|error| StartError::service("cannot open the object store", error))?;
    let scope = Scope {
        tenant: boot.tenant().clone(),
    };
    let app = Arc::new(App {
        scope,
        searches: Shares::new(config.searches, config.searches_per_person),
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
        removing: tokio::sync::Mutex::new(()),
        leads: AtomicBool::new(false),
        logged_at: AtomicU64::new(0),
    });
    jobs::follow::restore(&app)
        .await
        .map_err(failed("cannot take in what the log said before"))?;
    Ok((app, leadership))
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
        // It has no lease: whatever is written there again is the same, and what was destroyed never comes back.
        writers: Writers::Any,
    };
    Ok(Database::open(&source, &store::WRAPS, options).await?)
}

/// Goes on with interrupted dispositions, until the service stops: also while one waits for the log, which nothing is sent to
/// any more by then. What it leaves the next process finds.
async fn dispositions(app: Arc<App>, stop: CancellationToken) {
    let work = async {
        loop {
            if let Err(error) = jobs::disposition::sweep(&app).await {
                tracing::error!(causes = %Causes(&error), "dispositions wait");
            }
            tokio::select! {
                () = tokio::time::sleep(DISPOSITION_INTERVAL) => {}
                () = app.signals.disposals.notified() => {}
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

fn failed(what: &'static str) -> impl FnOnce(ArchiveError) -> StartError {
    move |error| StartError::service(what, error)
}
