//! The tenant's certificate authority for TLS: names of services and applications, nothing else.

use std::path::Path;

use greffe_service_kit::tls::{PeerKind, SpiffeId};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::random;
use crate::fail::{Failure, Result};
use crate::layout::{read_text, write, write_secret};

/// Days a TLS certificate is valid.
const DAYS: i64 = 397;

/// A certificate with its key and the authority behind it, as PEM texts.
pub(crate) struct TlsPem {
    /// Certificate.
    pub(crate) cert: String,
    /// Private key.
    pub(crate) key: String,
    /// Authority.
    pub(crate) ca: String,
}

/// Signs TLS certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn failed(error: rcgen::Error) -> Failure {
    Failure::because("CERTIFICATE", "a certificate could not be made", &error)
}

impl Authority {
    /// Makes `ca.key` and `ca.crt` in a folder. Services in production refuse an authority whose name is that of a
    /// development identity.
    pub(super) fn create(folder: &Path, common_name: &str) -> Result<Self> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity(&mut params, 10 * DAYS)?;
        let cert = params.self_signed(&key).map_err(failed)?;
        write_secret(&folder.join("ca.key"), key.serialize_pem().as_bytes())?;
        write(&folder.join("ca.crt"), cert.pem().as_bytes())?;
        Self::load(folder)
    }

    /// Reads them.
    pub(crate) fn load(folder: &Path) -> Result<Self> {
        let key = KeyPair::from_pem(&read_text(&folder.join("ca.key"))?).map_err(failed)?;
        let pem = read_text(&folder.join("ca.crt"))?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(&pem, key).map_err(failed)?,
            pem,
        })
    }

    /// Its certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Its certificate's DER, as trust bundles carry it.
    pub(crate) fn der(&self) -> Result<Vec<u8>> {
        certificate_der(&self.pem)
    }

    /// Certifies the key of a request under a name that we choose, whatever the request asks for.
    pub(crate) fn certify(&self, csr: &str, id: &SpiffeId) -> Result<String> {
        let mut request = CertificateSigningRequestParams::from_pem(csr).map_err(failed)?;
        request.params = leaf(id)?;
        Ok(request.signed_by(&self.issuer).map_err(failed)?.pem())
    }

    /// Makes a key and its certificate for an application.
    pub(crate) fn issue(&self, id: &SpiffeId) -> Result<TlsPem> {
        let key = KeyPair::generate().map_err(failed)?;
        let cert = leaf(id)?.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(TlsPem {
            cert: cert.pem(),
            key: key.serialize_pem(),
            ca: self.pem.clone(),
        })
    }
}

/// The DER of a PEM certificate.
pub(crate) fn certificate_der(pem: &str) -> Result<Vec<u8>> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map(|der| der.to_vec())
        .map_err(|_| {
            Failure::usage(
                "CERTIFICATE",
                "the authority's certificate is not PEM: name its ca.crt",
            )
        })
}

fn leaf(id: &SpiffeId) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&id.to_string());
    let uri = id.to_string().try_into().map_err(failed)?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    if id.kind() == PeerKind::Service {
        // Our own clients ask for the URI; tools of others know DNS names only.
        let name = id.name().try_into().map_err(failed)?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.serial_number = Some(SerialNumber::from_slice(&*random::<16>()?));
    validity(&mut params, DAYS)?;
    Ok(params)
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// From an hour ago, for clocks that differ.
fn validity(params: &mut CertificateParams, days: i64) -> Result<()> {
    let now = jiff::Timestamp::now();
    let at = |seconds: i64| {
        rcgen::date_time_ymd(1970, 1, 1).checked_add(
            core::time::Duration::from_secs(seconds.max(0).cast_unsigned())
                .try_into()
                .ok()?,
        )
    };
    let failed = || Failure::failed("CLOCK", "the clock stands at no usable date: set it");
    params.not_before = at(now.as_second() - 3600).ok_or_else(failed)?;
    params.not_after = at(now.as_second() + days * 86_400).ok_or_else(failed)?;
    Ok(())
}
