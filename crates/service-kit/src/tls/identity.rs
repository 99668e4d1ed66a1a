//! A certificate, its key and the authorities it trusts, read from PEM.

use core::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::server::ParsedCertificate;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::spiffe::SpiffeId;
use super::verify::{CertifiedIdError, certified_id};
use super::{DEVELOPMENT_AUTHORITY, PROVIDER, client_config, server_config};
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
    not_after: i64,
    development: bool,
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
        Ok(Self {
            chain: chain.into(),
            key: Arc::new(key),
            authorities: Arc::new(roots),
            id,
            not_after,
            development,
        })
    }

    /// That a peer would take it at this time: the key belongs to the certificate, which is valid and one of the
    /// authorities'.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn verify(&self, now: UnixTime) -> Result<(), TlsError> {
        server_config(self)?;
        client_config(self, &self.id)?;
        let leaf = ParsedCertificate::try_from(&self.chain[0]).map_err(TlsError::Unverified)?;
        let algorithms = PROVIDER.signature_verification_algorithms.all;
        let (roots, rest) = (&self.authorities, &self.chain[1..]);
        verify_server_cert_signed_by_trust_anchor(&leaf, roots, rest, now, algorithms)
            .map_err(TlsError::Unverified)
    }

    /// When the certificate expires, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Whether one of the authorities is what `greffe up` makes.
    pub fn is_development(&self) -> bool {
        self.development
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
fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::Pem { what })?;
    if found.is_empty() {
        return Err(TlsError::Pem { what });
    }
    Ok(found)
}
