//! Settings of the audit service: the common `[service]` table, and `[audit]`.

use core::num::NonZeroUsize;
use core::time::Duration;
use std::net::SocketAddr;

use greffe_service_kit::config::ServiceConfig;
use serde::{Deserialize, Serialize};

/// All settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What every service is told. The peers are the witnesses, by the names that the trust bundle gives them.
    pub service: ServiceConfig,
    /// What only this one is told.
    #[serde(default)]
    pub audit: AuditConfig,
}

/// The log's own settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// Shortest time between two checkpoints, in milliseconds.
    pub checkpoint_ms: u64,
    /// Longest time without asking the witnesses again, in milliseconds.
    pub recosign_ms: u64,
    /// Longest that a witness may take for one answer, in milliseconds.
    pub witness_timeout_ms: u64,
    /// How far the clock may stand behind the newest entry, in milliseconds.
    pub clock_tolerance_ms: u64,
    /// Longest that a caller waits for a checkpoint, in milliseconds.
    pub wait_ms: u64,
    /// The log as files over plain HTTP; absent: no such port.
    pub tiles: Option<TilesConfig>,
}

/// The log as files for tools that know tlog-tiles: the `[audit.tiles]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TilesConfig {
    /// Where to listen, without TLS.
    pub listen: SocketAddr,
    /// Whether entries are served too: they name persons, and nobody is asked who they are.
    #[serde(default)]
    pub entries: bool,
    /// Most connections at once; whoever opens more waits.
    #[serde(default = "connections")]
    pub connections: NonZeroUsize,
}

const fn connections() -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(255)
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            checkpoint_ms: 100,
            recosign_ms: 15_000,
            witness_timeout_ms: 3_000,
            clock_tolerance_ms: 10_000,
            wait_ms: 30_000,
            tiles: None,
        }
    }
}

impl AuditConfig {
    pub(crate) const fn interval(&self) -> Duration {
        Duration::from_millis(self.checkpoint_ms)
    }

    pub(crate) const fn recosign(&self) -> Duration {
        Duration::from_millis(self.recosign_ms)
    }

    pub(crate) const fn patience(&self) -> Duration {
        Duration::from_millis(self.witness_timeout_ms)
    }

    pub(crate) const fn clock_tolerance(&self) -> Duration {
        Duration::from_millis(self.clock_tolerance_ms)
    }

    pub(crate) const fn wait(&self) -> Duration {
        Duration::from_millis(self.wait_ms)
    }
}
