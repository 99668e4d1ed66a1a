//! An object that comes in parts: hashed while it is written, complete and read back, or not there at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use greffe_types::Digest;
use sha2::{Digest as _, Sha256};

use super::{Folder, FolderError, compare};

/// An unfinished object; dropping it removes what was written.
#[derive(Debug)]
pub struct Upload {
    folder: Folder,
    path: PathBuf,
    file: File,
    hash: Sha256,
    size: u64,
    finished: bool,
}

impl Upload {
    pub(super) fn begin(folder: Folder) -> Result<Self, FolderError> {
        let path = folder.temporary();
        let file = folder.create(&path)?;
        Ok(Self {
            folder,
            path,
            file,
            hash: Sha256::new(),
            size: 0,
            finished: false,
        })
    }

    /// Adds bytes; `most` is how many the whole may have.
    ///
    /// # Errors
    /// [`FolderError::Size`] when it gets too large, [`FolderError::Io`].
    pub fn write(&mut self, bytes: &[u8], most: u64) -> Result<(), FolderError> {
        let size = self.size.saturating_add(bytes.len() as u64);
        if size > most {
            return Err(FolderError::Size {
                expected: most,
                found: size,
            });
        }
        self.file
            .write_all(bytes)
            .map_err(FolderError::io("write", &self.path))?;
        self.hash.update(bytes);
        self.size = size;
        Ok(())
    }

    /// Gives the object its name once size and digest are those announced: durable and read back when this returns, and not
    /// locked until a record names it.
    ///
    /// # Errors
    /// [`FolderError::Size`], [`FolderError::Digest`], or a failed write; the object is not there then.
    pub fn finish(mut self, digest: &Digest, size: u64) -> Result<(), FolderError> {
        if self.size != size {
            return Err(FolderError::Size {
                expected: size,
                found: self.size,
            });
        }
        compare(*digest, core::mem::take(&mut self.hash))?;
        if self.folder.verify(digest).is_ok() {
            return Ok(());
        }
        let path = self.folder.path(digest);
        self.folder.finish(&self.file, &self.path, &path)?;
        self.finished = true;
        self.folder.sync_directory(&self.folder.shard(digest))?;
        self.folder.verify(digest).map(drop)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed now is removed at the next start.
            let _left = fs::remove_file(&self.path);
        }
    }
}
