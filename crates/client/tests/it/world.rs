//! Relay, log and nodes on one address, and clients that reach them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greffe_api::archive::order_service_server::OrderServiceServer;
use greffe_api::audit as audit_api;
use greffe_api::audit::log_service_server::{LogService, LogServiceServer};
use greffe_api::escrow as escrow_api;
use greffe_api::escrow::escrow_service_server::{EscrowService, EscrowServiceServer};
use greffe_api::relay::directory_service_server::DirectoryServiceServer;
use greffe_api::relay::relay_service_server::RelayServiceServer;
use greffe_client::{Client, ClientStore, Connection, Device, Result};
use greffe_envelope::envelope::envelope_digest;
use greffe_service_kit::clock::{SharedClock, SystemClock};
use greffe_types::{Millis, UserId};
use tokio::net::TcpListener;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::cheats::Orders;
use crate::relay::Relay;
use crate::tenant::{FAR, Tenant};

/// How a node answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Honest,
    /// Its clock is that many milliseconds ahead.
    Ahead(u64),
    /// It cannot be reached.
    Away,
    /// It takes every call and answers none.
    Silent,
}

pub(crate) struct World {
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) relay: Relay,
    pub(crate) orders: Orders,
    /// Of each node.
    pub(crate) manners: Arc<Mutex<[Manner; 3]>>,
    /// Openings asked of each node.
    pub(crate) opens: Arc<Mutex<[usize; 3]>>,
    pub(crate) folder: tempfile::TempDir,
    /// relay, log, orders; then the nodes
    addresses: Vec<SocketAddr>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let tenant = Arc::new(Tenant::new());
        let relay = Relay::new(tenant.clone());
        let orders = Orders::default();
        let main = Server::builder()
            .add_service(DirectoryServiceServer::new(relay.clone()))
            .add_service(RelayServiceServer::new(relay.clone()).max_decoding_message_size(8 << 20))
            .add_service(LogServiceServer::new(Log(tenant.clone())))
            .add_service(OrderServiceServer::new(orders.clone()));
        let mut addresses = vec![serve(main).await];
        let manners = Arc::new(Mutex::new([Manner::Honest; 3]));
        let opens = Arc::default();
        for index in 0..3 {
            let service = EscrowServiceServer::new(Node {
                tenant: tenant.clone(),
                index,
                manners: manners.clone(),
                opens: Arc::clone(&opens),
            });
            addresses.push(serve(Server::builder().add_service(service)).await);
        }
        Self {
            tenant,
            relay,
            orders,
            manners,
            opens,
            folder: tempfile::tempdir().unwrap(),
            addresses,
        }
    }

    pub(crate) fn connection(&self) -> Connection {
        let at = |place: usize| {
            let uri = format!("http://{}", self.addresses[place]);
            Endpoint::from_shared(uri).unwrap().connect_lazy()
        };
        let mut channels: BTreeMap<_, _> = ["relay", "audit", "archive"]
            .map(|name| (name.to_owned(), at(0)))
            .into();
        for node in 1..=3 {
            channels.insert(format!("escrow-{node}"), at(node));
        }
        Connection::from_channels(self.tenant.root_key(), channels)
    }

    pub(crate) async fn try_client(&self, name: &str) -> Result<Client> {
        let folder = self.folder.path().join(name);
        self.client_at(&folder).await
    }

    pub(crate) async fn client_at(&self, folder: &Path) -> Result<Client> {
        let store = ClientStore::open(folder, &self.tenant.id).await?;
        Client::open(self.connection(), store, Arc::new(SystemClock)).await
    }

    pub(crate) async fn client(&self, name: &str) -> Client {
        self.try_client(name).await.unwrap()
    }

    /// One that waits so long, by another clock.
    pub(crate) async fn client_with(
        &self,
        name: &str,
        patience: Duration,
        clock: SharedClock,
    ) -> Client {
        let folder = self.folder.path().join(name);
        let store = ClientStore::open(&folder, &self.tenant.id).await.unwrap();
        let connection = self.connection().with_patience(patience);
        Client::open(connection, store, clock).await.unwrap()
    }

    /// One that soon gives up.
    pub(crate) async fn impatient(&self, name: &str) -> Client {
        let patience = Duration::from_millis(300);
        self.client_with(name, patience, Arc::new(SystemClock))
            .await
    }

    pub(crate) fn behave(&self, manners: [Manner; 3]) {
        *self.manners.lock().unwrap() = manners;
    }

    /// A device each of alice and bob, of one app.
    pub(crate) async fn alice_and_bob(&self) -> (Client, Device, Device) {
        let client = self.client("apps").await;
        let alice = self.device(&client, "alice").await;
        let bob = self.device(&client, "bob").await;
        (client, alice, bob)
    }

    /// A registered device of a user with key packages published.
    pub(crate) async fn device(&self, client: &Client, user: &str) -> Device {
        let user = UserId::new(user).unwrap();
        let enrolment = client.enrol(&user, Millis::new(FAR)).await.unwrap();
        let cert = self.tenant.certify(enrolment.certificate);
        let device = client.register(cert).await.unwrap();
        assert_eq!(device.publish_key_packages(5).await.unwrap(), 5);
        device
    }
}

async fn serve(router: tonic::transport::server::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

/// The audit log.
struct Log(Arc<Tenant>);

#[tonic::async_trait]
impl LogService for Log {
    async fn get_checkpoint(
        &self,
        _: Request<audit_api::GetCheckpointRequest>,
    ) -> Result<Response<audit_api::GetCheckpointResponse>, Status> {
        let checkpoint = self.0.checkpoint(3);
        Ok(Response::new(audit_api::GetCheckpointResponse {
            checkpoint,
        }))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<audit_api::GetInclusionProofRequest>,
    ) -> Result<Response<audit_api::GetInclusionProofResponse>, Status> {
        let request = request.into_inner();
        let Some(audit_api::get_inclusion_proof_request::Leaf::Index(index)) = request.leaf else {
            return Err(Status::invalid_argument("index"));
        };
        let (path, leaf) = self.0.inclusion(index, request.size);
        Ok(Response::new(audit_api::GetInclusionProofResponse {
            index,
            size: request.size,
            path,
            leaf,
        }))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<audit_api::GetConsistencyProofRequest>,
    ) -> Result<Response<audit_api::GetConsistencyProofResponse>, Status> {
        let request = request.into_inner();
        let path = self.0.consistency(request.old_size, request.new_size);
        Ok(Response::new(audit_api::GetConsistencyProofResponse {
            path,
        }))
    }

    async fn list_entries(
        &self,
        _: Request<audit_api::ListEntriesRequest>,
    ) -> Result<Response<audit_api::ListEntriesResponse>, Status> {
        Err(Status::unimplemented("entries"))
    }

    async fn get_tile(
        &self,
        _: Request<audit_api::GetTileRequest>,
    ) -> Result<Response<audit_api::GetTileResponse>, Status> {
        Err(Status::unimplemented("tiles"))
    }

    type FollowStream = ReceiverStream<Result<audit_api::FollowResponse, Status>>;

    async fn follow(
        &self,
        _: Request<audit_api::FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        Err(Status::unimplemented("following"))
    }
}

/// An escrow node, as far as joiners and readers ask it.
struct Node {
    tenant: Arc<Tenant>,
    index: usize,
    manners: Arc<Mutex<[Manner; 3]>>,
    opens: Arc<Mutex<[usize; 3]>>,
}

impl Node {
    /// How far its clock is ahead, when it answers at all.
    async fn ahead(&self) -> Result<u64, Status> {
        let manner = self.manners.lock().unwrap()[self.index];
        match manner {
            Manner::Honest => Ok(0),
            Manner::Ahead(by) => Ok(by),
            Manner::Away => Err(Status::unavailable("away")),
            Manner::Silent => core::future::pending().await,
        }
    }
}

#[tonic::async_trait]
impl EscrowService for Node {
    async fn advance_reshare(
        &self,
        _: Request<escrow_api::AdvanceReshareRequest>,
    ) -> Result<Response<escrow_api::AdvanceReshareResponse>, Status> {
        Err(Status::unimplemented("no resharing"))
    }

    async fn prove_share(
        &self,
        _: Request<escrow_api::ProveShareRequest>,
    ) -> Result<Response<escrow_api::ProveShareResponse>, Status> {
        Err(Status::unimplemented("no drill"))
    }

    async fn advance_keygen(
        &self,
        _: Request<escrow_api::AdvanceKeygenRequest>,
    ) -> Result<Response<escrow_api::AdvanceKeygenResponse>, Status> {
        Err(Status::unimplemented("key generation"))
    }

    async fn activate(
        &self,
        _: Request<escrow_api::ActivateRequest>,
    ) -> Result<Response<escrow_api::ActivateResponse>, Status> {
        Err(Status::unimplemented("activation"))
    }

    type OpenStream = ReceiverStream<Result<escrow_api::OpenResponse, Status>>;

    async fn open(
        &self,
        request: Request<Streaming<escrow_api::OpenRequest>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        use escrow_api::open_request::Part;
        self.opens.lock().unwrap()[self.index] += 1;
        self.ahead().await?;
        let mut requests = request.into_inner();
        let (answers, receiver) = tokio::sync::mpsc::channel(64);
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let Some(Part::Record(record)) = request.part else {
                    continue;
                };
                let envelope = envelope_digest(&record.envelope.unwrap().body).to_vec();
                let answer = escrow_api::OpenResponse {
                    envelope,
                    reason: "REFUSED_HERE".into(),
                    ..Default::default()
                };
                let _ = answers.send(Ok(answer)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get_currency(
        &self,
        request: Request<escrow_api::GetCurrencyRequest>,
    ) -> Result<Response<escrow_api::GetCurrencyResponse>, Status> {
        let ahead = self.ahead().await?;
        let mode = request.into_inner().mode;
        let currency = self.tenant.currency(self.index, mode, ahead);
        Ok(Response::new(escrow_api::GetCurrencyResponse {
            currency: Some(currency),
        }))
    }

    async fn get_status(
        &self,
        _: Request<escrow_api::GetStatusRequest>,
    ) -> Result<Response<escrow_api::GetStatusResponse>, Status> {
        Err(Status::unimplemented("status"))
    }
}
