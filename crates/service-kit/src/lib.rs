//! What every Greffe service and client shares: configuration, mutual TLS, serving, errors, storage.
//!
//! Nothing here knows a message, a record or an act. A service is its `app` and `store`; this crate gives them a checked
//! configuration, a caller whose certificate has been verified, a transaction with a name, and a way to stop.

pub mod append;
mod backoff;
pub mod boot;
pub mod check;
pub mod checkpoint;
pub mod clock;
pub mod config;
pub mod db;
pub mod disk;
pub mod errors;
pub mod files;
pub mod folder;
pub mod follow;
pub mod harden;
pub mod health;
pub mod prepare;
pub mod ready;
pub mod secrets;
pub mod serve;
pub mod shares;
pub mod simulation;
pub mod telemetry;
pub mod tls;

pub use simulation::blocking;
