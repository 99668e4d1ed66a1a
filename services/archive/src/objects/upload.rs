//! An object that comes in parts: hashed while it is written, complete and read back, or not there at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use greffe_types::Digest;
use sha2::{Digest as _, Sha256};

use super::{ObjectError, Objects, compare};

/// An unfinished object; dropping it removes what was written.
#[derive(Debug)]
pub struct Upload {
    objects: Objects,
    path: PathBuf,
    file: File,
    hash: Sha256,
    size: u64,
    finished: bool,
}

impl Upload {
    pub(super) fn begin(objects: Objects) -> Result<Self, ObjectError> {
        let path = objects.temporary();
        let file = objects.create(&path)?;
        Ok(Self {
            objects,
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
    /// [`ObjectError::Size`] when it gets too large, [`ObjectError::Io`].
    pub fn write(&mut self, bytes: &[u8], most: u64) -> Result<(), ObjectError> {
        let size = self.size.saturating_add(bytes.len() as u64);
        if size > most {
            return Err(ObjectError::Size {
                expected: most,
                found: size,
            });
        }
        self.file
            .write_all(bytes)
            .map_err(ObjectError::io("write", &self.path))?;
        self.hash.update(bytes);
        self.size = size;
        Ok(())
    }

    /// Gives the object its name once size and digest are those announced: durable and read back when this returns, and not
    /// locked until a record names it.
    ///
    /// # Errors
    /// [`ObjectError::Size`], [`ObjectError::Digest`], or a failed write; the object is not there then.
    pub fn finish(mut self, digest: &Digest, size: u64) -> Result<(), ObjectError> {
        if self.size != size {
            return Err(ObjectError::Size {
                expected: size,
                found: self.size,
            });
        }
        compare(*digest, core::mem::take(&mut self.hash))?;
        if self.objects.verify(digest).is_ok() {
            return Ok(());
        }
        let path = self.objects.path(digest);
        self.objects.finish(&self.file, &self.path, &path)?;
        self.finished = true;
        self.objects.sync_directory(&self.objects.shard(digest))?;
        self.objects.verify(digest).map(drop)
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
