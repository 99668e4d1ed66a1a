//! Settings of the archive.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use greffe_service_kit::config::DatabaseConfig;
use greffe_service_kit::config::ServiceConfig;
use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What every service is told.
    pub service: ServiceConfig,
    /// What only the archive is told.
    #[serde(default)]
    pub archive: ArchiveConfig,
}

/// The `[archive]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArchiveConfig {
    /// Folders of policy packs beside the embedded ones. A pack counts only when the trust bundle names its digest.
    pub packs: Vec<PathBuf>,
    /// Longest that receipts wait for others before their batch goes to the log, in milliseconds.
    pub batch_ms: u64,
    /// Hours after which a complete attachment that no record names is removed.
    pub attachment_hours: u32,
    /// Days after which the last backup of the wrap store has expired: a disposition's certificate names that date.
    pub wrap_backup_days: u32,
    /// How often decided dispositions and unnamed attachments are looked for, in milliseconds.
    pub sweep_ms: u64,
    /// The erasable store of wraps, on a server: a database of its own, with short backups. Absent: a file in the data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wraps: Option<DatabaseConfig>,
    /// The RPCs of people in JSON over HTTP; absent: not served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpConfig>,
}

/// The `[archive.http]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// Where to listen, with the mutual TLS of the service; port 0 takes a free one, which `ready-http.json` then names.
    pub listen: SocketAddr,
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        Self {
            packs: Vec::new(),
            batch_ms: 100,
            attachment_hours: 24,
            wrap_backup_days: 30,
            sweep_ms: 60_000,
            wraps: None,
            http: None,
        }
    }
}

impl ArchiveConfig {
    /// As a duration.
    pub const fn batch_delay(&self) -> Duration {
        Duration::from_millis(self.batch_ms)
    }

    /// As a duration.
    pub const fn attachment_life(&self) -> Duration {
        Duration::from_secs(self.attachment_hours as u64 * 3600)
    }

    /// As a duration.
    pub const fn wrap_backup_life(&self) -> Duration {
        Duration::from_secs(self.wrap_backup_days as u64 * 24 * 3600)
    }

    /// As a duration.
    pub const fn sweep_interval(&self) -> Duration {
        Duration::from_millis(self.sweep_ms)
    }
}
