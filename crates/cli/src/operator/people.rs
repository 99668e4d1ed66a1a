//! People who act in a tenant: their signing keys, and a reader's opening key. Each has a folder of their own.

use std::path::Path;

use ed25519_dalek::SigningKey;
use greffe_envelope::opening::HybridSecretKey;
use greffe_envelope::pb;
use greffe_types::{Millis, from_hex, to_hex};
use zeroize::Zeroizing;

use super::{new_key, random, read_key};
use crate::fail::{Failure, Result};
use crate::layout::{private_folder, read_text, write_secret};

/// A person and their roles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PersonSpec {
    /// Name in the roster, and of the folder.
    pub(crate) name: &'static str,
    /// Roles.
    pub(crate) roles: &'static [&'static str],
}

/// The roster of a development identity: every role has a person, and no person two that must differ.
pub(crate) const PERSONS: [PersonSpec; 7] = [
    PersonSpec {
        name: "auditor",
        roles: &["auditor", "requester"],
    },
    PersonSpec {
        name: "principal",
        roles: &["approver"],
    },
    PersonSpec {
        name: "compliance",
        roles: &["compliance"],
    },
    PersonSpec {
        name: "legal",
        roles: &["legal"],
    },
    PersonSpec {
        name: "records",
        roles: &["records-manager"],
    },
    PersonSpec {
        name: "reader",
        roles: &["reader"],
    },
    PersonSpec {
        name: "approver",
        roles: &["approver"],
    },
];

/// A person's keys.
pub(crate) struct PersonKeys {
    /// Signs their acts.
    pub(crate) signing: SigningKey,
    /// Opens answers, when they are a reader.
    pub(crate) reader: Option<HybridSecretKey>,
}

impl PersonKeys {
    /// Makes a person's keys in their folder.
    pub(crate) fn create(folder: &Path, reader: bool) -> Result<Self> {
        private_folder(folder)?;
        let signing = new_key(&folder.join("signing.key"))?;
        if reader {
            let seed = random::<32>()?;
            let text = Zeroizing::new(format!("{}\n", to_hex(&*seed)));
            write_secret(&folder.join("reader.key"), text.as_bytes())?;
        }
        let keys = Self::load(folder)?;
        debug_assert_eq!(keys.signing.to_bytes(), signing.to_bytes());
        Ok(keys)
    }

    /// Reads them.
    pub(crate) fn load(folder: &Path) -> Result<Self> {
        let reader = folder.join("reader.key");
        let reader = if reader.exists() {
            let text = Zeroizing::new(read_text(&reader)?);
            let seed = from_hex::<32>(text.trim())
                .map(Zeroizing::new)
                .map_err(|_| {
                    Failure::failed(
                        "KEY_FILE",
                        format_args!(
                            "{} is not a key file: 64 hexadecimal digits",
                            reader.display()
                        ),
                    )
                })?;
            Some(HybridSecretKey::from_seed(&seed))
        } else {
            None
        };
        Ok(Self {
            signing: read_key(&folder.join("signing.key"))?,
            reader,
        })
    }

    /// The person as the roster names them.
    pub(crate) fn entry(
        &self,
        name: &str,
        roles: &[&str],
        from: Millis,
        until: Millis,
    ) -> pb::Person {
        pb::Person {
            name: name.to_owned(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            signing_key: self.signing.verifying_key().to_bytes().to_vec(),
            reader_key: self
                .reader
                .as_ref()
                .map(HybridSecretKey::public_key)
                .unwrap_or_default(),
            not_before: from.get(),
            not_after: until.get(),
            revoked: false,
        }
    }
}
