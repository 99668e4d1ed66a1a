//! For people: search, records, ranges, acts on matters, holds, retention and records, orders and what they release.
//!
//! Every call carries a person-token; every act, order and approval carries the signature of the person who answers for it.
//! What is read is written down before it is answered, and so is what is refused.

mod acts;
mod auth;
mod matters;
mod orders;
mod page;
mod range;
mod records;
mod refusal;
mod rpc;
mod signers;

use std::sync::Arc;

use greffe_api::archive::archive_service_server::ArchiveServiceServer;
use greffe_api::archive::order_service_server::OrderServiceServer;
use greffe_envelope::pb;
use greffe_envelope::statement::decode_strict;
use greffe_service_kit::errors::{Causes, Reason, ServiceError};
use greffe_service_kit::shares::Share;
use tonic::Code;

pub use auth::{AUDIENCE, ArchiveAuth, MAX_TOKEN_LIFE, PERSON_TOKEN};
pub(crate) use refusal::clock as clock_refusal;
pub use rpc::People;

use crate::app::{App, News};
use crate::error::ArchiveError;
use crate::store::access;

/// The services that people call.
pub fn services(app: &Arc<App>) -> (ArchiveServiceServer<People>, OrderServiceServer<People>) {
    let people = People::new(app.clone());
    (
        ArchiveServiceServer::new(people.clone()),
        OrderServiceServer::new(people),
    )
}

/// A person who calls, by the name of the roster.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    /// The name.
    pub(crate) name: String,
}

/// As many searches and ranges are under way as the archive, or the person, may have.
const TOO_MANY_SEARCHES: Reason = Reason::new("TOO_MANY_SEARCHES");

impl App {
    /// A place among the reads that look at many records, for as long as it is held.
    fn search_place(&self, person: &Person) -> Result<Share, ServiceError> {
        self.searches
            .take(&person.name, 1)
            .map_err(|full| full.refuse(TOO_MANY_SEARCHES, "searches at once"))
    }

    /// Writes down that a person read something.
    async fn note_read(
        &self,
        person: &Person,
        action: &'static str,
        count: u64,
        subject: &[u8],
    ) -> Result<[u8; 16], ArchiveError> {
        let id = fresh()?;
        let access = pb::Access {
            person: person.name.clone(),
            action: action.to_owned(),
            count,
            subject: subject.to_vec(),
        };
        self.write_and_wake("note_read", &[News::Outbox], async |conn| {
            Ok(access::read(conn, &self.scope, &id, access).await?)
        })
        .await?;
        Ok(id)
    }

    /// Writes down that a person was refused something; not that we failed, or asked for patience. A failure to write is ours
    /// to see, not the caller's.
    async fn note_refused(
        &self,
        operation: &str,
        person: &Person,
        error: &ServiceError,
        subject: &[u8],
    ) {
        if !is_refusal(error.code()) {
            return;
        }
        let refusal = pb::Refusal {
            reason: error.reason().to_string(),
            operation: operation.to_owned(),
            caller: format!("person:{}", person.name),
            // A digest or an id; anything longer is not worth the log's room.
            subject: subject.get(..32).unwrap_or(subject).to_vec(),
        };
        let written = async {
            let id = fresh()?;
            self.write_and_wake("note_refusal", &[News::Outbox], async |conn| {
                Ok(access::refused(conn, &self.scope, &id, refusal).await?)
            })
            .await
        };
        if let Err(error) = written.await {
            tracing::error!(causes = %Causes(&error), "a refusal could not be written down");
        }
    }
}

/// Whether the caller was refused, as against us failing or asking for patience.
const fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unauthenticated
    )
}

/// Fresh random bytes.
fn fresh<const N: usize>() -> Result<[u8; N], ServiceError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        ServiceError::new(
            Code::Internal,
            Reason::new("NO_RANDOMNESS"),
            "the machine gives no random bytes",
        )
        .because(error)
    })?;
    Ok(bytes)
}

/// A statement that the archive stored.
fn stored(bytes: &[u8]) -> Result<pb::SignedStatement, ArchiveError> {
    decode_strict("signed-statement", bytes)
        .map_err(|_| ArchiveError::Damaged("a stored statement"))
}
