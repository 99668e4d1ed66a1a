//! Files that are there whole or not at all, and once there stay as they are.

use core::time::Duration;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tonic::Code;

use crate::disk::NOT_DURABLE;
use crate::errors::{Reason, ServiceError};
use crate::simulation::{self, Act};

/// The disk or its quota is full: nothing was accepted, try again once there is room.
pub const DISK_FULL: Reason = Reason::new("DISK_FULL");
/// A write-once file exists with other bytes.
pub const FILE_CONFLICT: Reason = Reason::new("FILE_CONFLICT");
/// A file could not be read or written.
pub const FILE_FAILED: Reason = Reason::new("FILE_FAILED");

/// A file's failure as callers see it.
impl From<FileError> for ServiceError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::DiskFull { .. } => Self::new(
                Code::ResourceExhausted,
                DISK_FULL,
                "no space left; nothing was accepted",
            )
            .retry_after(Duration::from_secs(30)),
            FileError::Conflict { .. } => Self::new(
                Code::AlreadyExists,
                FILE_CONFLICT,
                "it is stored with other content",
            ),
            FileError::NotDurable { .. } => Self::new(
                Code::Unavailable,
                NOT_DURABLE,
                "the disk did not keep what it was given; the service starts anew",
            )
            .retry_after(Duration::from_secs(1)),
            FileError::Io { .. } => Self::new(Code::Internal, FILE_FAILED, "a file failed"),
        }
        .because(error)
    }
}

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// No space or quota left. Nothing of the file is visible under its name.
    #[error("no space left to write {}", path.display())]
    DiskFull {
        /// Which file.
        path: PathBuf,
        /// As the system reported it.
        source: io::Error,
    },
    /// It exists already, and not with these bytes.
    #[error("{} exists with other content", path.display())]
    Conflict {
        /// Which file.
        path: PathBuf,
    },
    /// An fsync failed. What is on the disk is not known, and another fsync would not say: the process has to end and replay.
    #[error("cannot make {} durable", path.display())]
    NotDurable {
        /// Which file or folder.
        path: PathBuf,
        /// As the system reported it.
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// As the system reported it.
        source: io::Error,
    },
}

impl FileError {
    /// Stable reason for google.rpc.ErrorInfo.
    pub fn reason(&self) -> Reason {
        match self {
            Self::DiskFull { .. } => DISK_FULL,
            Self::Conflict { .. } => FILE_CONFLICT,
            Self::NotDurable { .. } => NOT_DURABLE,
            Self::Io { .. } => FILE_FAILED,
        }
    }
}

/// What a write-once call found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was not there; now it is, durably.
    New,
    /// It was there with the same bytes, and is durable.
    Same,
}

/// Writes a file that never changes again: mode 0444, complete and durable when this returns. Blocking.
///
/// The folder has to exist. The same bytes again are fine, which makes retries after a crash safe.
pub fn write_once(path: &Path, bytes: &[u8]) -> Result<Written, FileError> {
    let written = place(path, bytes, 0o444)?;
    sync_folder(folder(path))?;
    Ok(written)
}

/// As [`write_once`] for many, with one fsync for each folder instead of one for each file's name. Stops at the first
/// error; files before it may be there, durable or not, and are accepted as [`Written::Same`] when tried again.
pub fn write_once_all(files: &[(PathBuf, &[u8])]) -> Result<Vec<Written>, FileError> {
    let mut outcome = Vec::with_capacity(files.len());
    let mut folders = BTreeSet::new();
    for (path, bytes) in files {
        outcome.push(place(path, bytes, 0o444)?);
        folders.insert(folder(path));
    }
    for folder in folders {
        sync_folder(folder)?;
    }
    Ok(outcome)
}

/// Writes a file for its owner's eyes only (mode 0600), durably; one that is there stays, and is a conflict unless it
/// has the same bytes. Blocking.
pub fn create_private(path: &Path, bytes: &[u8]) -> Result<Written, FileError> {
    let written = place(path, bytes, 0o600)?;
    sync_folder(folder(path))?;
    Ok(written)
}

/// Replaces a file that may change: readers see the old bytes or the new ones. Durable when this returns. Blocking.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let staged = stage(path, bytes, 0o600)?;
    simulation::file(staged.named(path))
        .and_then(|()| fs::rename(&staged.0, path))
        .map_err(|source| failed("rename", path, source))?;
    sync_folder(folder(path))
}

/// Makes a folder's names durable. Blocking.
pub fn sync_folder(folder: &Path) -> Result<(), FileError> {
    let handle = File::open(folder).map_err(|source| failed("open", folder, source))?;
    sync(&handle, folder, Act::SyncFolder(folder))
}

fn sync(file: &File, path: &Path, act: Act<'_>) -> Result<(), FileError> {
    simulation::file(act)
        .and_then(|()| file.sync_all())
        .map_err(|source| FileError::NotDurable {
            path: path.to_owned(),
            source,
        })
}

fn place(path: &Path, bytes: &[u8], mode: u32) -> Result<Written, FileError> {
    let staged = stage(path, bytes, mode)?;
    // A link, not a rename: it fails when the name is taken instead of replacing what is there.
    match simulation::file(staged.named(path)).and_then(|()| fs::hard_link(&staged.0, path)) {
        Ok(()) => Ok(Written::New),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if same_bytes(path, bytes)? {
                Ok(Written::Same)
            } else {
                Err(FileError::Conflict {
                    path: path.to_owned(),
                })
            }
        }
        Err(source) => Err(failed("link", path, source)),
    }
}

/// Whether a file holds these bytes; makes it durable too, since whoever wrote it may have died before that.
fn same_bytes(path: &Path, bytes: &[u8]) -> Result<bool, FileError> {
    let read = || -> io::Result<Option<(File, Vec<u8>)>> {
        let mut file = File::open(path)?;
        if file.metadata()?.len() != bytes.len() as u64 {
            return Ok(None);
        }
        let mut found = Vec::with_capacity(bytes.len());
        file.read_to_end(&mut found)?;
        Ok(Some((file, found)))
    };
    let Some((file, found)) = read().map_err(|source| failed("read", path, source))? else {
        return Ok(false);
    };
    sync(&file, path, Act::Sync(path))?;
    Ok(found == bytes)
}

/// A synced temporary file beside its destination; removed when dropped, whatever happened.
struct Staged(PathBuf);

impl Staged {
    /// What the simulation is told of its getting a name.
    fn named<'a>(&'a self, to: &'a Path) -> Act<'a> {
        Act::Name { from: &self.0, to }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Gone already after a rename.
        let _ = fs::remove_file(&self.0);
    }
}

fn stage(path: &Path, bytes: &[u8], mode: u32) -> Result<Staged, FileError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let unique = NEXT.fetch_add(1, Ordering::Relaxed);
    let staged = Staged(folder(path).join(format!(".{name}.{}.{unique}.tmp", std::process::id())));
    let write = || -> io::Result<File> {
        simulation::file(Act::Write(&staged.0))?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&staged.0)?;
        file.write_all(bytes)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        Ok(file)
    };
    let file = write().map_err(|source| failed("write", path, source))?;
    sync(&file, path, Act::Sync(&staged.0))?;
    Ok(staged)
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> FileError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            FileError::DiskFull { path, source }
        }
        _ => FileError::Io {
            operation,
            path,
            source,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_written_file_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("object");
        assert_eq!(write_once(&path, b"one").unwrap(), Written::New);
        assert_eq!(write_once(&path, b"one").unwrap(), Written::Same);
        let refused = write_once(&path, b"two").unwrap_err();
        assert_eq!(refused.reason(), FILE_CONFLICT);
        assert!(matches!(
            write_once(&path, b"one more").unwrap_err(),
            FileError::Conflict { .. }
        ));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o444
        );
        assert_eq!(names(folder.path()), ["object"]);
    }

    #[test]
    fn many_are_written_and_the_first_conflict_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let all = write_once_all(&[(at("a"), b"1"), (at("b"), b"2"), (at("a"), b"1")]).unwrap();
        assert_eq!(all, [Written::New, Written::New, Written::Same]);
        let refused = write_once_all(&[(at("c"), b"3"), (at("b"), b"other")]).unwrap_err();
        assert!(refused.to_string().contains("/b exists"), "{refused}");
        assert_eq!(names(folder.path()), ["a", "b", "c"]);
    }

    #[test]
    fn a_replaced_file_is_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        replace(&path, b"old").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["ready.json"]);
    }

    #[test]
    fn attack_39_a_full_disk_has_a_reason_of_its_own() {
        for number in [nix::libc::ENOSPC, nix::libc::EDQUOT] {
            let error = failed(
                "write",
                Path::new("/x"),
                io::Error::from_raw_os_error(number),
            );
            assert_eq!(error.reason(), DISK_FULL);
        }
        let other = failed(
            "write",
            Path::new("/x"),
            io::Error::from_raw_os_error(nix::libc::EIO),
        );
        assert_eq!(other.reason(), FILE_FAILED);
    }

    #[test]
    fn nothing_is_left_behind_by_a_failed_write() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("no-such-folder").join("object");
        assert!(matches!(
            write_once(&gone, b"x").unwrap_err(),
            FileError::Io { .. }
        ));
        assert!(names(folder.path()).is_empty());
    }
}
