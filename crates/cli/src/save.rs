//! Files that are saved while they come: beside their name until they are whole, or not there at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::fail::{Failure, Result};

/// For its owner alone: what people sent one another.
pub(crate) const OWN: u32 = 0o600;

/// A file that is being written; dropping it unfinished removes it.
#[derive(Debug)]
pub(crate) struct Saving {
    path: PathBuf,
    part: PathBuf,
    file: Option<File>,
}

impl Saving {
    /// Begins a file; one of that name is replaced when this one is whole. `mode` is who may read it: [`OWN`] unless everybody may.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn create(path: &Path, mode: u32) -> Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let part = path.with_file_name(name);
        // With its mode from the first byte on; what somebody else may have left there would keep its own mode.
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::io("replace", &part, &error));
            }
            _ => {}
        }
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&part)
            .map_err(|error| Failure::io("make", &part, &error))?;
        Ok(Self {
            path: path.to_owned(),
            part,
            file: Some(file),
        })
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When it cannot be written or named; it is not there then.
    pub(crate) fn finish(mut self) -> Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        file.sync_all()
            .map_err(|error| Failure::io("write", &self.part, &error))?;
        fs::rename(&self.part, &self.path)
            .map_err(|error| Failure::io("name", &self.path, &error))?;
        self.file = None;
        Ok(())
    }
}

impl Write for Saving {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.file {
            Some(file) => file.write(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), File::flush)
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        if self.file.is_some() {
            // A part that stays says by its name that it is none.
            let _left = fs::remove_file(&self.part);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("limits.csv");
        fs::write(&path, "old").unwrap();
        let mut broken = Saving::create(&path, OWN).unwrap();
        broken.write_all(b"ne").unwrap();
        drop(broken);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        let mut whole = Saving::create(&path, OWN).unwrap();
        whole.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        whole.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
