//! The write-once directory: content-addressed objects, each fsynced, read back and locked until a date.
//!
//! An object is `ab/cdef…`, named by the SHA-256 of its bytes, read-only once complete. Beside it stands `ab/cdef….retain`:
//! the lock, in milliseconds since the Unix epoch, which only ever moves to a later date. An object without a lock is a
//! complete upload that no record names yet. Everything under `tmp/` is unfinished, and removed at the next start.
//!
//! A failed fsync leaves the kernel's view of a file undefined, so it is not tried again: the store refuses every further
//! write until the process is started anew ([`ObjectError::Poisoned`]).

mod file;
mod upload;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use greffe_types::{Digest, Millis};
use sha2::{Digest as _, Sha256};

pub use upload::Upload;

/// Bytes read or handed out at a time: 1 MiB.
pub const CHUNK: usize = 1 << 20;

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// A file operation failed.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// An fsync failed earlier, or now: nothing more is written until a new start.
    #[error("an earlier write did not reach the disk; the archive has to be started anew")]
    Poisoned,
    /// The bytes are not those that the digest names.
    #[error("the bytes of {expected} have the digest {found}")]
    Digest {
        /// The digest it goes by.
        expected: Digest,
        /// The digest of the bytes found.
        found: Digest,
    },
    /// Another number of bytes than announced.
    #[error("{expected} bytes were announced, {found} came")]
    Size {
        /// Bytes announced.
        expected: u64,
        /// Bytes seen so far.
        found: u64,
    },
    /// No such object.
    #[error("there is no object {0}")]
    Missing(Digest),
    /// The lock of the object has not run out.
    #[error("object {digest} is locked until {until}")]
    Locked {
        /// The object.
        digest: Digest,
        /// First instant at which it may be removed.
        until: Millis,
    },
    /// A lock file does not hold a date: somebody other than this store wrote it.
    #[error("the lock of object {0} cannot be read")]
    Lock(Digest),
}

impl ObjectError {
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}

/// An object to write.
#[derive(Debug, Clone, Copy)]
pub struct NewObject<'a> {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// The bytes.
    pub bytes: &'a [u8],
    /// Its lock.
    pub retain_until: Millis,
}

/// Makes written bytes durable; replaced in tests of what happens when that fails.
type Sync = fn(&File) -> io::Result<()>;

/// The directory. Calls block: run them off the async threads.
#[derive(Debug, Clone)]
pub struct Objects {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    poisoned: AtomicBool,
    temporary: AtomicU64,
    sync: Sync,
}

impl Objects {
    /// Opens or creates the directory, and removes what an interrupted process left unfinished.
    ///
    /// # Errors
    /// [`ObjectError::Io`].
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, ObjectError> {
        Self::open_with(root.into(), File::sync_all)
    }

    fn open_with(root: PathBuf, sync: Sync) -> Result<Self, ObjectError> {
        let objects = Self {
            inner: Arc::new(Inner {
                root,
                poisoned: AtomicBool::new(false),
                temporary: AtomicU64::new(0),
                sync,
            }),
        };
        let tmp = objects.tmp();
        if tmp.exists() {
            fs::remove_dir_all(&tmp).map_err(ObjectError::io("clear", &tmp))?;
        }
        fs::create_dir_all(&tmp).map_err(ObjectError::io("create", &tmp))?;
        for shard in 0..=u8::MAX {
            let path = objects.inner.root.join(format!("{shard:02x}"));
            match fs::create_dir(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(ObjectError::io("create", &path)(e)),
            }
        }
        objects.sync_directory(&objects.inner.root.clone())?;
        Ok(objects)
    }

    /// Writes objects: durable, read back and their digests verified when this returns. One that is there already, whole, is
    /// left alone; its lock moves to the later date.
    ///
    /// # Errors
    /// [`ObjectError`]; after [`ObjectError::Poisoned`] nothing more is written. Objects of a failed call may or may not be
    /// there; writing them again is safe.
    pub fn put(&self, new: &[NewObject<'_>]) -> Result<(), ObjectError> {
        let mut shards = BTreeSet::new();
        for object in new {
            check(object.digest, object.bytes)?;
            let path = self.path(&object.digest);
            if self.verify(&object.digest).is_err() {
                self.write_file(object.bytes, &path)?;
            }
            self.write_lock(&object.digest, object.retain_until)?;
            shards.insert(self.shard(&object.digest));
        }
        for shard in &shards {
            self.sync_directory(shard)?;
        }
        new.iter()
            .try_for_each(|object| self.verify(&object.digest).map(drop))
    }

    /// Begins an object that comes in parts.
    ///
    /// # Errors
    /// [`ObjectError::Io`], [`ObjectError::Poisoned`].
    pub fn upload(&self) -> Result<Upload, ObjectError> {
        Upload::begin(self.clone())
    }

    /// Moves an object's lock to a later date, durably. An earlier one changes nothing: a lock never gets shorter.
    ///
    /// # Errors
    /// [`ObjectError::Missing`], or a failed write.
    pub fn lock(&self, digest: &Digest, until: Millis) -> Result<(), ObjectError> {
        if !self.contains(digest) {
            return Err(ObjectError::Missing(*digest));
        }
        self.write_lock(digest, until)?;
        self.sync_directory(&self.shard(digest))
    }

    /// Until when an object is locked; none when no record has named it yet.
    ///
    /// # Errors
    /// [`ObjectError::Lock`], [`ObjectError::Io`].
    pub fn locked_until(&self, digest: &Digest) -> Result<Option<Millis>, ObjectError> {
        let path = self.lock_path(digest);
        match fs::read_to_string(&path) {
            Ok(text) => match text.trim_end().parse() {
                Ok(millis) => Ok(Some(Millis::new(millis))),
                Err(_) => Err(ObjectError::Lock(*digest)),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(ObjectError::io("read", &path)(e)),
        }
    }

    /// Whether an object of that name is there; its bytes are not looked at.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// An object's bytes, which have the digest they go by: a rotted object is never served.
    ///
    /// # Errors
    /// [`ObjectError::Missing`], [`ObjectError::Digest`], [`ObjectError::Io`].
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, ObjectError> {
        let mut bytes = Vec::new();
        self.file(digest)?
            .read_to_end(&mut bytes)
            .map_err(ObjectError::io("read", &self.path(digest)))?;
        check(*digest, &bytes)?;
        Ok(bytes)
    }

    /// Reads an object through and compares its digest, in constant memory; returns its size in bytes.
    ///
    /// # Errors
    /// [`ObjectError::Missing`], [`ObjectError::Digest`], [`ObjectError::Io`].
    pub fn verify(&self, digest: &Digest) -> Result<u64, ObjectError> {
        self.scan(digest, |_| true)
    }

    /// Hands out an object in pieces of at most [`CHUNK`] bytes, in constant memory. The last piece is held back until the
    /// digest of the whole has been compared. `take` returns false to stop early.
    ///
    /// # Errors
    /// [`ObjectError::Missing`], [`ObjectError::Digest`], [`ObjectError::Io`].
    pub fn stream(
        &self,
        digest: &Digest,
        mut take: impl FnMut(Vec<u8>) -> bool,
    ) -> Result<(), ObjectError> {
        let mut held: Option<Vec<u8>> = None;
        let mut wanted = true;
        self.scan(digest, |piece| {
            if let Some(before) = held.replace(piece.to_vec()) {
                wanted = take(before);
            }
            wanted
        })?;
        if let Some(last) = held.filter(|_| wanted) {
            take(last);
        }
        Ok(())
    }

    /// Removes an object whose lock has run out at `now`, or that no record ever named. One that is gone already is no error.
    ///
    /// # Errors
    /// [`ObjectError::Locked`], or a failed write.
    pub fn remove(&self, digest: &Digest, now: Millis) -> Result<(), ObjectError> {
        if let Some(until) = self.locked_until(digest)?
            && now < until
        {
            return Err(ObjectError::Locked {
                digest: *digest,
                until,
            });
        }
        self.healthy()?;
        for path in [self.path(digest), self.lock_path(digest)] {
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(ObjectError::io("remove", &path)(e)),
            }
        }
        self.sync_directory(&self.shard(digest))
    }

    /// Reads pieces through `look` until it returns false, or to the end, where the digest is compared.
    fn scan(
        &self,
        digest: &Digest,
        mut look: impl FnMut(&[u8]) -> bool,
    ) -> Result<u64, ObjectError> {
        let mut file = self.file(digest)?;
        let mut hash = Sha256::new();
        let mut size = 0;
        let mut piece = Vec::with_capacity(64 << 10);
        loop {
            piece.clear();
            let read = (&mut file)
                .take(CHUNK as u64)
                .read_to_end(&mut piece)
                .map_err(ObjectError::io("read", &self.path(digest)))?;
            if read == 0 {
                break;
            }
            hash.update(&piece);
            size += read as u64;
            if !look(&piece) {
                return Ok(size);
            }
        }
        compare(*digest, hash)?;
        Ok(size)
    }

    fn file(&self, digest: &Digest) -> Result<File, ObjectError> {
        let path = self.path(digest);
        File::open(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => ObjectError::Missing(*digest),
            _ => ObjectError::io("open", &path)(e),
        })
    }

    fn shard(&self, digest: &Digest) -> PathBuf {
        self.inner.root.join(&digest.to_string()[..2])
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.shard(digest).join(&digest.to_string()[2..])
    }

    fn lock_path(&self, digest: &Digest) -> PathBuf {
        self.path(digest).with_extension("retain")
    }

    fn tmp(&self) -> PathBuf {
        self.inner.root.join("tmp")
    }

    fn temporary(&self) -> PathBuf {
        let number = self.inner.temporary.fetch_add(1, Ordering::Relaxed);
        self.tmp().join(number.to_string())
    }
}

fn check(expected: Digest, bytes: &[u8]) -> Result<(), ObjectError> {
    compare(expected, Sha256::new_with_prefix(bytes))
}

fn compare(expected: Digest, hash: Sha256) -> Result<(), ObjectError> {
    let found = Digest::new(hash.finalize().into());
    if found == expected {
        Ok(())
    } else {
        Err(ObjectError::Digest { expected, found })
    }
}

#[cfg(test)]
mod tests;
