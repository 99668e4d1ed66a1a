//! Who stands behind a certificate: the chain is webpki's to check, the name is ours.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::PROVIDER;
use super::identity::Identity;
use super::spiffe::{SpiffeError, SpiffeId};

/// Why a certificate names no peer of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertifiedIdError {
    /// Not X.509, or with extensions that cannot be read.
    #[error("the certificate cannot be read")]
    Malformed,
    /// X509-SVID, section 2: exactly one URI name.
    #[error("the certificate has {0} URI names instead of one")]
    Count(usize),
    /// The URI is not one of ours.
    #[error("the certificate's URI name is none of ours")]
    Name(#[source] SpiffeError),
    /// The peer is somebody else than expected.
    #[error("the certificate is for {found} where {expected} was expected")]
    Other {
        /// Whom we meant to reach, or the tenant that is served.
        expected: String,
        /// Who answered or called.
        found: SpiffeId,
    },
}

impl From<CertifiedIdError> for Error {
    fn from(error: CertifiedIdError) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
    }
}

/// The one SPIFFE id that a certificate carries. The chain is not checked here.
pub(crate) fn certified_id(certificate: &CertificateDer<'_>) -> Result<SpiffeId, CertifiedIdError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| CertifiedIdError::Malformed)?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|_| CertifiedIdError::Malformed)?
        .ok_or(CertifiedIdError::Count(0))?;
    let uris: Vec<&str> = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris.as_slice() {
        [uri] => uri.parse().map_err(CertifiedIdError::Name),
        other => Err(CertifiedIdError::Count(other.len())),
    }
}

/// Accepts the one server that is meant to be reached.
#[derive(Debug)]
pub(super) struct ExpectedServer {
    identity: Identity,
    expected: SpiffeId,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ExpectedServer {
    pub(super) fn new(identity: &Identity, expected: SpiffeId) -> Self {
        Self {
            identity: identity.clone(),
            expected,
            algorithms: PROVIDER.signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for ExpectedServer {
    /// Chain, period and server usage by webpki; then the SPIFFE id instead of the host name.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.identity.material().authorities,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let found = certified_id(end_entity)?;
        if found != self.expected {
            return Err(CertifiedIdError::Other {
                expected: self.expected.to_string(),
                found,
            }
            .into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Accepts clients of the server's own tenant; a client without a certificate does not pass the handshake.
#[derive(Debug)]
pub(super) struct TenantClients(Identity);

impl TenantClients {
    pub(super) fn new(identity: &Identity) -> Self {
        Self(identity.clone())
    }

    /// Under the authorities of now.
    fn chain(&self) -> Arc<dyn ClientCertVerifier> {
        self.0.material().clients.clone()
    }
}

impl ClientCertVerifier for TenantClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Authorities may change; a client of ours has one certificate, and of others only those of the tenant get in.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .chain()
            .verify_client_cert(end_entity, intermediates, now)?;
        let found = certified_id(end_entity)?;
        if found.tenant() != self.0.id().tenant() {
            return Err(CertifiedIdError::Other {
                expected: format!("tenant {}", self.0.id().tenant()),
                found,
            }
            .into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain().supported_verify_schemes()
    }
}
