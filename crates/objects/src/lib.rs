//! Record objects in S3 with Object Lock in compliance mode: content-addressed, in two buckets, each with a lock of its own.
//!
//! An object is `<prefix>objects/ab/cdef…`, named by the SHA-256 of its bytes. Every version of it that a record needs
//! carries a retain-until date in compliance mode, which only ever moves to a later date and was read back from the server
//! before a call returns. An object without a lock is a complete upload that no record names yet.
//!
//! - [`Store::put`] and [`Upload`] return once every bucket holds the object, whole and locked, and it was read back from
//!   each. When one bucket cannot be reached nothing is acknowledged; trying again is safe.
//! - [`Store::read`] and [`Store::reader`] hand out bytes that have the digest they go by, from whichever copy is whole.
//! - [`Store::scrub`] re-reads every copy of an object and puts right what is rotted, hidden, missing or locked too briefly.
//!   A rotted version stays below the new one until its own lock has run out: the server deletes it for nobody.
//! - [`Store::open`] tries everything a store needs on each bucket, and refuses to start on one that does not do it.
//!
//! # What a bucket has to grant
//!
//! On the bucket: `s3:GetBucketVersioning`, `s3:GetBucketObjectLockConfiguration`, `s3:ListBucket`, `s3:ListBucketVersions`. On its
//! objects: `s3:PutObject`, `s3:GetObject`, `s3:GetObjectVersion`, `s3:PutObjectRetention`, `s3:GetObjectRetention`,
//! `s3:PutObjectLegalHold`, `s3:GetObjectLegalHold`, `s3:DeleteObjectVersion`, `s3:AbortMultipartUpload`. Nothing else: not
//! `s3:BypassGovernanceRetention`, not `s3:PutBucketVersioning`. A rule that ends unfinished uploads after a day is the bucket
//! owner's to set.
//!
//! # What it does not do
//!
//! A put needs every bucket: while one is out of reach nothing is acknowledged, and reads go to the other. There is no queue of
//! repairs. `If-None-Match` is not sent, for servers differ in what they make of it (some ignore it without a word): equal bytes
//! put twice at the same time by two processes may leave two versions; both are whole, both are locked.

mod bucket;
mod error;
mod probe;
mod read;
mod scrub;
mod settings;
mod store;
mod turns;
mod upload;

pub use error::{StoreError, Unfit};
pub use read::Reader;
pub use scrub::{Finding, Scrubbed};
pub use settings::{BucketSettings, Timeouts};
pub use store::{NewObject, Store};
pub use upload::{PART, Upload};

/// Most bytes of a piece handed out by a [`Reader`]: 1 MiB.
pub const CHUNK: usize = 1 << 20;
