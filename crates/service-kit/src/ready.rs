//! The ready file: where a running service listens, for those who start it on a port of the system's choice.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};

/// Name of the file in a service's data folder.
pub const READY_FILE: &str = "ready.json";

/// What the file says. It is there while the service accepts calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// The service's name, such as `escrow-2`.
    pub service: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process.
    pub pid: u32,
}

/// Why a ready file says nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    /// Not there: the service is not running, or not yet.
    #[error("{} cannot be read: is the service running?", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// As the system reported it.
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("{} is no ready file", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Ready {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ReadyError`].
    pub fn read(path: &Path) -> Result<Self, ReadyError> {
        let bytes = std::fs::read(path).map_err(|source| ReadyError::Read {
            path: path.to_owned(),
            source,
        })?;
        serde_json::from_slice(&bytes).map_err(|source| ReadyError::Syntax {
            path: path.to_owned(),
            source,
        })
    }

    /// Writes the file; it is removed when the guard is dropped.
    pub(crate) fn write(&self, path: &Path) -> Result<ReadyGuard, FileError> {
        let mut text = serde_json::to_vec(self).unwrap_or_default();
        text.push(b'\n');
        files::replace(path, &text)?;
        Ok(ReadyGuard(path.to_owned()))
    }
}

/// Keeps the ready file.
#[derive(Debug)]
pub(crate) struct ReadyGuard(PathBuf);

impl Drop for ReadyGuard {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(%error, file = %self.0.display(), "the ready file could not be removed");
        }
    }
}
