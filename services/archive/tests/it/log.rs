//! A log in memory that keeps the contract: entries by id, leaves with checkpoints that three witnesses cosign.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use greffe_api::audit::audit_service_server::AuditService;
use greffe_api::audit::log_service_server::LogService;
use greffe_api::audit::*;
use greffe_envelope::pb::{self, log_entry::Event};
use greffe_policy::Caller;
use greffe_service_kit::clock::SharedClock;
use greffe_service_kit::serve::caller;
use greffe_tlog::{
    AddCheckpoint, Checkpoint, Cosigner, MemoryHashes, Note, NoteSigner, SignedCheckpoint, Tree,
    Witness, enrol, prove_consistency, prove_inclusion,
};
use greffe_types::{Digest, Millis};
use prost::Message as _;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status, Streaming};

use crate::world::{LOG_KEY, ORIGIN, WITNESSES};

#[derive(Default)]
struct State {
    leaves: Vec<Vec<u8>>,
    by_id: HashMap<Vec<u8>, u64>,
    refuse: Option<String>,
    witnessed: Option<Millis>,
    holding: bool,
    asked: u64,
}

/// The log. Clones share it.
#[derive(Clone)]
pub struct Log {
    state: Arc<Mutex<State>>,
    grown: watch::Sender<usize>,
    clock: SharedClock,
}

impl Log {
    pub fn new(clock: SharedClock) -> Self {
        Self {
            state: Arc::default(),
            grown: watch::Sender::new(0),
            clock,
        }
    }

    /// Adds an entry as the relay's; gives its index.
    pub fn add(&self, event: Event) -> u64 {
        let entry = pb::LogEntry {
            tenant: "acme".into(),
            recorded_by: "relay".into(),
            at: self.clock.now().get(),
            event: Some(event),
        };
        let mut state = self.state.lock().unwrap();
        state.leaves.push(entry.encode_to_vec());
        self.grown.send_replace(state.leaves.len());
        state.leaves.len() as u64 - 1
    }

    /// From now on, entries are refused with this reason.
    pub fn refuse(&self, reason: Option<&str>) {
        self.state.lock().unwrap().refuse = reason.map(str::to_owned);
    }

    /// What the witnesses' clocks say when a checkpoint is asked for; none for the log's own clock.
    pub fn witness_at(&self, at: Option<Millis>) {
        self.state.lock().unwrap().witnessed = at;
    }

    /// From now on, or no longer, whoever asks for a checkpoint is kept waiting.
    pub fn hold_checkpoints(&self, holding: bool) {
        self.state.lock().unwrap().holding = holding;
        self.grown.send_modify(|_| ());
    }

    /// Waits until somebody is kept waiting for a checkpoint.
    pub async fn until_asked(&self) {
        while self.state.lock().unwrap().asked == 0 {
            tokio::time::sleep(core::time::Duration::from_millis(5)).await;
        }
    }

    /// Every entry.
    pub fn entries(&self) -> Vec<pb::LogEntry> {
        let state = self.state.lock().unwrap();
        let leaves = state.leaves.iter();
        leaves
            .map(|leaf| pb::LogEntry::decode(leaf.as_slice()).unwrap())
            .collect()
    }

    /// Waits until an entry meets a condition; gives its index and the entry.
    pub async fn wait_for(&self, wanted: impl Fn(&Event) -> bool) -> (u64, pb::LogEntry) {
        let mut grown = self.grown.subscribe();
        loop {
            grown.borrow_and_update();
            let found = self
                .entries()
                .into_iter()
                .enumerate()
                .find(|(_, entry)| entry.event.as_ref().is_some_and(&wanted));
            if let Some((index, entry)) = found {
                return (index as u64, entry);
            }
            grown.changed().await.unwrap();
        }
    }

    fn checkpoint(&self, leaves: &[Vec<u8>], now: Millis) -> Vec<u8> {
        let mut tree = Tree::new();
        tree.append_entries(leaves);
        let log = NoteSigner::new(ORIGIN, &LOG_KEY).unwrap();
        let body = Checkpoint::new(ORIGIN, tree.head(), vec![]).unwrap().body();
        let mut note = Note::new(body).unwrap();
        note.sign(&log);
        let mut signed = SignedCheckpoint::open(&note.encode(), &log.verifier()).unwrap();
        for n in 1..=3_u8 {
            let cosigner = Cosigner::new(&format!("escrow-{n}"), &[WITNESSES + n; 32]).unwrap();
            let state = enrol(&log.verifier());
            let mut witness = Witness::start(log.verifier(), cosigner, Some(&state)).unwrap();
            let request = AddCheckpoint {
                old_size: 0,
                proof: vec![],
                checkpoint: note.encode(),
            };
            signed.add(witness.add_checkpoint(&request, now).unwrap().stored());
        }
        signed.encode()
    }

    fn answer(&self, start: usize) -> Option<FollowResponse> {
        let leaves = self.state.lock().unwrap().leaves.clone();
        (start < leaves.len()).then(|| FollowResponse {
            start: start as u64,
            leaves: leaves[start..].to_vec(),
            checkpoint: self.checkpoint(&leaves, self.clock.now()),
        })
    }

    fn take(&self, service: &str, request: AppendRequest) -> AppendResponse {
        let mut state = self.state.lock().unwrap();
        if let Some(reason) = &state.refuse {
            return AppendResponse {
                id: request.id,
                error: Some(EntryError {
                    reason: reason.clone(),
                    message: "refused by the test".into(),
                }),
                ..AppendResponse::default()
            };
        }
        let mut entry = request.entry.unwrap();
        service.clone_into(&mut entry.recorded_by);
        entry.at = self.clock.now().get();
        let index = match state.by_id.get(&request.id) {
            Some(index) => *index,
            None => {
                state.leaves.push(entry.encode_to_vec());
                state.leaves.len() as u64 - 1
            }
        };
        state.by_id.insert(request.id.clone(), index);
        self.grown.send_replace(state.leaves.len());
        AppendResponse {
            id: request.id,
            index,
            leaf: state.leaves[index as usize].clone(),
            error: None,
        }
    }

    fn hashes(&self) -> MemoryHashes {
        let mut hashes = MemoryHashes::default();
        hashes.extend(Tree::new().append_entries(&self.state.lock().unwrap().leaves));
        hashes
    }
}

type Answers<T> = futures::stream::BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl LogService for Log {
    async fn get_checkpoint(
        &self,
        request: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, Status> {
        let mut grown = self.grown.subscribe();
        loop {
            grown.borrow_and_update();
            let (leaves, witnessed, holding) = {
                let mut state = self.state.lock().unwrap();
                state.asked += u64::from(state.holding);
                (state.leaves.clone(), state.witnessed, state.holding)
            };
            if !holding && leaves.len() as u64 >= request.get_ref().minimum_size {
                let at = witnessed.unwrap_or_else(|| self.clock.now());
                let checkpoint = self.checkpoint(&leaves, at);
                return Ok(Response::new(GetCheckpointResponse { checkpoint }));
            }
            grown.changed().await.unwrap();
        }
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<GetInclusionProofRequest>,
    ) -> Result<Response<GetInclusionProofResponse>, Status> {
        let leaves = self.state.lock().unwrap().leaves.clone();
        let size = match request.get_ref().size {
            0 => leaves.len() as u64,
            size => size,
        };
        let Some(get_inclusion_proof_request::Leaf::Index(index)) = request.get_ref().leaf else {
            return Err(Status::unimplemented("by index only"));
        };
        let path = prove_inclusion(index, size, &self.hashes())
            .map_err(|_| Status::not_found("no such leaf"))?;
        Ok(Response::new(GetInclusionProofResponse {
            index,
            size,
            path: path.iter().map(Digest::to_vec).collect(),
            leaf: leaves[index as usize].clone(),
        }))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<GetConsistencyProofRequest>,
    ) -> Result<Response<GetConsistencyProofResponse>, Status> {
        let request = request.into_inner();
        let path = prove_consistency(request.old_size, request.new_size, &self.hashes())
            .map_err(|_| Status::not_found("no such sizes"))?;
        Ok(Response::new(GetConsistencyProofResponse {
            path: path.iter().map(Digest::to_vec).collect(),
        }))
    }

    async fn list_entries(
        &self,
        _: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        Err(Status::unimplemented("nobody here lists"))
    }

    async fn get_tile(
        &self,
        _: Request<GetTileRequest>,
    ) -> Result<Response<GetTileResponse>, Status> {
        Err(Status::unimplemented("nobody here reads tiles"))
    }

    type FollowStream = Answers<FollowResponse>;

    async fn follow(
        &self,
        request: Request<FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let log = self.clone();
        let mut next = request.get_ref().start as usize;
        let answers = WatchStream::new(self.grown.subscribe()).filter_map(move |_| {
            let answer = log.answer(next);
            next += answer.as_ref().map_or(0, |answer| answer.leaves.len());
            core::future::ready(answer.map(Ok))
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
        let Caller::Service(service) = caller(&request)?.clone() else {
            return Err(Status::permission_denied("services append"));
        };
        let log = self.clone();
        let answers = request
            .into_inner()
            .map(move |request| Ok(log.take(&service, request?)));
        Ok(Response::new(answers.boxed()))
    }
}
