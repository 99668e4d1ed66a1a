//! What every Greffe service and client shares: configuration, mutual TLS, serving, errors, storage.
//!
//! Nothing here knows a message, a record or an act. A service is its `app` and `store`; this crate gives them a checked
//! configuration, a caller whose certificate has been verified, a transaction with a name, and a way to stop.

pub mod clock;
pub mod config;
pub mod db;
pub mod errors;
pub mod files;
pub mod ready;
pub mod serve;
pub mod telemetry;
pub mod tls;
