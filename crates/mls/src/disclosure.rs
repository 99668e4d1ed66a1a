//! The journaling extension in the group context: what must be there, and which disclosure may follow which.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use greffe_envelope::pb::Mode;
use greffe_types::Digest;
use mls_rs::extension::ExtensionType;
use mls_rs::extension::built_in::RequiredCapabilitiesExt;
use mls_rs::{Extension, ExtensionList};

use crate::frame::check_size;
use crate::trust::{DisclosureInfo, DisclosureVerifier};
use crate::{EXTENSION_TYPE, Refusal, limits};

/// An extension's bytes with what its verifier said of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Disclosed {
    pub(crate) extension: Vec<u8>,
    pub(crate) info: DisclosureInfo,
}

/// Highest serial seen in a scope, and of which disclosure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) serial: u64,
    pub(crate) digest: Digest,
}

/// The verifier, the last disclosures it verified, and the serials this client has seen in all its conversations.
#[derive(Clone)]
pub(crate) struct Disclosures {
    verifier: Arc<dyn DisclosureVerifier>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// Verifying costs several signatures; a commit with 1,000 additions asks 1,000 times for the same bytes.
    verified: Vec<Disclosed>,
    seen: BTreeMap<Vec<u8>, Seen>,
}

/// Current and next.
const CACHED: usize = 2;

impl Disclosures {
    pub(crate) fn new(verifier: Arc<dyn DisclosureVerifier>) -> Self {
        Self {
            verifier,
            shared: Arc::default(),
        }
    }

    /// Takes a row's key as `remember` made it; none when it does not parse.
    pub(crate) fn load_seen(&self, key: &[u8]) -> Option<()> {
        let (scope, rest) = key.split_at_checked(key.len().checked_sub(40)?)?;
        let (serial, digest) = rest.split_at(8);
        let seen = Seen {
            serial: u64::from_be_bytes(serial.try_into().ok()?),
            digest: Digest::try_from(digest).ok()?,
        };
        self.lock().note(scope.to_vec(), seen);
        Some(())
    }

    /// The disclosure of a group context; only the two extensions that belong there are allowed.
    pub(crate) fn of(&self, extensions: &ExtensionList) -> Result<Disclosed, Refusal> {
        for extension in extensions.iter() {
            let kind = extension.extension_type;
            if kind.raw_value() != EXTENSION_TYPE && kind != ExtensionType::REQUIRED_CAPABILITIES {
                return Err(Refusal::Extension {
                    place: "group context",
                    kind: kind.raw_value(),
                });
            }
        }
        let required = extensions
            .get_as::<RequiredCapabilitiesExt>()
            .map_err(|_| Refusal::NoRequirement)?
            .ok_or(Refusal::NoRequirement)?;
        if !required.extensions.contains(&extension_type()) {
            return Err(Refusal::NoRequirement);
        }
        let extension = extensions
            .iter()
            .find(|extension| extension.extension_type == extension_type())
            .ok_or(Refusal::NoDisclosure)?;
        self.verify(&extension.extension_data)
    }

    /// Verifies an extension's bytes.
    pub(crate) fn verify(&self, extension: &[u8]) -> Result<Disclosed, Refusal> {
        check_size("disclosure", limits::DISCLOSURE, extension)?;
        if extension.is_empty() {
            return Err(Refusal::NoDisclosure);
        }
        let cached = |disclosed: &&Disclosed| disclosed.extension == extension;
        if let Some(known) = self.lock().verified.iter().find(cached) {
            return Ok(known.clone());
        }
        let info = self
            .verifier
            .verify(extension)
            .map_err(Refusal::Disclosure)?;
        let disclosed = Disclosed {
            extension: extension.to_vec(),
            info,
        };
        let mut shared = self.lock();
        if shared.verified.len() == CACHED {
            shared.verified.remove(0);
        }
        shared.verified.push(disclosed.clone());
        Ok(disclosed)
    }

    /// For the one who creates or joins: it is current, and nothing newer or different was seen in another conversation.
    pub(crate) fn check_entry(&self, next: &DisclosureInfo) -> Result<(), Refusal> {
        self.verifier
            .verify_current(next)
            .map_err(Refusal::Disclosure)?;
        self.check_seen(next)
    }

    /// For every member: what a commit may put in place of what is there. Identical bytes are no change.
    pub(crate) fn check_change(
        &self,
        current: &Disclosed,
        next: &Disclosed,
    ) -> Result<(), Refusal> {
        if current.extension == next.extension {
            return Ok(());
        }
        let (old, new) = (&current.info, &next.info);
        if old.tenants != new.tenants {
            return Err(Refusal::TenantsChanged);
        }
        if new.mode < old.mode {
            return Err(Refusal::ModeLowered);
        }
        if scope(old) != scope(new) {
            // serials of another scope do not compare with this conversation's, only with what this client has seen
            return self.check_seen(new);
        }
        if new.serial < old.serial {
            return Err(Refusal::SerialLower {
                known: old.serial,
                found: new.serial,
            });
        }
        if new.serial == old.serial {
            return Err(Refusal::SerialReused(new.serial));
        }
        match self.seen(new) {
            Some(seen) if seen.serial == new.serial && seen.digest != new.digest => {
                Err(Refusal::SerialReused(new.serial))
            }
            _ => Ok(()),
        }
    }

    /// Remembers a disclosure that was accepted; the key of the row to store.
    pub(crate) fn remember(&self, info: &DisclosureInfo) -> Vec<u8> {
        let seen = Seen {
            serial: info.serial,
            digest: info.digest,
        };
        let mut key = scope(info);
        self.lock().note(key.clone(), seen);
        key.extend(seen.serial.to_be_bytes());
        key.extend(seen.digest.as_bytes());
        key
    }

    fn check_seen(&self, next: &DisclosureInfo) -> Result<(), Refusal> {
        match self.seen(next) {
            Some(seen) if next.serial < seen.serial => Err(Refusal::SerialLower {
                known: seen.serial,
                found: next.serial,
            }),
            Some(seen) if next.serial == seen.serial && next.digest != seen.digest => {
                Err(Refusal::SerialReused(next.serial))
            }
            _ => Ok(()),
        }
    }

    fn seen(&self, info: &DisclosureInfo) -> Option<Seen> {
        self.lock().seen.get(&scope(info)).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn note(&mut self, scope: Vec<u8>, seen: Seen) {
        let known = self.seen.entry(scope).or_insert(seen);
        if known.serial < seen.serial {
            *known = seen;
        }
    }
}

/// The group context's extensions for a disclosure.
pub(crate) fn context_extensions(extension: &[u8]) -> Result<ExtensionList, Refusal> {
    let mut list = ExtensionList::new();
    let required = RequiredCapabilitiesExt::new(vec![extension_type()], Vec::new(), Vec::new());
    list.set_from(required)
        .map_err(|_| Refusal::NoRequirement)?;
    list.set(Extension::new(extension_type(), extension.to_vec()));
    Ok(list)
}

pub(crate) const fn extension_type() -> ExtensionType {
    ExtensionType::new(EXTENSION_TYPE)
}

/// What a serial counts in: mode, standing order, tenants.
fn scope(info: &DisclosureInfo) -> Vec<u8> {
    let mut scope = vec![match info.mode {
        Mode::Unspecified => 0,
        Mode::Private => 1,
        Mode::Journaled => 2,
        Mode::Supervised => 3,
    }];
    scope.extend(info.standing_order.unwrap_or_default());
    for tenant in &info.tenants {
        scope.push(tenant.as_str().len() as u8);
        scope.extend(tenant.as_str().as_bytes());
    }
    scope
}
