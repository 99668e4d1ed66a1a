//! Why a production was not written.

use std::io;
use std::path::{Path, PathBuf};

/// Why a production was not written; then nothing is there.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The folder or file is there already.
    #[error("{} is there already: name another", .0.display())]
    Exists(PathBuf),
    /// A file could not be written.
    #[error("{} cannot be written", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// As the system reported it.
        source: io::Error,
    },
    /// A record is not what its evidence says.
    #[error("record {record}: {problem}")]
    Record {
        /// Number in the production, from 1.
        record: usize,
        /// What is wrong.
        problem: String,
    },
}

impl WriteError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// Stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Exists(_) => "PRODUCTION_EXISTS",
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => "DISK_FULL",
            Self::Io { .. } => "FILE_FAILED",
            Self::Record { .. } => "RECORD_INVALID",
        }
    }
}
