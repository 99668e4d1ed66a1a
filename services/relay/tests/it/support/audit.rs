//! A log in memory that signs its checkpoints and has them cosigned.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use greffe_api::audit::audit_service_server::{AuditService, AuditServiceServer};
use greffe_api::audit::log_service_server::{LogService, LogServiceServer};
use greffe_api::audit::*;
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_service_kit::serve::{Server, caller};
use greffe_tlog::{
    AddCheckpoint, Checkpoint, Cosigner, MemoryHashes, Note, NoteSigner, SignedCheckpoint, Tree,
    TreeHead, Witness, enrol, prove_consistency,
};
use prost::Message as _;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status, Streaming};

use super::now;
use super::tenant::{LOG_ORIGIN, NAME, WITNESS};

#[derive(Default)]
struct State {
    leaves: Vec<Vec<u8>>,
    by_id: HashMap<Vec<u8>, (Event, u64)>,
}

#[derive(Clone)]
pub(crate) struct Audit {
    state: Arc<Mutex<State>>,
    grown: watch::Sender<()>,
    stalled: watch::Sender<bool>,
    /// Entries that wait while stalled.
    waiting: watch::Sender<u32>,
}

impl Audit {
    pub(crate) fn new() -> Self {
        Self {
            state: Arc::default(),
            grown: watch::Sender::new(()),
            stalled: watch::Sender::new(false),
            waiting: watch::Sender::new(0),
        }
    }

    /// While stalled no entry is taken in.
    pub(crate) fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    /// Waits until an entry waits.
    pub(crate) async fn holds_up(&self) {
        let mut waiting = self.waiting.subscribe();
        waiting.wait_for(|waiting| *waiting > 0).await.unwrap();
    }

    pub(crate) fn serve(&self, server: Server) -> Server {
        server
            .add(AuditServiceServer::new(self.clone()))
            .add(LogServiceServer::new(self.clone()))
    }

    /// What was logged, in order.
    pub(crate) fn events(&self) -> Vec<Event> {
        let state = self.state.lock().unwrap();
        let decode = |leaf: &Vec<u8>| pb::LogEntry::decode(leaf.as_slice()).unwrap().event;
        state.leaves.iter().filter_map(decode).collect()
    }

    /// Waits until something that the log has satisfies a test.
    pub(crate) async fn wait_for(&self, mut found: impl FnMut(&Event) -> bool) {
        let mut grown = self.grown.subscribe();
        while !self.events().iter().any(&mut found) {
            grown.changed().await.unwrap();
        }
    }

    /// Reasons of the refusals logged, once there are some.
    pub(crate) async fn refusal(&self, reason: &str) {
        self.wait_for(|event| matches!(event, Event::Refusal(r) if r.reason == reason))
            .await;
    }

    /// Adds an entry that another service asked for.
    pub(crate) fn add(&self, event: Event) -> u64 {
        self.take(rand_id(), event, "escrow-1").unwrap().index
    }

    fn take(&self, id: Vec<u8>, event: Event, by: &str) -> Result<AppendResponse, String> {
        let mut state = self.state.lock().unwrap();
        if let Some((known, index)) = state.by_id.get(&id) {
            if *known != event {
                return Err("IDEMPOTENCY_CONFLICT".to_owned());
            }
            let index = *index;
            return Ok(AppendResponse {
                id,
                index,
                leaf: state.leaves[index as usize].clone(),
                error: None,
            });
        }
        let entry = pb::LogEntry {
            tenant: NAME.into(),
            recorded_by: by.into(),
            at: now().get(),
            event: Some(event.clone()),
        };
        let (index, leaf) = (state.leaves.len() as u64, entry.encode_to_vec());
        state.leaves.push(leaf.clone());
        state.by_id.insert(id.clone(), (event, index));
        self.grown.send_replace(());
        Ok(AppendResponse {
            id,
            index,
            leaf,
            error: None,
        })
    }

    fn follow_from(&self, start: usize) -> Option<FollowResponse> {
        let state = self.state.lock().unwrap();
        if start >= state.leaves.len() {
            return None;
        }
        let mut tree = Tree::new();
        tree.append_entries(&state.leaves);
        Some(FollowResponse {
            start: start as u64,
            leaves: state.leaves[start..].to_vec(),
            checkpoint: checkpoint(tree.head()),
        })
    }
}

fn rand_id() -> Vec<u8> {
    let mut id = vec![0; 16];
    getrandom::fill(&mut id).unwrap();
    id
}

fn checkpoint(head: TreeHead) -> Vec<u8> {
    let log = NoteSigner::new(LOG_ORIGIN, &[3; 32]).unwrap();
    let mut note = Note::new(Checkpoint::new(LOG_ORIGIN, head, vec![]).unwrap().body()).unwrap();
    note.sign(&log);
    let mut signed = SignedCheckpoint::open(&note.encode(), &log.verifier()).unwrap();
    let cosigner = Cosigner::new(WITNESS, &[11; 32]).unwrap();
    let state = enrol(&log.verifier());
    let mut witness = Witness::start(log.verifier(), cosigner, Some(&state)).unwrap();
    let request = AddCheckpoint {
        old_size: 0,
        proof: vec![],
        checkpoint: note.encode(),
    };
    signed.add(witness.add_checkpoint(&request, now()).unwrap().stored());
    signed.encode()
}

#[tonic::async_trait]
impl AuditService for Audit {
    type AppendStream = BoxStream<'static, Result<AppendResponse, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let by = caller(&request)?.to_string();
        let log = self.clone();
        let answers = request.into_inner().then(move |asked| {
            let (log, by) = (log.clone(), by.clone());
            async move {
                let asked = asked?;
                log.waiting.send_modify(|waiting| *waiting += 1);
                let mut stalled = log.stalled.subscribe();
                let _ = stalled.wait_for(|stalled| !*stalled).await;
                log.waiting.send_modify(|waiting| *waiting -= 1);
                let event = asked.entry.and_then(|entry| entry.event).unwrap();
                Ok(log
                    .take(asked.id.clone(), event, &by)
                    .unwrap_or_else(|reason| AppendResponse {
                        id: asked.id,
                        error: Some(EntryError {
                            message: reason.clone(),
                            reason,
                        }),
                        ..AppendResponse::default()
                    }))
            }
        });
        Ok(Response::new(answers.boxed()))
    }
}

#[tonic::async_trait]
impl LogService for Audit {
    type FollowStream = BoxStream<'static, Result<FollowResponse, Status>>;

    async fn follow(
        &self,
        request: Request<FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let (log, mut next) = (self.clone(), request.get_ref().start as usize);
        let grown = WatchStream::new(self.grown.subscribe());
        let answers = grown.filter_map(move |()| {
            let answer = log.follow_from(next);
            if let Some(answer) = &answer {
                next += answer.leaves.len();
            }
            async move { answer.map(Ok) }
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<GetConsistencyProofRequest>,
    ) -> Result<Response<GetConsistencyProofResponse>, Status> {
        let asked = request.get_ref();
        let state = self.state.lock().unwrap();
        let mut hashes = MemoryHashes::default();
        hashes.extend(Tree::new().append_entries(&state.leaves));
        let path = prove_consistency(asked.old_size, asked.new_size, &hashes)
            .map_err(|_| Status::out_of_range("no such tree"))?;
        let path = path.iter().map(|hash| hash.to_vec()).collect();
        Ok(Response::new(GetConsistencyProofResponse { path }))
    }

    async fn get_checkpoint(
        &self,
        _: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, Status> {
        Err(Status::unimplemented("the relay does not ask"))
    }

    async fn get_inclusion_proof(
        &self,
        _: Request<GetInclusionProofRequest>,
    ) -> Result<Response<GetInclusionProofResponse>, Status> {
        Err(Status::unimplemented("the relay does not ask"))
    }

    async fn list_entries(
        &self,
        _: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        Err(Status::unimplemented("the relay does not ask"))
    }

    async fn get_tile(
        &self,
        _: Request<GetTileRequest>,
    ) -> Result<Response<GetTileResponse>, Status> {
        Err(Status::unimplemented("the relay does not ask"))
    }
}
