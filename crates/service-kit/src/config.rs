//! Configuration: one TOML file, environment variables over it, flags over both, and an error that names what is wrong.
//!
//! `PREFIX__TABLE__KEY=value` overrides `table.key`; `PREFIX__TABLE__KEY_FILE=path` sets it to the content of a file, for
//! secrets that must not stand in an environment or a file of settings; a flag `table.key=value` beats both. Keys are
//! lower case. A key that nothing reads stops the start, whichever way it came.

mod overlay;
mod peer;
mod secret;
mod service;
mod settings;

use std::path::{Path, PathBuf};

use greffe_envelope::statement::StatementError;
use greffe_envelope::trust::TrustError;
use greffe_types::TenantId;

pub use peer::PeerConfig;
pub use secret::Secret;
pub use service::{
    CollectorTls, DatabaseConfig, HealthConfig, Limits, Mode, Pkcs11Config, SealConfig,
    ServiceConfig, TelemetryConfig, TlsFiles,
};
pub use settings::{Settings, Source, load, parse, without_values};

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
        source: SyntaxError,
    },
    /// A variable cannot be applied.
    #[error("environment variable {name}: {problem}")]
    Variable {
        /// Its name; its value may be a secret and is not repeated.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A flag cannot be applied.
    #[error("--set {name}: {problem}")]
    Flag {
        /// The setting it names; its value may be a secret and is not repeated.
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

/// Where a file stops being TOML, and why. The line itself is not repeated: it may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct SyntaxError {
    /// From 1.
    pub line: usize,
    /// What was expected.
    pub message: String,
}

fn place(path: Option<&Path>) -> String {
    path.map(|path| format!(" of {}", path.display()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
