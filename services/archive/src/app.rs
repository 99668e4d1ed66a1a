//! What every use case works with: databases, objects, trust, the log, the key that signs receipts.

use greffe_service_kit::db::Connection;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLockReadGuard};

use greffe_envelope::trust::{Bundle, TrustState};
use greffe_policy::Pack;
use greffe_service_kit::append::Appender;
use greffe_service_kit::boot::SharedTrust;
use greffe_service_kit::clock::SharedClock;
use greffe_service_kit::db::Database;
use greffe_service_kit::shares::Shares;
use greffe_service_kit::tls::Channel;
use greffe_types::{Digest, Millis, TenantId};
use tokio::sync::{Mutex, Notify, watch};

use crate::config::ArchiveConfig;
use crate::error::ArchiveError;
use crate::objects::Objects;
use crate::receipt::ReceiptKey;
use crate::store::{Scope, outbox};

/// The archive's parts. One for a process; shared by every task.
#[derive(Debug)]
pub struct App {
    /// The tenant: what every row carries.
    pub scope: Scope,
    /// Settings.
    pub config: ArchiveConfig,
    /// The main database.
    pub db: Database,
    /// The erasable store: wraps and the MLS messages that carry seeds. A database of its own.
    pub wraps: Database,
    /// Write-once objects: ciphertexts, handshakes, attachments.
    pub objects: Objects,
    /// What the root has vouched for, as the log has told.
    pub trust: SharedTrust,
    /// The time.
    pub clock: SharedClock,
    /// Appends to the log.
    pub appender: Appender,
    /// The audit service, for reads of the log.
    pub audit: Channel,
    /// Policy packs by digest.
    pub packs: Packs,
    /// Searches and ranges under way, by person.
    pub searches: Arc<Shares>,
    /// Signs receipts, voids and ranges.
    pub receipts: ReceiptKey,
    /// Wakes tasks.
    pub signals: Signals,
    /// Held while objects are removed, and while one is read again and repaired: never both at once. Only the process that
    /// leads does either; what others may not do meanwhile is in the database (`store::removals`).
    pub removing: Mutex<()>,
    /// Whether this process has the lease, and does the background work of all.
    pub leads: AtomicBool,
    /// Time of the newest log entry seen, in milliseconds.
    pub logged_at: AtomicU64,
}

/// What replicas tell each other by notifications; nothing depends on their coming.
pub const TOPIC: &str = "archive";

/// Something to be done, or done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The outbox has new entries.
    Outbox,
    /// There are new records.
    Records,
    /// Outbox entries were answered.
    Logged,
    /// A disposition was decided, or has come further.
    Disposals,
}

impl News {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Outbox, Self::Records, Self::Logged, Self::Disposals];

    /// As a notification says it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Outbox => "outbox",
            Self::Records => "records",
            Self::Logged => "logged",
            Self::Disposals => "disposals",
        }
    }
}

/// How tasks wake each other.
#[derive(Debug)]
pub struct Signals {
    /// The outbox has new entries.
    pub outbox: Notify,
    /// There are new records to put into a batch.
    pub records: Notify,
    /// There are dispositions to carry out.
    pub disposals: Notify,
    /// It is time to look at the months of records.
    pub months: Notify,
    /// Counts how often outbox entries were answered, or a disposition came further.
    pub logged: watch::Sender<u64>,
}

impl Signals {
    /// Wakes whom it concerns in this process.
    pub fn wake(&self, news: News) {
        match news {
            News::Outbox => self.outbox.notify_one(),
            News::Records => self.records.notify_one(),
            News::Logged => self.logged.send_modify(|count| *count += 1),
            News::Disposals => {
                self.disposals.notify_one();
                self.logged.send_modify(|count| *count += 1);
            }
        }
    }
}

impl Default for Signals {
    fn default() -> Self {
        Self {
            outbox: Notify::new(),
            records: Notify::new(),
            disposals: Notify::new(),
            months: Notify::new(),
            logged: watch::Sender::new(0),
        }
    }
}

/// Policy packs by the digest that bundles, disclosures and headers name.
#[derive(Debug, Clone)]
pub struct Packs(Arc<[Pack]>);

impl Packs {
    /// The embedded packs and others.
    pub fn new(others: Vec<Pack>) -> Self {
        let mut packs = Pack::all_embedded().to_vec();
        packs.extend(others);
        Self(packs.into())
    }

    /// A pack by its digest.
    pub fn get(&self, digest: &[u8]) -> Option<&Pack> {
        self.0
            .iter()
            .find(|pack| pack.digest().as_bytes() == digest)
    }
}

impl App {
    /// The tenant.
    pub const fn tenant(&self) -> &TenantId {
        &self.scope.tenant
    }

    /// Now.
    pub fn now(&self) -> Millis {
        self.clock.now()
    }

    /// The trust bundle in force.
    pub fn bundle(&self) -> Arc<Bundle> {
        self.trust().bundle().clone()
    }

    /// What the root has vouched for. Not to be held across an await.
    pub fn trust(&self) -> RwLockReadGuard<'_, TrustState> {
        self.trust.read()
    }

    /// One transaction of the main database, which no other of any replica runs beside. Refused when this process led and another
    /// has taken over.
    ///
    /// # Errors
    /// What `body` fails with; nothing is changed then.
    pub async fn write<T, F>(&self, name: &'static str, body: F) -> Result<T, ArchiveError>
    where
        F: AsyncFnOnce(&mut Connection) -> Result<T, ArchiveError>,
    {
        self.db.run_tx(name, body).await
    }

    /// As [`App::write`], and wakes this process and the others for what the transaction left to do.
    ///
    /// # Errors
    /// What `body` fails with; nothing is changed then.
    pub async fn write_and_wake<T, F>(
        &self,
        name: &'static str,
        news: &[News],
        body: F,
    ) -> Result<T, ArchiveError>
    where
        F: AsyncFnOnce(&mut Connection) -> Result<T, ArchiveError>,
    {
        let value = self
            .write(name, async |conn| {
                let value = body(conn).await?;
                let words = news.iter().map(|news| news.word().to_owned());
                self.db
                    .notify(conn, TOPIC, words.collect::<Vec<_>>())
                    .await?;
                Ok(value)
            })
            .await?;
        for news in news {
            self.signals.wake(*news);
        }
        Ok(value)
    }

    /// Whether this process does the background work of all.
    pub fn leads(&self) -> bool {
        self.leads.load(Ordering::Relaxed)
    }

    /// Waits until an outbox entry, written before this is called, is in the log.
    ///
    /// # Errors
    /// [`ArchiveError::NotLogged`] when the log refused it or its time ran out.
    pub async fn logged(&self, id: &[u8; 16]) -> Result<outbox::Logged, ArchiveError> {
        let mut answered = self.signals.logged.subscribe();
        self.signals.outbox.notify_one();
        loop {
            answered.borrow_and_update();
            match outbox::find(self.db.read(), &self.scope, id).await? {
                Some(outbox::State::Logged(logged)) => return Ok(logged),
                Some(outbox::State::Failed(reason)) => return Err(ArchiveError::NotLogged(reason)),
                Some(outbox::State::Waiting) => {}
                None => return Err(ArchiveError::Damaged("an outbox entry is gone")),
            }
            answered
                .changed()
                .await
                .map_err(|_| ArchiveError::Stopping)?;
        }
    }

    /// Notes the time of a log entry.
    pub fn note_logged_at(&self, at: u64) {
        self.logged_at.fetch_max(at, Ordering::Relaxed);
    }

    /// The bytes of an object; their digest is verified.
    ///
    /// # Errors
    /// [`ArchiveError::Objects`].
    pub async fn object(&self, digest: Digest) -> Result<Vec<u8>, ArchiveError> {
        Ok(self.objects.read(digest).await?)
    }
}
