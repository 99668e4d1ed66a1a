//! A service's data folder: one process at a time, and never another service's or tenant's.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use greffe_types::TenantId;

use crate::errors::Reason;
use crate::files::{self, FileError};

/// Another process works with the data folder.
pub const DATA_FOLDER_LOCKED: Reason = Reason::new("DATA_FOLDER_LOCKED");
/// The data folder is another service's or tenant's.
pub const DATA_FOLDER_FOREIGN: Reason = Reason::new("DATA_FOLDER_FOREIGN");

const LOCK: &str = "LOCK";
const OWNER: &str = "OWNER";

/// Why a data folder is not used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process holds its lock.
    #[error(
        "DATA_FOLDER_LOCKED: another process works with {}; stop it first", path.display()
    )]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// It is somebody else's.
    #[error(
        "DATA_FOLDER_FOREIGN: {} belongs to {found:?}, not to {expected:?}; give this service a folder of its own",
        path.display()
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// `TENANT SERVICE` in it.
        found: String,
        /// `TENANT SERVICE` that we are.
        expected: String,
    },
    /// It cannot be made or its lock not opened.
    #[error("cannot use the data folder {}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// As the system reported it.
        source: io::Error,
    },
    /// Its owner cannot be written into it.
    #[error("cannot mark the data folder as ours")]
    File(#[from] FileError),
}

impl FolderError {
    /// Stable reason.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Locked { .. } => DATA_FOLDER_LOCKED,
            Self::Foreign { .. } => DATA_FOLDER_FOREIGN,
            Self::Io { .. } => files::FILE_FAILED,
            Self::File(error) => error.reason(),
        }
    }
}

/// A data folder that is ours alone for as long as this value lives; the system frees it when the process dies.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Makes the folder if it is not there (for its owner's eyes only), locks it, and takes it for a service.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open(path: &Path, tenant: &TenantId, service: &str) -> Result<Self, FolderError> {
        let failed = |source| FolderError::Io {
            path: path.to_owned(),
            source,
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(FolderError::Locked {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        own(path, &format!("{tenant} {service}"))?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// That a folder, if it is there, is this service's. Changes nothing.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn check(path: &Path, tenant: &TenantId, service: &str) -> Result<(), FolderError> {
        match std::fs::read_to_string(path.join(OWNER)) {
            Ok(found) if found.trim() == format!("{tenant} {service}") => Ok(()),
            Ok(_) => Err(foreign(path, format!("{tenant} {service}"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(FolderError::Io {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Writes the owner once; afterwards only compares.
fn own(path: &Path, expected: &str) -> Result<(), FolderError> {
    let owner = path.join(OWNER);
    match files::write_once(&owner, format!("{expected}\n").as_bytes()) {
        Ok(_) => Ok(()),
        Err(FileError::Conflict { .. }) => Err(foreign(path, expected.to_owned())),
        Err(error) => Err(error.into()),
    }
}

fn foreign(path: &Path, expected: String) -> FolderError {
    FolderError::Foreign {
        path: path.to_owned(),
        found: std::fs::read_to_string(path.join(OWNER))
            .unwrap_or_default()
            .trim()
            .chars()
            .take(128)
            .collect(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_folder_is_one_processs_and_one_services() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("services").join("relay");
        let acme = TenantId::new("acme").unwrap();
        let open = |tenant: &str, service: &str| {
            DataFolder::open(&path, &TenantId::new(tenant).unwrap(), service)
        };
        let held = DataFolder::open(&path, &acme, "relay").unwrap();
        assert_eq!(
            open("acme", "relay").unwrap_err().reason(),
            DATA_FOLDER_LOCKED
        );
        drop(held);
        assert!(open("acme", "relay").is_ok());
        for (tenant, service) in [("acme", "archive"), ("other", "relay")] {
            let refused = open(tenant, service).unwrap_err();
            assert_eq!(refused.reason(), DATA_FOLDER_FOREIGN);
            assert!(refused.to_string().contains("\"acme relay\""), "{refused}");
        }
    }
}
