//! Authorities, identities, a bundle with three witnesses, and servers that are stopped when dropped.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use greffe_envelope::opening::HybridSecretKey;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{ROOT, RootKey, TrustState};
use greffe_service_kit::boot::SharedTrust;
use greffe_service_kit::config::PeerConfig;
use greffe_service_kit::ready::Ready;
use greffe_service_kit::serve::Server;
use greffe_service_kit::tls::{Identity, SpiffeId};
use greffe_types::TenantId;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const ORIGIN: &str = "acme.example/log";
pub(crate) const LOG_KEY: [u8; 32] = [3; 32];
pub(crate) const QUORUM: u32 = 2;

pub(crate) fn tenant() -> TenantId {
    TenantId::new("acme").unwrap()
}

pub(crate) fn service(name: &str) -> SpiffeId {
    SpiffeId::service(&tenant(), name).unwrap()
}

pub(crate) fn app(name: &str) -> SpiffeId {
    SpiffeId::app(&tenant(), name).unwrap()
}

pub(crate) fn signer(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> Vec<u8> {
    signer(seed).verifying_key().to_bytes().to_vec()
}

/// A certificate authority.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("somebody's")
    }

    pub(crate) fn named(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// Certificate and key of a name, PEM.
    pub(crate) fn issue(&self, id: &SpiffeId) -> (String, String) {
        self.issue_until(id, 2100)
    }

    /// Valid to the beginning of a year.
    pub(crate) fn issue_until(&self, id: &SpiffeId, year: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.not_after = date_time_ymd(year, 1, 1);
        params.subject_alt_names = vec![SanType::URI(id.to_string().try_into().unwrap())];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    pub(crate) fn identity(&self, id: &SpiffeId) -> Identity {
        let (cert, key) = self.issue(id);
        Identity::from_pem(cert.as_bytes(), key.as_bytes(), self.pem.as_bytes()).unwrap()
    }
}

/// The bundle of that version; witnesses are `w-0`, `w-1`, `w-2` with keys from `witnesses` on.
pub(crate) fn bundle(version: u64, previous: Vec<u8>, witnesses: u8) -> pb::SignedStatement {
    sign(message(version, previous, witnesses))
}

/// The first bundle, of a development identity.
pub(crate) fn development_bundle() -> pb::SignedStatement {
    sign(pb::TrustBundle {
        development: true,
        ..message(1, vec![0; 32], 50)
    })
}

fn sign(message: pb::TrustBundle) -> pb::SignedStatement {
    Signed::sign(message, &[(ROOT, &signer(1))]).into_raw()
}

fn message(version: u64, previous: Vec<u8>, witnesses: u8) -> pb::TrustBundle {
    pb::TrustBundle {
        tenant: "acme".into(),
        version,
        previous,
        issued_at: version,
        next_root: vec![9; 32],
        device_issuer: public(2),
        log: Some(pb::LogKey {
            origin: ORIGIN.into(),
            key: SigningKey::from_bytes(&LOG_KEY)
                .verifying_key()
                .to_bytes()
                .to_vec(),
        }),
        nodes: vec![pb::EscrowNode {
            index: 1,
            name: "escrow-1".into(),
            signing_key: public(10),
            witness_key: public(11),
            channel_key: HybridSecretKey::from_seed(&[12; 32]).public_key(),
            trust_domain: "test".into(),
        }],
        witnesses: (0..3)
            .map(|n| pb::Witness {
                name: format!("w-{n}"),
                key: public(witnesses + n),
            })
            .collect(),
        cosigner_quorum: QUORUM,
        approvals: Some(pb::ApprovalRule {
            minimum: 1,
            ..pb::ApprovalRule::default()
        }),
        ..pb::TrustBundle::default()
    }
}

pub(crate) fn root() -> RootKey {
    RootKey::new(tenant(), &public(1)).unwrap()
}

/// Trust in the first bundle, whose witnesses have keys from 50 on.
pub(crate) fn trust() -> SharedTrust {
    SharedTrust::new(TrustState::new(root(), bundle(1, vec![0; 32], 50)).unwrap())
}

/// A server on a port of the system's choice.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) ready: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

pub(crate) async fn run(server: Server) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready.json");
    let (stop, stopped) = oneshot::channel();
    let file = ready.clone();
    let task = tokio::spawn(async move {
        let listen = "127.0.0.1:0".parse().unwrap();
        let shutdown = async {
            let _ = stopped.await;
        };
        server.run(listen, &file, shutdown).await.unwrap();
    });
    let address = loop {
        match Ready::read(&ready) {
            Ok(ready) => break ready.address,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    Running {
        address,
        ready,
        stop: Some(stop),
        task,
        _folder: folder,
    }
}

impl Running {
    pub(crate) fn peer(&self) -> PeerConfig {
        PeerConfig::Address(self.address.to_string())
    }

    /// Stops and waits for the drain.
    pub(crate) async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        self.task.await.unwrap();
        assert!(!self.ready.exists());
    }
}
