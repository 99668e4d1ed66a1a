//! The `[service]` table: what every service is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use greffe_envelope::trust::RootKey;
use greffe_envelope::{pb, statement};
use greffe_types::TenantId;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::{ConfigError, PeerConfig, Secret};
use crate::telemetry::LogConfig;

/// What every service is told: its table is `[service]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// The tenant that is served; certificates of any other are refused.
    pub tenant: TenantId,
    /// Where to listen; port 0 takes a free one, which the ready file then names.
    pub listen: SocketAddr,
    /// Data folder: this process's alone.
    pub data: PathBuf,
    /// File with the pinned tenant root, one line: `greffe-root-v1 TENANT HEX`.
    pub root_key: PathBuf,
    /// File with the first trust bundle: the protobuf of its `SignedStatement`. Later ones come through the log.
    pub bundle: PathBuf,
    /// Certificate and key of this service.
    pub tls: TlsFiles,
    /// What its identity may be.
    #[serde(default)]
    pub mode: Mode,
    /// Folder with the seal key and the sealed secrets; absent: the data folder.
    #[serde(default)]
    pub secrets: Option<PathBuf>,
    /// Probes and metrics; absent: no such port.
    #[serde(default)]
    pub health: Option<HealthConfig>,
    /// The database; absent: SQLite in the data folder.
    #[serde(default)]
    pub database: Option<DatabaseConfig>,
    /// What leaves the process for a collector.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// What protects the seal key; absent: a file in the folder of the secrets.
    #[serde(default)]
    pub seal: Option<SealConfig>,
    /// The services it calls, by name.
    #[serde(default)]
    pub peers: BTreeMap<String, PeerConfig>,
    /// How logs are written.
    #[serde(default)]
    pub log: LogConfig,
    /// What one process takes on.
    #[serde(default)]
    pub limits: Limits,
}

impl ServiceConfig {
    /// A peer that this service cannot do without.
    pub fn peer(&self, name: &str) -> Result<&PeerConfig, ConfigError> {
        self.peers.get(name).ok_or_else(|| ConfigError::Peer {
            name: name.to_owned(),
        })
    }

    /// Folder with the seal key and the sealed secrets.
    pub fn secrets(&self) -> &Path {
        self.secrets.as_deref().unwrap_or(&self.data)
    }

    /// The pinned root, which has to be that of the tenant served.
    pub fn root(&self) -> Result<RootKey, ConfigError> {
        let path = &self.root_key;
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.clone(),
            source,
        })?;
        let root = RootKey::parse(&text).map_err(|source| ConfigError::RootKey {
            path: path.clone(),
            source,
        })?;
        if *root.tenant() != self.tenant {
            return Err(ConfigError::RootTenant {
                path: path.clone(),
                found: root.tenant().clone(),
                tenant: self.tenant.clone(),
            });
        }
        Ok(root)
    }

    /// The first trust bundle as it is on disk; nothing of it is verified here.
    pub fn first_bundle(&self) -> Result<pb::SignedStatement, ConfigError> {
        let path = &self.bundle;
        let bytes = std::fs::read(path).map_err(|source| ConfigError::Read {
            path: path.clone(),
            source,
        })?;
        statement::decode_strict("signed-statement", &bytes).map_err(|source| ConfigError::Bundle {
            path: path.clone(),
            source,
        })
    }
}

/// PEM files of a TLS identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key of the leaf, PKCS #8, SEC 1 or PKCS #1.
    pub key: PathBuf,
    /// Authorities that peers' certificates have to lead to.
    pub ca: PathBuf,
}

/// What the service's identity may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Any.
    #[default]
    Development,
    /// Not the one that `greffe up` makes: root, issuer and nodes on one machine.
    Production,
}

/// The plaintext port for probes and metrics: the `[service.health]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthConfig {
    /// Where to listen.
    pub listen: SocketAddr,
}

/// The database: the `[service.database]` table. Without it, SQLite in the data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `postgres://user:password@host/database`.
    pub url: Secret,
    /// Whether a start brings the tables to its version. False: they have to be there, from `greffe migrate` by a role that
    /// owns them.
    #[serde(default = "yes")]
    pub migrate: bool,
    /// How long the lease holds without being renewed, in milliseconds, at least 500: how long another process waits for one
    /// that died. Every process of a service has the same.
    #[serde(default = "lease_ms", deserialize_with = "long_enough")]
    pub lease_ms: u64,
}

impl DatabaseConfig {
    /// That database, everything else as it is by default.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: Secret::new(url),
            migrate: yes(),
            lease_ms: lease_ms(),
        }
    }

    /// As a duration.
    pub const fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }
}

const fn yes() -> bool {
    true
}

const fn lease_ms() -> u64 {
    10_000
}

fn long_enough<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match u64::deserialize(deserializer)? {
        short if short < 500 => Err(D::Error::custom(
            "a lease shorter than 500 ms would run out while it is renewed",
        )),
        enough => Ok(enough),
    }
}

/// What leaves the process for a collector: the `[service.telemetry]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// The collector's OTLP/gRPC endpoint, such as `https://collector:4317`. Absent: nothing is exported.
    pub otlp: Option<String>,
    /// How the collector is known when that begins with `https://`; with `http://` telemetry goes in the clear.
    pub tls: Option<CollectorTls>,
    /// Of a hundred traces, how many are exported: of envelopes, and of callers who want theirs exported.
    pub traces_percent: u32,
    /// How often metrics are exported, in milliseconds.
    pub metrics_ms: u64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            otlp: None,
            tls: None,
            traces_percent: 100,
            metrics_ms: 15_000,
        }
    }
}

/// TLS 1.3 to the collector, which is known by the host name of its address: the `[service.telemetry.tls]` table. PEM files,
/// read for each connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectorTls {
    /// Authorities that the collector's certificate has to lead to.
    pub ca: PathBuf,
    /// Certificate chain that the collector is shown, leaf first; with `key`.
    #[serde(default)]
    pub cert: Option<PathBuf>,
    /// Private key of its leaf, PKCS #8, SEC 1 or PKCS #1.
    #[serde(default)]
    pub key: Option<PathBuf>,
}

/// What protects the key that seals the service's secrets: the `[service.seal]` table. Without it, a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum SealConfig {
    /// A token with a PKCS #11 module.
    Pkcs11(Pkcs11Config),
}

/// A key of a PKCS #11 token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pkcs11Config {
    /// The module, a shared library.
    pub module: PathBuf,
    /// Label of the token.
    pub token: String,
    /// Label of the AES-256 key that wraps the seal key.
    pub key: String,
    /// The token user's PIN.
    pub pin: Secret,
}

/// What one process takes on at once, and what of it any one caller may have; beyond it, callers are told to come back. A
/// service that calls may have half of everything, whatever `*_per_caller` says. `deploy/LIMITS.md` has them all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections, handshakes under way included.
    pub connections: usize,
    /// Of these, with certificates of one name.
    pub connections_per_peer: u64,
    /// Calls that have not begun to be answered, over all connections.
    pub calls: u64,
    /// Of these, of one caller: a device, a person, an application.
    pub calls_per_caller: u64,
    /// Calls and streams of one connection (HTTP/2 SETTINGS_MAX_CONCURRENT_STREAMS).
    pub streams: u32,
    /// Streaming calls, open until they have ended, over all connections.
    pub open_streams: u64,
    /// Of these, of one caller.
    pub streams_per_caller: u64,
    /// Bytes of request messages that have begun to come and that no handler has let go of, over all connections.
    pub request_bytes: u64,
    /// Of these, of one caller. No less than the largest message, which is 8 MiB.
    pub request_bytes_per_caller: u64,
    /// Longest a unary or server-streaming call may take to begin its answer, in milliseconds, whatever its own
    /// deadline says; and longest that one message of a stream may take to come.
    pub deadline_ms: u64,
    /// Longest a drain may take before what is left is cut, in milliseconds.
    pub drain_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_peer: 1024,
            calls: 1024,
            calls_per_caller: 256,
            streams: 256,
            open_streams: 16_384,
            streams_per_caller: 64,
            request_bytes: 256 << 20,
            request_bytes_per_caller: 32 << 20,
            deadline_ms: 60_000,
            drain_ms: 10_000,
        }
    }
}

impl Limits {
    /// As a duration.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    /// As a duration.
    pub fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }
}
