//! Credentials and leaf keys: a leaf counts only when its device's certificate was presented.

use core::fmt;

use greffe_types::{DeviceId, Digest};
use mls_rs::identity::basic::BasicCredential;
use mls_rs::identity::{CredentialType, SigningIdentity};
use mls_rs::{CipherSuite, CipherSuiteProvider, CryptoProvider, ExtensionList, IdentityProvider};
use mls_rs_core::crypto::{SignaturePublicKey, SignatureSecretKey};
use mls_rs_core::identity::MemberValidationContext;
use mls_rs_core::time::MlsTime;
use mls_rs_crypto_awslc::{AwsLcCipherSuite, AwsLcCryptoProvider};
use zeroize::Zeroizing;

use crate::disclosure::Disclosures;
use crate::trust::Trust;
use crate::{MlsError, Refusal};

/// MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519, the first suite.
pub(crate) const SUITE: CipherSuite = CipherSuite::CURVE25519_AES128;

/// Bytes of a basic credential: device id (16) and digest of the device certificate (32).
pub(crate) const CREDENTIAL: usize = 48;

/// A device's Ed25519 key for its MLS leaf. Its bytes never appear in Debug.
#[derive(Clone)]
pub struct SigningKey {
    pub(crate) secret: SignatureSecretKey,
    public: [u8; 32],
}

impl SigningKey {
    /// A fresh key from the operating system's randomness.
    pub fn generate() -> Result<Self, MlsError> {
        let (secret, public) = suite()
            .signature_key_generate()
            .map_err(|_| MlsError::Key)?;
        let public = public.as_bytes().try_into().map_err(|_| MlsError::Key)?;
        Ok(Self { secret, public })
    }

    /// From the 64 bytes that `to_bytes` gives: RFC 8032 seed (32) and public key (32).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MlsError> {
        let secret = SignatureSecretKey::new_slice(bytes);
        let public = suite()
            .signature_key_derive_public(&secret)
            .map_err(|_| MlsError::Key)?;
        let public: [u8; 32] = public.as_bytes().try_into().map_err(|_| MlsError::Key)?;
        // the provider takes the public half as it stands: a signature shows whether it belongs to the seed
        let probe = b"greffe/v1/mls-key-check";
        let signature = suite().sign(&secret, probe).map_err(|_| MlsError::Key)?;
        suite()
            .verify(&SignaturePublicKey::new_slice(&public), &signature, probe)
            .map_err(|_| MlsError::Key)?;
        Ok(Self { secret, public })
    }

    /// Its secret bytes; seal them at rest.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.secret.as_bytes().to_vec())
    }

    /// The public key, as the device certificate names it.
    pub const fn public(&self) -> [u8; 32] {
        self.public
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

/// A member of a conversation: a device, by the certificate and key of its leaf.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// The device.
    pub device: DeviceId,
    /// SHA-256 of its certificate's statement bytes.
    pub certificate: Digest,
    /// Ed25519 key of its leaf.
    pub mls_key: [u8; 32],
}

impl Member {
    /// From a leaf's credential and key; both are only what the leaf claims.
    pub(crate) fn parse(identity: &SigningIdentity) -> Result<Self, Refusal> {
        let credential = identity.credential.as_basic().ok_or(Refusal::Credential)?;
        let (device, certificate) = credential
            .identifier()
            .split_at_checked(16)
            .ok_or(Refusal::Credential)?;
        Ok(Self {
            device: DeviceId::try_from(device).map_err(|_| Refusal::Credential)?,
            certificate: Digest::try_from(certificate).map_err(|_| Refusal::Credential)?,
            mls_key: identity
                .signature_key
                .as_bytes()
                .try_into()
                .map_err(|_| Refusal::Credential)?,
        })
    }

    /// As the library wants it.
    pub(crate) fn signing_identity(&self) -> SigningIdentity {
        let mut credential = self.device.to_vec();
        credential.extend(self.certificate.as_bytes());
        SigningIdentity::new(
            BasicCredential::new(credential).into_credential(),
            SignaturePublicKey::new_slice(&self.mls_key),
        )
    }
}

/// Judges every leaf that the library meets.
#[derive(Clone)]
pub(crate) struct Identities {
    trust: Trust,
    disclosures: Disclosures,
}

impl Identities {
    pub(crate) const fn new(trust: Trust, disclosures: Disclosures) -> Self {
        Self { trust, disclosures }
    }

    /// The member, when the presented certificate says the same; `extensions` are the group context's, when there is one.
    pub(crate) fn check(
        &self,
        identity: &SigningIdentity,
        extensions: Option<&ExtensionList>,
    ) -> Result<Member, Refusal> {
        let member = Member::parse(identity)?;
        let device = self
            .trust
            .devices
            .device(&member.certificate)
            .ok_or(Refusal::UnknownCertificate(member.certificate))?;
        if device.device != member.device
            || device.certificate != member.certificate
            || device.mls_key != member.mls_key
        {
            return Err(Refusal::CertificateMismatch(member.device));
        }
        if let Some(extensions) = extensions {
            let disclosure = self.disclosures.of(extensions)?;
            if !disclosure.info.tenants.contains(&device.tenant) {
                return Err(Refusal::ForeignTenant(member.device));
            }
        }
        Ok(member)
    }
}

impl IdentityProvider for Identities {
    type Error = Refusal;

    fn validate_member(
        &self,
        signing_identity: &SigningIdentity,
        _timestamp: Option<MlsTime>,
        context: MemberValidationContext<'_>,
    ) -> Result<(), Refusal> {
        self.check(signing_identity, context.new_extensions())
            .map(|_| ())
    }

    fn validate_external_sender(
        &self,
        _signing_identity: &SigningIdentity,
        _timestamp: Option<MlsTime>,
        _extensions: Option<&ExtensionList>,
    ) -> Result<(), Refusal> {
        Err(Refusal::NotAMember)
    }

    fn identity(
        &self,
        signing_identity: &SigningIdentity,
        _extensions: &ExtensionList,
    ) -> Result<Vec<u8>, Refusal> {
        Ok(Member::parse(signing_identity)?.device.to_vec())
    }

    fn valid_successor(
        &self,
        predecessor: &SigningIdentity,
        successor: &SigningIdentity,
        _extensions: &ExtensionList,
    ) -> Result<bool, Refusal> {
        Ok(Member::parse(predecessor)?.device == Member::parse(successor)?.device)
    }

    fn supported_types(&self) -> Vec<CredentialType> {
        vec![CredentialType::BASIC]
    }
}

/// The provider, with our suite only.
pub(crate) fn provider() -> AwsLcCryptoProvider {
    AwsLcCryptoProvider::with_enabled_cipher_suites(vec![SUITE])
}

pub(crate) fn suite() -> AwsLcCipherSuite {
    provider()
        .cipher_suite_provider(SUITE)
        .expect("the provider has the suite it was made with")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_keys_round_trip_and_do_not_show() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_bytes(&key.to_bytes()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(format!("{key:?}"), "SigningKey");
        let mut wrong = key.to_bytes();
        wrong[40] ^= 1;
        assert!(SigningKey::from_bytes(&wrong).is_err());
        assert!(SigningKey::from_bytes(&key.to_bytes()[..32]).is_err());
    }
}
