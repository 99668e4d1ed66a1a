//! A tenant with its people, three nodes that made a journaling key together, and servers that end with the test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use greffe_api::audit::audit_service_server::AuditServiceServer;
use greffe_api::audit::log_service_server::LogServiceServer;
use greffe_api::escrow::AdvanceKeygenRequest;
use greffe_api::escrow::escrow_service_client::EscrowServiceClient;
use greffe_api::escrow::witness_service_client::WitnessServiceClient;
use greffe_envelope::opening::HybridSecretKey;
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{ROOT, RootKey};
use greffe_envelope::wrap::JournalKey;
use greffe_escrow::config::{Config, EscrowConfig};
use greffe_policy::AccessRules;
use greffe_service_kit::boot::StartError;
use greffe_service_kit::config::{DatabaseConfig, Limits, PeerConfig, ServiceConfig, TlsFiles};
use greffe_service_kit::db::{Database, Source};
use greffe_service_kit::prepare::prepare;
use greffe_service_kit::ready::{READY_FILE, Ready};
use greffe_service_kit::serve::{Server, TlsOnly};
use greffe_service_kit::tls::Channel;
use greffe_service_kit::tls::{SpiffeId, connect_lazy};
use greffe_testkit::store::{LEASE_MS, Store};
use greffe_types::{TenantId, from_hex};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::authority::Authority;
use crate::log::{LOG_KEY, Log, ORIGIN, WITNESSES, now};

/// Later than any test runs.
pub(crate) const END: u64 = 4_000_000_000_000;
/// People with their roles; their keys count from 80.
pub(crate) const PEOPLE: [(&str, &[&str]); 7] = [
    ("ann", &["compliance"]),
    ("bob", &["approver"]),
    ("cleo", &["approver"]),
    ("dan", &["administrator"]),
    ("fay", &["reader"]),
    ("gus", &["reader"]),
    ("rita", &["requester", "approver"]),
];

pub(crate) fn tenant() -> TenantId {
    TenantId::new("acme").unwrap()
}

pub(crate) fn signer(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn public(seed: u8) -> Vec<u8> {
    signer(seed).verifying_key().to_bytes().to_vec()
}

pub(crate) fn person_key(name: &str) -> SigningKey {
    let index = PEOPLE.iter().position(|(known, _)| *known == name).unwrap();
    signer(80 + index as u8)
}

pub(crate) fn reader_key(name: &str) -> HybridSecretKey {
    HybridSecretKey::from_seed(&person_key(name).to_bytes())
}

/// A node: its folder, and the process's part of it while it runs.
pub(crate) struct RunningNode {
    pub(crate) name: String,
    pub(crate) keys: pb::EscrowNode,
    pub(crate) folder: PathBuf,
    /// Its database, if it is not SQLite in the folder.
    pub(crate) store: Option<Store>,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<Result<(), StartError>>>,
}

pub(crate) struct World {
    pub(crate) log: Log,
    pub(crate) nodes: Vec<RunningNode>,
    pub(crate) bundle: Signed<pb::TrustBundle>,
    pub(crate) settings: EscrowConfig,
    authority: Authority,
    audit: SocketAddr,
    folder: tempfile::TempDir,
    _log_stop: oneshot::Sender<()>,
}

/// The key that the nodes made.
#[derive(Clone)]
pub(crate) struct Journal {
    pub(crate) record: Signed<pb::KeyRecord>,
    pub(crate) epoch: Signed<pb::ShareEpoch>,
    pub(crate) key: JournalKey,
}

impl World {
    /// Nodes that run and have followed the first bundle; no key yet.
    pub(crate) async fn new() -> Self {
        Self::with(EscrowConfig {
            catch_up_ms: 1_000,
            log_wait_ms: 1_000,
            ..EscrowConfig::default()
        })
        .await
    }

    /// As [`World::new`], the nodes having other settings.
    pub(crate) async fn with(settings: EscrowConfig) -> Self {
        let (authority, log) = (Authority::new(), Log::new());
        let folder = tempfile::tempdir().unwrap();
        let identity = authority.identity(&SpiffeId::service(&tenant(), "audit").unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let server = Server::new(
            &identity,
            &Limits::default(),
            AccessRules::embedded(),
            Arc::new(TlsOnly),
        )
        .add(AuditServiceServer::new(log.clone()))
        .add(LogServiceServer::new(log.clone()));
        let ready = folder.path().join("audit.json");
        let file = ready.clone();
        tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            let listen = "127.0.0.1:0".parse().unwrap();
            server.run(listen, &file, shutdown).await.unwrap();
        });
        let audit = wait_ready(&ready).await;
        let mut nodes = Vec::new();
        for index in 1..=3 {
            let store = Store::chosen().await;
            if let Some(store) = &store {
                migrate(store).await;
            }
            nodes.push(prepared(folder.path(), index, &authority, store));
        }
        let bundle = sign_bundle(bundle_message(nodes.iter().map(|node| node.keys.clone())));
        let mut world = Self {
            log,
            nodes,
            bundle,
            settings,
            authority,
            audit,
            folder,
            _log_stop: stop,
        };
        let root = RootKey::new(tenant(), &public(1)).unwrap();
        let base = world.folder.path();
        std::fs::write(base.join("root.pub"), format!("{root}\n")).unwrap();
        let bytes = prost::Message::encode_to_vec(world.bundle.raw());
        std::fs::write(base.join("bundle.bin"), bytes).unwrap();
        world.publish(world.bundle.raw().clone());
        for at in 0..3 {
            world.start(at).await;
        }
        world
    }

    /// As [`World::new`], with a key that the nodes made, in force.
    pub(crate) async fn with_key() -> (Self, Journal) {
        let world = Self::new().await;
        let journal = world.make_key().await;
        (world, journal)
    }

    pub(crate) fn config(&self, at: usize) -> Config {
        let folder = &self.nodes[at].folder;
        let store = self.nodes[at].store.as_ref();
        let base = self.folder.path();
        Config {
            service: ServiceConfig {
                tenant: tenant(),
                listen: "127.0.0.1:0".parse().unwrap(),
                data: folder.clone(),
                root_key: base.join("root.pub"),
                bundle: base.join("bundle.bin"),
                tls: TlsFiles {
                    cert: folder.join("tls.crt"),
                    key: folder.join("test.key"),
                    ca: folder.join("ca.crt"),
                },
                peers: [(
                    "audit".to_owned(),
                    PeerConfig::Address(self.audit.to_string()),
                )]
                .into(),
                mode: Default::default(),
                secrets: None,
                health: None,
                database: store.map(|store| DatabaseConfig {
                    migrate: false,
                    lease_ms: LEASE_MS,
                    ..DatabaseConfig::new(store.runtime_url())
                }),
                telemetry: Default::default(),
                seal: None,
                log: Default::default(),
                limits: Limits::default(),
            },
            escrow: self.settings.clone(),
        }
    }

    pub(crate) async fn start(&mut self, at: usize) {
        let config = self.config(at);
        let (stop, stopped) = oneshot::channel::<()>();
        let node = &mut self.nodes[at];
        node.stop = Some(stop);
        node.task = Some(tokio::spawn(greffe_escrow::serve(config, async {
            let _ = stopped.await;
        })));
        wait_ready(&node.folder.join(READY_FILE)).await;
    }

    pub(crate) async fn stop(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        drop(node.stop.take());
        node.task.take().unwrap().await.unwrap().unwrap();
    }

    /// A node as anybody sees it.
    pub(crate) fn channel(&self, at: usize, client: &SpiffeId) -> Channel {
        let node = &self.nodes[at];
        let expected = SpiffeId::service(&tenant(), &node.name).unwrap();
        let identity = self.authority.identity(client);
        let peer = PeerConfig::Ready(node.folder.join(READY_FILE));
        connect_lazy(&peer, &expected, &identity).unwrap()
    }

    /// A node as an application sees it.
    pub(crate) fn client(&self, at: usize) -> EscrowServiceClient<Channel> {
        let app = SpiffeId::app(&tenant(), "reader").unwrap();
        EscrowServiceClient::new(self.channel(at, &app))
    }

    /// A node as the log sees it.
    pub(crate) fn witness(&self, at: usize) -> WitnessServiceClient<Channel> {
        let audit = SpiffeId::service(&tenant(), "audit").unwrap();
        WitnessServiceClient::new(self.channel(at, &audit))
    }

    /// Logs a statement; gives its index.
    pub(crate) fn publish(&self, statement: pb::SignedStatement) -> u64 {
        self.log.add("relay", Event::Statement(statement)).0
    }

    /// Logs a bundle with changes, and waits until the nodes are past it.
    pub(crate) async fn change_bundle(&mut self, change: impl FnOnce(&mut pb::TrustBundle)) {
        let mut message = self.bundle.message().clone();
        message.version += 1;
        message.previous = self.bundle.digest().to_vec();
        message.issued_at = now().get();
        change(&mut message);
        self.bundle = sign_bundle(message);
        self.publish(self.bundle.raw().clone());
        self.caught_up().await;
    }

    /// Waits until every node has followed all there is.
    pub(crate) async fn caught_up(&self) {
        let size = self.log.size();
        for at in 0..self.nodes.len() {
            let mut client = self.client(at);
            loop {
                let status = client.get_status(greffe_api::escrow::GetStatusRequest {});
                if status.await.unwrap().into_inner().followed >= size {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    pub(crate) fn descriptor(&self) -> pb::KeygenDescriptor {
        pb::KeygenDescriptor {
            tenant: "acme".into(),
            session: vec![7; 16],
            period: "2026".into(),
            not_before: 0,
            not_after: END,
            threshold: 2,
            nodes: self.nodes.iter().map(|node| node.name.clone()).collect(),
            bundle_version: self.bundle.version,
            purpose: "journal".into(),
            expiry: now().get() + 600_000,
            notices: vec![notice()],
        }
    }

    /// Carries a key generation's messages between the nodes; gives what each signed at its end.
    pub(crate) async fn generate(
        &self,
        descriptor: pb::KeygenDescriptor,
    ) -> Vec<(pb::SignedStatement, pb::SignedStatement)> {
        let descriptor = Signed::sign(descriptor, &[(ROOT, &signer(1))]).into_raw();
        let mut messages: Vec<pb::SignedStatement> = Vec::new();
        let mut ends = Vec::new();
        for round in 0..=3 {
            let mut next = Vec::new();
            for (at, node) in self.nodes.iter().enumerate() {
                let mine = messages.iter().filter(|message| {
                    let message =
                        Signed::<pb::CeremonyMessage>::decode((*message).clone()).unwrap();
                    message.receiver.is_empty() || message.receiver == node.name
                });
                let request = AdvanceKeygenRequest {
                    descriptor: Some(descriptor.clone()),
                    round,
                    messages: mine.cloned().collect(),
                };
                let response = self.client(at).advance_keygen(request).await.unwrap();
                let response = response.into_inner();
                next.extend(response.messages);
                if let (Some(record), Some(epoch)) = (response.key_record, response.share_epoch) {
                    ends.push((record, epoch));
                }
            }
            messages = next;
        }
        ends
    }

    /// Makes a key, merges the signatures, and has the log show record, epoch and disclosure.
    pub(crate) async fn make_key(&self) -> Journal {
        self.make_key_as(self.descriptor(), 1).await
    }

    /// The same by a descriptor, disclosed under a serial.
    pub(crate) async fn make_key_as(
        &self,
        descriptor: pb::KeygenDescriptor,
        serial: u64,
    ) -> Journal {
        let ends = self.generate(descriptor).await;
        let (records, epochs): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
        let mut record = Signed::<pb::KeyRecord>::decode(merge(records)).unwrap();
        record.add_signature(ROOT, &signer(1));
        let epoch = Signed::<pb::ShareEpoch>::decode(merge(epochs)).unwrap();
        self.publish(record.raw().clone());
        self.publish(epoch.raw().clone());
        self.publish(self.disclosure(&record, serial).into_raw());
        self.caught_up().await;
        Journal {
            key: JournalKey::from_record(&record).unwrap(),
            record,
            epoch,
        }
    }

    pub(crate) fn disclosure(
        &self,
        record: &Signed<pb::KeyRecord>,
        serial: u64,
    ) -> Signed<pb::Disclosure> {
        let disclosure = pb::Disclosure {
            tenants: vec!["acme".into()],
            mode: pb::Mode::Journaled.into(),
            key_records: vec![record.raw().clone()],
            policy_id: "pack".into(),
            policy_digest: vec![7; 32],
            notices: vec![notice()],
            serial,
            standing_order: vec![],
        };
        Signed::sign(disclosure, &[(ROOT, &signer(1))])
    }
}

/// One statement with everybody's signatures.
pub(crate) fn merge(statements: Vec<pb::SignedStatement>) -> pb::SignedStatement {
    let mut merged = statements[0].clone();
    merged.signatures = statements
        .iter()
        .inspect(|other| assert_eq!(other.statement, merged.statement))
        .flat_map(|statement| statement.signatures.clone())
        .collect();
    merged.signatures.sort_by(|a, b| a.signer.cmp(&b.signer));
    merged
}

pub(crate) fn notice() -> pb::NoticeRef {
    pb::NoticeRef {
        language: "en".into(),
        digest: vec![5; 32],
    }
}

pub(crate) fn sign_bundle(message: pb::TrustBundle) -> Signed<pb::TrustBundle> {
    Signed::sign(message, &[(ROOT, &signer(1))])
}

fn bundle_message(nodes: impl Iterator<Item = pb::EscrowNode>) -> pb::TrustBundle {
    pb::TrustBundle {
        tenant: "acme".into(),
        version: 1,
        previous: vec![0; 32],
        issued_at: 1,
        next_root: vec![9; 32],
        device_issuer: public(2),
        log: Some(pb::LogKey {
            origin: ORIGIN.into(),
            key: SigningKey::from_bytes(&LOG_KEY)
                .verifying_key()
                .to_bytes()
                .to_vec(),
        }),
        receipt_keys: vec![pb::ServiceKey {
            name: "archive".into(),
            key: public(4),
            not_before: 0,
            not_after: END,
        }],
        nodes: nodes.collect(),
        witnesses: (0..3)
            .map(|n| pb::Witness {
                name: format!("w-{n}"),
                key: public(WITNESSES + n),
            })
            .collect(),
        cosigner_quorum: 2,
        roster: PEOPLE
            .iter()
            .map(|(name, roles)| pb::Person {
                name: (*name).into(),
                roles: roles.iter().map(|role| (*role).to_owned()).collect(),
                signing_key: person_key(name).verifying_key().to_bytes().to_vec(),
                reader_key: if roles.contains(&"reader") {
                    reader_key(name).public_key()
                } else {
                    Vec::new()
                },
                not_before: 0,
                not_after: END,
                revoked: false,
            })
            .collect(),
        packs: vec![pb::PolicyPack {
            id: "pack".into(),
            digest: vec![7; 32],
        }],
        approvals: Some(pb::ApprovalRule {
            minimum: 2,
            required_roles: vec!["compliance".into()],
            bulk_threshold: 3,
        }),
        contact: "registry@acme.example".into(),
        ..Default::default()
    }
}

/// The tables of a node on PostgreSQL.
pub(crate) async fn migrate(store: &Store) {
    let owner = Source::postgres(store.url(), &tenant(), "escrow").unwrap();
    Database::migrate(&owner, &greffe_escrow::app::MIGRATIONS, false)
        .await
        .unwrap();
}

fn prepared(base: &Path, index: u32, authority: &Authority, store: Option<Store>) -> RunningNode {
    let name = format!("escrow-{index}");
    let folder = base.join(&name);
    let made = prepare(&name, &tenant(), &folder, greffe_escrow::KEYS).unwrap();
    let id = SpiffeId::service(&tenant(), &name).unwrap();
    let (cert, key) = authority.issue(&id);
    std::fs::write(folder.join("tls.crt"), cert).unwrap();
    std::fs::write(folder.join("test.key"), key).unwrap();
    std::fs::write(folder.join("ca.crt"), &authority.pem).unwrap();
    RunningNode {
        keys: pb::EscrowNode {
            index,
            name: name.clone(),
            signing_key: from_hex::<32>(&made.keys["signing_key"]).unwrap().to_vec(),
            witness_key: from_hex::<32>(&made.keys["witness_key"]).unwrap().to_vec(),
            channel_key: from_hex::<1249>(&made.keys["channel_key"])
                .unwrap()
                .to_vec(),
            trust_domain: "test".into(),
        },
        name,
        folder,
        store,
        stop: None,
        task: None,
    }
}

async fn wait_ready(path: &Path) -> SocketAddr {
    for _ in 0..2_000 {
        if let Ok(ready) = Ready::read(path) {
            return ready.address;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{} is not written", path.display());
}
