//! A certificate, its key and the authorities it trusts, read from PEM.

use core::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::spiffe::SpiffeId;
use super::verify::{CertifiedIdError, certified_id};
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
    /// No client could ever be verified.
    #[error("the authorities cannot verify clients")]
    Authorities(#[source] rustls::server::VerifierBuilderError),
}

/// What a process proves itself with. Cheap to clone; `Debug` shows the name only.
#[derive(Clone)]
pub struct Identity {
    chain: Arc<[CertificateDer<'static>]>,
    key: Arc<PrivateKeyDer<'static>>,
    authorities: Arc<RootCertStore>,
    id: SpiffeId,
}

impl Identity {
    /// From the files of a configuration.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::Read {
                path: path.to_owned(),
                source,
            })
        };
        Self::from_pem(&read(&files.cert)?, &read(&files.key)?, &read(&files.ca)?)
    }

    /// From PEM texts: the chain (leaf first), the leaf's private key, one or more authorities.
    pub fn from_pem(cert: &[u8], key: &[u8], authorities: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates(cert, "certificate")?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Pem {
            what: "private key",
        })?;
        let mut roots = RootCertStore::empty();
        for authority in certificates(authorities, "authority")? {
            roots.add(authority).map_err(TlsError::Refused)?;
        }
        let id = certified_id(&chain[0]).map_err(TlsError::Name)?;
        Ok(Self {
            chain: chain.into(),
            key: Arc::new(key),
            authorities: Arc::new(roots),
            id,
        })
    }

    /// Our own name.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    pub(super) fn authorities(&self) -> &Arc<RootCertStore> {
        &self.authorities
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.id)
    }
}

/// At least one certificate.
fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::Pem { what })?;
    if found.is_empty() {
        return Err(TlsError::Pem { what });
    }
    Ok(found)
}
