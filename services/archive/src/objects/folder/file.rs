//! How a file becomes durable: written apart, made read-only, fsynced, renamed, its directory fsynced.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::PoisonError;

use greffe_service_kit::simulation::{self, Act};
use greffe_types::{Digest, Millis};

use super::{Folder, FolderError, LOCKING};

/// Read-only for everybody.
const READ_ONLY: u32 = 0o444;

impl Folder {
    /// Refuses when an fsync has failed since the start.
    pub(super) fn healthy(&self) -> Result<(), FolderError> {
        if self.inner.poisoned.is_cancelled() {
            return Err(FolderError::Poisoned);
        }
        Ok(())
    }

    /// A new unfinished file.
    pub(super) fn create(&self, path: &Path) -> Result<File, FolderError> {
        self.healthy()?;
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(FolderError::io("create", path))
    }

    /// Gives complete bytes their name. The directory still has to be fsynced.
    pub(super) fn write_file(&self, bytes: &[u8], path: &Path) -> Result<(), FolderError> {
        let temporary = self.temporary();
        let mut file = self.create(&temporary)?;
        simulation::file(Act::Write(&temporary))
            .and_then(|()| file.write_all(bytes))
            .map_err(FolderError::io("write", &temporary))?;
        self.finish(&file, &temporary, path)
    }

    /// Makes an unfinished file read-only and durable, and gives it its name.
    pub(super) fn finish(&self, file: &File, from: &Path, to: &Path) -> Result<(), FolderError> {
        file.set_permissions(Permissions::from_mode(READ_ONLY))
            .map_err(FolderError::io("protect", from))?;
        self.sync(file, Act::Sync(from))?;
        simulation::file(Act::Name { from, to })
            .and_then(|()| fs::rename(from, to))
            .map_err(FolderError::io("name", to))
    }

    /// Writes a lock unless one at least as late stands. The directory still has to be fsynced.
    pub(super) fn write_lock(&self, digest: &Digest, until: Millis) -> Result<(), FolderError> {
        let stripe = usize::from(digest.as_bytes()[0]) % LOCKING;
        let _one = self.inner.locking[stripe]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match self.locked_until(digest) {
            Ok(Some(present)) if present >= until => return Ok(()),
            // One that somebody else wrote, unreadable: the caller knows the date.
            Ok(_) | Err(FolderError::Lock(_)) => {}
            Err(error) => return Err(error),
        }
        self.write_file(
            format!("{}\n", until.get()).as_bytes(),
            &self.lock_path(digest),
        )
    }

    /// Makes a directory's names durable.
    pub(super) fn sync_directory(&self, path: &Path) -> Result<(), FolderError> {
        let directory = File::open(path).map_err(FolderError::io("open", path))?;
        self.sync(&directory, Act::SyncFolder(path))
    }

    fn sync(&self, file: &File, act: Act<'_>) -> Result<(), FolderError> {
        self.healthy()?;
        if simulation::file(act)
            .and_then(|()| (self.inner.sync)(file))
            .is_err()
        {
            self.inner.poisoned.cancel();
            return Err(FolderError::Poisoned);
        }
        Ok(())
    }
}
