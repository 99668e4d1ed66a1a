//! The write-once directory: content-addressed objects, each fsynced, read back and locked until a date.
//!
//! An object is `ab/cdef…`, named by the SHA-256 of its bytes, read-only once complete. Beside it stands `ab/cdef….retain`:
//! the lock, in milliseconds since the Unix epoch, which only ever moves to a later date. An object without a lock is a
//! complete upload that no record names yet. Everything under `tmp/` is unfinished, and removed at the next start.
//!
//! A failed fsync leaves the kernel's view of a file undefined, so it is not tried again: the store refuses every further
//! write until the process is started anew ([`FolderError::Poisoned`]).

mod file;
mod many;
mod upload;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use greffe_objects::{CHUNK, Finding, NewObject, Scrubbed};
use greffe_service_kit::simulation::{self, Act};
use greffe_types::{Digest, Millis};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use many::side_by_side;

pub(super) use upload::Upload;

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
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

impl FolderError {
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}

/// How many locks can be written at a time.
const LOCKING: usize = 16;

/// Makes written bytes durable; replaced in tests of what happens when that fails.
type Sync = fn(&File) -> io::Result<()>;

/// The directory. Calls block: run them off the async threads.
#[derive(Debug, Clone)]
pub struct Folder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// Cancelled by the first fsync that fails.
    poisoned: CancellationToken,
    temporary: AtomicU64,
    /// Held while a lock is compared and written, so that of two dates the later one stays. By the digest's first byte.
    locking: [Mutex<()>; LOCKING],
    sync: Sync,
}

impl Folder {
    /// Opens or creates the directory, and removes what an interrupted process left unfinished.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, FolderError> {
        Self::open_with(root.into(), File::sync_all)
    }

    fn open_with(root: PathBuf, sync: Sync) -> Result<Self, FolderError> {
        let objects = Self {
            inner: Arc::new(Inner {
                root,
                poisoned: CancellationToken::new(),
                temporary: AtomicU64::new(0),
                locking: Default::default(),
                sync,
            }),
        };
        let tmp = objects.tmp();
        if tmp.exists() {
            fs::remove_dir_all(&tmp).map_err(FolderError::io("clear", &tmp))?;
        }
        fs::create_dir_all(&tmp).map_err(FolderError::io("create", &tmp))?;
        for shard in 0..=u8::MAX {
            let path = objects.inner.root.join(format!("{shard:02x}"));
            match fs::create_dir(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(FolderError::io("create", &path)(e)),
            }
        }
        objects.sync_directory(&objects.inner.root.clone())?;
        Ok(objects)
    }

    /// Writes objects: durable, read back and their digests verified when this returns. One that is there already, whole, is
    /// left alone; its lock moves to the later date.
    ///
    /// # Errors
    /// [`FolderError`]; after [`FolderError::Poisoned`] nothing more is written. Folder of a failed call may or may not be
    /// there; writing them again is safe.
    pub fn put(&self, new: &[NewObject]) -> Result<(), FolderError> {
        side_by_side(new, |object| {
            check(object.digest, &object.bytes)?;
            if self.verify(&object.digest).is_err() {
                self.write_file(&object.bytes, &self.path(&object.digest))?;
            }
            self.write_lock(&object.digest, object.retain_until)
        })?;
        let shards: BTreeSet<_> = new.iter().map(|new| self.shard(&new.digest)).collect();
        let shards: Vec<_> = shards.into_iter().collect();
        side_by_side(&shards, |shard| self.sync_directory(shard))?;
        side_by_side(new, |new| self.verify(&new.digest).map(drop))
    }

    /// Comes back once an fsync has failed.
    pub async fn poisoned(&self) {
        self.inner.poisoned.cancelled().await;
    }

    /// Begins an object that comes in parts.
    ///
    /// # Errors
    /// [`FolderError::Io`], [`FolderError::Poisoned`].
    pub fn upload(&self) -> Result<Upload, FolderError> {
        Upload::begin(self.clone())
    }

    /// Moves an object's lock to a later date, durably. An earlier one changes nothing: a lock never gets shorter.
    ///
    /// # Errors
    /// [`FolderError::Missing`], or a failed write.
    pub fn lock(&self, digest: &Digest, until: Millis) -> Result<(), FolderError> {
        if !self.contains(digest) {
            return Err(FolderError::Missing(*digest));
        }
        self.write_lock(digest, until)?;
        self.sync_directory(&self.shard(digest))
    }

    /// Until when an object is locked; none when no record has named it yet.
    ///
    /// # Errors
    /// [`FolderError::Lock`], [`FolderError::Io`].
    pub fn locked_until(&self, digest: &Digest) -> Result<Option<Millis>, FolderError> {
        let path = self.lock_path(digest);
        match fs::read_to_string(&path) {
            Ok(text) => match text.trim_end().parse() {
                Ok(millis) => Ok(Some(Millis::new(millis))),
                Err(_) => Err(FolderError::Lock(*digest)),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(FolderError::io("read", &path)(e)),
        }
    }

    /// Whether an object of that name is there; its bytes are not looked at.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// An object's bytes, which have the digest they go by: a rotted object is never served.
    ///
    /// # Errors
    /// [`FolderError::Missing`], [`FolderError::Digest`], [`FolderError::Io`].
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, FolderError> {
        let mut bytes = Vec::new();
        self.file(digest)?
            .read_to_end(&mut bytes)
            .map_err(FolderError::io("read", &self.path(digest)))?;
        check(*digest, &bytes)?;
        Ok(bytes)
    }

    /// Reads an object through and compares its digest, in constant memory; returns its size in bytes.
    ///
    /// # Errors
    /// [`FolderError::Missing`], [`FolderError::Digest`], [`FolderError::Io`].
    pub fn verify(&self, digest: &Digest) -> Result<u64, FolderError> {
        self.scan(digest, |_| true)
    }

    /// Hands out an object in pieces of at most [`CHUNK`] bytes, in constant memory. The last piece is held back until the
    /// digest of the whole has been compared. `take` returns false to stop early.
    ///
    /// # Errors
    /// [`FolderError::Missing`], [`FolderError::Digest`], [`FolderError::Io`].
    pub fn stream(
        &self,
        digest: &Digest,
        mut take: impl FnMut(Vec<u8>) -> bool,
    ) -> Result<(), FolderError> {
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
    /// [`FolderError::Locked`], or a failed write.
    pub fn remove(&self, digest: &Digest, now: Millis) -> Result<(), FolderError> {
        if let Some(until) = self.locked_until(digest)?
            && now < until
        {
            return Err(FolderError::Locked {
                digest: *digest,
                until,
            });
        }
        self.healthy()?;
        for path in [self.path(digest), self.lock_path(digest)] {
            match simulation::file(Act::Remove(&path)).and_then(|()| fs::remove_file(&path)) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(FolderError::io("remove", &path)(e)),
            }
        }
        self.sync_directory(&self.shard(digest))
    }

    /// Compares an object's bytes and lock. A lock that is too short is put right; bytes have no second copy here.
    ///
    /// # Errors
    /// A failed read or write.
    pub fn scrub(&self, digest: &Digest, until: Millis) -> Result<Scrubbed, FolderError> {
        let mut scrubbed = Scrubbed::default();
        let wrong = match self.verify(digest) {
            Ok(_) => None,
            Err(FolderError::Missing(_)) => Some(Finding::Missing),
            Err(FolderError::Digest { .. }) => Some(Finding::Rotted),
            Err(error) => return Err(error),
        };
        let mut note = |finding| scrubbed.findings.push(("folder".to_owned(), finding));
        if let Some(wrong) = wrong {
            note(wrong);
            scrubbed.lost = true;
            return Ok(scrubbed);
        }
        let locked = match self.locked_until(digest) {
            Err(FolderError::Lock(_)) => None,
            locked => locked?,
        };
        if locked.is_none_or(|locked| locked < until) {
            note(Finding::Unlocked);
            self.lock(digest, until)?;
        }
        Ok(scrubbed)
    }

    /// Reads pieces through `look` until it returns false, or to the end, where the digest is compared.
    fn scan(
        &self,
        digest: &Digest,
        mut look: impl FnMut(&[u8]) -> bool,
    ) -> Result<u64, FolderError> {
        let mut file = self.file(digest)?;
        let mut hash = Sha256::new();
        let mut size = 0;
        let mut piece = Vec::with_capacity(64 << 10);
        loop {
            piece.clear();
            let read = (&mut file)
                .take(CHUNK as u64)
                .read_to_end(&mut piece)
                .map_err(FolderError::io("read", &self.path(digest)))?;
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

    fn file(&self, digest: &Digest) -> Result<File, FolderError> {
        let path = self.path(digest);
        File::open(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => FolderError::Missing(*digest),
            _ => FolderError::io("open", &path)(e),
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

fn check(expected: Digest, bytes: &[u8]) -> Result<(), FolderError> {
    compare(expected, Sha256::new_with_prefix(bytes))
}

fn compare(expected: Digest, hash: Sha256) -> Result<(), FolderError> {
    let found = Digest::new(hash.finalize().into());
    if found == expected {
        Ok(())
    } else {
        Err(FolderError::Digest { expected, found })
    }
}

#[cfg(test)]
mod tests;
