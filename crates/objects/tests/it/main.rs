//! The store against a real S3 server whose Object Lock holds (Ceph), with the credentials a bank would give it.

mod attacks;
mod buckets;
mod lifecycle;
mod start;
mod streams;
mod support;
