//! Key files: 32 bytes as one line of hexadecimal, readable by their owner only.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use greffe_service_kit::files::{FileError, create_private};
use greffe_types::{from_hex, to_hex};
use zeroize::Zeroizing;

use crate::error::{ClientError, Result};

/// Writes a key file that must not exist yet, mode 0600: there whole and durable when this returns, and never in part.
///
/// # Errors
/// [`ClientError::Io`].
pub fn write_secret(path: &Path, secret: &[u8; 32]) -> Result<()> {
    let hex = Zeroizing::new(to_hex(secret));
    let mut line = Zeroizing::new(String::with_capacity(hex.len() + 1));
    line.push_str(&hex);
    line.push('\n');
    match create_private(path, line.as_bytes()) {
        Ok(_) => Ok(()),
        Err(FileError::Conflict { .. }) => Err(ErrorKind::AlreadyExists.into()),
        Err(
            FileError::DiskFull { source, .. }
            | FileError::NotDurable { source, .. }
            | FileError::Io { source, .. },
        ) => Err(source),
    }
    .map_err(failed("write the key file", path))
}

/// Reads a key file; one that others may read is refused.
///
/// # Errors
/// [`ClientError::Io`], [`ClientError::Refused`].
pub fn read_secret(path: &Path) -> Result<Zeroizing<[u8; 32]>> {
    let mut text = Zeroizing::new(String::new());
    let mut file = OpenOptions::new()
        .read(true)
        .open(path)
        .map_err(failed("read the key file", path))?;
    let mode = file
        .metadata()
        .map_err(failed("read the key file", path))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(ClientError::refused(
            "KEY_FILE_OPEN",
            format!("{} may be read by others: chmod 600 it", path.display()),
        ));
    }
    file.read_to_string(&mut text)
        .map_err(failed("read the key file", path))?;
    from_hex::<32>(text.trim_end())
        .map(Zeroizing::new)
        .map_err(|_| {
            ClientError::refused(
                "KEY_FILE_INVALID",
                format!("{} is not 64 hexadecimal digits", path.display()),
            )
        })
}

fn failed(operation: &'static str, path: &Path) -> impl Fn(std::io::Error) -> ClientError {
    let name = path.display().to_string();
    move |source| ClientError::Io {
        operation,
        name: name.clone(),
        source,
    }
}
