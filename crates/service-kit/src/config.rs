//! Configuration: one TOML file, environment variables over it, and an error that names what is wrong.
//!
//! `PREFIX__TABLE__KEY=value` overrides `table.key`; `PREFIX__TABLE__KEY_FILE=path` sets it to the content of a file, for
//! secrets that must not stand in an environment or a file of settings. Keys are lower case. A key that nothing reads
//! stops the start, whichever way it came.

mod overlay;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use greffe_envelope::statement::StatementError;
use greffe_envelope::trust::{RootKey, TrustError};
use greffe_envelope::{pb, statement};
use greffe_types::TenantId;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::telemetry::LogConfig;

/// Why a service does not start with its configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file of settings, or one that a variable names, cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// As the system reported it.
        source: std::io::Error,
    },
    /// A file of settings is not TOML.
    #[error("{} is not TOML", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A variable cannot be applied.
    #[error("environment variable {name}: {problem}")]
    Variable {
        /// Its name; its value may be a secret and is not repeated.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A setting is missing, unknown or malformed.
    #[error("settings{}", place(.path.as_deref()))]
    Invalid {
        /// The file they came from.
        path: Option<PathBuf>,
        /// Which setting, and why.
        source: Box<toml::de::Error>,
    },
    /// No address is configured for a peer.
    #[error("service.peers.{name} is missing")]
    Peer {
        /// Which peer.
        name: String,
    },
    /// The root key file holds something else.
    #[error("{} does not hold the one line of a root key: greffe-root-v1 TENANT HEX", path.display())]
    RootKey {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: TrustError,
    },
    /// The root key file is another tenant's.
    #[error("{} holds the root of tenant {found}, not of {tenant}", path.display())]
    RootTenant {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        found: TenantId,
        /// Who is served.
        tenant: TenantId,
    },
    /// The file of the first trust bundle holds something else.
    #[error("{} does not hold a signed statement", path.display())]
    Bundle {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: StatementError,
    },
}

fn place(path: Option<&Path>) -> String {
    path.map(|path| format!(" of {}", path.display()))
        .unwrap_or_default()
}

/// Reads settings from a file, if any, and the variables of this process that begin with `prefix` and `__`.
pub fn load<T: DeserializeOwned>(path: Option<&Path>, prefix: &str) -> Result<T, ConfigError> {
    let text = match path {
        Some(path) => std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?,
        None => String::new(),
    };
    // A name that is not UTF-8 is none of ours; a value that is not is refused where it is used.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(name, value)| match value.into_string() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(ConfigError::Variable {
                name,
                problem: "not UTF-8",
            }),
        })
        .collect::<Result<Vec<_>, _>>()?;
    parse(&text, path, prefix, variables)
}

/// As [`load`], from a text and given variables.
pub fn parse<T: DeserializeOwned>(
    text: &str,
    path: Option<&Path>,
    prefix: &str,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let mut settings: toml::Table = toml::from_str(text).map_err(|source| ConfigError::Syntax {
        path: path.map_or_else(|| PathBuf::from("settings"), Path::to_owned),
        source: Box::new(source),
    })?;
    overlay::apply(&mut settings, prefix, variables)?;
    T::deserialize(settings).map_err(|source| ConfigError::Invalid {
        path: path.map(Path::to_owned),
        source: Box::new(source),
    })
}

/// What every service is told: its table is `[service]`.
#[derive(Debug, Clone, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key of the leaf, PKCS #8, SEC 1 or PKCS #1.
    pub key: PathBuf,
    /// Authorities that peers' certificates have to lead to.
    pub ca: PathBuf,
}

/// Where a peer is: exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerConfig {
    /// `host:port`.
    Address(String),
    /// The peer's ready file, read anew at every connect: the peer may come back on another port.
    Ready(PathBuf),
}

/// What one process takes on at once; beyond it, callers are told to come back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections, handshakes under way included.
    pub connections: usize,
    /// Calls that have not begun to be answered, over all connections.
    pub calls: usize,
    /// Calls and streams of one connection (HTTP/2 SETTINGS_MAX_CONCURRENT_STREAMS).
    pub streams: u32,
    /// Longest a unary or server-streaming call may take to begin its answer, in milliseconds, whatever its own
    /// deadline says.
    pub deadline_ms: u64,
    /// Longest a drain may take before what is left is cut, in milliseconds.
    pub drain_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            calls: 1024,
            streams: 256,
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

#[cfg(test)]
mod tests;
