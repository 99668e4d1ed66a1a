//! A tenant with its keys, peers that sign for real, a relay behind mutual TLS, and devices with real MLS.

mod archive;
mod audit;
mod device;
mod tenant;
mod traffic;

use std::path::{Path, PathBuf};
use std::time::Duration;

use greffe_api::relay::directory_service_client::DirectoryServiceClient;
use greffe_api::relay::{PublishStatementRequest, RegisterDeviceRequest};
use greffe_envelope::pb;
use greffe_policy::AccessRules;
use greffe_service_kit::config::{self, Limits, PeerConfig};
use greffe_service_kit::db::{Database, Source};
use greffe_service_kit::errors::CallError;
use greffe_service_kit::ready::Ready;
use greffe_service_kit::serve::{Server, TlsOnly};
use greffe_service_kit::tls::Channel;
use greffe_service_kit::tls::connect_lazy;
use greffe_testkit::store::{LEASE_MS, Store};
use greffe_types::Millis;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) use archive::Archive;
pub(crate) use audit::Audit;
pub(crate) use device::{Device, Member, present};
pub(crate) use tenant::{Tenant, app, service};
pub(crate) use traffic::{Mail, Outgoing, Talk, check_chain, digest_of, numbers};

/// Everything that runs in a test. Dropping it stops nothing cleanly: the runtime's end does.
pub(crate) struct World {
    pub(crate) tenant: Tenant,
    pub(crate) audit: Audit,
    pub(crate) archive: Archive,
    pub(crate) relay: Running,
    /// Another process of the relay, of a world of two.
    pub(crate) second: Option<Running>,
    /// The relay's database, if it is not SQLite in the data folder.
    pub(crate) store: Option<Store>,
    config: String,
    _peers: Vec<Running>,
    _folder: TempDir,
}

impl World {
    /// A relay into whose log bundle, key record, share epoch and the journaled disclosure were published.
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// The same with more lines in the relay's own table of settings.
    pub(crate) async fn with(settings: &str) -> Self {
        Self::of(Tenant::new(), settings).await
    }

    /// Two relays on one PostgreSQL, whichever store was chosen; the first one leads. When `told` is false no notification
    /// ever comes through.
    pub(crate) async fn of_two(told: bool) -> Self {
        let store = Store::new().await;
        let mut world = Self::on(Tenant::new(), "", Some(store), told).await;
        let first = world.data();
        let second = first.with_file_name("relay-2");
        let line = |name: &str, folder: &Path| format!("{name} = {:?}\n", folder.join(""));
        let config = world.config.replace(
            &line("data", &first),
            &(line("data", &second) + &line("secrets", &first)),
        );
        assert_ne!(config, world.config);
        world.second = Some(relay(&config, &second).await);
        world
    }

    /// Another tenant's.
    pub(crate) async fn of(tenant: Tenant, settings: &str) -> Self {
        Self::on(tenant, settings, Store::chosen().await, true).await
    }

    async fn on(tenant: Tenant, settings: &str, store: Option<Store>, told: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::new();
        let archive = Archive::new(&tenant);
        let access = AccessRules::embedded();
        let auth = || std::sync::Arc::new(TlsOnly);
        let server = Server::new(
            &tenant.identity(&service("audit")),
            &Limits::default(),
            access,
            auth(),
        );
        let audit_server = run(&folder.path().join("audit"), audit.serve(server)).await;
        let server = Server::new(
            &tenant.identity(&service("archive")),
            &Limits::default(),
            access,
            auth(),
        );
        let archive_server = run(&folder.path().join("archive"), archive.serve(server)).await;
        let config = tenant.write(
            &folder.path().join("relay"),
            &audit_server.ready,
            &archive_server.ready,
            settings,
        );
        let config = match &store {
            Some(store) => {
                let owner = Source::postgres(store.url(), &tenant::name(), "relay").unwrap();
                Database::migrate(&owner, &greffe_relay::app::MIGRATIONS, false)
                    .await
                    .unwrap();
                if !told {
                    store.silence();
                }
                let url = store.runtime_url();
                format!(
                    "{config}[service.database]\nurl = {url:?}\nmigrate = false\nlease_ms = {LEASE_MS}\n"
                )
            }
            None => config,
        };
        let relay = relay(&config, &folder.path().join("relay")).await;
        let world = Self {
            tenant,
            audit,
            archive,
            relay,
            second: None,
            store,
            config,
            _peers: vec![audit_server, archive_server],
            _folder: folder,
        };
        for statement in world.tenant.statements() {
            world.publish(statement).await.unwrap();
        }
        world
    }

    /// The relay's data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self._folder.path().join("relay")
    }

    /// Stops the relay and starts it again on the same folder.
    pub(crate) async fn restart(&mut self) {
        let folder = self._folder.path().join("relay");
        self.relay.stop().await;
        self.relay = relay(&self.config, &folder).await;
    }

    /// A channel to the relay as an application.
    pub(crate) fn channel(&self, name: &str) -> Channel {
        self.channel_to(&self.relay, name)
    }

    /// The same device, at the second relay from now on.
    pub(crate) fn move_over(&self, device: &mut Device) {
        let second = self.second.as_ref().expect("a world of two");
        device.connect(self.channel_to(second, "desk"));
    }

    fn channel_to(&self, relay: &Running, name: &str) -> Channel {
        let identity = self.tenant.identity(&app(name));
        let peer = PeerConfig::Ready(relay.ready.clone());
        connect_lazy(&peer, &service("relay"), &identity).unwrap()
    }

    pub(crate) fn directory(&self) -> DirectoryServiceClient<Channel> {
        DirectoryServiceClient::new(self.channel("desk"))
    }

    pub(crate) async fn publish(&self, statement: pb::SignedStatement) -> Result<u64, CallError> {
        let request = PublishStatementRequest {
            statement: Some(statement),
        };
        let answer = self.directory().publish_statement(request).await?;
        Ok(answer.into_inner().log_index)
    }

    pub(crate) async fn register(&self, cert: pb::SignedStatement) -> Result<u64, CallError> {
        let request = RegisterDeviceRequest {
            device_cert: Some(cert),
        };
        let answer = self.directory().register_device(request).await?;
        Ok(answer.into_inner().log_index)
    }

    /// A registered device with a session.
    pub(crate) async fn device(&self, user: &str, number: u8) -> Device {
        let mut device = Device::new(&self.tenant, self.channel("desk"), user, number);
        self.register(device.cert.raw().clone()).await.unwrap();
        device.login().await.unwrap();
        device
    }

    /// A conversation of registered devices that have acknowledged, the first one having created it; all in epoch 1.
    pub(crate) async fn conversation(&self, number: u8, users: &[&str]) -> Vec<Member> {
        let mut devices = Vec::new();
        for (user, n) in users.iter().zip(1..) {
            devices.push(self.device(user, n).await);
        }
        let mut devices = devices.into_iter();
        let mut first = devices.next().unwrap().create(number).await.unwrap();
        first.acknowledge().await.unwrap();
        let mut others: Vec<Device> = devices.collect();
        if others.is_empty() {
            return vec![first];
        }
        for device in &mut others {
            device.publish_key_packages(1).await.unwrap();
        }
        let names: Vec<&str> = users[1..].to_vec();
        let welcome = first.add(&names).await.unwrap();
        let mut members = vec![first];
        for device in others {
            let mut member = device.join(&welcome).unwrap();
            member.acknowledge().await.unwrap();
            members.push(member);
        }
        members
    }
}

/// The system's clock.
pub(crate) fn now() -> Millis {
    use greffe_service_kit::clock::Clock as _;
    greffe_service_kit::clock::SystemClock.now()
}

/// The stable reason of a refusal.
pub(crate) fn reason<T>(outcome: Result<T, impl Into<CallError>>) -> String {
    let Err(error) = outcome else {
        panic!("it was not refused");
    };
    let error = error.into();
    error.reason.clone().unwrap_or_else(|| error.to_string())
}

/// A server, until it is stopped.
pub(crate) struct Running {
    pub(crate) ready: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    /// Stops and waits for the drain.
    pub(crate) async fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
            (&mut self.task).await.unwrap();
        }
    }
}

async fn run(folder: &Path, server: Server) -> Running {
    std::fs::create_dir_all(folder).unwrap();
    let ready = folder.join("ready.json");
    let (stop, stopped) = oneshot::channel::<()>();
    let file = ready.clone();
    let task = tokio::spawn(async move {
        let listen = "127.0.0.1:0".parse().unwrap();
        let shutdown = async {
            let _ = stopped.await;
        };
        server.run(listen, &file, shutdown).await.unwrap();
    });
    started(Running {
        ready,
        stop: Some(stop),
        task,
    })
    .await
}

async fn relay(config: &str, folder: &Path) -> Running {
    let config = config::parse(config, None, "RELAY_TEST", []).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let shutdown = async {
            let _ = stopped.await;
        };
        greffe_relay::serve(config, shutdown).await.unwrap();
    });
    started(Running {
        ready: folder.join("ready.json"),
        stop: Some(stop),
        task,
    })
    .await
}

async fn started(running: Running) -> Running {
    while Ready::read(&running.ready).is_err() {
        assert!(!running.task.is_finished(), "the server did not start");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running
}
