//! `greffe verify --archive`: everything that the archive holds, held against itself and against the log.
//!
//! After a restore this says whether the database, the erasable store, the objects and the log belong together: receipts are
//! the archive's, chains have no gap, batches have the roots that the log has, objects their digests and locks, wraps their
//! proofs, and what was destroyed is not back. An object is read from the first copy that is whole; the scrub compares both. No
//! record is changed, but opening is that of a start: a file of SQLite comes to this version, a bucket is tried. The service
//! must not run over the same data folder; the log has to.

mod log;
mod records;

use std::sync::Arc;

use greffe_service_kit::boot::{Boot, StartError};
use greffe_service_kit::db::{Database, DbOptions, Source};
use greffe_types::Digest;
use serde::Serialize;

use crate::config::Config;
use crate::objects::Objects;
use crate::store::{self, Scope};

/// Findings that are told one by one; the rest is counted.
const TOLD: usize = 100;

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about, such as `record 17` or `the log`.
    pub item: String,
    /// What is wrong.
    pub problem: String,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Leaves of the log, under a checkpoint that a quorum of witnesses stands by.
    pub log_size: u64,
    /// Its root.
    pub log_root: String,
    /// Records, of any kind.
    pub records: u64,
    /// RFC 6962 root over all receipts in the archive's order: two copies with the same root have the same records.
    pub records_root: String,
    /// Conversations, each with a chain without gap.
    pub conversations: u64,
    /// Messages whose wraps are there and prove what they hold.
    pub wraps: u64,
    /// Records disposed of, or being so.
    pub disposed: u64,
    /// Objects read through.
    pub objects: u64,
    /// Their bytes.
    pub object_bytes: u64,
    /// Receipts that a leaf of the log stands for.
    pub receipts_logged: u64,
    /// Receipts whose leaf is still to come.
    pub receipts_waiting: u64,
    /// How many things do not hold.
    pub failures: u64,
    /// The first of them.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether everything holds.
    pub const fn holds(&self) -> bool {
        self.failures == 0
    }

    fn finding(&mut self, item: impl Into<String>, problem: impl Into<String>) {
        self.failures += 1;
        if self.findings.len() < TOLD {
            self.findings.push(Finding {
                item: item.into(),
                problem: problem.into(),
            });
        }
    }
}

/// What is looked through.
struct Stores {
    scope: Scope,
    db: Database,
    wraps: Database,
    objects: Objects,
}

/// Looks through an archive's stores.
///
/// # Errors
/// [`StartError`] when they, or the log, cannot be read at all; what does not hold is in the report.
pub async fn verify(mut config: Config) -> Result<Report, StartError> {
    config.service.health = None;
    let boot = Boot::start(&config.service)?;
    let file = |name: &str| Source::File(boot.data.join(name));
    let server = |url: &str| Source::postgres(url, boot.tenant(), boot.name());
    let source = match &config.service.database {
        Some(database) => server(database.url.expose())?,
        None => file("archive.db"),
    };
    let wraps = match &config.archive.wraps {
        Some(database) => server(database.url.expose())?,
        None => file("wraps.db"),
    };
    let options = DbOptions {
        migrate: false,
        ..DbOptions::default()
    };
    let db = Database::open(&source, &store::MAIN, options).await?;
    let folder = boot.data.join("objects");
    let objects = Objects::open(config.archive.objects.as_ref(), folder, db.disk())
        .await
        .map_err(|error| StartError::service("the objects cannot be opened", error))?;
    let stores = Arc::new(Stores {
        scope: Scope {
            tenant: boot.tenant().clone(),
        },
        db,
        wraps: Database::open(&wraps, &store::WRAPS, options).await?,
        objects,
    });
    let mut report = Report::default();
    let logged = log::read(&boot).await?;
    report.log_size = logged.size;
    report.log_root = logged.root.to_string();
    records::check(&boot, &stores, &logged, &mut report)
        .await
        .map_err(|error| StartError::service("the archive's records cannot be read", error))?;
    stores.wraps.close().await?;
    stores.db.close().await?;
    Ok(report)
}

fn short(digest: &Digest) -> String {
    let text = digest.to_string();
    text.get(..16).unwrap_or(&text).to_owned()
}
