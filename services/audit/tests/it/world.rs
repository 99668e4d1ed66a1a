//! A tenant with a log: certificates, a bundle, three witnesses, the audit service started and stopped at will.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use futures::StreamExt as _;
use greffe_api::audit as api;
use greffe_api::audit::audit_service_client::AuditServiceClient;
use greffe_api::audit::log_service_client::LogServiceClient;
use greffe_audit::{Config, KEYS, MIGRATIONS, serve_at};
use greffe_envelope::opening::HybridSecretKey;
use greffe_envelope::pb::{self, log_entry::Event};
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{Bundle, ROOT, RootKey, TrustState};
use greffe_service_kit::boot::{SharedTrust, StartError};
use greffe_service_kit::clock::{SharedClock, SystemClock};
use greffe_service_kit::config::{PeerConfig, parse};
use greffe_service_kit::db::{Database, Source};
use greffe_service_kit::errors::CallError;
use greffe_service_kit::prepare::prepare;
use greffe_service_kit::ready::Ready;
use greffe_service_kit::serve::Server;
use greffe_service_kit::tls::Channel;
use greffe_service_kit::tls::{Identity, SpiffeId, connect_lazy};
use greffe_testkit::store::{LEASE_MS, Store};
use greffe_tlog::NoteVerifier;
use greffe_types::{TenantId, from_hex};
use prost::Message as _;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::witness::Node;

pub(crate) const ORIGIN: &str = "acme.example/log";

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
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    fn issue(&self, id: &SpiffeId) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
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

/// Everything but the running service.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) authority: Authority,
    pub(crate) log_key: [u8; 32],
    pub(crate) nodes: Vec<Node>,
    pub(crate) clock: SharedClock,
    pub(crate) settings: String,
    /// The log's database, if it is not SQLite in the data folder.
    pub(crate) store: Option<Store>,
    witnesses: Vec<Running>,
}

/// A server that stops when told to.
pub(crate) struct Running {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), StartError>>,
}

impl Running {
    pub(crate) async fn stop(mut self) -> Result<(), StartError> {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        self.task.await.unwrap()
    }
}

/// Starts a server that says in `ready` where it is.
pub(crate) async fn run(server: Server, ready: &Path) -> Running {
    let (stop, stopped) = oneshot::channel();
    let file = ready.to_owned();
    let task = tokio::spawn(async move {
        let listen = "127.0.0.1:0".parse().unwrap();
        let shutdown = async {
            let _ = stopped.await;
        };
        Ok(server.run(listen, &file, shutdown).await?)
    });
    while !ready.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Running {
        stop: Some(stop),
        task,
    }
}

impl World {
    /// With three witnesses, of which two make a quorum.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("audit");
        let prepared = prepare("audit", &tenant(), &data, KEYS).unwrap();
        let log_key = from_hex::<32>(&prepared.keys["log_key"]).unwrap();
        let verifier = NoteVerifier::new(ORIGIN, &log_key).unwrap();
        let authority = Authority::new();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes);
        let (cert, key) = authority.issue(&service("audit"));
        write("tls.crt", cert.as_bytes()).unwrap();
        write("tls.key", key.as_bytes()).unwrap();
        write("ca.crt", authority.pem.as_bytes()).unwrap();
        let mut world = Self {
            nodes: (1..=4)
                .map(|n| Node::new(&format!("escrow-{n}"), 50 + n, &verifier))
                .collect(),
            folder,
            authority,
            log_key,
            clock: Arc::new(SystemClock),
            settings: String::new(),
            store: Store::chosen().await,
            witnesses: Vec::new(),
        };
        let write = |name: &str, bytes: &[u8]| std::fs::write(world.path(name), bytes).unwrap();
        write("root.pub", format!("{}\n", root()).as_bytes());
        let bundle = world.bundle(1, vec![0; 32], &[1, 2, 3]);
        write("bundle.bin", &bundle.encode_to_vec());
        world.migrate().await;
        for (node, n) in world.nodes.iter().zip(1..) {
            let running = node.serve(&world, &format!("escrow-{n}")).await;
            world.witnesses.push(running);
        }
        world
    }

    /// The tables, when they are not SQLite's.
    pub(crate) async fn migrate(&self) {
        if let Some(store) = &self.store {
            let owner = Source::postgres(store.url(), &tenant(), "audit").unwrap();
            Database::migrate(&owner, &MIGRATIONS, false).await.unwrap();
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The bundle of a version, with these of the nodes as witnesses.
    pub(crate) fn bundle(
        &self,
        version: u64,
        previous: Vec<u8>,
        witnesses: &[u8],
    ) -> pb::SignedStatement {
        let message = pb::TrustBundle {
            tenant: "acme".into(),
            version,
            previous,
            issued_at: version,
            next_root: vec![9; 32],
            device_issuer: public(2),
            log: Some(pb::LogKey {
                origin: ORIGIN.into(),
                key: self.log_key.to_vec(),
            }),
            nodes: vec![pb::EscrowNode {
                index: 1,
                name: "escrow-1".into(),
                signing_key: public(10),
                witness_key: public(11),
                channel_key: HybridSecretKey::from_seed(&[12; 32]).public_key(),
                trust_domain: "test".into(),
            }],
            witnesses: witnesses
                .iter()
                .map(|n| pb::Witness {
                    name: format!("escrow-{n}"),
                    key: public(50 + n),
                })
                .collect(),
            cosigner_quorum: 2,
            approvals: Some(pb::ApprovalRule {
                minimum: 1,
                ..pb::ApprovalRule::default()
            }),
            ..pb::TrustBundle::default()
        };
        Signed::sign(message, &[(ROOT, &signer(1))]).into_raw()
    }

    pub(crate) fn first_bundle(&self) -> Bundle {
        let raw = self.bundle(1, vec![0; 32], &[1, 2, 3]);
        Bundle::verify(Signed::decode(raw).unwrap(), &root()).unwrap()
    }

    pub(crate) fn trust(&self) -> SharedTrust {
        let bundle = self.first_bundle().signed().raw().clone();
        SharedTrust::new(TrustState::new(root(), bundle).unwrap())
    }

    fn config(&self) -> Config {
        let at = |name: &str| self.path(name).display().to_string();
        let peers: String = (1..=4)
            .map(|n| {
                format!(
                    "peers.escrow-{n} = {{ ready = '{}' }}\n",
                    at(&format!("escrow-{n}.json"))
                )
            })
            .collect();
        let database = self.store.as_ref().map_or_else(String::new, |store| {
            format!(
                "database = {{ url = '{}', migrate = false, lease_ms = {LEASE_MS} }}\n",
                store.runtime_url()
            )
        });
        let text = format!(
            "[service]\ntenant = 'acme'\nlisten = '127.0.0.1:0'\ndata = '{}'\nroot_key = '{}'\nbundle = '{}'\n\
             tls = {{ cert = '{}', key = '{}', ca = '{}' }}\nlog.filter = 'off'\n{peers}{database}[audit]\ncheckpoint_ms = 20\n{}",
            at("audit"),
            at("root.pub"),
            at("bundle.bin"),
            at("tls.crt"),
            at("tls.key"),
            at("ca.crt"),
            self.settings,
        );
        parse(&text, None, "GREFFE_TEST", []).unwrap()
    }

    /// Starts the service.
    pub(crate) async fn start(&self) -> Running {
        self.try_start().await.unwrap()
    }

    /// Starts the service, or gives what stopped it.
    pub(crate) async fn try_start(&self) -> Result<Running, StartError> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (config, clock) = (self.config(), self.clock.clone());
        let task = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            serve_at(config, clock, shutdown).await
        });
        let ready = self.path("audit").join("ready.json");
        while !ready.exists() && !task.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if task.is_finished() {
            return Err(task.await.unwrap().unwrap_err());
        }
        Ready::read(&ready).unwrap();
        Ok(Running {
            stop: Some(stop),
            task,
        })
    }

    pub(crate) fn channel(&self, id: &SpiffeId) -> Channel {
        let ready = PeerConfig::Ready(self.path("audit").join("ready.json"));
        connect_lazy(&ready, &service("audit"), &self.authority.identity(id)).unwrap()
    }

    /// The relay, appending.
    pub(crate) fn relay(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.channel(&service("relay")))
    }

    /// An application, reading.
    pub(crate) fn reader(&self) -> LogServiceClient<Channel> {
        LogServiceClient::new(self.channel(&app("desk")))
    }
}

pub(crate) fn root() -> RootKey {
    RootKey::new(tenant(), &public(1)).unwrap()
}

/// An entry about the `n`th order.
pub(crate) fn entry(n: u64) -> pb::LogEntry {
    let mut digest = vec![0; 32];
    digest[..8].copy_from_slice(&n.to_be_bytes());
    of(Event::SealedOrder(digest))
}

pub(crate) fn of(event: Event) -> pb::LogEntry {
    pb::LogEntry {
        tenant: "acme".into(),
        event: Some(event),
        ..pb::LogEntry::default()
    }
}

pub(crate) fn request(id: u64, entry: pb::LogEntry) -> api::AppendRequest {
    api::AppendRequest {
        id: u128::from(id).to_be_bytes().to_vec(),
        entry: Some(entry),
        trace: Vec::new(),
    }
}

/// Sends requests in one stream and gives all answers.
pub(crate) async fn append(
    client: &mut AuditServiceClient<Channel>,
    requests: Vec<api::AppendRequest>,
) -> Result<Vec<api::AppendResponse>, CallError> {
    let count = requests.len();
    let mut answers = client
        .append(futures::stream::iter(requests))
        .await?
        .into_inner();
    let mut all = Vec::with_capacity(count);
    while let Some(answer) = answers.next().await {
        all.push(answer?);
    }
    assert_eq!(all.len(), count);
    Ok(all)
}

/// Appends entries about orders `from` to `to`, all of which have to be taken.
pub(crate) async fn fill(world: &World, from: u64, to: u64) -> Vec<api::AppendResponse> {
    let requests = (from..to).map(|n| request(n, entry(n))).collect();
    let answers = append(&mut world.relay(), requests).await.unwrap();
    for answer in &answers {
        assert_eq!(answer.error, None);
    }
    answers
}

/// The newest checkpoint over at least `size` leaves.
pub(crate) async fn checkpoint(world: &World, size: u64) -> Result<Vec<u8>, CallError> {
    let request = api::GetCheckpointRequest {
        minimum_size: size,
        maximum_age_ms: 0,
    };
    let answer = world.reader().get_checkpoint(request).await?;
    Ok(answer.into_inner().checkpoint)
}
