//! A key on a PKCS #11 token that wraps a service's seal key, and never leaves the token.
//!
//! ```text
//! wrapped = 0x01 || iv (12) || AES-256-GCM(token key, iv, ad, seal key) (32) || tag (16)
//! ad      = LP "greffe-seal-key-v1" || LP tenant              LP: length in 8 bytes, big-endian, then the bytes
//! ```
//!
//! AES-256-GCM (`CKM_AES_GCM`, NIST SP 800-38D) and not AES key wrap (`CKM_AES_KEY_WRAP`, RFC 3394): GCM binds what the
//! bytes are and whose they are, which key wrap cannot; and it works on data, while key wrap would have the seal key made
//! an extractable object of the token, which tokens in FIPS mode refuse. A seal key is wrapped once, so nonces never
//! become a concern; a token that insists on a nonce of its own writes it into the parameter, and that one is stored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use greffe_types::TenantId;
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::config::{Pkcs11Config, SealConfig};

const VERSION: u8 = 0x01;
const IV: usize = 12;
const TAG: usize = 16;
const KEY: usize = 32;
/// Bytes of a wrapped seal key.
pub const WRAPPED: usize = 1 + IV + KEY + TAG;
const LABEL: &[u8] = b"greffe-seal-key-v1";

/// Why a token does not wrap or unwrap. No message holds a PIN or a key.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The module is no PKCS #11 module that this process can load.
    #[error(
        "the PKCS #11 module {} cannot be used; it has to be the absolute path of a shared library for this machine, and a \
         static binary can load none", path.display()
    )]
    Module {
        /// service.seal.module
        path: PathBuf,
        /// As the loader or the module reported it.
        source: Error,
    },
    /// The module's path is not absolute, so that another library could be found instead.
    #[error("service.seal.module is {}: give an absolute path", path.display())]
    Relative {
        /// service.seal.module
        path: PathBuf,
    },
    /// No token, or several, of that label.
    #[error(
        "{found} tokens are labelled {label:?}; service.seal.token has to name one that is there"
    )]
    Token {
        /// service.seal.token
        label: String,
        /// How many there are.
        found: usize,
    },
    /// The token refused the PIN.
    #[error("the token {label:?} refuses the PIN; correct service.seal.pin before the token locks")]
    Pin {
        /// service.seal.token
        label: String,
        /// As the token reported it.
        source: Error,
    },
    /// The token's PIN is locked, expired or not set.
    #[error("the token {label:?} takes no PIN now; its security officer has to set one")]
    Locked {
        /// service.seal.token
        label: String,
        /// As the token reported it.
        source: Error,
    },
    /// No key, or several, of that label.
    #[error(
        "the token {token:?} has {found} secret keys labelled {key:?}; service.seal.key has to name one"
    )]
    Key {
        /// service.seal.token
        token: String,
        /// service.seal.key
        key: String,
        /// How many there are.
        found: usize,
    },
    /// The key is not what a seal key may be wrapped under.
    #[error(
        "the key {key:?} is {problem}; an AES-256 key that is sensitive and not extractable is needed"
    )]
    Unfit {
        /// service.seal.key
        key: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// What is wrapped does not open: another token's key, another tenant's, or altered.
    #[error(
        "the wrapped seal key does not open under the key {key:?} of the token {token:?}: it was wrapped under another key \
         or for another tenant, or it was altered"
    )]
    Other {
        /// service.seal.token
        token: String,
        /// service.seal.key
        key: String,
    },
    /// Anything else that the token reported.
    #[error("the token {token:?} failed to {operation}")]
    Failed {
        /// service.seal.token
        token: String,
        /// What was tried.
        operation: &'static str,
        /// As the token reported it.
        source: Error,
    },
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system")]
    Randomness(#[source] getrandom::Error),
}

impl TokenError {
    /// Stable reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Module { .. } | Self::Relative { .. } => "SEAL_MODULE",
            Self::Token { .. } => "SEAL_TOKEN_MISSING",
            Self::Pin { .. } => "SEAL_PIN_REFUSED",
            Self::Locked { .. } => "SEAL_PIN_LOCKED",
            Self::Key { .. } => "SEAL_TOKEN_KEY_MISSING",
            Self::Unfit { .. } => "SEAL_TOKEN_KEY_UNFIT",
            Self::Other { .. } => "SEAL_OTHER_KEY",
            Self::Failed { .. } | Self::Randomness(_) => "SEAL_TOKEN_FAILED",
        }
    }
}

/// A token's key, and how to reach it. `Debug` shows no PIN.
#[derive(Debug, Clone)]
pub struct Token(Pkcs11Config);

impl From<&SealConfig> for Token {
    fn from(config: &SealConfig) -> Self {
        let SealConfig::Pkcs11(config) = config;
        Self(config.clone())
    }
}

impl Token {
    /// Wraps a tenant's seal key. Blocking, as everything here.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn wrap(&self, tenant: &TenantId, key: &[u8; KEY]) -> Result<[u8; WRAPPED], TokenError> {
        let (session, handle) = self.log_in()?;
        let mut iv = [0; IV];
        getrandom::fill(&mut iv).map_err(TokenError::Randomness)?;
        let ad = associated(tenant);
        let sealed = {
            let mechanism = Mechanism::AesGcm(self.parameters(&mut iv, &ad)?);
            session
                .encrypt(&mechanism, handle, key)
                .map_err(|source| self.failed("encrypt", source))?
        };
        let wrapped = [&[VERSION], iv.as_slice(), &sealed].concat();
        wrapped
            .try_into()
            .map_err(|_| self.failed("encrypt", Error::InvalidValue))
    }

    /// Unwraps a tenant's seal key.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn unwrap(
        &self,
        tenant: &TenantId,
        wrapped: &[u8],
    ) -> Result<Zeroizing<[u8; KEY]>, TokenError> {
        let other = || TokenError::Other {
            token: self.0.token.clone(),
            key: self.0.key.clone(),
        };
        let wrapped: &[u8; WRAPPED] = wrapped.try_into().map_err(|_| other())?;
        if wrapped[0] != VERSION {
            return Err(other());
        }
        let (session, handle) = self.log_in()?;
        let mut iv = [0; IV];
        iv.copy_from_slice(&wrapped[1..=IV]);
        let ad = associated(tenant);
        let mechanism = Mechanism::AesGcm(self.parameters(&mut iv, &ad)?);
        let plain = session
            .decrypt(&mechanism, handle, &wrapped[1 + IV..])
            .map(Zeroizing::new)
            .map_err(|error| match error {
                // Modules disagree on what a wrong tag is called; before it they say what else is wrong.
                Error::Pkcs11(rv, Function::Decrypt) if !gone(rv) => other(),
                error => self.failed("decrypt", error),
            })?;
        let key: [u8; KEY] = plain.as_slice().try_into().map_err(|_| other())?;
        Ok(Zeroizing::new(key))
    }

    fn log_in(&self) -> Result<(Session, ObjectHandle), TokenError> {
        let module = module(&self.0.module)?;
        let slot = self.slot(&module)?;
        let session = module
            .open_ro_session(slot)
            .map_err(|source| self.failed("open a session", source))?;
        let pin = SecretString::from(self.0.pin.expose());
        match session.login(UserType::User, Some(&pin)) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(source) => return Err(self.refused(source)),
        }
        let key = self.find(&session)?;
        Ok((session, key))
    }

    fn slot(&self, module: &Pkcs11) -> Result<Slot, TokenError> {
        let failed = |source| self.failed("list its slots", source);
        let mut found = Vec::new();
        for slot in module.get_slots_with_token().map_err(failed)? {
            // A token that cannot be asked is not the one.
            if let Ok(info) = module.get_token_info(slot)
                && info.label() == self.0.token
            {
                found.push(slot);
            }
        }
        match found.as_slice() {
            [slot] => Ok(*slot),
            _ => Err(TokenError::Token {
                label: self.0.token.clone(),
                found: found.len(),
            }),
        }
    }

    fn find(&self, session: &Session) -> Result<ObjectHandle, TokenError> {
        let found = session
            .find_objects(&[
                Attribute::Class(ObjectClass::SECRET_KEY),
                Attribute::Label(self.0.key.as_bytes().to_vec()),
            ])
            .map_err(|source| self.failed("find the key", source))?;
        let &[key] = found.as_slice() else {
            return Err(TokenError::Key {
                token: self.0.token.clone(),
                key: self.0.key.clone(),
                found: found.len(),
            });
        };
        let attributes = session
            .get_attributes(
                key,
                &[
                    AttributeType::KeyType,
                    AttributeType::ValueLen,
                    AttributeType::Sensitive,
                    AttributeType::Extractable,
                ],
            )
            .map_err(|source| self.failed("describe the key", source))?;
        let has = |wanted: Attribute| attributes.contains(&wanted);
        let problem = if !has(Attribute::KeyType(KeyType::AES)) {
            Some("no AES key")
        } else if !has(Attribute::ValueLen((KEY as u64).into())) {
            Some("not 256 bits long")
        } else if !has(Attribute::Sensitive(true)) {
            Some("not sensitive")
        } else if !has(Attribute::Extractable(false)) {
            Some("extractable")
        } else {
            None
        };
        match problem {
            None => Ok(key),
            Some(problem) => Err(TokenError::Unfit {
                key: self.0.key.clone(),
                problem,
            }),
        }
    }

    fn parameters<'a>(
        &self,
        iv: &'a mut [u8; IV],
        ad: &'a [u8],
    ) -> Result<GcmParams<'a>, TokenError> {
        GcmParams::new(iv, ad, (8 * TAG as u64).into())
            .map_err(|source| self.failed("take the parameters", source))
    }

    fn refused(&self, source: Error) -> TokenError {
        let label = self.0.token.clone();
        match &source {
            Error::Pkcs11(
                RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange,
                _,
            ) => TokenError::Pin { label, source },
            Error::Pkcs11(
                RvError::PinLocked | RvError::PinExpired | RvError::UserPinNotInitialized,
                _,
            ) => TokenError::Locked { label, source },
            _ => self.failed("log in", source),
        }
    }

    fn failed(&self, operation: &'static str, source: Error) -> TokenError {
        TokenError::Failed {
            token: self.0.token.clone(),
            operation,
            source,
        }
    }
}

/// A module is initialised once a process and stays: finalising it would end the sessions of every other user of it.
fn module(path: &Path) -> Result<Pkcs11, TokenError> {
    static LOADED: Mutex<BTreeMap<PathBuf, Pkcs11>> = Mutex::new(BTreeMap::new());
    if !path.is_absolute() {
        return Err(TokenError::Relative {
            path: path.to_owned(),
        });
    }
    let failed = |source| TokenError::Module {
        path: path.to_owned(),
        source,
    };
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = loaded.get(path) {
        return Ok(module.clone());
    }
    let module = Pkcs11::new(path).map_err(failed)?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(source) => return Err(failed(source)),
    }
    loaded.insert(path.to_owned(), module.clone());
    Ok(module)
}

/// The token went away: nothing is said about the bytes.
const fn gone(rv: RvError) -> bool {
    matches!(
        rv,
        RvError::DeviceError
            | RvError::DeviceMemory
            | RvError::DeviceRemoved
            | RvError::HostMemory
            | RvError::SessionClosed
            | RvError::SessionHandleInvalid
            | RvError::TokenNotPresent
            | RvError::UserNotLoggedIn
    )
}

fn associated(tenant: &TenantId) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in [LABEL, tenant.as_str().as_bytes()] {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}
