//! The data folder of one machine: what services wrote, what people wrote, and never one in the other's place.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use std::io::Write as _;

use greffe_service_kit::files;

use crate::fail::{Failure, Result};

/// Names of the escrow nodes of one machine.
pub(crate) const NODES: [&str; 3] = ["escrow-1", "escrow-2", "escrow-3"];
/// Every service of one machine, in the order in which they start.
pub(crate) const SERVICES: [&str; 6] = [
    "audit", "escrow-1", "escrow-2", "escrow-3", "archive", "relay",
];

/// A data folder.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// At a path, made absolute.
    pub(crate) fn new(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root)
            .map_err(|error| Failure::io("find the data folder", root, &error))?;
        Ok(Self { root })
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What a service wrote.
    pub(crate) fn service(&self, name: &str) -> PathBuf {
        self.root.join("services").join(name)
    }

    /// The file in which a service says where it listens.
    pub(crate) fn ready(&self, service: &str) -> PathBuf {
        self.service(service).join("ready.json")
    }

    /// What a person wrote.
    pub(crate) fn person(&self, name: &str) -> PathBuf {
        self.root.join("people").join(name)
    }

    /// Where the operator's keys are.
    pub(crate) fn operator(&self) -> PathBuf {
        self.person("operator")
    }

    /// TLS identity of an application.
    pub(crate) fn app(&self, name: &str) -> PathBuf {
        self.root.join("people").join("apps").join(name)
    }

    /// How an application reaches the services.
    pub(crate) fn connection(&self, app: &str) -> PathBuf {
        self.app(app).join("connection.toml")
    }

    /// The tenant root's public key.
    pub(crate) fn root_key(&self) -> PathBuf {
        self.root.join("root.pub")
    }

    /// Written once everything is set up: a folder without it is not complete.
    pub(crate) fn complete(&self) -> PathBuf {
        self.root.join("greffe.json")
    }
}

/// Makes a folder that only its owner may enter, with those above it.
pub(crate) fn private_folder(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Failure::io("make the folder", path, &error))
}

/// Writes a file that only its owner may read; one that is there already is refused.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| Failure::io("make", path, &error))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|error| Failure::io("write", path, &error))
}

/// Writes a file that may be replaced later.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(|error| Failure::io("write", path, &error))
}

/// Writes a file that may be replaced later, and that only its owner may read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|error| Failure::io("write", path, &error))
}

/// Writes a file that may be replaced later, and that is there as a whole or not at all, whatever happens meanwhile.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let path = std::path::absolute(path).map_err(|error| Failure::io("find", path, &error))?;
    files::replace(&path, bytes).map_err(|error| {
        Failure::because(
            "FILE_FAILED",
            format_args!("cannot write {}", path.display()),
            &error,
        )
    })
}

/// Reads a text file.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| Failure::io("read", path, &error))
}
