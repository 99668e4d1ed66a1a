//! The folder of staged attachments: one file each, named by conversation and digest, there whole or not at all.

use greffe_service_kit::db::Connection;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use greffe_service_kit::db::Database;
use greffe_service_kit::disk::Disk;
use greffe_types::{ConversationId, Digest, Millis};
use sha2::{Digest as _, Sha256};
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt as _;

use crate::error::RelayError;
use crate::store::{Scope, attachments};

/// How long an attachment is kept whatever happens: its message may still come, a member may still be fetching it. The
/// archive keeps one without a message for longer.
const KEPT: Duration = Duration::from_secs(6 * 60 * 60);
/// Files dropped in one sweep.
const SWEEP: u32 = 256;

/// Why a file cannot be staged or read.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// The file system.
    #[error("cannot {0} a staged attachment")]
    Io(&'static str, #[source] io::Error),
    /// An fsync failed: the process ends.
    #[error("cannot make a staged attachment durable")]
    NotDurable(#[source] io::Error),
    /// The bytes are not those announced.
    #[error("the attachment's bytes are not those announced: its {0} differs")]
    Differs(&'static str),
}

/// The folder. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Staging {
    folder: Arc<PathBuf>,
    next: Arc<AtomicU64>,
    disk: Disk,
}

impl Staging {
    /// Opens the folder and removes what an earlier process left unfinished. A failed fsync ends whoever shares `disk`.
    ///
    /// # Errors
    /// [`StagingError::Io`].
    pub fn open_folder(data: &Path, disk: &Disk) -> Result<Self, StagingError> {
        let folder = data.join("attachments");
        let unfinished = folder.join("unfinished");
        match std::fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StagingError::Io("clean up", error));
            }
            _ => {}
        }
        std::fs::create_dir_all(&unfinished).map_err(|e| StagingError::Io("create", e))?;
        Ok(Self {
            folder: Arc::new(folder),
            next: Arc::default(),
            disk: disk.clone(),
        })
    }

    /// Begins a file.
    pub(super) async fn begin(&self) -> Result<Unfinished, StagingError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join("unfinished").join(number.to_string());
        let file = File::create_new(&path)
            .await
            .map_err(|e| StagingError::Io("create", e))?;
        Ok(Unfinished {
            staging: self.clone(),
            path: Some(path),
            file,
            hash: Sha256::new(),
            size: 0,
        })
    }

    /// Opens a staged file.
    pub(super) async fn open(
        &self,
        conversation: &ConversationId,
        digest: &Digest,
    ) -> Result<File, RelayError> {
        match File::open(self.path(conversation, digest)).await {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(RelayError::NoAttachment),
            Err(error) => Err(StagingError::Io("open", error).into()),
        }
    }

    /// Drops attachments that every member has, or that no message has named in time.
    pub(crate) async fn sweep(
        &self,
        db: &Database,
        scope: &Scope,
        now: Millis,
    ) -> Result<(), RelayError> {
        let until = now.minus(KEPT);
        for (conversation, digest) in attachments::done_with(db.read(), scope, until, SWEEP).await?
        {
            // Inside the transaction: a message that names it now is refused before, or keeps it.
            let unstaged = db
                .run_tx("unstage", async |conn: &mut Connection| {
                    Ok::<_, RelayError>(
                        attachments::unstage(conn, scope, &conversation, &digest, until).await?,
                    )
                })
                .await?;
            if !unstaged {
                continue;
            }
            match fs::remove_file(self.path(&conversation, &digest)).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StagingError::Io("remove", error).into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Drops files that another replica's sweep has ended; nothing when this process is alone.
    pub(crate) async fn sweep_copies(
        &self,
        db: &Database,
        scope: &Scope,
    ) -> Result<(), RelayError> {
        let failed = |error| StagingError::Io("look for", error);
        let mut folders = fs::read_dir(&*self.folder).await.map_err(failed)?;
        while let Some(folder) = folders.next_entry().await.map_err(failed)? {
            let Some(conversation) = parse(&folder).map(ConversationId::new) else {
                continue;
            };
            let mut files = fs::read_dir(folder.path()).await.map_err(failed)?;
            while let Some(file) = files.next_entry().await.map_err(failed)? {
                let Some(digest) = parse(&file).map(Digest::new) else {
                    continue;
                };
                let found = attachments::find(db.read(), scope, &conversation, &digest).await?;
                // Without a row it has only just come.
                if let Some((_, false)) = found {
                    fs::remove_file(file.path())
                        .await
                        .map_err(|error| StagingError::Io("remove", error))?;
                }
            }
        }
        Ok(())
    }

    /// Makes a file or folder durable, or never tries again.
    async fn sync(&self, file: &File) -> Result<(), StagingError> {
        file.sync_all().await.map_err(|error| {
            self.disk.failed("a staged attachment");
            StagingError::NotDurable(error)
        })
    }

    fn path(&self, conversation: &ConversationId, digest: &Digest) -> PathBuf {
        self.folder
            .join(conversation.to_string())
            .join(digest.to_string())
    }
}

/// The id that a file or folder is named by.
fn parse<const N: usize>(entry: &fs::DirEntry) -> Option<[u8; N]> {
    greffe_types::from_hex(entry.file_name().to_str()?).ok()
}

/// A file that is being written; dropping it removes it.
pub(super) struct Unfinished {
    staging: Staging,
    path: Option<PathBuf>,
    file: File,
    hash: Sha256,
    size: u64,
}

impl Unfinished {
    /// Adds bytes, of at most `most` in all.
    pub(super) async fn write(&mut self, bytes: &[u8], most: u64) -> Result<(), StagingError> {
        self.size += bytes.len() as u64;
        if self.size > most {
            return Err(StagingError::Differs("size"));
        }
        self.hash.update(bytes);
        self.file
            .write_all(bytes)
            .await
            .map_err(|e| StagingError::Io("write", e))
    }

    /// Gives the file its name once it is durable and what was announced.
    pub(super) async fn finish(
        mut self,
        conversation: &ConversationId,
        digest: &Digest,
        size: u64,
    ) -> Result<(), StagingError> {
        let failed = |what| move |error| StagingError::Io(what, error);
        if self.size != size {
            return Err(StagingError::Differs("size"));
        }
        let found: [u8; 32] = std::mem::take(&mut self.hash).finalize().into();
        if found != *digest.as_bytes() {
            return Err(StagingError::Differs("digest"));
        }
        self.file.flush().await.map_err(failed("write"))?;
        self.staging.sync(&self.file).await?;
        let name = self.staging.path(conversation, digest);
        let folder = self.staging.folder.join(conversation.to_string());
        fs::create_dir_all(&folder)
            .await
            .map_err(failed("create"))?;
        if let Some(path) = self.path.take() {
            fs::rename(&path, &name).await.map_err(failed("rename"))?;
        }
        for folder in [folder.as_path(), self.staging.folder.as_path()] {
            let folder = File::open(folder).await.map_err(failed("open"))?;
            self.staging.sync(&folder).await?;
        }
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // What stays is removed at the next start.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use greffe_envelope::label::sha256;
    use tokio::io::AsyncReadExt as _;

    use greffe_service_kit::db::{DbOptions, Source};

    use super::*;
    use crate::app::MIGRATIONS;

    const C: ConversationId = ConversationId::new([1; 16]);

    #[tokio::test]
    async fn a_file_is_there_whole_or_not_at_all() {
        let data = tempfile::tempdir().unwrap();
        let staging = Staging::open_folder(data.path(), &Disk::default()).unwrap();
        let digest = sha256(b"abcdef");
        let mut unfinished = staging.begin().await.unwrap();
        unfinished.write(b"abc", 6).await.unwrap();
        assert!(matches!(
            staging.open(&C, &digest).await,
            Err(RelayError::NoAttachment)
        ));
        unfinished.write(b"def", 6).await.unwrap();
        unfinished.finish(&C, &digest, 6).await.unwrap();
        let mut file = staging.open(&C, &digest).await.unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, b"abcdef");
    }

    #[tokio::test]
    async fn what_nobody_asks_for_is_dropped_in_time_and_not_before() {
        let data = tempfile::tempdir().unwrap();
        let staging = Staging::open_folder(data.path(), &Disk::default()).unwrap();
        let path = data.path().join("relay.db");
        let db = Database::open(&Source::File(path), &MIGRATIONS, DbOptions::default())
            .await
            .unwrap();
        let tenant = greffe_types::TenantId::new("acme").unwrap();
        let digest = sha256(b"abcdef");
        let uploaded = Millis::new(1_000);
        let scope: Scope = db
            .run_tx("prepare", async |conn: &mut Connection| {
                let scope = Scope {
                    tenant: tenant.clone(),
                };
                attachments::insert(conn, &scope, &C, &digest, 6, uploaded).await?;
                Ok::<_, sqlx::Error>(scope)
            })
            .await
            .unwrap();
        let mut unfinished = staging.begin().await.unwrap();
        unfinished.write(b"abcdef", 6).await.unwrap();
        unfinished.finish(&C, &digest, 6).await.unwrap();
        staging
            .sweep(&db, &scope, uploaded.plus(KEPT))
            .await
            .unwrap();
        assert!(staging.open(&C, &digest).await.is_ok());
        let later = Millis::new(uploaded.plus(KEPT).get() + 1);
        staging.sweep(&db, &scope, later).await.unwrap();
        assert!(staging.open(&C, &digest).await.is_err());
        // One that another replica has is dropped there.
        let mut copy = staging.begin().await.unwrap();
        copy.write(b"abcdef", 6).await.unwrap();
        copy.finish(&C, &digest, 6).await.unwrap();
        staging.sweep_copies(&db, &scope).await.unwrap();
        assert!(staging.open(&C, &digest).await.is_err());
        let found = attachments::find(db.read(), &scope, &C, &digest).await;
        assert_eq!(found.unwrap(), Some((6, false)));
    }

    #[tokio::test]
    async fn attack_58_other_bytes_than_announced_are_not_staged() {
        let data = tempfile::tempdir().unwrap();
        let staging = Staging::open_folder(data.path(), &Disk::default()).unwrap();
        let digest = sha256(b"abcdef");
        for (bytes, what) in [(&b"abcdeX"[..], "digest"), (b"abcde", "size")] {
            let mut unfinished = staging.begin().await.unwrap();
            unfinished.write(bytes, 6).await.unwrap();
            let refused = unfinished.finish(&C, &digest, 6).await.unwrap_err();
            assert!(matches!(refused, StagingError::Differs(differs) if differs == what));
        }
        let mut unfinished = staging.begin().await.unwrap();
        let refused = unfinished.write(b"abcdefg", 6).await.unwrap_err();
        assert!(matches!(refused, StagingError::Differs("size")));
        drop(unfinished);
        let left = std::fs::read_dir(data.path().join("attachments/unfinished")).unwrap();
        assert_eq!(left.count(), 0);
        assert!(staging.open(&C, &digest).await.is_err());
    }
}
