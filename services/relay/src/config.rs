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
    /// Items of one device without a receipt; its stream is not read on beyond them.
    pub device_items: u32,
    /// Bytes of them.
    pub device_bytes: u64,
    /// Messages of one device in a second; 0 for as many as it sends.
    pub device_messages_per_second: u32,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            conversations: 512,
            backlog_items: 50_000,
            backlog_bytes: 1 << 30,
            device_items: 1024,
            device_bytes: 64 << 20,
            device_messages_per_second: 2000,
        }
    }
}
