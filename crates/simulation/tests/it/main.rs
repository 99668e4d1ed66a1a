//! Some dozens of seeds, and those that once broke a promise.
#![allow(clippy::unwrap_used, clippy::panic)]

mod scenarios;
mod seeds;
