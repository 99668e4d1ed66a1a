//! The nodes' audit peer: one tree in memory, three witnesses of its own, and what it can be told to do wrong.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt as _;
use greffe_api::audit::audit_service_server::AuditService;
use greffe_api::audit::log_service_server::LogService;
use greffe_api::audit::*;
use greffe_envelope::pb;
use greffe_service_kit::serve::caller;
use greffe_tlog::{
    AddCheckpoint, Checkpoint, Cosigner, MemoryHashes, Note, NoteSigner, SignedCheckpoint, Tree,
    TreeHead, Witness, enrol, prove_consistency, prove_inclusion,
};
use greffe_types::{Digest, Millis};
use prost::Message as _;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status, Streaming};

pub(crate) const ORIGIN: &str = "acme.example/log";
pub(crate) const LOG_KEY: [u8; 32] = [3; 32];
/// Keys of the witnesses `w-0` to `w-2` count from here.
pub(crate) const WITNESSES: u8 = 50;

pub(crate) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Millis::new(since.as_millis() as u64)
}

#[derive(Default)]
struct State {
    leaves: Vec<Vec<u8>>,
    by_id: HashMap<Vec<u8>, u64>,
    deaf: bool,
    hidden: Option<usize>,
}

#[derive(Clone)]
pub(crate) struct Log {
    state: Arc<Mutex<State>>,
    grown: watch::Sender<u64>,
    /// Whom it takes entries of and does not tell.
    silent: watch::Sender<Option<String>>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            state: Arc::default(),
            grown: watch::Sender::new(0),
            silent: watch::Sender::new(None),
        }
    }

    /// Adds an entry as a service's; gives its index and leaf.
    pub(crate) fn add(&self, service: &str, event: pb::log_entry::Event) -> (u64, Vec<u8>) {
        let entry = pb::LogEntry {
            tenant: "acme".into(),
            recorded_by: service.into(),
            at: now().get(),
            event: Some(event),
        };
        let leaf = entry.encode_to_vec();
        let mut state = self.state.lock().unwrap();
        state.leaves.push(leaf.clone());
        let index = state.leaves.len() as u64 - 1;
        self.grown.send_modify(|grown| *grown += 1);
        (index, leaf)
    }

    /// Adds an entry as a service's, under the id that it asks with.
    pub(crate) fn add_with_id(&self, service: &str, id: &[u8], event: pb::log_entry::Event) {
        let (index, _) = self.add(service, event);
        self.state.lock().unwrap().by_id.insert(id.to_vec(), index);
    }

    pub(crate) fn size(&self) -> u64 {
        self.state.lock().unwrap().leaves.len() as u64
    }

    pub(crate) fn entries(&self) -> Vec<pb::LogEntry> {
        let state = self.state.lock().unwrap();
        let decode = |leaf: &Vec<u8>| pb::LogEntry::decode(leaf.as_slice()).unwrap();
        state.leaves.iter().map(decode).collect()
    }

    /// Takes no entries any more, or again.
    pub(crate) fn deaf(&self, deaf: bool) {
        self.state.lock().unwrap().deaf = deaf;
    }

    /// Takes what a service appends and keeps the answers back, or gives them.
    pub(crate) fn silent_to(&self, service: Option<&str>) {
        self.silent.send_replace(service.map(str::to_owned));
    }

    /// Shows followers no leaf from this one on.
    pub(crate) fn hide_from(&self, hidden: Option<usize>) {
        self.state.lock().unwrap().hidden = hidden;
        self.grown.send_modify(|grown| *grown += 1);
    }

    fn tree(leaves: &[Vec<u8>]) -> (Tree, MemoryHashes) {
        let mut tree = Tree::new();
        let hashes = tree.append_entries(leaves).into_iter().collect();
        (tree, hashes)
    }

    /// The newest checkpoint, cosigned by so many witnesses that long ago.
    pub(crate) fn checkpoint(&self, cosigners: u8, age: Duration) -> Vec<u8> {
        self.checkpoint_at(self.size(), cosigners, age)
    }

    pub(crate) fn checkpoint_at(&self, size: u64, cosigners: u8, age: Duration) -> Vec<u8> {
        let state = self.state.lock().unwrap();
        let (tree, _) = Self::tree(&state.leaves[..size as usize]);
        cosigned(tree.head(), cosigners, now().minus(age))
    }

    pub(crate) fn path(&self, index: u64, size: u64) -> Vec<Vec<u8>> {
        let state = self.state.lock().unwrap();
        let (_, hashes) = Self::tree(&state.leaves[..size as usize]);
        let path = prove_inclusion(index, size, &hashes).unwrap();
        path.iter().map(Digest::to_vec).collect()
    }

    pub(crate) fn consistency(&self, old: u64, new: u64) -> Vec<Vec<u8>> {
        let state = self.state.lock().unwrap();
        let (_, hashes) = Self::tree(&state.leaves[..new as usize]);
        let path = prove_consistency(old, new, &hashes).unwrap();
        path.iter().map(Digest::to_vec).collect()
    }

    fn answer(&self, start: usize) -> Option<FollowResponse> {
        let state = self.state.lock().unwrap();
        let end = state.hidden.unwrap_or(usize::MAX).min(state.leaves.len());
        if start >= end {
            return None;
        }
        let (tree, _) = Self::tree(&state.leaves[..end]);
        Some(FollowResponse {
            start: start as u64,
            leaves: state.leaves[start..end].to_vec(),
            checkpoint: cosigned(tree.head(), 2, now()),
        })
    }

    fn take(&self, service: &str, request: AppendRequest) -> Option<AppendResponse> {
        let known = {
            let state = self.state.lock().unwrap();
            if state.deaf {
                return None;
            }
            state.by_id.get(&request.id).copied()
        };
        if let Some(known) = known {
            let event = request.entry.as_ref().unwrap().event.as_ref();
            if self.entries()[known as usize].event.as_ref() != event {
                let error = Some(EntryError {
                    reason: "IDEMPOTENCY_CONFLICT".into(),
                    message: "another entry has this id".into(),
                });
                return Some(AppendResponse {
                    id: request.id,
                    error,
                    ..AppendResponse::default()
                });
            }
        }
        let index = known.unwrap_or_else(|| {
            let event = request.entry.unwrap().event.unwrap();
            self.add(service, event).0
        });
        let mut state = self.state.lock().unwrap();
        state.by_id.insert(request.id.clone(), index);
        Some(AppendResponse {
            id: request.id,
            index,
            leaf: state.leaves[index as usize].clone(),
            error: None,
        })
    }
}

/// A checkpoint of any tree, as the log signs it.
pub(crate) fn signed(head: TreeHead) -> Vec<u8> {
    let log = NoteSigner::new(ORIGIN, &LOG_KEY).unwrap();
    let mut note = Note::new(Checkpoint::new(ORIGIN, head, vec![]).unwrap().body()).unwrap();
    note.sign(&log);
    note.encode()
}

/// A checkpoint of any tree with so many cosignatures of that time.
pub(crate) fn cosigned(head: TreeHead, cosigners: u8, at: Millis) -> Vec<u8> {
    let log = NoteSigner::new(ORIGIN, &LOG_KEY).unwrap().verifier();
    let checkpoint = signed(head);
    let mut with = SignedCheckpoint::open(&checkpoint, &log).unwrap();
    for n in 0..cosigners {
        let cosigner = Cosigner::new(&format!("w-{n}"), &[WITNESSES + n; 32]).unwrap();
        let mut witness = Witness::start(log.clone(), cosigner, Some(&enrol(&log))).unwrap();
        let request = AddCheckpoint {
            old_size: 0,
            proof: vec![],
            checkpoint: checkpoint.clone(),
        };
        with.add(witness.add_checkpoint(&request, at).unwrap().stored());
    }
    with.encode()
}

type Answers<T> = futures::stream::BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl LogService for Log {
    async fn get_checkpoint(
        &self,
        _: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, Status> {
        Ok(Response::new(GetCheckpointResponse {
            checkpoint: self.checkpoint(2, Duration::ZERO),
        }))
    }

    async fn get_inclusion_proof(
        &self,
        _: Request<GetInclusionProofRequest>,
    ) -> Result<Response<GetInclusionProofResponse>, Status> {
        Err(Status::not_found("not in this log"))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<GetConsistencyProofRequest>,
    ) -> Result<Response<GetConsistencyProofResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(GetConsistencyProofResponse {
            path: self.consistency(request.old_size, request.new_size),
        }))
    }

    async fn list_entries(
        &self,
        _: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        Err(Status::not_found("not in this log"))
    }

    async fn get_tile(
        &self,
        _: Request<GetTileRequest>,
    ) -> Result<Response<GetTileResponse>, Status> {
        Err(Status::not_found("not in this log"))
    }

    type FollowStream = Answers<FollowResponse>;

    async fn follow(
        &self,
        request: Request<FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let log = self.clone();
        let mut next = request.get_ref().start as usize;
        let answers = WatchStream::new(self.grown.subscribe()).flat_map(move |_| {
            let mut answers = Vec::new();
            while let Some(answer) = log.answer(next) {
                next += answer.leaves.len();
                answers.push(Ok(answer));
            }
            futures::stream::iter(answers)
        });
        Ok(Response::new(answers.boxed()))
    }
}

#[tonic::async_trait]
impl AuditService for Log {
    type AppendStream = Answers<AppendResponse>;

    async fn append(
        &self,
        request: Request<Streaming<AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let caller = caller(&request)?.to_string();
        let service = caller.trim_start_matches("service:").to_owned();
        let log = self.clone();
        let answers = request.into_inner().filter_map(move |request| {
            let answer = request.map(|request| log.take(&service, request));
            let (mut silent, service) = (log.silent.subscribe(), service.clone());
            async move {
                let to_others = |to: &Option<String>| to.as_ref() != Some(&service);
                silent.wait_for(to_others).await.unwrap();
                answer.transpose()
            }
        });
        Ok(Response::new(answers.boxed()))
    }
}
