//! The relay's state: what every use case reads and changes.

mod commit;
mod conversation;
mod directory;
mod publish;
mod report;

use core::time::Duration;
use greffe_service_kit::db::Connection;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use greffe_envelope::pb;
use greffe_envelope::trust::VerifiedDisclosure;
use greffe_policy::{Mode, Pack};
use greffe_service_kit::append::Appender;
use greffe_service_kit::boot::{Boot, Leadership, SharedTrust, StartError};
use greffe_service_kit::clock::SharedClock;
use greffe_service_kit::db::lease::Lease;
use greffe_service_kit::db::{Database, DbOptions, Migrations};
use greffe_service_kit::errors::Causes;
use greffe_service_kit::tls::Channel;
use greffe_types::{ConversationId, Digest, Millis};
use sqlx::migrate::Migrator;
use zeroize::Zeroizing;

pub use commit::Submitted;
pub use conversation::{Place, View};
pub use directory::Claimed;
pub use publish::TrustView;

use crate::attachments::{Attachments, Staging};
use crate::config::RelayConfig;
use crate::devices::Devices;
use crate::disclosures::LoggedDisclosures;
use crate::error::RelayError;
use crate::mailbox::Mailbox;
use crate::pipeline::{Deps, DeviceLimits, Pipeline, Recorder};
use crate::session::{Session, Sessions};
use crate::store::conversations::ConversationRow;
use crate::store::{self, Scope, conversations, members};

/// Pause before a leader that could not begin tries again.
const AGAIN: Duration = Duration::from_millis(500);

/// Name of the secret of sessions.
pub(crate) const SESSION: &str = "session";

/// The relay's tables.
pub const MIGRATIONS: Migrations = Migrations {
    sqlite: &SQLITE,
    postgres: Some(&POSTGRES),
};
static SQLITE: Migrator = sqlx::migrate!("./migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("./migrations/postgres");

/// What a relay is put together from.
struct Parts {
    trust: SharedTrust,
    clock: SharedClock,
    appender: Appender,
    archive: Channel,
    data: PathBuf,
}

/// The relay. Use cases are methods on it, by file: `directory`, `publish`, `conversation`, `commit`, `report`.
#[derive(Debug)]
pub struct App {
    /// Settings.
    pub config: RelayConfig,
    /// The relay's database.
    pub db: Database,
    /// Whose rows.
    pub scope: Scope,
    /// The time.
    pub clock: SharedClock,
    /// What the tenant's root has vouched for, as far as the log was followed.
    pub trust: SharedTrust,
    /// Registered device certificates.
    pub devices: Arc<Devices>,
    /// The way into the audit log.
    pub appender: Appender,
    /// Issues and checks sessions.
    pub sessions: Sessions,
    /// What observers and key packages are judged by.
    pub mls: greffe_mls::Trust,
    /// Policy packs that this binary knows.
    pub packs: &'static [Pack],
    /// Mailboxes that are open.
    pub mailbox: Arc<Mailbox>,
    /// Attachments on their way in and out.
    pub attachments: Attachments,
    /// Sequencing, archiving, release.
    pub pipeline: Pipeline,
    /// Statements are published one after the other. Held while the log is waited for, so nothing else may take it.
    publishing: tokio::sync::Mutex<()>,
    /// How many of the stored statements were taken in, at least.
    known: AtomicU64,
}

impl App {
    /// Opens the database, takes in what is stored, and starts what every replica does; the leader's part begins with
    /// [`App::lead`].
    ///
    /// # Errors
    /// When the data folder, its secrets or a peer's settings cannot be used.
    pub async fn open(
        boot: &Boot,
        config: RelayConfig,
    ) -> Result<(Arc<Self>, Leadership), StartError> {
        // Wraps pass through here: SQLite overwrites what was delivered, PostgreSQL in time.
        let options = DbOptions {
            secure_delete: true,
            ..DbOptions::default()
        };
        let (db, leadership) = boot.replicated("relay.db", &MIGRATIONS, options).await?;
        let scope = Scope {
            tenant: boot.tenant().clone(),
        };
        let secret = boot.open_secrets()?.get_or_create(SESSION, 32)?;
        let parts = Parts {
            trust: boot.trust.clone(),
            clock: boot.clock.clone(),
            appender: boot.appender()?,
            archive: boot.channel("archive")?,
            data: boot.data.clone(),
        };
        let app = Self::assemble(scope, db, &secret, parts, config)
            .await
            .map_err(|error| StartError::service("the relay's stored state is refused", error))?;
        Ok((app, leadership))
    }

    /// Begins what one replica does for all of them: carrying to the archive, releasing. Waits for a database that is away.
    pub async fn lead(&self, lease: &Lease) {
        while let Err(error) = self.pipeline.lead(lease).await {
            tracing::warn!(causes = %Causes(&error), "leading begins later");
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn assemble(
        scope: Scope,
        db: Database,
        secret: &[u8],
        parts: Parts,
        config: RelayConfig,
    ) -> Result<Arc<Self>, RelayError> {
        let statements = store::statements::all(db.read(), &scope).await?;
        for row in &statements {
            publish::take_in(&parts.trust, row)?;
        }
        let stored = store::devices::all_certs(db.read(), &scope).await?;
        let devices = Arc::new(Devices::new(
            db.clone(),
            scope.clone(),
            parts.trust.clone(),
            stored,
        )?);
        let mls = greffe_mls::Trust {
            disclosures: Arc::new(LoggedDisclosures::new(parts.trust.clone())),
            devices: devices.clone(),
        };
        let secret: [u8; 32] = secret
            .try_into()
            .map_err(|_| RelayError::Damaged("session secret"))?;
        let staging = Staging::open_folder(&parts.data, db.disk())?;
        let mailbox = Mailbox::start(
            db.clone(),
            scope.clone(),
            parts.clock.clone(),
            parts.trust.clone(),
            staging.clone(),
        );
        let attachments = Attachments::new(
            db.clone(),
            scope.clone(),
            parts.clock.clone(),
            parts.archive.clone(),
            staging,
        );
        let pipeline = Pipeline::start(Deps {
            db: db.clone(),
            scope: scope.clone(),
            clock: parts.clock.clone(),
            trust: parts.trust.clone(),
            devices: devices.clone(),
            archive: parts.archive.clone(),
            mailbox: mailbox.clone(),
            record: recorder(parts.appender.clone()),
            backlog_items: config.backlog_items,
            backlog_bytes: config.backlog_bytes,
            device: DeviceLimits::new(
                config.device_items,
                config.device_bytes,
                config.device_messages_per_second,
            ),
        })
        .await?;
        Ok(Arc::new(Self {
            db,
            sessions: Sessions::new(scope.tenant.clone(), Zeroizing::new(secret)),
            scope,
            clock: parts.clock,
            trust: parts.trust,
            devices,
            appender: parts.appender,
            mls,
            packs: Pack::all_embedded(),
            mailbox,
            attachments,
            pipeline,
            publishing: tokio::sync::Mutex::default(),
            known: AtomicU64::new(statements.len() as u64),
            config,
        }))
    }

    /// Now.
    pub fn now(&self) -> Millis {
        self.clock.now()
    }

    /// A conversation's row, for a member.
    ///
    /// # Errors
    /// [`RelayError::NoConversation`], also when the device is not in it.
    pub async fn conversation_of(
        &self,
        session: &Session,
        id: &ConversationId,
    ) -> Result<ConversationRow, RelayError> {
        let row = conversations::get(self.db.read(), &self.scope, id)
            .await?
            .ok_or(RelayError::NoConversation)?;
        let stays = members::stays(self.db.read(), &self.scope, &session.device, Some(id)).await?;
        if stays.last().is_some_and(|stay| stay.until_seq.is_none()) {
            Ok(row)
        } else {
            Err(RelayError::NoConversation)
        }
    }

    /// A transaction, after every earlier one of any replica.
    ///
    /// # Errors
    /// [`RelayError::Fenced`] at a leader that another has followed, and those of the work.
    pub async fn write<T>(
        &self,
        name: &'static str,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, RelayError>,
    ) -> Result<T, RelayError> {
        self.db
            .run_tx(name, async |conn: &mut Connection| work(conn).await)
            .await
    }

    /// Takes a refusal to the log without waiting.
    pub fn record_refusal(&self, operation: &str, caller: &str, reason: &str, subject: &[u8]) {
        self.appender
            .append_refusal(operation, caller, reason, subject);
    }

    /// A disclosure that the log has.
    ///
    /// # Errors
    /// [`RelayError::Damaged`]: no conversation names one that was not taken in.
    pub fn disclosure(&self, digest: &Digest) -> Result<Arc<VerifiedDisclosure>, RelayError> {
        let trust = self.trust.read();
        trust
            .disclosure(digest)
            .cloned()
            .ok_or(RelayError::Damaged("disclosure"))
    }

    /// The pack of a digest, when this binary knows it.
    pub fn pack(&self, digest: &[u8]) -> Option<&'static Pack> {
        self.packs
            .iter()
            .find(|pack| pack.digest().as_bytes() == digest)
    }

    /// Whether conversations may take up a disclosure: its mode is one that the tenant's pack allows and that works.
    fn check_mode(&self, disclosure: &VerifiedDisclosure) -> Result<(), RelayError> {
        let message = disclosure.message();
        if message.mode() == pb::Mode::Supervised {
            return Err(RelayError::SupervisionUnavailable);
        }
        let mode = Mode::try_from(message.mode).map_err(|_| RelayError::ModeNotAllowed)?;
        match self.pack(&message.policy_digest) {
            Some(pack) if pack.allows(mode) => Ok(()),
            _ => Err(RelayError::ModeNotAllowed),
        }
    }
}

/// How the pipeline takes refusals to the log.
fn recorder(appender: Appender) -> Recorder {
    Arc::new(move |operation, caller, reason, subject| {
        let subject = subject.map(|digest: Digest| digest.to_vec());
        appender.append_refusal(operation, &caller, reason, &subject.unwrap_or_default());
    })
}
