//! Real servers over real TLS, a small log behind one of them, and what is refused.

mod access;
mod append;
mod boot;
mod follow;
mod log;
mod rpcs;
mod tls;
mod world;
