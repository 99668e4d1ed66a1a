//! The two gRPC services: parse, ask the app, answer.

use core::pin::Pin;
use core::time::Duration;

use futures::{Stream, StreamExt as _};
use greffe_api::audit as api;
use greffe_api::audit::audit_service_server::AuditService;
use greffe_api::audit::get_inclusion_proof_request::Leaf as Asked;
use greffe_api::audit::log_service_server::LogService;
use greffe_service_kit::errors::{Causes, ServiceError};
use greffe_service_kit::serve::peer;
use greffe_service_kit::telemetry::trace;
use greffe_service_kit::tls::Caller;
use greffe_types::Digest;
use tonic::{Request, Response, Status, Streaming};

use crate::app::{App, LeafName, invalid};
use crate::entry::{EntryRefused, check};
use crate::follow::follow;
use crate::sequencer::Appended;

/// Entries of one stream that are on their way to the disk at once.
const IN_FLIGHT: usize = 512;
/// Most leaves of one answer.
const MOST_ENTRIES: u32 = 1000;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Appending, for services.
#[derive(Debug, Clone)]
pub(crate) struct Appending(pub(crate) App);

#[tonic::async_trait]
impl AuditService for Appending {
    type AppendStream = Answers<api::AppendResponse>;

    async fn append(
        &self,
        request: Request<Streaming<api::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let caller = peer(&request)?.clone();
        let app = self.0.clone();
        // In the order of the requests; each waits for its own fsync, which the group shares.
        let answers = request
            .into_inner()
            .map(move |request| {
                let (app, caller) = (app.clone(), caller.clone());
                async move { append_one(&app, &caller, request?).await }
            })
            .buffered(IN_FLIGHT);
        Ok(Response::new(Box::pin(answers)))
    }
}

async fn append_one(
    app: &App,
    caller: &Caller,
    request: api::AppendRequest,
) -> Result<api::AppendResponse, Status> {
    let id = request.id.clone();
    let named = Some(&request.trace).filter(|trace| trace.len() == 16);
    let _span = trace::of(named.unwrap_or(&id), tracing::info_span!("audit.append"));
    let outcome = match check(request, caller.id.tenant(), caller.id.name()) {
        Ok(proposed) => app.append(proposed).await?,
        Err(refused) => Err(refused),
    };
    Ok(match outcome {
        Ok(Appended { index, leaf }) => api::AppendResponse {
            id,
            index,
            leaf,
            error: None,
        },
        Err(refused) => api::AppendResponse {
            id,
            error: Some(entry_error(caller, &refused)),
            ..Default::default()
        },
    })
}

fn entry_error(caller: &Caller, refused: &EntryRefused) -> api::EntryError {
    tracing::warn!(caller = %caller.id, reason = %refused.reason(), causes = %Causes(refused), "an entry was refused");
    api::EntryError {
        reason: refused.reason().as_str().to_owned(),
        message: refused.to_string(),
    }
}

/// Reading, for everybody in the tenant.
#[derive(Debug, Clone)]
pub(crate) struct Reading(pub(crate) App);

#[tonic::async_trait]
impl LogService for Reading {
    type FollowStream = Answers<api::FollowResponse>;

    async fn get_checkpoint(
        &self,
        request: Request<api::GetCheckpointRequest>,
    ) -> Result<Response<api::GetCheckpointResponse>, Status> {
        let request = request.into_inner();
        let age = Duration::from_millis(request.maximum_age_ms);
        let published = self.0.checkpoint(request.minimum_size, age).await?;
        Ok(Response::new(api::GetCheckpointResponse {
            checkpoint: published.checkpoint.encode(),
        }))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<api::GetInclusionProofRequest>,
    ) -> Result<Response<api::GetInclusionProofResponse>, Status> {
        let request = request.into_inner();
        let name = match request.leaf {
            Some(Asked::Index(index)) => LeafName::Index(index),
            Some(Asked::LeafHash(hash)) => LeafName::Hash(
                Digest::try_from(hash.as_slice())
                    .map_err(|_| invalid("leaf_hash has to have 32 bytes"))?,
            ),
            None => return Err(invalid("leaf is missing: an index or a hash").into()),
        };
        let found = self.0.inclusion(name, request.size).await?;
        Ok(Response::new(api::GetInclusionProofResponse {
            index: found.leaf.index,
            size: found.size,
            path: found.path.iter().map(Digest::to_vec).collect(),
            leaf: found.leaf.bytes,
        }))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<api::GetConsistencyProofRequest>,
    ) -> Result<Response<api::GetConsistencyProofResponse>, Status> {
        let request = request.into_inner();
        let proof = self
            .0
            .consistency(request.old_size, request.new_size)
            .await?;
        Ok(Response::new(api::GetConsistencyProofResponse {
            path: proof.iter().map(Digest::to_vec).collect(),
        }))
    }

    async fn list_entries(
        &self,
        request: Request<api::ListEntriesRequest>,
    ) -> Result<Response<api::ListEntriesResponse>, Status> {
        let api::ListEntriesRequest { start, count } = request.into_inner();
        if !(1..=MOST_ENTRIES).contains(&count) {
            return Err(invalid("count has to be 1 to 1000").into());
        }
        let leaves = self.0.entries(start, u64::from(count)).await?;
        Ok(Response::new(api::ListEntriesResponse {
            start,
            leaves: leaves.into_iter().map(|leaf| leaf.bytes).collect(),
        }))
    }

    async fn get_tile(
        &self,
        request: Request<api::GetTileRequest>,
    ) -> Result<Response<api::GetTileResponse>, Status> {
        let tile = self.0.tile(&request.into_inner().path).await?;
        Ok(Response::new(api::GetTileResponse { tile }))
    }

    async fn follow(
        &self,
        request: Request<api::FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let answers = follow(self.0.clone(), request.into_inner().start)
            .map_err(|error: ServiceError| Status::from(error))?;
        Ok(Response::new(Box::pin(answers)))
    }
}
