//! The store against a real S3 server whose Object Lock holds (Ceph), with the credentials a bank would give it.
#![allow(clippy::unwrap_used, missing_docs)]

mod attacks;
mod buckets;
mod lifecycle;
mod start;
mod streams;
mod support;
mod unknown;
