//! The audit service: an append-only Merkle log of every act of a tenant.
//!
//! Duty: takes typed entries from the other services, gives each its place, makes it durable before it says so, and
//! publishes trees over them that a quorum of witnesses has cosigned. Callers: relay, archive and escrow nodes append; they
//! and applications read. Where the settings say so, anybody who reaches the port reads it as files over plain HTTP (`web`). It
//! never sees content or keys.
//!
//! Invariants:
//! - an index is told only after the leaf is on disk; an acknowledged leaf is in the next checkpoint;
//! - nothing is signed before the root has been computed a second time, from the files that others will read
//!   (`grow`), nor before enough witnesses have been heard since the start to exclude that the log is an old copy;
//! - what is signed is kept before a witness sees it; leaves are served once a quorum has cosigned a tree over them;
//! - `at` of entries never goes back.

mod app;
mod checkpointer;
mod config;
mod entry;
mod follow;
mod grow;
mod load;
mod measure;
mod refusals;
mod rpc;
mod sequencer;
mod state;
mod store;
mod texts;
mod tiles;
mod web;
mod witnesses;

use std::future::{Future, pending};
use std::sync::Arc;

use greffe_api::audit::audit_service_server::AuditServiceServer;
use greffe_api::audit::log_service_server::LogServiceServer;
use greffe_service_kit::boot::{Boot, StartError};
use greffe_service_kit::clock::{SharedClock, SystemClock};
use greffe_service_kit::db::group::{GroupCommit, GroupLimits};
use greffe_service_kit::db::lease::or_lost;
use greffe_service_kit::db::{DbOptions, Migrations};
use greffe_service_kit::errors::Reason;
use greffe_tlog::NoteSigner;
use sqlx::migrate::Migrator;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use app::{LEAF_NOT_FOUND, NOT_COSIGNED, REQUEST_INVALID, SIZE_NOT_PUBLISHED, TILE_NOT_FOUND};
pub use config::{AuditConfig, Config, TilesConfig};
pub use entry::{ENTRY_INVALID, ENTRY_TOO_LARGE, IDEMPOTENCY_CONFLICT, TENANT_MISMATCH};
pub use state::{LOG_BEHIND_CHECKPOINT, LOG_DAMAGED, LOG_FORKED};
pub use web::{CHECKPOINT_NOT_FOUND, ENTRIES_NOT_SERVED, METHOD_NOT_ALLOWED, PATH_UNKNOWN};

use app::App;
use checkpointer::{Checkpointer, Wakers};
use refusals::Refusals;
use rpc::{Appending, Reading};
use sequencer::Sequencer;
use state::State;
use tiles::Tiles;
use web::Listening;

/// The keys that this service makes for itself before its first start.
pub const KEYS: &[(&str, &str)] = &[(LOG_KEY, "ed25519")];

/// The bundle names another log key than this service holds: nothing it signs would be believed.
pub const LOG_KEY_MISMATCH: Reason = Reason::new("LOG_KEY_MISMATCH");

const LOG_KEY: &str = "log_key";
/// Of the data folder.
const DATABASE: &str = "log.sqlite";
const FILES: &str = "log";

/// The log's tables.
pub const MIGRATIONS: Migrations = Migrations {
    sqlite: &SQLITE,
    postgres: Some(&POSTGRES),
};
static SQLITE: Migrator = sqlx::migrate!("./migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("./migrations/postgres");

/// Runs the service until `stop`.
///
/// # Errors
/// [`StartError`].
pub async fn serve(config: Config, stop: impl Future<Output = ()>) -> Result<(), StartError> {
    serve_at(config, Arc::new(SystemClock), stop).await
}

/// As [`serve`], by a given clock.
///
/// # Errors
/// [`StartError`].
pub async fn serve_at(
    config: Config,
    clock: SharedClock,
    stop: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let boot = Boot::start(&config.service)?;
    let signer = log_signer(&boot)?;
    let options = DbOptions::default();
    let (db, _) = boot.database(DATABASE, &MIGRATIONS, options).await?;
    let folder = boot.data.join(FILES);
    let tiles = Tiles::open(&folder).map_err(failed("opening the log's folder"))?;
    let loaded = load::load(&db, tiles.clone(), signer, &boot.trust)
        .await
        .map_err(failed("loading the log"))?;

    let (sender, state) = watch::channel(State {
        published: loaded.published.clone(),
        halted: None,
    });
    let wakers = Arc::new(Wakers::default());
    let sequencer = Sequencer {
        clock: clock.clone(),
        tolerance: config.audit.clock_tolerance(),
        wakers: wakers.clone(),
    };
    let limits = GroupLimits::default();
    let time = clock.clone();
    let app = App {
        group: GroupCommit::spawn("audit.append", db.clone(), sequencer, limits),
        db: db.clone(),
        tiles,
        state,
        wakers: wakers.clone(),
        clock,
        wait: config.audit.wait(),
    };
    // A standby has not come this far: the files are those of the process that writes them.
    let files = config.audit.tiles.as_ref().map(|tiles| {
        Listening::start(tiles, app.clone()).map_err(failed(
            "cannot listen on audit.tiles.listen: name a free address of this machine there",
        ))
    });
    let files = files.transpose()?;
    let refusals = Arc::new(Refusals::start(app.clone(), boot.tenant(), boot.name()));
    let server = boot
        .server(refusals)
        .add(AuditServiceServer::new(Appending(app.clone())))
        .add(LogServiceServer::new(Reading(app)));
    let ready_file = boot.ready_file();
    // Kept here too: what is published stays served after the job has had to halt.
    let shown = sender.clone();
    let checkpointer = Checkpointer::new(boot, db.clone(), config.audit, loaded, sender, wakers);
    let mut job = tokio::spawn(checkpointer.run());
    let measuring = tokio::spawn(measure::run(db.clone(), time, shown.subscribe()));
    let stop = or_lost(&db, stop);
    let stop = async {
        tokio::select! {
            () = stop => {}
            () = ended(&mut job) => {}
        }
    };
    let outcome = server.run(config.service.listen, &ready_file, stop).await;
    drop(files);
    job.abort();
    measuring.abort();
    // The data folder is unlocked only after the job, which holds it, has ended.
    while !job.is_finished() {
        tokio::task::yield_now().await;
    }
    drop(shown);
    db.close().await?;
    Ok(outcome?)
}

/// Comes back when the job that signs has failed: a log that takes entries and never signs them would be worse than none.
async fn ended(job: &mut JoinHandle<()>) {
    match job.await {
        // Halted, with a reason that callers are told.
        Ok(()) => pending().await,
        Err(error) => tracing::error!(%error, "the job that signs has ended; the service stops"),
    }
}

/// The log's key, which has to be the one that the root has vouched for.
fn log_signer(boot: &Boot) -> Result<NoteSigner, StartError> {
    let seed = boot.open_secrets()?.seed(LOG_KEY)?;
    let trust = boot.trust.read();
    let log = trust.bundle().log();
    let signer = NoteSigner::new(&log.origin, &seed).map_err(failed("reading the log's key"))?;
    if signer.verifier().key().as_slice() != log.key {
        return Err(StartError::service(
            "LOG_KEY_MISMATCH: the trust bundle names another log key than this service holds",
            "publish a bundle with the key that --prepare gives, or restore the secrets of this data folder",
        ));
    }
    Ok(signer)
}

fn failed<E: std::error::Error + Send + Sync + 'static>(
    what: &'static str,
) -> impl FnOnce(E) -> StartError {
    move |error| StartError::service(what, error)
}
