//! Stub.
pub mod pb;
