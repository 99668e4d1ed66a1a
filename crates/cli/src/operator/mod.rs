//! The people's side of a tenant: root, device issuer, certificate authority, roster. Files of people, never of a service.

mod authority;
mod bundle;
pub(crate) mod ceremony;
pub(crate) mod disclose;
pub(crate) mod draft;
pub(crate) mod file;
mod keys;
pub(crate) mod network;
mod people;
pub(crate) mod reshare;
pub(crate) mod rules;
pub(crate) mod transcript;
pub(crate) mod view;

use std::path::Path;

use ed25519_dalek::SigningKey;
use greffe_envelope::trust::RootKey;
use greffe_service_kit::tls::DEVELOPMENT_AUTHORITY;
use greffe_types::TenantId;

pub(crate) use authority::{Authority, certificate_der};
pub(crate) use bundle::{BundleParts, bundle, decode_hex, is_node, node, valid_until};
pub(crate) use keys::{
    ISSUER_KEY, NEXT_ROOT_KEY, ROOT_KEY, ROOT_PUBLIC, make_authority, make_issuer, make_root,
    new_key, random, read_key, read_public, read_root,
};
pub(crate) use people::{PERSONS, entry};

use crate::fail::{Failure, Result};
use crate::layout::{private_folder, read_text, write, write_secret};

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
    /// Makes every key of a new development tenant in a folder that has none: on one machine, as production never has them.
    pub(crate) fn create(folder: &Path, tenant: TenantId) -> Result<Self> {
        private_folder(folder)?;
        write_secret(&folder.join("tenant"), tenant.as_str().as_bytes())?;
        let operator = Self {
            root: new_key(&folder.join(ROOT_KEY))?,
            next_root: new_key(&folder.join(NEXT_ROOT_KEY))?,
            issuer: new_key(&folder.join(ISSUER_KEY))?,
            authority: Authority::create(folder, &format!("{DEVELOPMENT_AUTHORITY} of {tenant}"))?,
            tenant,
        };
        // `greffe operator sign` finds it beside the key, here as on an offline machine.
        let line = format!("{}\n", operator.root_key()?);
        write(&folder.join(ROOT_PUBLIC), line.as_bytes())?;
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
            root: read_key(&folder.join(ROOT_KEY))?,
            next_root: read_key(&folder.join(NEXT_ROOT_KEY))?,
            issuer: read_key(&folder.join(ISSUER_KEY))?,
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
