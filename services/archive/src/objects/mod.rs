//! Write-once objects: in a folder of the machine, or in one or two buckets with Object Lock.
//!
//! An object is named by the SHA-256 of its bytes. Its lock only ever moves to a later date; one without a lock is a complete
//! upload that no record names yet. Callers see no difference between the two stores but that a bucket can be out of reach.

mod folder;
mod reader;
mod upload;

use std::future::pending;
use std::path::PathBuf;

use greffe_objects::{Store, StoreError};
use greffe_types::{Digest, Millis};

pub use folder::{Folder, FolderError};
pub use greffe_objects::{CHUNK, Finding, NewObject, Scrubbed};
pub use reader::Reader;
pub use upload::Upload;

use crate::config::ObjectsConfig;

/// Why an object could not be written, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
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
    /// The folder failed.
    #[error(transparent)]
    Folder(FolderError),
    /// A bucket failed.
    #[error(transparent)]
    Buckets(StoreError),
    /// The process is ending.
    #[error("the archive is stopping")]
    Stopping,
}

impl From<StoreError> for ObjectError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Digest { expected, found } => Self::Digest { expected, found },
            StoreError::Size { expected, found } => Self::Size { expected, found },
            StoreError::Missing(digest) => Self::Missing(digest),
            StoreError::Locked { digest, until } => Self::Locked { digest, until },
            error => Self::Buckets(error),
        }
    }
}

impl From<FolderError> for ObjectError {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::Digest { expected, found } => Self::Digest { expected, found },
            FolderError::Size { expected, found } => Self::Size { expected, found },
            FolderError::Missing(digest) => Self::Missing(digest),
            FolderError::Locked { digest, until } => Self::Locked { digest, until },
            error => Self::Folder(error),
        }
    }
}

/// The store. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Objects {
    /// A folder.
    Folder(Folder),
    /// Buckets.
    Buckets(Store),
}

impl Objects {
    /// Opens what the configuration names; without one, the folder.
    ///
    /// # Errors
    /// When the folder cannot be made, or a bucket does not do what records need of it.
    pub async fn open(
        config: Option<&ObjectsConfig>,
        folder: PathBuf,
    ) -> Result<Self, ObjectError> {
        let Some(ObjectsConfig::S3(primary)) = config else {
            let opened = blocking(move || Folder::open(folder)).await?;
            return Ok(Self::Folder(opened));
        };
        let replica = primary
            .replica
            .as_deref()
            .map(|ObjectsConfig::S3(replica)| replica.settings());
        let store = Store::open(&primary.settings(), replica.as_ref()).await?;
        Ok(Self::Buckets(store))
    }

    /// Comes back when nothing can be written any more until the process begins anew.
    pub async fn failed(&self) {
        match self {
            Self::Folder(folder) => folder.poisoned().await,
            Self::Buckets(_) => pending().await,
        }
    }

    /// Writes objects: durable, locked and read back when this returns. One that is there already, whole, is left alone; its
    /// lock moves to the later date.
    ///
    /// # Errors
    /// [`ObjectError`]. Objects of a failed call may or may not be there; writing them again is safe.
    pub async fn put(&self, new: Vec<NewObject>) -> Result<(), ObjectError> {
        match self {
            Self::Folder(folder) => {
                let folder = folder.clone();
                blocking(move || folder.put(&new)).await
            }
            Self::Buckets(store) => Ok(store.put(&new).await?),
        }
    }

    /// Begins an object that comes in parts.
    ///
    /// # Errors
    /// [`ObjectError::Folder`].
    pub async fn upload(&self, digest: Digest) -> Result<Upload, ObjectError> {
        Upload::begin(self, digest).await
    }

    /// Moves an object's lock to a later date, durably. An earlier one changes nothing: a lock never gets shorter.
    ///
    /// # Errors
    /// [`ObjectError::Missing`], or a failed write.
    pub async fn lock(&self, digest: Digest, until: Millis) -> Result<(), ObjectError> {
        match self {
            Self::Folder(folder) => {
                let folder = folder.clone();
                blocking(move || folder.lock(&digest, until)).await
            }
            Self::Buckets(store) => Ok(store.lock(&digest, until).await?),
        }
    }

    /// Until when an object is locked; none when no record has named it yet.
    ///
    /// # Errors
    /// When the lock cannot be read.
    pub async fn locked_until(&self, digest: &Digest) -> Result<Option<Millis>, ObjectError> {
        match self {
            Self::Folder(folder) => Ok(folder.locked_until(digest)?),
            Self::Buckets(store) => Ok(store.locked_until(digest).await?),
        }
    }

    /// Puts a legal hold on an object, where the store knows such a thing. It comes off when the object is removed.
    ///
    /// # Errors
    /// [`ObjectError::Missing`], or a failed request.
    pub async fn hold(&self, digest: &Digest) -> Result<(), ObjectError> {
        match self {
            Self::Folder(_) => Ok(()),
            Self::Buckets(store) => Ok(store.hold(digest, true).await?),
        }
    }

    /// Whether an object of that name is there; its bytes are not looked at.
    ///
    /// # Errors
    /// A failed request.
    pub async fn contains(&self, digest: &Digest) -> Result<bool, ObjectError> {
        match self {
            Self::Folder(folder) => Ok(folder.contains(digest)),
            Self::Buckets(store) => Ok(store.contains(digest).await?),
        }
    }

    /// An object's bytes, which have the digest they go by: a rotted object is never served.
    ///
    /// # Errors
    /// [`ObjectError::Missing`], [`ObjectError::Digest`], or a failed read.
    pub async fn read(&self, digest: Digest) -> Result<Vec<u8>, ObjectError> {
        match self {
            Self::Folder(folder) => {
                let folder = folder.clone();
                blocking(move || folder.read(&digest)).await
            }
            Self::Buckets(store) => Ok(store.read(&digest).await?),
        }
    }

    /// Opens an object to read it in pieces, in constant memory. The last piece is held back until the digest of the whole has
    /// been compared.
    ///
    /// # Errors
    /// As [`Objects::read`].
    pub async fn reader(&self, digest: Digest) -> Result<Reader, ObjectError> {
        Reader::open(self, digest).await
    }

    /// Removes an object whose lock has run out at `now`, or that no record ever named. One that is gone already is no error.
    /// A legal hold of ours is taken off first: the caller has decided that none stands.
    ///
    /// # Errors
    /// [`ObjectError::Locked`], or a failed write.
    pub async fn remove(&self, digest: Digest, now: Millis) -> Result<(), ObjectError> {
        match self {
            Self::Folder(folder) => {
                let folder = folder.clone();
                blocking(move || folder.remove(&digest, now)).await
            }
            Self::Buckets(store) => match store.remove(&digest, now).await {
                Err(StoreError::Held(_)) => {
                    store.hold(&digest, false).await?;
                    Ok(store.remove(&digest, now).await?)
                }
                done => Ok(done?),
            },
        }
    }

    /// Reads every copy of an object through, compares it and its lock, and puts right what can be.
    ///
    /// # Errors
    /// A failed read or write.
    pub async fn scrub(&self, digest: Digest, until: Millis) -> Result<Scrubbed, ObjectError> {
        match self {
            Self::Folder(folder) => {
                let folder = folder.clone();
                blocking(move || folder.scrub(&digest, until)).await
            }
            Self::Buckets(store) => Ok(store.scrub(&digest, Some(until)).await?),
        }
    }
}

/// Works on files off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FolderError> + Send + 'static,
) -> Result<T, ObjectError> {
    greffe_service_kit::blocking(work)
        .await
        .map_err(|_| ObjectError::Stopping)?
        .map_err(ObjectError::from)
}
