//! Configuration: `[service]` as every service has it, `[escrow]` for the node itself.

use greffe_service_kit::config::ServiceConfig;
use serde::{Deserialize, Serialize};

/// Everything a node is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What every service is told.
    pub service: ServiceConfig,
    /// What only a node is told.
    #[serde(default)]
    pub escrow: EscrowConfig,
}

/// The node's own settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EscrowConfig {
    /// Most records that the node opens in an hour, over all orders.
    pub records_per_hour: u64,
    /// Most records of one order that are checked, counted and logged together.
    pub batch: usize,
    /// How long a call waits for the node to catch up with the log, in milliseconds.
    pub catch_up_ms: u64,
    /// How long an opening waits for the log to take its entries, in milliseconds.
    pub log_wait_ms: u64,
    /// Openings at once; beyond it, readers are told to come back.
    pub openings: u64,
    /// Of these, through one application.
    pub openings_per_caller: u64,
}

impl Default for EscrowConfig {
    fn default() -> Self {
        Self {
            records_per_hour: 20_000,
            batch: 128,
            catch_up_ms: 5_000,
            log_wait_ms: 15_000,
            openings: 32,
            openings_per_caller: 8,
        }
    }
}
