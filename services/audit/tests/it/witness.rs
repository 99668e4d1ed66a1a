//! A witness as an escrow node runs one: tlog's rules behind the contract's gRPC service. It can be out of order.

use std::sync::{Arc, Mutex};

use greffe_api::escrow::witness_service_server::{WitnessService, WitnessServiceServer};
use greffe_api::escrow::{AddCheckpointRequest, AddCheckpointResponse};
use greffe_policy::AccessRules;
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_service_kit::config::Limits;
use greffe_service_kit::errors::{Reason, ServiceError};
use greffe_service_kit::serve::{Server, TlsOnly};
use greffe_tlog::{AddCheckpoint, Cosigner, NoteVerifier, Witness, WitnessRefusal, enrol};
use greffe_types::Digest;
use tonic::{Code, Request, Response, Status};

use crate::world::{Running, World, run, service};

struct Inner {
    witness: Witness,
    stored: Vec<u8>,
    down: bool,
    asked: u64,
}

#[derive(Clone)]
pub(crate) struct Node(Arc<Mutex<Inner>>);

impl Node {
    pub(crate) fn new(name: &str, seed: u8, log: &NoteVerifier) -> Self {
        let stored = enrol(log);
        let cosigner = Cosigner::new(name, &[seed; 32]).unwrap();
        Self(Arc::new(Mutex::new(Inner {
            witness: Witness::start(log.clone(), cosigner, Some(&stored)).unwrap(),
            stored,
            down: false,
            asked: 0,
        })))
    }

    pub(crate) async fn serve(&self, world: &World, name: &str) -> Running {
        let server = Server::new(
            &world.authority.identity(&service(name)),
            &Limits::default(),
            AccessRules::embedded(),
            Arc::new(TlsOnly),
        )
        .add(WitnessServiceServer::new(self.clone()));
        run(server, &world.folder.path().join(format!("{name}.json"))).await
    }

    /// Answers nothing, or answers again.
    pub(crate) fn down(&self, down: bool) {
        self.0.lock().unwrap().down = down;
    }

    /// Size cosigned last.
    pub(crate) fn size(&self) -> u64 {
        self.0.lock().unwrap().witness.latest().size
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> u64 {
        self.0.lock().unwrap().asked
    }
}

fn refused(code: Code, reason: Reason) -> Status {
    ServiceError::new(code, reason, "the witness refuses").into()
}

#[tonic::async_trait]
impl WitnessService for Node {
    async fn add_checkpoint(
        &self,
        request: Request<AddCheckpointRequest>,
    ) -> Result<Response<AddCheckpointResponse>, Status> {
        let request = request.into_inner();
        let mut inner = self.0.lock().unwrap();
        inner.asked += 1;
        if inner.down {
            return Err(Status::unavailable("out of order"));
        }
        let proof = request.proof.iter();
        let ask = AddCheckpoint {
            old_size: request.old_size,
            proof: proof
                .map(|hash| Digest::try_from(hash.as_slice()).unwrap())
                .collect(),
            checkpoint: request.checkpoint,
        };
        let Inner {
            witness, stored, ..
        } = &mut *inner;
        let response = match witness.add_checkpoint(&ask, SystemClock.now()) {
            Ok(pending) => {
                *stored = pending.state();
                AddCheckpointResponse {
                    cosignature: format!("{}\n", pending.stored()).into_bytes(),
                    ..Default::default()
                }
            }
            Err(WitnessRefusal::Conflict { .. }) => {
                return Err(refused(Code::FailedPrecondition, Reason::new("LOG_FORKED")));
            }
            Err(other) => match other.latest_size() {
                Some(known_size) => AddCheckpointResponse {
                    known_size,
                    conflict: true,
                    ..Default::default()
                },
                None => panic!("the log asked for what no log may ask: {other}"),
            },
        };
        Ok(Response::new(response))
    }
}
