//! The seal key of a service: in a file, or wrapped under a key of a token.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use greffe_envelope::sealbox::{SealKey, SealboxError};
use greffe_types::TenantId;
use zeroize::Zeroizing;

use super::token::{Token, WRAPPED};
use super::{FOLDER, Secrets, SecretsError, first_file, writable};
use crate::config::{SealConfig, ServiceConfig};
use crate::files;

/// The plain key's file.
pub(super) const KEY_FILE: &str = "seal.key";
/// The wrapped key's file.
pub(super) const WRAPPED_FILE: &str = "seal.key.wrapped";

/// Where a service's secrets are, and what protects the key that seals them.
#[derive(Debug, Clone)]
pub struct Keystore {
    folder: PathBuf,
    tenant: TenantId,
    token: Option<Token>,
}

/// What [`Keystore::wrap`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// The plain key is wrapped now, and its file gone.
    Wrapped,
    /// It was wrapped already, and opens.
    Already,
}

impl From<&ServiceConfig> for Keystore {
    fn from(config: &ServiceConfig) -> Self {
        Self::new(config.secrets(), &config.tenant, config.seal.as_ref())
    }
}

impl Keystore {
    /// The secrets in a folder of a tenant.
    pub fn new(folder: &Path, tenant: &TenantId, seal: Option<&SealConfig>) -> Self {
        Self {
            folder: folder.to_owned(),
            tenant: tenant.clone(),
            token: seal.map(Token::from),
        }
    }

    /// Opens the secrets. Nothing is written when all are there; a plain key that is missing is made the first time, a
    /// wrapped one by [`Keystore::prepare`] alone. Blocking, as everything here.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn open(&self) -> Result<Secrets, SecretsError> {
        match &self.token {
            None => Secrets::open(&self.folder),
            Some(token) => {
                self.refuse_plain()?;
                let key = self.unwrap(token)?.ok_or_else(|| SecretsError::NoKey {
                    path: self.wrapped(),
                })?;
                self.under(&key)
            }
        }
    }

    /// As [`Keystore::open`], and makes a wrapped key when there is none.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn prepare(&self) -> Result<Secrets, SecretsError> {
        if let Some(token) = &self.token {
            self.refuse_plain()?;
            if self.unwrap(token)?.is_none() {
                super::make_folder(&self.folder.join(FOLDER))?;
                no_orphans(&self.folder)?;
                let fresh = Zeroizing::new(super::random()?);
                self.store(token, &fresh)?;
            }
        }
        self.open()
    }

    /// Moves a plain key under the token's: wraps it, reads the wrapped one back, and only then removes the plain file.
    /// After a crash in between, the same again ends it.
    ///
    /// # Errors
    /// [`SecretsError`]; in particular without `[service.seal]`, and when another key is wrapped there already.
    pub fn wrap(&self) -> Result<Moved, SecretsError> {
        let token = self.token.as_ref().ok_or(SecretsError::NoToken)?;
        let plain = self.folder.join(KEY_FILE);
        if !plain.exists() {
            return match self.unwrap(token)? {
                Some(_) => Ok(Moved::Already),
                None => Err(SecretsError::NoKey { path: plain }),
            };
        }
        let key = read(&plain)?;
        match self.unwrap(token)? {
            None => self.store(token, &key)?,
            Some(wrapped) if wrapped == key => {}
            Some(_) => return Err(SecretsError::Two { path: plain }),
        }
        let removed = std::fs::remove_file(&plain);
        removed.map_err(|source| SecretsError::Read {
            path: plain,
            source,
        })?;
        files::sync_folder(&self.folder)?;
        Ok(Moved::Wrapped)
    }

    fn wrapped(&self) -> PathBuf {
        self.folder.join(WRAPPED_FILE)
    }

    fn under(&self, key: &[u8; 32]) -> Result<Secrets, SecretsError> {
        let folder = self.folder.join(FOLDER);
        super::make_folder(&folder)?;
        Ok(Secrets {
            key: SealKey::from_bytes(*key),
            folder,
        })
    }

    /// A plain key left beside the wrapped one would make the token worth nothing.
    fn refuse_plain(&self) -> Result<(), SecretsError> {
        let path = self.folder.join(KEY_FILE);
        if path.exists() {
            return Err(SecretsError::Plain { path });
        }
        Ok(())
    }

    fn unwrap(&self, token: &Token) -> Result<Option<Zeroizing<[u8; 32]>>, SecretsError> {
        let path = self.wrapped();
        match read_bytes(&path, WRAPPED) {
            Ok(wrapped) => Ok(Some(token.unwrap(&self.tenant, &wrapped)?)),
            Err(SecretsError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Wraps a key and reads it back before anything relies on it.
    fn store(&self, token: &Token, key: &Zeroizing<[u8; 32]>) -> Result<(), SecretsError> {
        let path = self.wrapped();
        let wrapped = token.wrap(&self.tenant, key)?;
        files::create_private(&path, &wrapped).map_err(|error| writable(WRAPPED_FILE, error))?;
        match self.unwrap(token)? {
            Some(back) if back == *key => Ok(()),
            _ => Err(SecretsError::Two { path }),
        }
    }
}

/// A key beside secrets that it did not seal would only hide that theirs is lost.
pub(super) fn no_orphans(folder: &Path) -> Result<(), SecretsError> {
    match first_file(&folder.join(FOLDER))? {
        Some(name) => Err(SecretsError::Sealed {
            name,
            source: SealboxError::Open,
        }),
        None => Ok(()),
    }
}

/// The plain key, which others may not read. A file of root's that only its group may read is what an orchestrator
/// mounts for a process that is not root.
pub(super) fn read(path: &Path) -> Result<Zeroizing<[u8; 32]>, SecretsError> {
    let metadata = std::fs::metadata(path).map_err(|source| SecretsError::Read {
        path: path.to_owned(),
        source,
    })?;
    let allowed = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & allowed != 0 {
        return Err(SecretsError::Mode {
            path: path.to_owned(),
        });
    }
    let bytes = read_bytes(path, 32)?;
    let mut key = Zeroizing::new([0; 32]);
    key.copy_from_slice(&bytes);
    Ok(key)
}

/// A file of exactly that many bytes.
fn read_bytes(path: &Path, len: usize) -> Result<Zeroizing<Vec<u8>>, SecretsError> {
    let failed = |source| SecretsError::Read {
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new().read(true).open(path).map_err(failed)?;
    // Room for one byte more, so that the secret is never left behind by a buffer that grew.
    let mut bytes = Zeroizing::new(Vec::with_capacity(len + 1));
    let mut limited = file.take(len as u64 + 1);
    limited.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() == len {
        Ok(bytes)
    } else {
        Err(SecretsError::Key {
            path: path.to_owned(),
            len,
        })
    }
}
