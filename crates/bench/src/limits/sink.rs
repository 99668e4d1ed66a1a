//! The same gRPC over the same TLS into one SQLite table, nothing checked, rows committed in groups; a process of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use futures::{Stream, StreamExt as _};
use greffe_api::archive as api;
use greffe_api::archive::ingest_service_client::IngestServiceClient;
use greffe_api::archive::ingest_service_server::{IngestService, IngestServiceServer};
use greffe_api::relay::SendRequest;
use prost::Message as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection as _, SqliteConnection};
use tokio::net::TcpListener;
use tokio::sync::{Barrier, mpsc, oneshot};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{
    Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig,
};
use tonic::{Request, Response, Status, Streaming};

use crate::load::{Outcome, stream};

/// Rows of one commit at most, and entries of one stream that may wait: what the archive has.
const GROUP: usize = 512;
/// Connections that senders share, as the client library has.
const CONNECTIONS: usize = 8;
/// Whom the certificate is for.
const NAME: &str = "sink.invalid";

type Waiting = (Vec<u8>, oneshot::Sender<()>);

struct Sink(mpsc::Sender<Waiting>);

#[tonic::async_trait]
impl IngestService for Sink {
    type IngestStream = Pin<Box<dyn Stream<Item = Result<api::IngestResponse, Status>> + Send>>;

    async fn ingest(
        &self,
        request: Request<Streaming<api::IngestRequest>>,
    ) -> Result<Response<Self::IngestStream>, Status> {
        let rows = self.0.clone();
        let gone = || Status::internal("the table cannot be written");
        let queued = request.into_inner().then(move |request| {
            let rows = rows.clone();
            async move {
                let (done, answered) = oneshot::channel();
                let row = (request?.encode_to_vec(), done);
                rows.send(row).await.map_err(|_| gone())?;
                Ok::<_, Status>(answered)
            }
        });
        let answers = queued
            .map(move |queued| async move {
                queued?.await.map_err(|_| gone())?;
                Ok(api::IngestResponse::default())
            })
            .buffered(GROUP);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn put_attachment(
        &self,
        _: Request<Streaming<api::PutAttachmentRequest>>,
    ) -> Result<Response<api::PutAttachmentResponse>, Status> {
        Err(Status::unimplemented("this is no archive"))
    }

    type GetAttachmentStream = ReceiverStream<Result<api::GetAttachmentResponse, Status>>;

    async fn get_attachment(
        &self,
        _: Request<api::GetAttachmentRequest>,
    ) -> Result<Response<Self::GetAttachmentStream>, Status> {
        Err(Status::unimplemented("this is no archive"))
    }

    async fn get_conversation_state(
        &self,
        _: Request<api::GetConversationStateRequest>,
    ) -> Result<Response<api::GetConversationStateResponse>, Status> {
        Err(Status::unimplemented("this is no archive"))
    }
}

/// Writes rows, as many as wait in one transaction, until nobody sends any more.
async fn write(mut database: SqliteConnection, mut rows: mpsc::Receiver<Waiting>) -> Result<()> {
    let mut group = Vec::with_capacity(GROUP);
    while rows.recv_many(&mut group, GROUP).await > 0 {
        let mut transaction = database.begin().await?;
        for (row, _) in &group {
            sqlx::query("INSERT INTO plain (payload) VALUES (?)")
                .bind(row)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        for (_, done) in group.drain(..) {
            // A sender that went away needs no answer.
            let _ = done.send(());
        }
    }
    Ok(())
}

/// Serves until it is killed; its certificates, and then its address, are in the folder.
///
/// # Errors
/// When it cannot listen or write.
pub(crate) async fn serve(folder: &Path) -> Result<()> {
    let authority = KeyPair::generate()?;
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = parameters.self_signed(&authority)?.pem();
    let issuer = Issuer::new(parameters, authority);
    let issue = || -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let parameters = CertificateParams::new(vec![NAME.to_owned()])?;
        let certificate = parameters.signed_by(&key, &issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    };
    let (certificate, key) = issue()?;
    let (client, client_key) = issue()?;
    for (name, text) in [
        ("ca.pem", &ca),
        ("client.pem", &client),
        ("client.key", &client_key),
    ] {
        fs::write(folder.join(name), text)?;
    }
    let options = SqliteConnectOptions::new()
        .filename(folder.join("sink.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut database = SqliteConnection::connect_with(&options).await?;
    sqlx::query("CREATE TABLE plain (number INTEGER PRIMARY KEY, payload BLOB)")
        .execute(&mut database)
        .await?;
    let (rows, waiting) = mpsc::channel(GROUP);
    let writing = tokio::spawn(write(database, waiting));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    fs::write(folder.join("address.new"), &address)?;
    fs::rename(folder.join("address.new"), folder.join("address"))?;
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(certificate, key))
        .client_ca_root(Certificate::from_pem(&ca));
    Server::builder()
        .tls_config(tls)?
        .add_service(IngestServiceServer::new(Sink(rows)))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    writing.await?
}

/// A running sink; dropping it ends it.
pub(crate) struct Running {
    child: Child,
    folder: PathBuf,
    channels: Vec<Channel>,
}

impl Running {
    /// Starts this program once more, as a sink, and connects.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        let folder = folder.join("sink");
        fs::create_dir_all(&folder)?;
        let child = Command::new(std::env::current_exe()?)
            .arg("sink")
            .arg(&folder)
            .stdin(Stdio::null())
            .spawn()?;
        let mut running = Self {
            child,
            folder,
            channels: Vec::new(),
        };
        let begun = Instant::now();
        let address = loop {
            if let Ok(address) = fs::read_to_string(running.folder.join("address")) {
                break address;
            }
            if begun.elapsed().as_secs() > 20 || running.child.try_wait()?.is_some() {
                bail!("the sink did not start");
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        let read = |name: &str| fs::read(running.folder.join(name));
        let tls = ClientTlsConfig::new()
            .domain_name(NAME)
            .ca_certificate(Certificate::from_pem(read("ca.pem")?))
            .identity(Identity::from_pem(read("client.pem")?, read("client.key")?));
        let endpoint = Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?;
        for _ in 0..CONNECTIONS {
            running.channels.push(endpoint.connect().await?);
        }
        Ok(running)
    }

    /// Sends `count` messages from each of so many senders, at most `window` of each unanswered.
    ///
    /// # Errors
    /// When a stream breaks.
    pub(crate) async fn load(
        &self,
        senders: usize,
        count: usize,
        window: usize,
        like: &SendRequest,
    ) -> Result<Outcome> {
        let gate = Arc::new(Barrier::new(senders + 1));
        let mut tasks = Vec::new();
        for sender in 0..senders {
            let entries: Vec<api::IngestRequest> = (1..)
                .take(count)
                .map(|number| entry(number, like))
                .collect();
            let channel = &self.channels[sender % self.channels.len()];
            let mut client = IngestServiceClient::new(channel.clone());
            let gate = gate.clone();
            tasks.push(tokio::spawn(async move {
                gate.wait().await;
                let (sender, receiver) = mpsc::channel(window);
                let answers = async move {
                    let answers = client.ingest(ReceiverStream::new(receiver)).await?;
                    Ok(answers
                        .into_inner()
                        .map(|answer| Ok(answer.map(|_| Vec::new())?)))
                };
                stream(entries, window, sender, answers).await
            }));
        }
        gate.wait().await;
        let begun = Instant::now();
        let mut waits = Vec::new();
        for task in tasks {
            waits.append(&mut task.await?.context("the sink")?.0);
        }
        Ok(Outcome {
            messages: waits.len(),
            seconds: begun.elapsed().as_secs_f64(),
            logged: 0.0,
            waits,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It keeps nothing that would have to be closed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same bytes as a message brings to the archive.
fn entry(sequence: u64, like: &SendRequest) -> api::IngestRequest {
    api::IngestRequest {
        conversation: vec![1; 16],
        sequence,
        entry: Some(api::ingest_request::Entry::Message(api::IngestMessage {
            envelope: like.envelope.clone(),
            wraps: like.wraps.clone(),
            ciphertext: like.ciphertext.clone(),
            mls_message: like.mls_message.clone(),
            device_cert: None,
        })),
        ..Default::default()
    }
}
