//! A certificate, its key and the authorities it trusts, read from PEM.

use core::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use rustls::client::{ResolvesClientCert, verify_server_cert_signed_by_trust_anchor};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use super::spiffe::SpiffeId;
use super::verify::{CertifiedIdError, certified_id};
use super::{DEVELOPMENT_AUTHORITY, PROVIDER};
use crate::config::TlsFiles;

/// Why a TLS identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// As the system reported it.
        source: std::io::Error,
    },
    /// PEM of something else, or of nothing.
    #[error("no usable {what} in the PEM text")]
    Pem {
        /// Certificate, private key or authority.
        what: &'static str,
    },
    /// The certificate carries no name of ours.
    #[error("our own certificate")]
    Name(#[source] CertifiedIdError),
    /// The key does not belong to the certificate, or a setting does not go with another.
    #[error("the certificate, its key or the authorities were refused")]
    Refused(#[source] rustls::Error),
    /// Expired, not valid yet, or not of the authorities that it comes with: no peer would take it.
    #[error("our own certificate does not verify: renew it, or give the authority that signed it")]
    Unverified(#[source] rustls::Error),
    /// The new certificate is somebody else's.
    #[error("the new certificate is for {found}, not for {expected}")]
    Other {
        /// Whose it is.
        found: Box<SpiffeId>,
        /// Who we are.
        expected: Box<SpiffeId>,
    },
    /// No client could ever be verified.
    #[error("the authorities cannot verify clients")]
    Authorities(#[source] rustls::server::VerifierBuilderError),
}

/// What a process proves itself with. Cheap to clone; `Debug` shows the name only. All clones change together when it is
/// replaced: handshakes that begin later use what is new, open connections live on.
#[derive(Clone)]
pub struct Identity {
    id: SpiffeId,
    current: Arc<RwLock<Arc<Material>>>,
}

/// Certificate, key and authorities that belong together.
pub(super) struct Material {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) authorities: Arc<RootCertStore>,
    pub(super) clients: Arc<dyn ClientCertVerifier>,
    not_after: i64,
    development: bool,
}

/// An identity that ends with its last user.
pub(super) struct Weakly {
    id: SpiffeId,
    current: Weak<RwLock<Arc<Material>>>,
}

impl Weakly {
    pub(super) fn upgrade(&self) -> Option<Identity> {
        Some(Identity {
            id: self.id.clone(),
            current: self.current.upgrade()?,
        })
    }
}

impl Identity {
    /// From the files of a configuration.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        Pem::read(files)?.identity()
    }

    /// From PEM texts: the chain (leaf first), the leaf's private key, one or more authorities.
    pub fn from_pem(cert: &[u8], key: &[u8], authorities: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates(cert, "certificate")?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Pem {
            what: "private key",
        })?;
        let mut roots = RootCertStore::empty();
        let mut development = false;
        for authority in certificates(authorities, "authority")? {
            development |= is_development(&authority);
            roots.add(authority).map_err(TlsError::Refused)?;
        }
        let id = certified_id(&chain[0]).map_err(TlsError::Name)?;
        let not_after = X509Certificate::from_der(&chain[0])
            .map_err(|_| TlsError::Name(CertifiedIdError::Malformed))?
            .1
            .validity()
            .not_after
            .timestamp();
        let certified = CertifiedKey::from_der(chain, key, &PROVIDER).map_err(TlsError::Refused)?;
        let authorities = Arc::new(roots);
        let clients =
            WebPkiClientVerifier::builder_with_provider(authorities.clone(), PROVIDER.clone())
                .build()
                .map_err(TlsError::Authorities)?;
        let material = Material {
            certified: Arc::new(certified),
            authorities,
            clients,
            not_after,
            development,
        };
        Ok(Self {
            id,
            current: Arc::new(RwLock::new(Arc::new(material))),
        })
    }

    /// Takes what another identity has, which is of the same name.
    ///
    /// # Errors
    /// [`TlsError::Other`].
    pub fn replace(&self, with: &Self) -> Result<(), TlsError> {
        if with.id != self.id {
            return Err(TlsError::Other {
                found: Box::new(with.id.clone()),
                expected: Box::new(self.id.clone()),
            });
        }
        let material = with.material();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = material;
        Ok(())
    }

    /// That a peer would take it at this time: the certificate is valid and one of the authorities'.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn verify(&self, now: UnixTime) -> Result<(), TlsError> {
        let material = self.material();
        let chain = &material.certified.cert;
        let leaf = ParsedCertificate::try_from(&chain[0]).map_err(TlsError::Unverified)?;
        let algorithms = PROVIDER.signature_verification_algorithms.all;
        let (roots, rest) = (&material.authorities, &chain[1..]);
        verify_server_cert_signed_by_trust_anchor(&leaf, roots, rest, now, algorithms)
            .map_err(TlsError::Unverified)
    }

    /// When the certificate expires, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.material().not_after
    }

    /// Whether one of the authorities is what `greffe up` makes.
    pub fn is_development(&self) -> bool {
        self.material().development
    }

    /// Our own name.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    pub(super) fn material(&self) -> Arc<Material> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn downgrade(&self) -> Weakly {
        Weakly {
            id: self.id.clone(),
            current: Arc::downgrade(&self.current),
        }
    }
}

/// The certificate of whatever handshake begins now.
impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.material().certified.clone())
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.material().certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The texts of an identity's files.
#[derive(PartialEq, Eq)]
pub(super) struct Pem {
    cert: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    authorities: Vec<u8>,
}

impl Pem {
    pub(super) fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::Read {
                path: path.to_owned(),
                source,
            })
        };
        Ok(Self {
            cert: read(&files.cert)?,
            key: Zeroizing::new(read(&files.key)?),
            authorities: read(&files.ca)?,
        })
    }

    pub(super) fn identity(&self) -> Result<Identity, TlsError> {
        Identity::from_pem(&self.cert, &self.key, &self.authorities)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.id)
    }
}

/// By its subject's common name.
fn is_development(authority: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(authority).is_ok_and(|(_, parsed)| {
        parsed.subject().iter_common_name().any(|name| {
            name.as_str()
                .is_ok_and(|name| name.starts_with(DEVELOPMENT_AUTHORITY))
        })
    })
}

/// At least one certificate.
pub(super) fn certificates(
    pem: &[u8],
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::Pem { what })?;
    if found.is_empty() {
        return Err(TlsError::Pem { what });
    }
    Ok(found)
}
