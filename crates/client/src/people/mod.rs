//! What people ask of the archive: searches, ranges, matters, holds and other acts, orders, opened records.

mod acts;
mod combine;
mod open;
mod openings;
mod orders;
mod reads;
mod record;

use greffe_api::archive as api;
use greffe_api::archive::archive_service_client::ArchiveServiceClient;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::verify_range;
use greffe_service_kit::tls::Channel;
use greffe_types::{ConversationId, Digest};
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};

pub use combine::{NotOpened, OpenedRecord};
pub use open::Opening;
pub use openings::{LoggedOpening, LoggedOpenings};
pub use orders::{OrderInfo, OrderRequest, OrderState, UnverifiedOrder};
pub use reads::ProvedRead;
pub use record::{Record, verify_record};

use crate::client::Client;
use crate::error::{ClientError, Result, call, malformed, untrusted};
use crate::person::Person;

/// Metadata that carries a person's token.
const TOKEN: &str = "greffe-person-bin";
/// The service that tokens are addressed to.
const AUDIENCE: &str = "archive";

/// A person at work.
#[derive(Debug, Clone)]
pub struct People {
    client: Client,
    person: Person,
}

/// A page of something.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// For the next page; none on the last.
    pub next: Option<String>,
}

impl<T> Page<T> {
    fn new(items: Vec<T>, token: String) -> Self {
        Self {
            items,
            next: (!token.is_empty()).then_some(token),
        }
    }
}

impl People {
    /// A person who uses this client.
    pub fn new(client: &Client, person: Person) -> Self {
        Self {
            client: client.clone(),
            person,
        }
    }

    /// The person.
    pub fn person(&self) -> &Person {
        &self.person
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn request<T>(&self, message: T) -> Result<Request<T>> {
        let tenant = self.client.connection().tenant();
        let token = self.person.token(tenant, AUDIENCE, self.client.now())?;
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert_bin(TOKEN, MetadataValue::from_bytes(&token));
        Ok(request)
    }

    /// A call with the person's token; a service that cannot be reached is tried again for a while.
    async fn unary<Q, A, F, R>(&self, operation: &'static str, message: Q, make: F) -> Result<A>
    where
        Q: Clone,
        F: Fn(Request<Q>) -> R,
        R: Future<Output = Result<Response<A>, Status>>,
    {
        let mut pause = self.client.pause();
        loop {
            match make(self.request(message.clone())?).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => pause.after(call(operation)(status)).await?,
            }
        }
    }

    fn archive(&self) -> Result<ArchiveServiceClient<Channel>> {
        self.client.connection().archive()
    }

    /// A page of what headers say, without content.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn search(
        &self,
        query: &api::RecordQuery,
        page_size: u32,
        page: Option<String>,
    ) -> Result<Page<api::RecordSummary>> {
        let archive = self.archive()?;
        let request = api::SearchRecordsRequest {
            query: Some(query.clone()),
            page_size,
            page_token: page.unwrap_or_default(),
        };
        let answer = self.unary("SearchRecords", request, |request| {
            let mut archive = archive.clone();
            async move { archive.search_records(request).await }
        });
        let answer = answer.await?;
        Ok(Page::new(answer.records, answer.next_page_token))
    }

    /// Everything that a query finds.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn search_all(&self, query: &api::RecordQuery) -> Result<Vec<api::RecordSummary>> {
        let (mut found, mut page) = (Vec::new(), None);
        loop {
            let next = self.search(query, 1000, page).await?;
            found.extend(next.items);
            match next.next {
                Some(token) => page = Some(token),
                None => return Ok(found),
            }
        }
    }

    /// A record without content.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn record(&self, digest: &Digest) -> Result<api::GetRecordResponse> {
        let archive = self.archive()?;
        let request = api::GetRecordRequest {
            digest: digest.to_vec(),
        };
        let answer = self.unary("GetRecord", request, |request| {
            let mut archive = archive.clone();
            async move { archive.get_record(request).await }
        });
        answer.await
    }

    /// The archive's signed word on everything that took a number in a conversation, verified: nothing between the two
    /// heads is missing. 0 stands for the first and the last there is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn range(
        &self,
        conversation: &ConversationId,
        first: u64,
        last: u64,
    ) -> Result<Signed<pb::RangeStatement>> {
        let archive = self.archive()?;
        let request = api::GetRangeRequest {
            conversation: conversation.to_vec(),
            first,
            last,
        };
        let answer = self.unary("GetRange", request, |request| {
            let mut archive = archive.clone();
            async move { archive.get_range(request).await }
        });
        let raw = answer
            .await?
            .range
            .ok_or(ClientError::Answer("no range statement"))?;
        let range = Signed::<pb::RangeStatement>::decode(raw).map_err(malformed("range"))?;
        let state = self.client.trust()?;
        verify_range(&range, state.bundle()).map_err(untrusted("range"))?;
        if range.conversation != conversation.as_bytes()
            || (first != 0 && range.first != first)
            || (last != 0 && range.last != last)
        {
            return Err(ClientError::Answer("a range of something else"));
        }
        Ok(range)
    }
}
