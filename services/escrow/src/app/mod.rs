//! Use cases of an escrow node: key generation, resharing, opening, its word on what is current, its standing.

pub mod destroy;
pub mod drill;
pub mod keygen;
pub mod keys;
pub mod log;
pub mod open;
pub mod order;
pub mod record;
pub mod release;
pub mod reshare;
pub mod share;
pub mod witness;

use core::fmt;
use core::time::Duration;
use greffe_service_kit::db::Connection;
use std::sync::{Arc, Mutex, PoisonError};

use greffe_api::audit::GetCheckpointRequest;
use greffe_api::audit::log_service_client::LogServiceClient;
use greffe_api::escrow::{
    ActivateRequest, AdvanceKeygenRequest, AdvanceKeygenResponse, GetCurrencyResponse,
    GetStatusResponse, KeyStatus,
};
use greffe_envelope::label::sha256;
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::Signed;
use greffe_service_kit::append::Appender;
use greffe_service_kit::boot::{Boot, SharedTrust, StartError};
use greffe_service_kit::clock::SharedClock;
use greffe_service_kit::db::{Database, DbOptions, Migrations};
use greffe_service_kit::harden::wiping_stack;
use greffe_service_kit::secrets::Secrets;
use greffe_service_kit::shares::Shares;
use greffe_service_kit::telemetry::metrics;
use greffe_service_kit::tls::Channel;
use greffe_types::Digest;
use sqlx::migrate::Migrator;
use tokio::sync::{Notify, watch};

pub use keys::Keys;
pub use witness::WitnessDesk;

use crate::config::EscrowConfig;
use crate::error::{
    Kind, LOG_UNAVAILABLE, MALFORMED, NO_DISCLOSURE, NO_SHARE_EPOCH, Refusal, STATEMENT_NOT_IN_LOG,
};
use crate::store::{Scope, followed, openings, shares, statements};
use keygen::{Sessions, Step};
use log::{FollowedLog, check_witnessed};

/// The node's tables.
pub const MIGRATIONS: Migrations = Migrations {
    sqlite: &SQLITE,
    postgres: Some(&POSTGRES),
};
static SQLITE: Migrator = sqlx::migrate!("./migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("./migrations/postgres");

/// How recent the cosignatures are that the node asks the log for.
const ASK_FOR: Duration = Duration::from_secs(60);

/// An escrow node.
pub struct Node {
    pub(crate) keys: Arc<Keys>,
    pub(crate) trust: SharedTrust,
    pub(crate) clock: SharedClock,
    pub(crate) db: Database,
    pub(crate) scope: Scope,
    pub(crate) log: FollowedLog,
    pub(crate) appender: Appender,
    pub(crate) settings: EscrowConfig,
    /// Openings under way, by caller.
    pub(crate) openings: Arc<Shares>,
    audit: LogServiceClient<Channel>,
    sessions: Mutex<Sessions>,
    reshares: Mutex<reshare::Sessions>,
    /// One change of what shares are held at a time.
    pub(crate) changing: tokio::sync::Mutex<()>,
    destroyed: Notify,
    proofs: Mutex<drill::Given>,
    progress: watch::Sender<followed::Followed>,
}

impl Node {
    /// Opens the node's database and brings its trust to where it had followed the log.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open(
        boot: &Boot,
        secrets: &Secrets,
        settings: EscrowConfig,
    ) -> Result<Arc<Self>, StartError> {
        metrics::ESCROW_CAP.set(settings.records_per_hour);
        let keys = Arc::new(Keys::load(boot.name(), secrets)?);
        // What is deleted is a share.
        let options = DbOptions {
            secure_delete: true,
            ..DbOptions::default()
        };
        let (db, lease) = boot.database("escrow.db", &MIGRATIONS, options).await?;
        let scope = Scope {
            tenant: boot.tenant().clone(),
            fence: lease.fence(),
        };
        let failed = |error: Refusal| StartError::service("the node's database failed", error);
        let known = statements::all(db.read(), &scope)
            .await
            .map_err(|error| failed(error.into()))?;
        replay(&boot.trust, &known)?;
        let seen = followed::get(db.read(), &scope)
            .await
            .map_err(|error| failed(error.into()))?;
        let (progress, watching) = watch::channel(seen);
        let audit = boot.channel("audit")?;
        Ok(Arc::new(Self {
            log: FollowedLog::new(db.clone(), scope.clone(), watching),
            trust: boot.trust.clone(),
            clock: boot.clock.clone(),
            appender: Appender::new(audit.clone(), boot.tenant()),
            audit: LogServiceClient::new(audit),
            sessions: Mutex::default(),
            openings: Shares::new(settings.openings, settings.openings_per_caller),
            reshares: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            destroyed: Notify::new(),
            proofs: Mutex::default(),
            keys,
            db,
            scope,
            settings,
            progress,
        }))
    }

    /// The node has followed the log to here, durably.
    pub(crate) fn moved_on(&self, seen: followed::Followed) {
        self.progress.send_replace(seen);
    }

    /// Has a refusal logged.
    pub fn refused(&self, operation: &str, caller: &str, reason: &str) {
        self.appender.append_refusal(operation, caller, reason, &[]);
    }

    /// One step of a key generation.
    ///
    /// # Errors
    /// As the ceremony refuses; the share is stored before its statements are given.
    pub async fn advance_keygen(
        &self,
        request: AdvanceKeygenRequest,
    ) -> Result<AdvanceKeygenResponse, Refusal> {
        let finished = match wiping_stack(|| self.step(request))? {
            Step::Answer(response) => return Ok(response),
            Step::Finished(finished) => finished,
        };
        let sealed = wiping_stack(|| share::seal(self.keys.seal(), &finished.share))?;
        let (key_id, epoch) = (finished.share.key_id(), finished.share.share_epoch());
        let (scope, index, now) = (&self.scope, finished.share.index(), self.clock.now());
        let _one = self.changing.lock().await;
        self.db
            .run_tx("keygen_share", async |tx: &mut Connection| {
                shares::insert(tx, scope, &key_id, &epoch, index, &sealed, now).await?;
                Ok::<_, Refusal>(())
            })
            .await?;
        self.locked(|sessions| sessions.forget(&finished));
        tracing::info!(%key_id, share_epoch = %epoch, index, "a share is sealed; the log will make it active");
        Ok(finished.response)
    }

    /// Has the log take an entry, and waits for as long as a caller may; its id makes a repetition the same entry.
    pub(crate) async fn log_event(&self, id: [u8; 16], event: Event) -> Result<u64, Refusal> {
        let unavailable = || {
            Refusal::new(
                Kind::Unavailable,
                LOG_UNAVAILABLE,
                "the log has not taken the entry in time; ask again",
            )
        };
        let wait = Duration::from_millis(self.settings.log_wait_ms);
        tokio::time::timeout(wait, self.appender.append_event(id, event))
            .await
            .map_err(|_| unavailable())?
            .map(|appended| appended.index)
            .map_err(|error| unavailable().because(error))
    }

    fn step(&self, request: AdvanceKeygenRequest) -> Result<Step, Refusal> {
        let bundle = self.trust.read().bundle().clone();
        let root = *self.trust.read().root().as_bytes();
        let (node, now) = (self.keys.identity(), self.clock.now());
        self.locked(|sessions| sessions.advance(request, node, &bundle, &root, now))
    }

    /// Gives up the key generations whose descriptors are over.
    pub(crate) fn sweep_keygens(&self) {
        let now = self.clock.now();
        self.locked(|sessions| sessions.sweep(now));
    }

    /// A ceremony whose step panicked holds a state that refuses to go on; the others are whole.
    fn locked<T>(&self, work: impl FnOnce(&mut Sessions) -> T) -> T {
        work(&mut self.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Checks that the node has found a statement in the log where it is said to be: it is in force since.
    ///
    /// # Errors
    /// `NOT_CAUGHT_UP`, `STATEMENT_NOT_IN_LOG`.
    pub async fn activate(&self, request: ActivateRequest) -> Result<(), Refusal> {
        let statement = request
            .statement
            .ok_or_else(|| Refusal::malformed(MALFORMED, "there is no statement"))?;
        let size = request.log_index.saturating_add(1);
        let wait = Duration::from_millis(self.settings.catch_up_ms);
        self.log.wait_for(size, wait).await?;
        let found = self.trust.read().log_index(&sha256(&statement.statement));
        if found == Some(request.log_index) {
            Ok(())
        } else {
            Err(Refusal::denied(
                STATEMENT_NOT_IN_LOG,
                match found {
                    Some(index) => format!("the statement is in the log at {index}"),
                    None => "the log has not shown this statement as one in force".to_owned(),
                },
            ))
        }
    }

    /// The node's word on which disclosure of a mode is current.
    ///
    /// # Errors
    /// `NOT_CAUGHT_UP`, `NO_DISCLOSURE`, `NO_SHARE_EPOCH`.
    pub async fn currency(&self, mode: i32) -> Result<GetCurrencyResponse, Refusal> {
        let mode = pb::Mode::try_from(mode)
            .ok()
            .filter(|mode| *mode != pb::Mode::Unspecified)
            .ok_or_else(|| Refusal::malformed(MALFORMED, "there is no such mode"))?;
        self.catch_up().await?;
        let trust = self.trust.read();
        let disclosure = trust.current_disclosure(mode).ok_or_else(|| {
            Refusal::state(NO_DISCLOSURE, "no disclosure of this mode is in force")
        })?;
        let epochs = disclosure
            .keys()
            .iter()
            .map(|key| Some(trust.share_epoch(key.key_id())?.digest().to_vec()))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| {
                Refusal::state(
                    NO_SHARE_EPOCH,
                    "a disclosed key has no share epoch in force",
                )
            })?;
        let currency = pb::Currency {
            tenant: self.scope.tenant.as_str().to_owned(),
            mode: mode.into(),
            standing_order: disclosure.message().standing_order.clone(),
            disclosure: disclosure.digest().to_vec(),
            serial: disclosure.message().serial,
            share_epochs: epochs,
            at: self.clock.now().get(),
        };
        let signer = [(self.keys.name(), self.keys.signing())];
        Ok(GetCurrencyResponse {
            currency: Some(Signed::sign(currency, &signer).into_raw()),
        })
    }

    /// Refuses unless everything that a recent checkpoint covers is followed; asks the log for a newer one when the last is
    /// old.
    async fn catch_up(&self) -> Result<(), Refusal> {
        if self.log.is_current(self.clock.now()) {
            return Ok(());
        }
        self.catch_up_to_now().await
    }

    /// As [`Node::catch_up`], by a checkpoint that the log gives now: a copy of the database that is a minute old, and was put back,
    /// believes itself current.
    pub(crate) async fn catch_up_to_now(&self) -> Result<(), Refusal> {
        let now = self.clock.now();
        let asked = self
            .audit
            .clone()
            .get_checkpoint(GetCheckpointRequest {
                minimum_size: 0,
                maximum_age_ms: ASK_FOR.as_millis() as u64,
            })
            .await;
        let checkpoint = asked
            .map_err(|status| {
                Refusal::new(
                    Kind::Unavailable,
                    LOG_UNAVAILABLE,
                    "the log gives no recent checkpoint",
                )
                .because(status)
            })?
            .into_inner()
            .checkpoint;
        let bundle = self.trust.read().bundle().clone();
        let head = check_witnessed(&checkpoint, &bundle, now)?;
        let wait = Duration::from_millis(self.settings.catch_up_ms);
        self.log.wait_for(head.size, wait).await?;
        self.log.check_root(&head).await
    }

    /// How the node stands.
    ///
    /// # Errors
    /// The database's.
    pub async fn status(&self) -> Result<GetStatusResponse, Refusal> {
        let held = shares::list(self.db.read(), &self.scope).await?;
        let mut keys = Vec::with_capacity(held.len());
        for (key_id, share_epoch) in held {
            let opened = openings::count_of_key(self.db.read(), &self.scope, &key_id).await?;
            keys.push(self.key_status(&key_id, &share_epoch, opened));
        }
        let bundle = self.trust.read().bundle().clone();
        Ok(GetStatusResponse {
            node: self.keys.name().to_owned(),
            index: bundle.node(self.keys.name()).map_or(0, |node| node.index),
            followed: self.log.seen().size,
            bundle_version: bundle.version(),
            keys,
        })
    }

    fn key_status(&self, key_id: &Digest, share_epoch: &Digest, opened: u64) -> KeyStatus {
        let trust = self.trust.read();
        let in_force = trust
            .share_epoch(key_id)
            .filter(|epoch| epoch.digest() == *share_epoch);
        KeyStatus {
            key_id: key_id.to_vec(),
            epoch: in_force.map_or(0, |epoch| epoch.message().epoch),
            share_epoch: share_epoch.to_vec(),
            active: in_force.is_some(),
            opened,
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.keys.name())
    }
}

/// Id of a log entry that is made of a digest: the same for every attempt.
pub(crate) fn log_id(digest: &Digest) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&digest.as_bytes()[..16]);
    id
}

/// Takes in again what the log had shown before the last stop.
fn replay(trust: &SharedTrust, known: &[(u64, Vec<u8>)]) -> Result<(), StartError> {
    use prost::Message as _;
    let mut trust = trust.write();
    for (index, bytes) in known {
        let statement = pb::SignedStatement::decode(bytes.as_slice())
            .map_err(|error| StartError::service("a stored statement is damaged", error))?;
        trust.recall(&statement, *index)?;
    }
    Ok(())
}
