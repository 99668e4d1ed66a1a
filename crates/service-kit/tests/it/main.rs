//! Real servers over real TLS, a small log behind one of them, and what is refused.
#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod access;
mod append;
mod boot;
mod follow;
mod health;
mod limits;
mod log;
mod places;
mod renew;
mod rpcs;
mod taken;
mod tls;
mod world;
