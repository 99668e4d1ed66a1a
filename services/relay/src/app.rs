//! The relay's state: what every use case reads and changes.

mod commit;
mod conversation;
mod directory;
mod publish;
mod report;

use std::sync::{Arc, PoisonError};

use greffe_envelope::pb;
use greffe_envelope::trust::VerifiedDisclosure;
use greffe_policy::{Mode, Pack};
use greffe_service_kit::append::Appender;
use greffe_service_kit::boot::{Boot, SharedTrust, StartError};
use greffe_service_kit::clock::SharedClock;
use greffe_service_kit::db::{Database, DbOptions};
use greffe_service_kit::secrets::Secrets;
use greffe_types::{ConversationId, Digest, Millis};
use tonic::transport::Channel;
use zeroize::Zeroizing;

pub use commit::Commit;

use crate::config::RelayConfig;
use crate::conversations::{Conversations, Locked};
use crate::devices::Devices;
use crate::disclosures::LoggedDisclosures;
use crate::error::RelayError;
use crate::notify::Notifier;
use crate::session::{Session, Sessions};
use crate::store::{self, Scope};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();

/// The relay. Use cases are methods on it, by file: `directory`, `publish`, `conversation`, `commit`, `report`.
#[derive(Debug)]
pub struct App {
    /// Settings.
    pub config: RelayConfig,
    /// The relay's database.
    pub db: Database,
    /// Tenant and lease epoch: every write carries it.
    pub scope: Scope,
    /// The time.
    pub clock: SharedClock,
    /// What the tenant's root has vouched for, as far as the log was followed.
    pub trust: SharedTrust,
    /// Registered device certificates.
    pub devices: Arc<Devices>,
    /// The way into the audit log.
    pub appender: Appender,
    /// The archive.
    pub archive: Channel,
    /// Issues and checks sessions.
    pub sessions: Sessions,
    /// Conversations in memory, each behind its own lock.
    pub conversations: Conversations,
    /// Policy packs that this binary knows.
    pub packs: &'static [Pack],
    /// Wakes mailboxes.
    pub notifier: Notifier,
    /// Statements are published one after the other.
    publishing: tokio::sync::Mutex<()>,
}

impl App {
    /// Opens the database, takes the lease, and takes in what is stored.
    ///
    /// # Errors
    /// When the data folder, its secrets or a peer's settings cannot be used.
    pub async fn open(boot: &Boot, config: RelayConfig) -> Result<Arc<Self>, StartError> {
        let path = boot.data.join("relay.db");
        let db = Database::open(&path, &MIGRATIONS, DbOptions::default()).await?;
        let tenant = boot.root.tenant().clone();
        let scope = db
            .run_tx("take_lease", async |conn| {
                store::lease::take(conn, &tenant).await
            })
            .await
            .map_err(StartError::other)?;
        let trust = boot.trust.clone();
        for row in store::statements::all(db.read(), &scope)
            .await
            .map_err(StartError::other)?
        {
            publish::take_in(&trust, &row).map_err(StartError::other)?;
        }
        let stored = store::devices::all_certs(db.read(), &scope)
            .await
            .map_err(StartError::other)?;
        let devices =
            Arc::new(Devices::new(trust.clone(), stored).map_err(StartError::other)?);
        let mls = greffe_mls::Trust {
            disclosures: Arc::new(LoggedDisclosures::new(trust.clone())),
            devices: devices.clone(),
        };
        let secret = Secrets::open(&boot.data)?.get_or_create("session", 32)?;
        let secret: [u8; 32] = secret
            .as_slice()
            .try_into()
            .map_err(|_| StartError::other(RelayError::Damaged("session secret")))?;
        Ok(Arc::new(Self {
            conversations: Conversations::new(mls, config.conversations),
            db,
            sessions: Sessions::new(scope.tenant.clone(), Zeroizing::new(secret)),
            scope,
            clock: boot.clock.clone(),
            trust,
            devices,
            appender: Appender::new(boot.channel("audit")?),
            archive: boot.channel("archive")?,
            packs: Pack::all_embedded(),
            notifier: Notifier::new(),
            publishing: tokio::sync::Mutex::new(()),
            config,
        }))
    }

    /// Now.
    pub fn now(&self) -> Millis {
        self.clock.now()
    }

    /// A conversation, locked: whoever validates or sequences something of it holds this. See [`Locked`].
    ///
    /// # Errors
    /// [`RelayError::NoConversation`].
    pub async fn lock(&self, id: &ConversationId) -> Result<Locked, RelayError> {
        self.conversations.lock(&self.db, &self.scope, id).await
    }

    /// As [`App::lock`], for a member device.
    ///
    /// # Errors
    /// [`RelayError::NoConversation`], also when the device is not in it.
    pub async fn lock_as_member(
        &self,
        id: &ConversationId,
        session: &Session,
    ) -> Result<Locked, RelayError> {
        let locked = self.lock(id).await?;
        if locked.members.contains_key(&session.device) {
            Ok(locked)
        } else {
            Err(RelayError::NoConversation)
        }
    }

    /// A disclosure that the log has.
    ///
    /// # Errors
    /// [`RelayError::Damaged`]: no conversation names one that was not taken in.
    pub fn disclosure(&self, digest: &Digest) -> Result<Arc<VerifiedDisclosure>, RelayError> {
        let trust = self.trust.read().unwrap_or_else(PoisonError::into_inner);
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
