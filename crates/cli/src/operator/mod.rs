//! The people's side of a tenant: root, device issuer, certificate authority, roster. Files of people, never of a service.

mod authority;
mod bundle;
mod people;

use std::path::Path;

use ed25519_dalek::SigningKey;
use greffe_envelope::trust::RootKey;
use greffe_types::{TenantId, from_hex, to_hex};
use zeroize::Zeroizing;

pub(crate) use authority::Authority;
pub(crate) use bundle::{BundleParts, bundle, valid_until};
pub(crate) use people::PERSONS;

use crate::fail::{Failure, Result};
use crate::layout::{private_folder, read_text, write_secret};

/// Keys of the people who run a tenant.
pub(crate) struct Operator {
    /// The tenant.
    pub(crate) tenant: TenantId,
    /// Signs trust bundles, key records and disclosures; offline in production.
    pub(crate) root: SigningKey,
    /// Commitment to the root that follows.
    pub(crate) next_root: SigningKey,
    /// Signs device certificates.
    pub(crate) issuer: SigningKey,
    /// Signs TLS certificates.
    pub(crate) authority: Authority,
}

impl Operator {
    /// Makes every key of a new tenant in a folder that has none.
    pub(crate) fn create(folder: &Path, tenant: TenantId) -> Result<Self> {
        private_folder(folder)?;
        write_secret(&folder.join("tenant"), tenant.as_str().as_bytes())?;
        let operator = Self {
            root: new_key(&folder.join("root.key"))?,
            next_root: new_key(&folder.join("next-root.key"))?,
            issuer: new_key(&folder.join("issuer.key"))?,
            authority: Authority::create(folder, &tenant)?,
            tenant,
        };
        Ok(operator)
    }

    /// Reads what [`Operator::create`] made.
    pub(crate) fn load(folder: &Path) -> Result<Self> {
        let tenant = read_text(&folder.join("tenant"))?;
        let tenant = TenantId::new(tenant.trim()).map_err(|error| {
            Failure::failed(
                "OPERATOR_FOLDER",
                format_args!("the operator's folder names no tenant: {error}"),
            )
        })?;
        Ok(Self {
            root: read_key(&folder.join("root.key"))?,
            next_root: read_key(&folder.join("next-root.key"))?,
            issuer: read_key(&folder.join("issuer.key"))?,
            authority: Authority::load(folder)?,
            tenant,
        })
    }

    /// The root as clients and nodes pin it.
    pub(crate) fn root_key(&self) -> Result<RootKey> {
        let key = self.root.verifying_key().to_bytes();
        RootKey::new(self.tenant.clone(), &key)
            .map_err(|error| Failure::because("ROOT_KEY", "the root key cannot be used", &error))
    }
}

/// Makes an Ed25519 key and its file: 64 hexadecimal digits, readable by the owner alone.
pub(crate) fn new_key(path: &Path) -> Result<SigningKey> {
    let seed = random::<32>()?;
    write_secret(
        path,
        Zeroizing::new(format!("{}\n", to_hex(&*seed))).as_bytes(),
    )?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Reads such a file.
pub(crate) fn read_key(path: &Path) -> Result<SigningKey> {
    let text = Zeroizing::new(read_text(path)?);
    let seed = from_hex::<32>(text.trim())
        .map(Zeroizing::new)
        .map_err(|_| {
            Failure::failed(
                "KEY_FILE",
                format_args!(
                    "{} is not a key file: 64 hexadecimal digits",
                    path.display()
                ),
            )
        })?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Fresh bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut()).map_err(|error| {
        Failure::failed(
            "NO_RANDOMNESS",
            format_args!("the system gave no randomness: {error}"),
        )
    })?;
    Ok(bytes)
}
