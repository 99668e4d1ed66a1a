//! The tenant's certificate authority, whose certificates outlast every simulation.

use std::path::Path;

use anyhow::Result;
use greffe_service_kit::tls::SpiffeId;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

pub(super) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Ok(Self {
            pem: params.self_signed(&key)?.pem(),
            issuer: Issuer::new(params, key),
        })
    }

    /// Key, certificate and authority of a name, in its folder.
    pub(super) fn write(&self, folder: &Path, id: &SpiffeId) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        let files = super::tls(folder);
        std::fs::write(files.cert, cert)?;
        std::fs::write(files.key, key.serialize_pem())?;
        std::fs::write(files.ca, &self.pem)?;
        Ok(())
    }
}
