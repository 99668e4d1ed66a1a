//! The client's database: one file for any number of devices, every change of many devices in one transaction.

mod items;
mod ops;
mod read;
mod rows;

use core::fmt;
use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql;
use std::path::Path;
use std::sync::Arc;

use greffe_envelope::sealbox::{Place, SealKey};
use greffe_service_kit::db::group::{Batch, GroupCommit, GroupHandle, GroupLimits};
use greffe_service_kit::db::{Database, DbOptions};
use greffe_types::TenantId;
use sqlx::migrate::Migrator;
use zeroize::Zeroizing;

pub(crate) use ops::Op;
pub use rows::ConversationState;
pub(crate) use rows::{
    AckRow, ConversationRow, DeviceRow, ItemRow, OutboxKind, OutboxRow, ReportRow, StoredContent,
    damaged,
};

use crate::error::{ClientError, Result};
use crate::secrets::{read_secret, write_secret};

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// The database's file.
const FILE: &str = "client.db";
/// The file of the key that secrets are sealed under.
const KEY_FILE: &str = "client.key";

/// One database file and its key, for any number of devices. Cheap to clone.
#[derive(Clone)]
pub struct ClientStore(Arc<Inner>);

struct Inner {
    db: Database,
    writer: GroupHandle<Writer>,
    key: SealKey,
}

impl ClientStore {
    /// Opens the database of a folder, or makes it: `client.db`, and `client.key` with mode 0600.
    ///
    /// # Errors
    /// When it cannot be opened, its key file is missing, or it belongs to another tenant.
    pub async fn open(folder: &Path, tenant: &TenantId) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|source| ClientError::Io {
            operation: "create the folder",
            name: folder.display().to_string(),
            source,
        })?;
        let key = seal_key(&folder.join(KEY_FILE), folder.join(FILE).exists())?;
        let options = DbOptions {
            secure_delete: true,
            ..DbOptions::default()
        };
        let db = Database::open_file(&folder.join(FILE), &MIGRATOR, options)
            .await
            .map_err(ClientError::store)?;
        check_tenant(&db, tenant).await?;
        let writer = GroupCommit::spawn("client_write", db.clone(), Writer, GroupLimits::default());
        Ok(Self(Arc::new(Inner { db, writer, key })))
    }

    /// Writes in one transaction; other devices' changes may be in it too.
    pub(crate) async fn write(&self, ops: Vec<Op>) -> Result<()> {
        if ops.is_empty() {
            return Ok(());
        }
        self.0.writer.submit(ops).await.map_err(ClientError::store)
    }

    pub(crate) fn db(&self) -> &Database {
        &self.0.db
    }

    /// Seals a value at its place.
    pub(crate) fn seal(
        &self,
        table: &str,
        row: &[u8],
        column: &str,
        plain: &[u8],
    ) -> Result<Vec<u8>> {
        Ok(self.0.key.seal(&Place { table, row, column }, plain)?)
    }

    /// Opens a value at its place.
    pub(crate) fn unseal(
        &self,
        table: &str,
        row: &[u8],
        column: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>> {
        Ok(self.0.key.open(&Place { table, row, column }, sealed)?)
    }
}

impl fmt::Debug for ClientStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientStore")
    }
}

/// A key that is missing beside an existing database is not made anew: everything sealed would be lost without a word.
fn seal_key(path: &Path, must_exist: bool) -> Result<SealKey> {
    if path.exists() || must_exist {
        return Ok(SealKey::from_bytes(*read_secret(path)?));
    }
    let key = SealKey::random()?;
    write_secret(path, key.as_bytes())?;
    Ok(key)
}

async fn check_tenant(db: &Database, tenant: &TenantId) -> Result<()> {
    let name = tenant.as_str().as_bytes();
    let found: Option<Vec<u8>> = sql::query_scalar("SELECT value FROM meta WHERE name = 'tenant'")
        .fetch_optional(db.read())
        .await?;
    match found {
        Some(found) if found == name => Ok(()),
        Some(found) => Err(ClientError::refused(
            "DATA_FOLDER_FOREIGN",
            format!(
                "this client folder belongs to tenant {}, not to {tenant}: name another folder",
                String::from_utf8_lossy(&found)
            ),
        )),
        None => {
            let name = name.to_vec();
            db.run_tx("client_meta", async move |conn: &mut Connection| {
                sql::query("INSERT INTO meta (name, value) VALUES ('tenant', $1)")
                    .bind(name)
                    .execute(conn)
                    .await?;
                Ok::<_, sqlx::Error>(())
            })
            .await?;
            Ok(())
        }
    }
}

/// Applies what several devices submitted.
struct Writer;

impl Batch for Writer {
    type Request = Vec<Op>;
    type Response = ();

    async fn apply(
        &mut self,
        tx: &mut Connection,
        requests: Vec<Vec<Op>>,
    ) -> Result<Vec<()>, sqlx::Error> {
        let mut done = Vec::with_capacity(requests.len());
        for ops in requests {
            ops::apply(tx, ops).await?;
            done.push(());
        }
        Ok(done)
    }
}
