//! The calls of people: each is authenticated before it comes here, answered by its use case, and written down when refused.

use std::future::Future;
use std::sync::Arc;

use greffe_api::archive as api;
use greffe_api::archive::archive_service_server::ArchiveService;
use greffe_api::archive::order_service_server::OrderService;
use greffe_envelope::label::sha256;
use greffe_envelope::pb;
use greffe_policy::Caller;
use greffe_service_kit::errors::ServiceError;
use greffe_service_kit::serve::caller;
use greffe_types::Digest;
use tonic::{Request, Response, Status};

use super::orders::{AttachmentStream, RecordStream};
use super::refusal::CALLER_NOT_A_PERSON;
use super::{About, Person, acts, matters, orders, range, reads, records, unused};
use crate::app::App;
use crate::error::ArchiveError;

/// `ArchiveService` and `OrderService`.
#[derive(Debug, Clone)]
pub struct People(Arc<App>);

impl People {
    /// Over an archive.
    pub const fn new(app: Arc<App>) -> Self {
        Self(app)
    }

    /// Answers a call; a refusal gets its entry in the log before the caller hears of it.
    async fn answer<T>(
        &self,
        operation: &'static str,
        person: &Person,
        about: About<'_>,
        work: impl Future<Output = Result<T, ArchiveError>> + Send,
    ) -> Result<Response<T>, Status> {
        match work.await {
            Ok(answer) => Ok(Response::new(answer)),
            Err(error) => {
                let error = ServiceError::from(error);
                self.0.note_refused(operation, person, &error, about).await;
                Err(error.into())
            }
        }
    }
}

/// The digest of a statement that a call carries.
fn digest(statement: Option<&pb::SignedStatement>) -> Option<Digest> {
    statement.map(|signed| sha256(&signed.statement))
}

impl<'a> About<'a> {
    const fn of(digest: &'a Option<Digest>) -> Self {
        match digest {
            Some(digest) => Self::Public(digest.as_bytes()),
            None => Self::Nothing,
        }
    }
}

fn person<T>(request: &Request<T>) -> Result<Person, ServiceError> {
    match caller(request)? {
        Caller::Person { name, .. } => Ok(Person { name: name.clone() }),
        _ => Err(CALLER_NOT_A_PERSON.refuse()),
    }
}

#[tonic::async_trait]
impl ArchiveService for People {
    async fn search_records(
        &self,
        request: Request<api::SearchRecordsRequest>,
    ) -> Result<Response<api::SearchRecordsResponse>, Status> {
        let (person, request) = (person(&request)?, request.into_inner());
        let query = request.query.as_ref().map(prost::Message::encode_to_vec);
        let about = About::Read(query.as_deref().unwrap_or_default());
        let work = records::search(&self.0, &person, &request);
        self.answer("SearchRecords", &person, about, work).await
    }

    async fn get_record(
        &self,
        request: Request<api::GetRecordRequest>,
    ) -> Result<Response<api::GetRecordResponse>, Status> {
        let (person, request) = (person(&request)?, request.into_inner());
        let work = records::get(&self.0, &person, &request);
        let about = About::Read(&request.digest);
        self.answer("GetRecord", &person, about, work).await
    }

    async fn get_range(
        &self,
        request: Request<api::GetRangeRequest>,
    ) -> Result<Response<api::GetRangeResponse>, Status> {
        let (person, request) = (person(&request)?, request.into_inner());
        let work = range::get(&self.0, &person, &request);
        let about = About::Read(&request.conversation);
        self.answer("GetRange", &person, about, work).await
    }

    async fn act(
        &self,
        request: Request<api::ActRequest>,
    ) -> Result<Response<api::ActResponse>, Status> {
        let (person, request) = (person(&request)?, request.into_inner());
        let digest = digest(request.acts.first());
        let work = acts::act(&self.0, &person, request);
        self.answer("Act", &person, About::of(&digest), work).await
    }

    async fn confirm_key_unused(
        &self,
        request: Request<api::ConfirmKeyUnusedRequest>,
    ) -> Result<Response<api::ConfirmKeyUnusedResponse>, Status> {
        let (person, request) = (person(&request)?, request.into_inner());
        let key = request.key_id.as_slice().try_into().ok();
        let about = key.map_or(About::Nothing, About::Public);
        let work = unused::confirm(&self.0, &request);
        self.answer("ConfirmKeyUnused", &person, about, work).await
    }

    async fn list_matters(
        &self,
        request: Request<api::ListMattersRequest>,
    ) -> Result<Response<api::ListMattersResponse>, Status> {
        let (person, request) = (person(&request)?, request.into_inner());
        let work = matters::list(&self.0, &request);
        self.answer("ListMatters", &person, About::Nothing, work)
            .await
    }

    async fn list_reads(
        &self,
        request: Request<api::ListReadsRequest>,
    ) -> Result<Response<api::ListReadsResponse>, Status> {
        let (person, request) = (person(&request)?, request.into_inner());
        let work = reads::list(&self.0, &request);
        self.answer("ListReads", &person, About::Nothing, work)
            .await
    }
}

#[tonic::async_trait]
impl OrderService for People {
    type FetchRecordsStream = RecordStream;
    type FetchAttachmentStream = AttachmentStream;

    async fn file_order(
        &self,
        request: Request<api::FileOrderRequest>,
    ) -> Result<Response<api::FileOrderResponse>, Status> {
        let (person, request) = (person(&request)?, request.into_inner());
        let digest = digest(request.order.as_ref());
        let work = orders::file(&self.0, &person, request);
        self.answer("FileOrder", &person, About::of(&digest), work)
            .await
    }

    async fn approve_order(
        &self,
        request: Request<api::ApproveOrderRequest>,
    ) -> Result<Response<api::ApproveOrderResponse>, Status> {
        let (person, request) = (person(&request)?, request.into_inner());
        let digest = digest(request.approval.as_ref());
        let work = orders::approve(&self.0, &person, request);
        self.answer("ApproveOrder", &person, About::of(&digest), work)
            .await
    }

    async fn get_order(
        &self,
        request: Request<api::GetOrderRequest>,
    ) -> Result<Response<api::GetOrderResponse>, Status> {
        let (person, request) = (person(&request)?, request.into_inner());
        let work = orders::get(&self.0, &request);
        let about = About::Read(&request.order);
        self.answer("GetOrder", &person, about, work).await
    }

    async fn list_orders(
        &self,
        request: Request<api::ListOrdersRequest>,
    ) -> Result<Response<api::ListOrdersResponse>, Status> {
        let (person, request) = (person(&request)?, request.into_inner());
        let work = orders::list(&self.0, &request);
        self.answer("ListOrders", &person, About::Nothing, work)
            .await
    }

    async fn fetch_records(
        &self,
        request: Request<api::FetchRecordsRequest>,
    ) -> Result<Response<RecordStream>, Status> {
        let (person, request) = (person(&request)?, request.into_inner());
        let work = orders::records(&self.0, &person, &request);
        let about = About::Read(&request.order);
        self.answer("FetchRecords", &person, about, work).await
    }

    async fn fetch_attachment(
        &self,
        request: Request<api::FetchAttachmentRequest>,
    ) -> Result<Response<AttachmentStream>, Status> {
        let (person, request) = (person(&request)?, request.into_inner());
        let work = orders::attachment(&self.0, &person, &request);
        // Members know an attachment's digest, and an order may be sealed.
        let about = About::Read(&request.order);
        self.answer("FetchAttachment", &person, about, work).await
    }
}
