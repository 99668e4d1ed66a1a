//! The node's RPCs: parse, call the use case, answer.

use std::sync::Arc;

use futures::StreamExt as _;
use greffe_api::escrow::escrow_service_server::EscrowService;
use greffe_api::escrow::witness_service_server::WitnessService;
use greffe_api::escrow::{
    ActivateRequest, ActivateResponse, AddCheckpointRequest, AddCheckpointResponse,
    AdvanceKeygenRequest, AdvanceKeygenResponse, AdvanceReshareRequest, AdvanceReshareResponse,
    GetCurrencyRequest, GetCurrencyResponse, GetStatusRequest, GetStatusResponse, OpenOrder,
    OpenRequest, OpenResponse, ProveShareRequest, ProveShareResponse, open_request,
};
use greffe_policy::{Caller, CallerKind};
use greffe_service_kit::errors::ServiceError;
use greffe_service_kit::serve::{Authenticator, caller, tls_caller};
use greffe_service_kit::tls;
use http::HeaderMap;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::app::{Node, WitnessDesk};
use crate::error::{MALFORMED, Refusal, TOO_MANY_OPENINGS};

/// Answers that wait for a reader who is slow to take them.
const ANSWERS: usize = 256;

/// Who is at the door: the certificate says it, and the log hears of whom it did not let in.
#[derive(Debug, Clone)]
pub struct Door(pub Arc<Node>);

#[tonic::async_trait]
impl Authenticator for Door {
    async fn authenticate(
        &self,
        _method: &str,
        _kinds: &[CallerKind],
        peer: &tls::Caller,
        _metadata: &HeaderMap,
    ) -> Result<Caller, ServiceError> {
        Ok(tls_caller(peer))
    }

    fn refused(&self, method: &str, caller: &str, reason: &str) {
        self.0.refused(method, caller, reason);
    }
}

/// EscrowService.
#[derive(Debug, Clone)]
pub struct Escrow(pub Arc<Node>);

/// WitnessService.
#[derive(Debug, Clone)]
pub struct Witnessing(pub Arc<WitnessDesk>);

type Answers = mpsc::Sender<Result<OpenResponse, Status>>;

#[tonic::async_trait]
impl EscrowService for Escrow {
    type OpenStream = ReceiverStream<Result<OpenResponse, Status>>;

    async fn advance_keygen(
        &self,
        request: Request<AdvanceKeygenRequest>,
    ) -> Result<Response<AdvanceKeygenResponse>, Status> {
        let caller = caller(&request)?.to_string();
        let outcome = self.0.advance_keygen(request.into_inner()).await;
        let response = outcome.inspect_err(|refusal| {
            let reason = refusal.reason().as_str();
            self.0.refused("AdvanceKeygen", &caller, reason);
        })?;
        Ok(Response::new(response))
    }

    async fn advance_reshare(
        &self,
        request: Request<AdvanceReshareRequest>,
    ) -> Result<Response<AdvanceReshareResponse>, Status> {
        let caller = caller(&request)?.to_string();
        let outcome = self.0.advance_reshare(request.into_inner()).await;
        let response = outcome.inspect_err(|refusal| {
            let reason = refusal.reason().as_str();
            self.0.refused("AdvanceReshare", &caller, reason);
        })?;
        Ok(Response::new(response))
    }

    async fn prove_share(
        &self,
        request: Request<ProveShareRequest>,
    ) -> Result<Response<ProveShareResponse>, Status> {
        let caller = caller(&request)?.to_string();
        let outcome = self.0.prove_share(request.into_inner()).await;
        let response = outcome.inspect_err(|refusal| {
            let reason = refusal.reason().as_str();
            self.0.refused("ProveShare", &caller, reason);
        })?;
        Ok(Response::new(response))
    }

    async fn activate(
        &self,
        request: Request<ActivateRequest>,
    ) -> Result<Response<ActivateResponse>, Status> {
        self.0.activate(request.into_inner()).await?;
        Ok(Response::new(ActivateResponse {}))
    }

    async fn open(
        &self,
        request: Request<Streaming<OpenRequest>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let caller = caller(&request)?.to_string();
        // Until the opening has ended, whoever still listens.
        let place = self
            .0
            .openings
            .take(&caller, 1)
            .map_err(|full| full.refuse(TOO_MANY_OPENINGS, "openings at once"))?;
        let (answers, stream) = mpsc::channel(ANSWERS);
        let node = self.0.clone();
        tokio::spawn(async move {
            let _place = place;
            if let Err(status) = open(&node, request.into_inner(), caller, &answers).await {
                // Nobody may be listening any more.
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn get_currency(
        &self,
        request: Request<GetCurrencyRequest>,
    ) -> Result<Response<GetCurrencyResponse>, Status> {
        Ok(Response::new(
            self.0.currency(request.into_inner().mode).await?,
        ))
    }

    async fn get_status(
        &self,
        _request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(self.0.status().await?))
    }
}

#[tonic::async_trait]
impl WitnessService for Witnessing {
    async fn add_checkpoint(
        &self,
        request: Request<AddCheckpointRequest>,
    ) -> Result<Response<AddCheckpointResponse>, Status> {
        let response = self.0.add_checkpoint(request.into_inner()).await?;
        Ok(Response::new(response))
    }
}

/// One opening: the order, then whatever records have come by the time the last batch is answered.
async fn open(
    node: &Arc<Node>,
    mut requests: Streaming<OpenRequest>,
    caller: String,
    answers: &Answers,
) -> Result<(), Status> {
    let order = first(&mut requests).await?;
    let mut opening = node.open_order(order, caller).await?;
    let mut batches = requests.ready_chunks(node.settings.batch.max(1));
    while let Some(batch) = batches.next().await {
        let mut records = Vec::with_capacity(batch.len());
        for request in batch {
            match request?.part {
                Some(open_request::Part::Record(record)) => records.push(record),
                _ => return Err(malformed("after the order come records")),
            }
        }
        for response in node.open_records(&mut opening, records).await {
            if answers.send(Ok(response)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn first(requests: &mut Streaming<OpenRequest>) -> Result<OpenOrder, Status> {
    match requests.message().await?.and_then(|request| request.part) {
        Some(open_request::Part::Order(order)) => Ok(order),
        _ => Err(malformed("the first message is the order")),
    }
}

fn malformed(message: &'static str) -> Status {
    Refusal::malformed(MALFORMED, message).into()
}
