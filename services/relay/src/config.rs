//! What the relay is told.

use greffe_service_kit::config::ServiceConfig;
use serde::{Deserialize, Serialize};

/// Everything in the relay's file of settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// As every service has it; its peers are `audit` and `archive`.
    pub service: ServiceConfig,
    /// The relay's own.
    #[serde(default)]
    pub relay: RelayConfig,
}

/// The relay's own settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelayConfig {
    /// Conversations whose public group state is kept in memory; others are read again when needed.
    pub conversations: usize,
    /// Items that may wait for the archive before sending is refused.
    pub backlog_items: u64,
    /// Bytes of them.
    pub backlog_bytes: u64,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            conversations: 512,
            backlog_items: 50_000,
            backlog_bytes: 1 << 30,
        }
    }
}
