//! A running archive with its log, and the relay's and an application's connections to it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use greffe_api::archive as api;
use greffe_api::archive::ingest_service_client::IngestServiceClient;
use greffe_api::audit::audit_service_server::AuditServiceServer;
use greffe_api::audit::log_service_server::LogServiceServer;
use greffe_archive::app::App;
use greffe_archive::config::{ArchiveConfig, ObjectsConfig};
use greffe_archive::store::{MAIN, WRAPS};
use greffe_envelope::pb::{self, log_entry::Event};
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{Bundle, verify_receipt};
use greffe_policy::AccessRules;
use greffe_service_kit::boot::{Boot, StartError};
use greffe_service_kit::clock::ManualClock;
use greffe_service_kit::config::{DatabaseConfig, Limits, PeerConfig, ServiceConfig, TlsFiles};
use greffe_service_kit::db::{Database, Source, sql};
use greffe_service_kit::health::Health;
use greffe_service_kit::prepare::prepare;
use greffe_service_kit::ready::Ready;
use greffe_service_kit::serve::{Server, TlsOnly};
use greffe_service_kit::telemetry::LogConfig;
use greffe_service_kit::tls::Channel;
use greffe_service_kit::tls::{Identity, SpiffeId, connect_lazy};
use greffe_testkit::store::{LEASE_MS, Store};
use greffe_types::{Millis, from_hex};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::log::Log;
use crate::world::{Authority, JOURNAL, NOW, bundle_message, root, sign_bundle, tenant};

/// What outlives a restart of the archive.
pub struct World {
    pub clock: ManualClock,
    pub log: Log,
    pub bundle: Signed<pb::TrustBundle>,
    authority: Authority,
    pub folder: tempfile::TempDir,
    /// Where objects are kept; none: a folder.
    pub objects: Option<ObjectsConfig>,
    /// The main database and that of the wraps, if they are not SQLite in the data folder.
    pub stores: Option<[Store; 2]>,
    log_address: String,
}

/// A running archive.
pub struct Archive {
    pub app: Arc<App>,
    pub health: Health,
    /// The relay's connection.
    pub relay: Channel,
    /// An application's connection: people's calls come this way.
    pub people: Channel,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), StartError>>,
}

impl World {
    /// A tenant whose log has bundle, key record and disclosure.
    pub async fn new() -> Self {
        Self::at(NOW).await
    }

    /// At another time.
    pub async fn at(now: Millis) -> Self {
        let stores = match Store::chosen().await {
            Some(main) => Some(migrated(main).await),
            None => None,
        };
        Self::with(now, stores).await
    }

    /// On PostgreSQL, whatever the other tests run on.
    pub async fn on_postgres(now: Millis) -> Self {
        let stores = migrated(Store::new().await).await;
        Self::with(now, Some(stores)).await
    }

    async fn with(now: Millis, stores: Option<[Store; 2]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let clock = ManualClock::at(now);
        let log = Log::new(Arc::new(clock.clone()));
        let data = folder.path().join("archive");
        let prepared = prepare("archive", &tenant(), &data, greffe_archive::KEYS).unwrap();
        let id = SpiffeId::service(&tenant(), "archive").unwrap();
        let cert = authority.certify(&prepared.csr_pem, &id);
        let receipt_key: [u8; 32] = from_hex(&prepared.keys["receipt_key"]).unwrap();
        let bundle = sign_bundle(bundle_message(&receipt_key));
        std::fs::write(data.join("tls.crt"), cert).unwrap();
        std::fs::write(data.join("ca.crt"), &authority.pem).unwrap();
        std::fs::write(data.join("root.pub"), root().to_string()).unwrap();
        std::fs::write(data.join("bundle.bin"), bundle.raw().encode_to_vec()).unwrap();

        let log_address = serve_log(&authority, &log, folder.path().join("log.json")).await;
        log.add(Event::Statement(bundle.raw().clone()));
        log.add(Event::Statement(JOURNAL.record.raw().clone()));
        log.add(Event::Statement(JOURNAL.disclosure.raw().clone()));
        Self {
            clock,
            log,
            bundle,
            authority,
            folder,
            objects: None,
            stores,
            log_address,
        }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    pub fn verified_bundle(&self) -> Bundle {
        Bundle::verify(self.bundle.clone(), &root()).unwrap()
    }

    pub fn service_config(&self) -> ServiceConfig {
        self.service_config_in(self.data())
    }

    fn service_config_in(&self, data: PathBuf) -> ServiceConfig {
        ServiceConfig {
            tenant: tenant(),
            listen: "127.0.0.1:0".parse().unwrap(),
            root_key: data.join("root.pub"),
            bundle: data.join("bundle.bin"),
            tls: TlsFiles {
                cert: data.join("tls.crt"),
                key: data.join("tls.key"),
                ca: data.join("ca.crt"),
            },
            peers: [(
                "audit".to_owned(),
                PeerConfig::Address(self.log_address.clone()),
            )]
            .into(),
            mode: Default::default(),
            secrets: None,
            health: None,
            database: self.stores.as_ref().map(|[main, _]| database(main)),
            telemetry: Default::default(),
            seal: None,
            log: LogConfig {
                filter: "error".to_owned(),
                ..LogConfig::default()
            },
            limits: Limits::default(),
            data,
        }
    }

    pub fn archive_config(&self) -> ArchiveConfig {
        ArchiveConfig {
            batch_ms: 10,
            wraps: self.stores.as_ref().map(|[_, wraps]| database(wraps)),
            objects: self.objects.clone(),
            ..ArchiveConfig::default()
        }
    }

    /// Starts the archive, and waits until it has followed the log to the disclosure.
    pub async fn start(&self) -> Archive {
        followed(self.start_behind().await).await
    }

    /// Starts one more archive over the same databases and objects, with a data folder of its own.
    pub async fn start_another(&self, name: &str) -> Archive {
        let data = self.folder.path().join(name);
        std::fs::create_dir(&data).unwrap();
        for entry in std::fs::read_dir(self.data()).unwrap() {
            let entry = entry.unwrap();
            let file = entry.file_name();
            let shared = file == "objects";
            if shared {
                std::os::unix::fs::symlink(entry.path(), data.join(file)).unwrap();
            } else if file != "ready.json" {
                let copied = std::process::Command::new("cp")
                    .args(["-a", "--no-target-directory"])
                    .args([entry.path(), data.join(file)])
                    .status();
                assert!(copied.unwrap().success());
            }
        }
        followed(self.start_in(data).await).await
    }

    /// Starts the archive.
    pub async fn start_behind(&self) -> Archive {
        self.start_in(self.data()).await
    }

    async fn start_in(&self, data: PathBuf) -> Archive {
        let mut boot = Boot::start(&self.service_config_in(data)).unwrap();
        boot.clock = Arc::new(self.clock.clone());
        let (app, leadership) = greffe_archive::open(&boot, self.archive_config())
            .await
            .unwrap();
        let (stop, stopped) = oneshot::channel();
        let health = boot.health.clone();
        let running = app.clone();
        let ready = boot.ready_file();
        let task = tokio::spawn(async move {
            let listen = "127.0.0.1:0".parse().unwrap();
            let stopped = async {
                let _ = stopped.await;
            };
            greffe_archive::run(&boot, running, leadership, listen, stopped).await
        });
        let address = listening(&ready).await;
        Archive {
            app,
            health,
            relay: self.connect(&SpiffeId::service(&tenant(), "relay").unwrap(), &address),
            people: self.connect(&SpiffeId::app(&tenant(), "desk").unwrap(), &address),
            stop,
            task,
        }
    }

    /// A connection to the archive under a name.
    pub fn connect(&self, id: &SpiffeId, address: &str) -> Channel {
        let (cert, key) = self.authority.issue(id);
        let identity = Identity::from_pem(
            cert.as_bytes(),
            key.as_bytes(),
            self.authority.pem.as_bytes(),
        )
        .unwrap();
        let archive = SpiffeId::service(&tenant(), "archive").unwrap();
        connect_lazy(
            &PeerConfig::Address(address.to_owned()),
            &archive,
            &identity,
        )
        .unwrap()
    }
}

impl Archive {
    /// Stops, and waits until everything is closed.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap().unwrap();
    }

    /// Stops serving in the middle of whatever it does: calls are not answered, no database is closed and the lease is not given
    /// up. Not as sudden as a killed process: its background work ends when it notices, and what it has begun to write it writes.
    pub fn kill(self) {
        self.task.abort();
    }

    /// Waits until it has ended by itself, and gives why.
    pub async fn ended(self) -> StartError {
        self.task.await.unwrap().unwrap_err()
    }

    pub fn ingest(&self) -> IngestServiceClient<Channel> {
        IngestServiceClient::new(self.relay.clone())
    }

    /// Sends entries over one stream and gives the answers, or the refusal that ended it.
    pub async fn send(
        &self,
        requests: Vec<api::IngestRequest>,
    ) -> Result<Vec<api::IngestResponse>, Status> {
        let mut open = self.open().await?;
        let count = requests.len();
        for request in requests {
            // The archive may have ended the stream already.
            let _ = open.requests.send(request).await;
        }
        let mut answers = Vec::new();
        while answers.len() < count {
            match open.answers.message().await? {
                Some(answer) => answers.push(answer),
                None => break,
            }
        }
        Ok(answers)
    }

    /// Sends one entry, and demands its receipt.
    pub async fn archive(&self, request: api::IngestRequest) -> Signed<pb::Receipt> {
        let answers = self.send(vec![request]).await.unwrap();
        receipt_of(&answers[0])
    }

    /// An open stream.
    pub async fn open(&self) -> Result<Open, Status> {
        let (requests, receiver) = mpsc::channel(16);
        let answers = self
            .ingest()
            .ingest(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        Ok(Open { requests, answers })
    }

    /// Uploads an attachment in parts; what is announced may be a lie.
    pub async fn put_attachment(
        &self,
        start: api::AttachmentStart,
        parts: &[&[u8]],
    ) -> Result<api::PutAttachmentResponse, Status> {
        use api::put_attachment_request::Part;
        let parts = parts.iter().map(|bytes| Part::Chunk(bytes.to_vec()));
        let requests: Vec<_> = core::iter::once(Part::Start(start))
            .chain(parts)
            .map(|part| api::PutAttachmentRequest { part: Some(part) })
            .collect();
        let answer = self
            .ingest()
            .put_attachment(tokio_stream::iter(requests))
            .await?;
        Ok(answer.into_inner())
    }
}

/// Waits until an archive has followed the log to the disclosure.
async fn followed(archive: Archive) -> Archive {
    while archive
        .app
        .trust()
        .current_disclosure(pb::Mode::Journaled)
        .is_none()
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    archive
}

/// An open ingest stream.
pub struct Open {
    pub requests: mpsc::Sender<api::IngestRequest>,
    pub answers: Streaming<api::IngestResponse>,
}

/// The receipt of an answer.
pub fn receipt_of(answer: &api::IngestResponse) -> Signed<pb::Receipt> {
    assert_eq!(answer.retry_reason, "");
    Signed::decode(answer.receipt.clone().unwrap()).unwrap()
}

/// The receipt of an answer, verified.
pub fn verified(answer: &api::IngestResponse, bundle: &Bundle) -> Signed<pb::Receipt> {
    let receipt = receipt_of(answer);
    verify_receipt(&receipt, bundle).unwrap();
    receipt
}

/// How far the disposal of a record is.
pub async fn step_of(app: &App, record: u64) -> i64 {
    sql::query_scalar("SELECT disposal FROM records WHERE record = $1")
        .bind(i64::try_from(record).unwrap())
        .fetch_one(app.db.read())
        .await
        .unwrap()
}

/// Code and reason of a refusal.
pub fn refusal(status: Status) -> (Code, String) {
    let refused = greffe_service_kit::errors::CallError::from(status);
    (refused.code, refused.reason.unwrap_or_default())
}

/// The main database and one for the wraps, with their tables.
async fn migrated(main: Store) -> [Store; 2] {
    let wraps = Store::new().await;
    for (store, migrations) in [(&main, MAIN), (&wraps, WRAPS)] {
        let owner = Source::postgres(store.url(), &tenant(), "archive").unwrap();
        Database::migrate(&owner, &migrations, false).await.unwrap();
    }
    [main, wraps]
}

fn database(store: &Store) -> DatabaseConfig {
    DatabaseConfig {
        migrate: false,
        lease_ms: LEASE_MS,
        ..DatabaseConfig::new(store.runtime_url())
    }
}

async fn serve_log(authority: &Authority, log: &Log, ready: PathBuf) -> String {
    let id = SpiffeId::service(&tenant(), "audit").unwrap();
    let (cert, key) = authority.issue(&id);
    let identity =
        Identity::from_pem(cert.as_bytes(), key.as_bytes(), authority.pem.as_bytes()).unwrap();
    let server = Server::new(
        &identity,
        &Limits::default(),
        AccessRules::embedded(),
        Arc::new(TlsOnly),
    )
    .add(AuditServiceServer::new(log.clone()))
    .add(LogServiceServer::new(log.clone()));
    let file = ready.clone();
    tokio::spawn(async move {
        let listen = "127.0.0.1:0".parse().unwrap();
        server
            .run(listen, &file, std::future::pending())
            .await
            .unwrap();
    });
    listening(&ready).await
}

async fn listening(ready: &std::path::Path) -> String {
    loop {
        if let Ok(ready) = Ready::read(ready) {
            return ready.address.to_string();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
