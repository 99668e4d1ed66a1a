//! Why the store refused or failed; each error has a stable reason and says whether trying again may help.

use std::time::Duration;

use greffe_types::{Digest, Millis};

/// A cause, for logs.
pub(crate) type Cause = Box<dyn core::error::Error + Send + Sync>;

/// What a bucket lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unfit {
    /// There is no such bucket.
    Missing,
    /// The server does not take the credentials.
    Credentials,
    /// Versioning is off or suspended.
    Versioning,
    /// Object Lock is not enabled.
    ObjectLock,
    /// The server took a lock and does not keep it.
    LockNotKept(&'static str),
    /// These permissions are missing, by the names of S3 policies.
    Permissions(Vec<&'static str>),
}

impl core::fmt::Display for Unfit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Missing => f.write_str(
                "does not exist; create it with Object Lock enabled, or correct its name or the endpoint",
            ),
            Self::Credentials => {
                f.write_str("is closed to these credentials; correct the access key or the secret key")
            }
            Self::Versioning => f.write_str(
                "does not keep versions; enable versioning, or name a bucket created with Object Lock",
            ),
            Self::ObjectLock => f.write_str(
                "has no Object Lock; it is enabled when a bucket is created: name another bucket",
            ),
            Self::LockNotKept(what) => write!(
                f,
                "does not keep what it locked: {what}; this server cannot hold records"
            ),
            Self::Permissions(missing) => {
                write!(f, "refuses {}; grant them to these credentials", missing.join(", "))
            }
        }
    }
}

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A setting cannot be used.
    #[error("the object store's setting {setting}: {why}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What is wrong and what to do.
        why: String,
    },
    /// The bucket cannot hold records: the start is refused.
    #[error("bucket {bucket} {unfit}")]
    Unfit {
        /// The bucket.
        bucket: String,
        /// What it lacks, and what to do.
        unfit: Unfit,
    },
    /// No such object in any bucket.
    #[error("there is no object {0}")]
    Missing(Digest),
    /// The bytes are not those that the digest names.
    #[error("the bytes of {expected} have the digest {found}")]
    Digest {
        /// The digest it goes by.
        expected: Digest,
        /// The digest of the bytes found.
        found: Digest,
    },
    /// A copy rotted while it was read; another one is read the next time.
    #[error("a copy of {digest} in bucket {bucket} is rotted; read it again to get another copy")]
    Rotted {
        /// The object.
        digest: Digest,
        /// Where.
        bucket: String,
    },
    /// Another number of bytes than announced.
    #[error("{expected} bytes were announced, {found} came")]
    Size {
        /// Bytes announced.
        expected: u64,
        /// Bytes seen so far.
        found: u64,
    },
    /// An earlier part of the upload failed: it has to be begun anew.
    #[error("the upload of {0} was broken off by an earlier failure; begin it again")]
    BrokenOff(Digest),
    /// The lock of the object has not run out.
    #[error("object {digest} is locked until {until}")]
    Locked {
        /// The object.
        digest: Digest,
        /// First instant at which it may be removed.
        until: Millis,
    },
    /// A legal hold stands on the object.
    #[error("object {0} is under a legal hold; release the hold first")]
    Held(Digest),
    /// The server took a lock or a hold, and another one stands when it is read back.
    #[error("bucket {bucket} does not show the {what} that was set on {digest}")]
    NotSet {
        /// The object.
        digest: Digest,
        /// Where.
        bucket: String,
        /// "lock" or "legal hold".
        what: &'static str,
    },
    /// The server refused, or could not be reached.
    #[error("bucket {bucket}: {operation} failed ({code})")]
    Request {
        /// The bucket.
        bucket: String,
        /// The S3 operation.
        operation: &'static str,
        /// The server's error code, or what kind of failure it was.
        code: String,
        /// Whether trying again may help.
        retriable: bool,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// The server did not answer in time.
    #[error("bucket {bucket}: {operation} took longer than {limit:?}")]
    Timeout {
        /// The bucket.
        bucket: String,
        /// The S3 operation.
        operation: &'static str,
        /// The limit.
        limit: Duration,
    },
}

impl StoreError {
    /// The stable reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Setting { .. } => "OBJECT_STORE_SETTING",
            Self::Unfit { .. } => "OBJECT_BUCKET_UNFIT",
            Self::Missing(_) => "OBJECT_MISSING",
            Self::Digest { .. } => "OBJECT_DIGEST_MISMATCH",
            Self::Rotted { .. } => "OBJECT_ROTTED",
            Self::Size { .. } => "OBJECT_SIZE_MISMATCH",
            Self::BrokenOff(_) => "OBJECT_UPLOAD_BROKEN_OFF",
            Self::Locked { .. } => "OBJECT_LOCKED",
            Self::Held(_) => "OBJECT_HELD",
            Self::NotSet { .. } => "OBJECT_LOCK_NOT_SET",
            Self::Request { .. } => "OBJECT_STORE_REFUSED",
            Self::Timeout { .. } => "OBJECT_STORE_TIMEOUT",
        }
    }

    /// Whether the same call may succeed later.
    pub const fn retriable(&self) -> bool {
        match self {
            Self::Request { retriable, .. } => *retriable,
            Self::Timeout { .. }
            | Self::Rotted { .. }
            | Self::NotSet { .. }
            | Self::BrokenOff(_) => true,
            Self::Setting { .. }
            | Self::Unfit { .. }
            | Self::Missing(_)
            | Self::Digest { .. }
            | Self::Size { .. }
            | Self::Locked { .. }
            | Self::Held(_) => false,
        }
    }
}
