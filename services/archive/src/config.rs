//! Settings of the archive.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use greffe_objects::{BucketSettings, Timeouts};
use greffe_service_kit::config::{DatabaseConfig, Secret, ServiceConfig};
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
    /// Where objects are kept. Absent: a write-once folder in the data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<ObjectsConfig>,
    /// Hours within which every object is read again, compared, and put right.
    pub scrub_hours: u32,
    /// Searches and ranges at once; beyond it, people are told to come back.
    pub searches: u64,
    /// Of these, of one person.
    pub searches_per_person: u64,
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

/// The `[archive.objects]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ObjectsConfig {
    /// A bucket with Object Lock, in compliance mode.
    S3(BucketConfig),
}

/// A bucket. It has to keep versions and to have Object Lock; the start tries both, and every permission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketConfig {
    /// URL of the store, `https://…`.
    pub endpoint: String,
    /// Region that requests are signed for.
    pub region: String,
    /// Its name.
    pub bucket: String,
    /// Put before every key; empty, or ending in `/`.
    #[serde(default)]
    pub prefix: String,
    /// Access key id.
    pub access_key_id: Secret,
    /// Secret access key.
    pub secret_access_key: Secret,
    /// Whether the bucket's name goes into the path instead of the host name.
    #[serde(default)]
    pub path_style: bool,
    /// PEM file of the authorities that the endpoint's certificate is checked against. Absent: the platform's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// A second bucket, with a lock of its own. Nothing is acknowledged before both have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<Box<ObjectsConfig>>,
}

impl BucketConfig {
    /// As the store takes it.
    pub fn settings(&self) -> BucketSettings {
        BucketSettings {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            access_key_id: self.access_key_id.expose().to_owned(),
            secret_access_key: self.secret_access_key.expose().into(),
            path_style: self.path_style,
            ca: self.ca.clone(),
            timeouts: Timeouts::default(),
        }
    }
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
            objects: None,
            scrub_hours: 168,
            searches: 32,
            searches_per_person: 4,
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
    pub const fn scrub_period(&self) -> Duration {
        Duration::from_secs(self.scrub_hours as u64 * 3600)
    }

    /// As a duration.
    pub const fn sweep_interval(&self) -> Duration {
        Duration::from_millis(self.sweep_ms)
    }
}
