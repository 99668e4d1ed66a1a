//! A service's own secrets at rest: one seal key, and beside it what is sealed under it.
//!
//! The seal key lies in the file `seal.key`, or in `seal.key.wrapped` under a key of a PKCS #11 token ([`token`]); without
//! it the sealed files, the databases' sealed columns and every backup of them are unreadable.

mod key;
pub mod token;

use core::fmt;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use greffe_envelope::sealbox::{Place, SealKey, SealboxError};
use zeroize::Zeroizing;

use self::key::{KEY_FILE, WRAPPED_FILE};
pub use self::key::{Keystore, Moved};
use self::token::TokenError;
use crate::files::{self, FileError};

const FOLDER: &str = "secrets";
const TABLE: &str = "secrets";
const COLUMN: &str = "value";

/// Why a secret is not there.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// A file cannot be written.
    #[error("a secret cannot be stored")]
    File(#[from] FileError),
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// As the system reported it.
        source: io::Error,
    },
    /// A key file is not as long as it has to be.
    #[error("{} is no key file: {len} bytes", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// How long it has to be.
        len: usize,
    },
    /// Others may read the key file.
    #[error("{} can be read by others; set its mode to 0600", path.display())]
    Mode {
        /// Which file.
        path: PathBuf,
    },
    /// There is no key.
    #[error("{} is not there; prepare the service first", path.display())]
    NoKey {
        /// Which file.
        path: PathBuf,
    },
    /// A plain key where only a wrapped one may be.
    #[error(
        "{} lies there in the clear although service.seal names a token; move it in with `greffe seal wrap`",
        path.display()
    )]
    Plain {
        /// Which file.
        path: PathBuf,
    },
    /// A wrapped key, and no token to unwrap it.
    #[error("{} needs its token: set service.seal", path.display())]
    Unreachable {
        /// Which file.
        path: PathBuf,
    },
    /// No token is configured.
    #[error("service.seal is not set; it has to name the token to wrap the seal key with")]
    NoToken,
    /// A plain key and a wrapped one, and not the same.
    #[error(
        "{} and {WRAPPED_FILE} beside it hold different keys; find out which one the secrets are sealed under and move the \
         other away", path.display()
    )]
    Two {
        /// The plain one.
        path: PathBuf,
    },
    /// The token that wraps the key.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Something has to be written, and the folder takes no writes.
    #[error(
        "{name:?} is missing and cannot be written, since the folder of the secrets is read-only; prepare the service, or start \
         the node for its first time, with the folder writable"
    )]
    ReadOnly {
        /// What is missing.
        name: String,
        /// As the system reported it.
        source: FileError,
    },
    /// A secret does not open: altered, moved, or the key file is another one.
    #[error("the secret {name:?} does not open under this key file")]
    Sealed {
        /// Which secret.
        name: String,
        /// Why.
        source: SealboxError,
    },
    /// There is none of that name.
    #[error("there is no secret {name:?}; prepare the service first")]
    Missing {
        /// Which secret.
        name: String,
    },
    /// A name that is no file name of ours.
    #[error("{name:?} cannot name a secret: 1 to 63 of a-z, 0-9, _ and -")]
    Name {
        /// As given.
        name: String,
    },
    /// A secret of another length than it has to have.
    #[error("the secret {name:?} has {found} bytes instead of {expected}")]
    Length {
        /// Which secret.
        name: String,
        /// Its length.
        found: usize,
        /// What it has to be.
        expected: usize,
    },
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system")]
    Randomness(#[source] getrandom::Error),
}

impl SecretsError {
    /// Stable reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing { .. } | Self::NoKey { .. } => "SECRETS_MISSING",
            Self::ReadOnly { .. } => "SECRETS_READ_ONLY",
            Self::Sealed { .. } => "SECRETS_OTHER_KEY",
            Self::Plain { .. } => "SEAL_KEY_PLAIN",
            Self::Unreachable { .. } | Self::NoToken => "SEAL_NOT_CONFIGURED",
            Self::Two { .. } => "SEAL_KEY_CONFLICT",
            Self::Token(error) => error.reason(),
            Self::File(_)
            | Self::Read { .. }
            | Self::Key { .. }
            | Self::Mode { .. }
            | Self::Name { .. }
            | Self::Length { .. }
            | Self::Randomness(_) => "SECRETS_REFUSED",
        }
    }
}

/// The secrets of one folder.
pub struct Secrets {
    key: SealKey,
    folder: PathBuf,
}

impl Secrets {
    /// Opens a folder's secrets under a plain key; makes it the first time. Blocking, as everything here.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn open(data: &Path) -> Result<Self, SecretsError> {
        let path = data.join(KEY_FILE);
        if !path.exists() {
            let wrapped = data.join(WRAPPED_FILE);
            if wrapped.exists() {
                return Err(SecretsError::Unreachable { path: wrapped });
            }
            make_folder(&data.join(FOLDER))?;
            key::no_orphans(data)?;
            let fresh = Zeroizing::new(random::<32>()?);
            files::create_private(&path, fresh.as_slice())
                .map_err(|error| writable(KEY_FILE, error))?;
        }
        let folder = data.join(FOLDER);
        make_folder(&folder)?;
        Ok(Self {
            key: SealKey::from_bytes(*key::read(&path)?),
            folder,
        })
    }

    /// The key, for sealed columns of a database.
    pub fn seal_key(&self) -> &SealKey {
        &self.key
    }

    /// The secret of that name, made from `len` random bytes when there is none.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn get_or_create(
        &self,
        name: &str,
        len: usize,
    ) -> Result<Zeroizing<Vec<u8>>, SecretsError> {
        match self.get(name) {
            Err(SecretsError::Missing { .. }) => {}
            found => {
                let found = found?;
                if found.len() != len {
                    return Err(SecretsError::Length {
                        name: name.to_owned(),
                        found: found.len(),
                        expected: len,
                    });
                }
                return Ok(found);
            }
        }
        let mut fresh = Zeroizing::new(vec![0; len]);
        getrandom::fill(&mut fresh).map_err(SecretsError::Randomness)?;
        self.put(name, &fresh)?;
        Ok(fresh)
    }

    /// The secret of that name.
    ///
    /// # Errors
    /// [`SecretsError::Missing`] when there is none.
    pub fn get(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, SecretsError> {
        let path = self.path(name)?;
        let sealed = match std::fs::read(&path) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SecretsError::Missing {
                    name: name.to_owned(),
                });
            }
            Err(source) => return Err(SecretsError::Read { path, source }),
        };
        self.key
            .open(&place(name), &sealed)
            .map_err(|source| SecretsError::Sealed {
                name: name.to_owned(),
                source,
            })
    }

    /// A secret of exactly 32 bytes, such as a seed.
    ///
    /// # Errors
    /// As [`Secrets::get`], and [`SecretsError::Length`].
    pub fn seed(&self, name: &str) -> Result<Zeroizing<[u8; 32]>, SecretsError> {
        let bytes = self.get(name)?;
        match bytes.as_slice().try_into() {
            Ok(seed) => Ok(Zeroizing::new(seed)),
            Err(_) => Err(SecretsError::Length {
                name: name.to_owned(),
                found: bytes.len(),
                expected: 32,
            }),
        }
    }

    /// Stores a secret, in the place of an earlier one.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn put(&self, name: &str, secret: &[u8]) -> Result<(), SecretsError> {
        let path = self.path(name)?;
        let sealed =
            self.key
                .seal(&place(name), secret)
                .map_err(|source| SecretsError::Sealed {
                    name: name.to_owned(),
                    source,
                })?;
        files::replace(&path, &sealed).map_err(|error| writable(name, error))
    }

    fn path(&self, name: &str) -> Result<PathBuf, SecretsError> {
        let valid = (1..=63).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
        if valid {
            Ok(self.folder.join(name))
        } else {
            Err(SecretsError::Name {
                name: name.to_owned(),
            })
        }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.folder.display())
    }
}

fn place(name: &str) -> Place<'_> {
    Place {
        table: TABLE,
        row: name.as_bytes(),
        column: COLUMN,
    }
}

fn random<const N: usize>() -> Result<[u8; N], SecretsError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(SecretsError::Randomness)?;
    Ok(bytes)
}

/// Temporary files of an interrupted write begin with a dot and are none.
fn first_file(folder: &Path) -> Result<Option<String>, SecretsError> {
    let failed = |source| SecretsError::Read {
        path: folder.to_owned(),
        source,
    };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') {
            return Ok(Some(name.into_owned()));
        }
    }
    Ok(None)
}

/// For its owner's eyes only; one that is there stays, whoever made it.
fn make_folder(folder: &Path) -> Result<(), SecretsError> {
    if folder.is_dir() {
        return Ok(());
    }
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder);
    made.map_err(|source| {
        let path = folder.to_owned();
        let failed = FileError::Io {
            operation: "create",
            path,
            source,
        };
        writable(FOLDER, failed)
    })
}

/// Tells a folder that takes no writes from everything else that may go wrong with one.
fn writable(name: &str, error: FileError) -> SecretsError {
    match error {
        FileError::Io { ref source, .. }
            if matches!(
                source.kind(),
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
            ) =>
        {
            SecretsError::ReadOnly {
                name: name.to_owned(),
                source: error,
            }
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn secrets_last_and_open_under_their_key_and_name_only() {
        let data = tempfile::tempdir().unwrap();
        let secrets = Secrets::open(data.path()).unwrap();
        let made = secrets.get_or_create("log_key", 32).unwrap();
        secrets.put("other", b"value").unwrap();
        let again = Secrets::open(data.path()).unwrap();
        assert_eq!(again.get_or_create("log_key", 32).unwrap(), made);
        assert_eq!(again.seed("log_key").unwrap().as_slice(), made.as_slice());
        assert!(matches!(
            again.seed("other"),
            Err(SecretsError::Length { found: 5, .. })
        ));
        assert!(matches!(
            again.get("nothing"),
            Err(SecretsError::Missing { .. })
        ));
        assert!(matches!(
            again.get("../seal.key"),
            Err(SecretsError::Name { .. })
        ));
        let folder = data.path().join(FOLDER);
        let on_disk = std::fs::read(folder.join("other")).unwrap();
        assert!(!on_disk.windows(5).any(|w| w == b"value"));
        // Moved under another name it does not open.
        std::fs::rename(folder.join("other"), folder.join("log_key")).unwrap();
        assert!(matches!(
            again.get("log_key"),
            Err(SecretsError::Sealed { .. })
        ));
    }

    #[test]
    fn a_lost_or_open_key_file_stops_the_start() {
        let data = tempfile::tempdir().unwrap();
        let secrets = Secrets::open(data.path()).unwrap();
        secrets.put("log_key", b"value").unwrap();
        let key = data.path().join(KEY_FILE);
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            Secrets::open(data.path()),
            Err(SecretsError::Mode { .. })
        ));
        std::fs::remove_file(&key).unwrap();
        assert!(matches!(
            Secrets::open(data.path()),
            Err(SecretsError::Sealed { .. })
        ));
        assert!(!key.exists());
    }
}
