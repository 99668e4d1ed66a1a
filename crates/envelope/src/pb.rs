//! The protobuf messages of `proto/greffe/envelope/v1`, generated at build time.
#![allow(clippy::all, missing_docs, unreachable_pub, unused_qualifications)]

include!(concat!(env!("OUT_DIR"), "/greffe.envelope.v1.rs"));
