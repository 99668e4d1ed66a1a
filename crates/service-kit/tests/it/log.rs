//! A small log: one tree in memory, three witnesses, and the lies it can be told to tell.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use greffe_api::audit::audit_service_server::AuditService;
use greffe_api::audit::log_service_server::LogService;
use greffe_api::audit::*;
use greffe_envelope::pb;
use greffe_service_kit::serve::caller;
use greffe_tlog::{
    AddCheckpoint, Checkpoint, Cosigner, MemoryHashes, Note, NoteSigner, SignedCheckpoint, Tree,
    TreeHead, Witness, enrol, prove_consistency,
};
use greffe_types::Millis;
use prost::Message as _;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status, Streaming};

use crate::world::{LOG_KEY, ORIGIN};

/// What the log does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Lie {
    #[default]
    None,
    /// One leaf is shown with another byte than it was logged with.
    Leaf,
    /// Only one witness cosigned.
    Unwitnessed,
    /// The log signed, and the witnesses cosigned, another tree.
    Fork,
    /// Leaves are left out.
    Gap,
    /// Another entry is recorded than was asked for.
    Entry,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) leaves: Vec<Vec<u8>>,
    pub(crate) by_id: HashMap<Vec<u8>, u64>,
    pub(crate) lie: Lie,
    /// Keys of the witnesses count from here.
    pub(crate) witnesses: u8,
    /// Leaves in one message.
    pub(crate) chunk: usize,
    /// After so many answers a stream of appends breaks.
    pub(crate) break_after: Option<usize>,
    pub(crate) streams: usize,
}

#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) grown: watch::Sender<usize>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                witnesses: 50,
                chunk: 4,
                ..State::default()
            })),
            grown: watch::Sender::new(0),
        }
    }

    pub(crate) fn add(&self, entry: &pb::LogEntry) {
        let mut state = self.state.lock().unwrap();
        state.leaves.push(entry.encode_to_vec());
        self.grown.send_replace(state.leaves.len());
    }

    pub(crate) fn lie(&self, lie: Lie) {
        self.state.lock().unwrap().lie = lie;
    }

    fn answer(&self, start: usize) -> Option<FollowResponse> {
        let state = self.state.lock().unwrap();
        let end = state.leaves.len().min(start + state.chunk);
        if start >= end {
            return None;
        }
        let mut leaves = state.leaves[start..end].to_vec();
        let mut shown = start;
        match state.lie {
            Lie::Leaf => {
                let mut entry = pb::LogEntry::decode(leaves[0].as_slice()).unwrap();
                entry.at += 1;
                leaves[0] = entry.encode_to_vec();
            }
            Lie::Gap => shown += 1,
            _ => {}
        }
        let mut tree = Tree::new();
        tree.append_entries(&state.leaves);
        if state.lie == Lie::Fork {
            tree = Tree::new();
            tree.append_entries(&vec![b"other"; state.leaves.len()]);
        }
        let cosigners = if state.lie == Lie::Unwitnessed { 1 } else { 3 };
        Some(FollowResponse {
            start: shown as u64,
            leaves,
            checkpoint: checkpoint(tree.head(), state.witnesses, cosigners),
        })
    }
}

fn checkpoint(head: TreeHead, witnesses: u8, cosigners: u8) -> Vec<u8> {
    let log = NoteSigner::new(ORIGIN, &LOG_KEY).unwrap();
    let mut note = Note::new(Checkpoint::new(ORIGIN, head, vec![]).unwrap().body()).unwrap();
    note.sign(&log);
    let mut signed = SignedCheckpoint::open(&note.encode(), &log.verifier()).unwrap();
    for n in 0..cosigners {
        let cosigner = Cosigner::new(&format!("w-{n}"), &[witnesses + n; 32]).unwrap();
        let state = enrol(&log.verifier());
        let mut witness = Witness::start(log.verifier(), cosigner, Some(&state)).unwrap();
        let request = AddCheckpoint {
            old_size: 0,
            proof: vec![],
            checkpoint: note.encode(),
        };
        let now = Millis::new(1_000_000);
        signed.add(witness.add_checkpoint(&request, now).unwrap().stored());
    }
    signed.encode()
}

type Answers<T> = futures::stream::BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl LogService for Log {
    async fn get_checkpoint(
        &self,
        request: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, Status> {
        let who = caller(&request)?.to_string();
        if request.get_ref().minimum_size == 77 {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(GetCheckpointResponse {
            checkpoint: who.into_bytes(),
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
        let mut hashes = MemoryHashes::default();
        hashes.extend(Tree::new().append_entries(&self.state.lock().unwrap().leaves));
        let path = prove_consistency(request.old_size, request.new_size, &hashes)
            .map_err(|_| Status::not_found("no such sizes"))?;
        Ok(Response::new(GetConsistencyProofResponse {
            path: path.iter().map(greffe_types::Digest::to_vec).collect(),
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
        let service = caller(&request)?.to_string();
        let log = self.clone();
        let most = {
            let mut state = log.state.lock().unwrap();
            state.streams += 1;
            state.break_after.take().unwrap_or(usize::MAX)
        };
        let answers = request
            .into_inner()
            .take(most)
            .map(move |request| Ok(log.take(&service, request?)));
        Ok(Response::new(answers.boxed()))
    }
}

impl Log {
    fn take(&self, service: &str, request: AppendRequest) -> AppendResponse {
        let mut state = self.state.lock().unwrap();
        let mut entry = request.entry.unwrap();
        if entry.event.is_none() {
            return AppendResponse {
                id: request.id,
                error: Some(EntryError {
                    reason: "ENTRY_UNTYPED".into(),
                    message: "an entry says what happened".into(),
                }),
                ..AppendResponse::default()
            };
        }
        service.clone_into(&mut entry.recorded_by);
        entry.at = 7;
        if state.lie == Lie::Entry {
            entry.event = Some(pb::log_entry::Event::SealedOrder(vec![0; 32]));
        }
        let known = state.by_id.get(&request.id).copied();
        let index = known.unwrap_or(state.leaves.len() as u64);
        if known.is_none() {
            state.by_id.insert(request.id.clone(), index);
            state.leaves.push(entry.encode_to_vec());
            self.grown.send_replace(state.leaves.len());
        }
        AppendResponse {
            id: request.id,
            index,
            leaf: state.leaves[index as usize].clone(),
            error: None,
        }
    }
}
