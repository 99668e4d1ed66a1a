//! Before a service's first start: it makes its keys in its own folder and gives only their public parts.

use std::collections::BTreeMap;
use std::path::Path;

use ed25519_dalek::SigningKey;
use greffe_envelope::opening::HybridSecretKey;
use greffe_types::{TenantId, to_hex};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};
use crate::folder::{DataFolder, FolderError};
use crate::secrets::{Keystore, SecretsError};
use crate::tls::{SpiffeError, SpiffeId};

/// Name of the TLS key in the data folder.
pub const TLS_KEY: &str = "tls.key";

/// What the operator signs and publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepared {
    /// The service's name.
    pub service: String,
    /// Its TLS name.
    pub spiffe_id: String,
    /// Request for its TLS certificate, PEM.
    pub csr_pem: String,
    /// Its public keys by name, in hexadecimal.
    pub keys: BTreeMap<String, String>,
}

/// Why a service cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// Its data folder.
    #[error("the data folder is refused")]
    Folder(#[from] FolderError),
    /// Its name.
    #[error("the service cannot be named so")]
    Name(#[from] SpiffeError),
    /// Its secrets.
    #[error("the secrets are refused")]
    Secrets(#[from] SecretsError),
    /// Its TLS key cannot be stored.
    #[error("the TLS key cannot be stored")]
    File(#[from] FileError),
    /// Its TLS key cannot be read.
    #[error("the TLS key cannot be read")]
    Read(#[source] std::io::Error),
    /// The TLS key or the request for its certificate cannot be made.
    #[error("the request for a certificate cannot be made")]
    Request(#[from] rcgen::Error),
    /// A kind of key that there is not.
    #[error("{0:?} is no kind of key: ed25519, hybrid or secret")]
    Kind(String),
}

impl PrepareError {
    /// Stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Folder(error) => error.reason().as_str(),
            Self::Secrets(error) => error.reason(),
            _ => "SERVICE_KEYS",
        }
    }
}

/// Makes what is missing, the seal key of a token included, and gives the public parts; a second time gives the same.
/// `names` are the secrets' names, which are also the fields of [`Prepared::keys`], with their kinds: `ed25519` or `hybrid`
/// (MLKEM768-P256), both from 32-byte seeds, or `secret`, 32 bytes without a public part. Blocking.
///
/// # Errors
/// [`PrepareError`]; in particular while the service runs, since its folder is locked then.
pub fn prepare(
    service: &str,
    tenant: &TenantId,
    data: &Path,
    names: &[(&str, &str)],
) -> Result<Prepared, PrepareError> {
    let keystore = Keystore::new(data, tenant, None);
    prepare_in(service, tenant, data, &keystore, names)
}

/// As [`prepare`], with the secrets in a keystore elsewhere.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_in(
    service: &str,
    tenant: &TenantId,
    data: &Path,
    keystore: &Keystore,
    names: &[(&str, &str)],
) -> Result<Prepared, PrepareError> {
    let spiffe_id = SpiffeId::service(tenant, service)?;
    let _folder = DataFolder::open(data, tenant, service)?;
    let secrets = keystore.prepare()?;
    let mut keys = BTreeMap::new();
    for (name, kind) in names {
        let public = match *kind {
            "ed25519" | "hybrid" => {
                secrets.get_or_create(name, 32)?;
                let seed = secrets.seed(name)?;
                if *kind == "ed25519" {
                    to_hex(SigningKey::from_bytes(&seed).verifying_key().as_bytes())
                } else {
                    to_hex(&HybridSecretKey::from_seed(&seed).public_key())
                }
            }
            "secret" => {
                secrets.get_or_create(name, 32)?;
                continue;
            }
            other => return Err(PrepareError::Kind(other.to_owned())),
        };
        keys.insert((*name).to_owned(), public);
    }
    Ok(Prepared {
        service: service.to_owned(),
        csr_pem: request(&tls_key(&data.join(TLS_KEY))?, &spiffe_id)?,
        spiffe_id: spiffe_id.to_string(),
        keys,
    })
}

/// A key and a request for its certificate, for an application or service named so; the key is kept in `path`. Blocking.
///
/// # Errors
/// [`PrepareError`].
pub fn prepare_tls(path: &Path, id: &SpiffeId) -> Result<String, PrepareError> {
    request(&tls_key(path)?, id)
}

/// P-256, as PKCS #8 PEM of mode 0600: TLS needs it as a file.
fn tls_key(path: &Path) -> Result<KeyPair, PrepareError> {
    if !path.exists() {
        let fresh = KeyPair::generate()?;
        let pem = zeroize::Zeroizing::new(fresh.serialize_pem());
        files::create_private(path, pem.as_bytes())?;
        return Ok(fresh);
    }
    let pem = zeroize::Zeroizing::new(std::fs::read_to_string(path).map_err(PrepareError::Read)?);
    Ok(KeyPair::from_pem(&pem)?)
}

fn request(key: &KeyPair, id: &SpiffeId) -> Result<String, PrepareError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, id.name());
    params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
    Ok(params.serialize_request(key)?.pem()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_and_only_their_public_parts_leave() {
        let data = tempfile::tempdir().unwrap();
        let tenant = TenantId::new("acme").unwrap();
        let names = [
            ("signing_key", "ed25519"),
            ("channel_key", "hybrid"),
            ("session", "secret"),
        ];
        let keystore = Keystore::new(data.path(), &tenant, None);
        let prepare = |service: &str, names: &[(&str, &str)]| {
            prepare_in(service, &tenant, data.path(), &keystore, names)
        };
        let first = prepare("escrow-1", &names).unwrap();
        let again = prepare("escrow-1", &names).unwrap();
        assert_eq!(first.keys.len(), 2);
        assert_eq!(first.keys, again.keys);
        assert_eq!(first.spiffe_id, "spiffe://acme/service/escrow-1");
        assert_eq!(first.keys["signing_key"].len(), 64);
        assert_eq!(first.keys["channel_key"].len(), 2 * 1249);
        let csr = rcgen::CertificateSigningRequestParams::from_pem(&again.csr_pem).unwrap();
        let SanType::URI(uri) = &csr.params.subject_alt_names[0] else {
            panic!("no URI name")
        };
        assert_eq!(uri.as_str(), first.spiffe_id);
        let secrets = keystore.open().unwrap();
        let seed = secrets.seed("signing_key").unwrap();
        assert_eq!(secrets.get("session").unwrap().len(), 32);
        let json = serde_json::to_string(&first).unwrap();
        assert!(!json.contains(&to_hex(seed.as_slice())));
        let other = prepare("escrow-2", &names);
        assert!(matches!(other, Err(PrepareError::Folder(_))));
        assert!(matches!(
            prepare("escrow-1", &[("x", "rsa")]),
            Err(PrepareError::Kind(_))
        ));
    }
}
