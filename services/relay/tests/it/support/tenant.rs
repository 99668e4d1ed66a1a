//! The tenant: root, issuer, one node, a journaling key, a certificate authority.

use std::path::Path;

use ed25519_dalek::SigningKey;
use greffe_envelope::opening::HybridSecretKey;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{ISSUER, ROOT, RootKey, TrustState};
use greffe_envelope::wrap::key_id;
use greffe_policy::Pack;
use greffe_service_kit::boot::SharedTrust;
use greffe_service_kit::tls::{Identity, SpiffeId};
use greffe_types::{DeviceId, TenantId};
use prost::Message as _;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

pub(crate) const NAME: &str = "acme";
pub(crate) const LOG_ORIGIN: &str = "log.acme";
pub(crate) const WITNESS: &str = "escrow-1";
/// Everything that the tests sign is valid until then.
pub(crate) const FAR: u64 = 4_000_000_000_000;

pub(crate) fn name() -> TenantId {
    TenantId::new(NAME).unwrap()
}

pub(crate) fn service(name_of: &str) -> SpiffeId {
    SpiffeId::service(&name(), name_of).unwrap()
}

pub(crate) fn app(name_of: &str) -> SpiffeId {
    SpiffeId::app(&name(), name_of).unwrap()
}

pub(crate) fn signer(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> Vec<u8> {
    signer(seed).verifying_key().to_bytes().to_vec()
}

/// A tenant, and what its clients believe.
pub(crate) struct Tenant {
    pub(crate) root: SigningKey,
    pub(crate) issuer: SigningKey,
    pub(crate) receipts: SigningKey,
    pub(crate) node: SigningKey,
    pub(crate) bundle: Signed<pb::TrustBundle>,
    pub(crate) record: Signed<pb::KeyRecord>,
    pub(crate) epoch: Signed<pb::ShareEpoch>,
    pub(crate) disclosure: Signed<pb::Disclosure>,
    /// With all of the above taken in.
    pub(crate) trust: SharedTrust,
    authority: Issuer<'static, KeyPair>,
    authority_pem: String,
}

impl Tenant {
    pub(crate) fn new() -> Self {
        Self::with_key_until(FAR)
    }

    /// With a journaling key whose period ends at an instant.
    pub(crate) fn with_key_until(not_after: u64) -> Self {
        let (root, node) = (signer(1), signer(10));
        let bundle = Signed::sign(bundle(), &[(ROOT, &root)]);
        let journal = HybridSecretKey::from_seed(&[70; 32]).public_key();
        let record = pb::KeyRecord {
            tenant: NAME.into(),
            key_id: key_id(NAME, &journal).to_vec(),
            period: "test".into(),
            not_before: 0,
            not_after,
            kem: 0x0050,
            public_key: journal.clone(),
            t_min: 1,
            committee: vec![WITNESS.into()],
            notices: vec![notice()],
            purpose: "retention".into(),
            transcript: vec![8; 32],
        };
        let record = Signed::sign(record, &[(ROOT, &root), (WITNESS, &node)]);
        let epoch = pb::ShareEpoch {
            tenant: NAME.into(),
            key_id: record.key_id.clone(),
            epoch: 1,
            previous: vec![0; 32],
            threshold: 1,
            // one node alone: its share is the key
            holders: vec![pb::ShareHolder {
                index: 1,
                node: WITNESS.into(),
                verification_share: compress(&journal[1184..]),
            }],
        };
        let epoch = Signed::sign(epoch, &[(WITNESS, &node)]);
        let disclosure = Signed::sign(disclosure(&record, 1), &[(ROOT, &root)]);
        let key = RootKey::new(name(), &public(1)).unwrap();
        let mut trust = TrustState::new(key, bundle.raw().clone()).unwrap();
        for (statement, index) in [bundle.raw(), record.raw(), epoch.raw(), disclosure.raw()]
            .into_iter()
            .zip(0..)
        {
            trust.apply(statement, index).unwrap();
        }
        let ca = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority_pem = params.self_signed(&ca).unwrap().pem();
        Self {
            root,
            issuer: signer(2),
            receipts: signer(4),
            node,
            bundle,
            record,
            epoch,
            disclosure,
            trust: SharedTrust::new(trust),
            authority: Issuer::new(params, ca),
            authority_pem,
        }
    }

    /// In the order of publication.
    pub(crate) fn statements(&self) -> Vec<pb::SignedStatement> {
        let (bundle, record) = (self.bundle.raw(), self.record.raw());
        [bundle, record, self.epoch.raw(), self.disclosure.raw()]
            .map(Clone::clone)
            .to_vec()
    }

    /// A disclosure of the next serial, signed and taken in by the tests' trust.
    pub(crate) fn next_disclosure(&self, serial: u64) -> Signed<pb::Disclosure> {
        let next = Signed::sign(disclosure(&self.record, serial), &[(ROOT, &self.root)]);
        self.trust.write().apply(next.raw(), 100 + serial).unwrap();
        next
    }

    /// A disclosure of another mode, signed and taken in by the tests' trust.
    pub(crate) fn disclosure_of(&self, mode: pb::Mode) -> Signed<pb::Disclosure> {
        let mut other = disclosure(&self.record, 1);
        other.set_mode(mode);
        match mode {
            pb::Mode::Supervised => other.standing_order = vec![5; 16],
            pb::Mode::Private => other.key_records.clear(),
            _ => {}
        }
        let other = Signed::sign(other, &[(ROOT, &self.root)]);
        self.trust.write().apply(other.raw(), 200).unwrap();
        other
    }

    /// The next bundle, with a certificate revoked from the beginning of time.
    pub(crate) fn revoke(&self, certificate: &[u8]) -> Signed<pb::TrustBundle> {
        let mut next = self.bundle.message().clone();
        next.version += 1;
        next.previous = self.bundle.digest().to_vec();
        next.revocations.push(pb::Revocation {
            certificate: certificate.to_vec(),
            from: 0,
        });
        Signed::sign(next, &[(ROOT, &self.root)])
    }

    /// A device certificate, by the issuer or by somebody who would like to be.
    pub(crate) fn cert(
        &self,
        user: &str,
        device: DeviceId,
        mls_key: [u8; 32],
        envelope_key: &SigningKey,
        issuer: &SigningKey,
    ) -> Signed<pb::DeviceCert> {
        let cert = pb::DeviceCert {
            tenant: NAME.into(),
            user: user.into(),
            device: device.to_vec(),
            mls_key: mls_key.to_vec(),
            envelope_key: envelope_key.verifying_key().to_bytes().to_vec(),
            not_before: 0,
            not_after: FAR,
        };
        Signed::sign(cert, &[(ISSUER, issuer)])
    }

    pub(crate) fn identity(&self, id: &SpiffeId) -> Identity {
        let (cert, key) = self.issue(id);
        let ca = self.authority_pem.as_bytes();
        Identity::from_pem(cert.as_bytes(), key.as_bytes(), ca).unwrap()
    }

    fn issue(&self, id: &SpiffeId) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id.to_string().try_into().unwrap())];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let cert = params.signed_by(&key, &self.authority).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    /// Writes a relay's folder; gives its settings.
    pub(crate) fn write(
        &self,
        folder: &Path,
        audit: &Path,
        archive: &Path,
        settings: &str,
    ) -> String {
        std::fs::create_dir_all(folder).unwrap();
        let (cert, key) = self.issue(&service("relay"));
        let put = |file: &str, bytes: &[u8]| std::fs::write(folder.join(file), bytes).unwrap();
        put("tls.crt", cert.as_bytes());
        put("tls.key", key.as_bytes());
        put("ca.crt", self.authority_pem.as_bytes());
        put("bundle.bin", &self.bundle.raw().encode_to_vec());
        put("root.pub", self.trust.read().root().to_string().as_bytes());
        let at = |file: &str| format!("{:?}", folder.join(file));
        format!(
            "[service]\ntenant = \"acme\"\nlisten = \"127.0.0.1:0\"\ndata = {}\nroot_key = {}\nbundle = {}\n\
             [service.tls]\ncert = {}\nkey = {}\nca = {}\n\
             [service.peers]\naudit = {{ ready = {:?} }}\narchive = {{ ready = {:?} }}\n\
             [relay]\n{settings}\n",
            at(""),
            at("root.pub"),
            at("bundle.bin"),
            at("tls.crt"),
            at("tls.key"),
            at("ca.crt"),
            audit,
            archive,
        )
    }
}

pub(crate) fn notice() -> pb::NoticeRef {
    pb::NoticeRef {
        language: "en".into(),
        digest: greffe_envelope::label::sha256(b"You are journaled.").to_vec(),
    }
}

fn disclosure(record: &Signed<pb::KeyRecord>, serial: u64) -> pb::Disclosure {
    let pack = Pack::embedded("us-broker-dealer").unwrap();
    pb::Disclosure {
        tenants: vec![NAME.into()],
        mode: pb::Mode::Journaled.into(),
        key_records: vec![record.raw().clone()],
        policy_id: pack.id().into(),
        policy_digest: pack.digest().to_vec(),
        notices: vec![notice()],
        serial,
        standing_order: vec![],
    }
}

fn bundle() -> pb::TrustBundle {
    let pack = Pack::embedded("us-broker-dealer").unwrap();
    pb::TrustBundle {
        tenant: NAME.into(),
        version: 1,
        previous: vec![0; 32],
        issued_at: 1,
        next_root: vec![9; 32],
        device_issuer: public(2),
        log: Some(pb::LogKey {
            origin: LOG_ORIGIN.into(),
            key: public(3),
        }),
        receipt_keys: vec![pb::ServiceKey {
            name: "archive".into(),
            key: public(4),
            not_before: 0,
            not_after: FAR,
        }],
        nodes: vec![pb::EscrowNode {
            index: 1,
            name: WITNESS.into(),
            signing_key: public(10),
            witness_key: public(11),
            channel_key: HybridSecretKey::from_seed(&[60; 32]).public_key(),
            trust_domain: "test".into(),
        }],
        witnesses: vec![pb::Witness {
            name: WITNESS.into(),
            key: public(11),
        }],
        cosigner_quorum: 1,
        packs: vec![pb::PolicyPack {
            id: pack.id().into(),
            digest: pack.digest().to_vec(),
        }],
        development: true,
        approvals: Some(pb::ApprovalRule {
            minimum: 1,
            ..pb::ApprovalRule::default()
        }),
        contact: "records@acme.example".into(),
        ..pb::TrustBundle::default()
    }
}

/// An uncompressed SEC1 point, compressed.
fn compress(point: &[u8]) -> Vec<u8> {
    let mut out = vec![2 + (point[64] & 1)];
    out.extend_from_slice(&point[1..33]);
    out
}
