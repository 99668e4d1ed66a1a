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
mod reads;
mod records;
mod refusal;
mod rpc;
mod signers;
mod unused;

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
use crate::store::access::{self, Subject};

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

/// What a call that may be refused is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum About<'a> {
    /// Nothing in particular.
    Nothing,
    /// What may be named to everybody: the digest of a statement that the caller signed, a journaling key.
    Public(&'a [u8; 32]),
    /// Something to read: the log gets a commitment to it.
    Read(&'a [u8]),
}

/// Most bytes that are kept of what was asked for in vain.
const MAX_ASKED: usize = 4096;

/// As many searches and ranges are under way as the archive, or the person, may have.
const TOO_MANY_SEARCHES: Reason = Reason::new("TOO_MANY_SEARCHES");

impl App {
    /// A place among the reads that look at many records, for as long as it is held.
    fn search_place(&self, person: &Person) -> Result<Share, ServiceError> {
        self.searches
            .take(&person.name, 1)
            .map_err(|full| full.refuse(TOO_MANY_SEARCHES, "searches at once"))
    }

    /// Writes down that a person read something; the log learns only that it was something.
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
            subject: Vec::new(),
        };
        let subject = Subject {
            bytes: subject,
            salt: fresh()?,
        };
        self.write_and_wake("note_read", &[News::Outbox], async |conn| {
            Ok(access::read(conn, &self.scope, &id, access, subject).await?)
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
        about: About<'_>,
    ) {
        if !is_refusal(error.code()) {
            return;
        }
        let refusal = pb::Refusal {
            reason: error.reason().to_string(),
            operation: operation.to_owned(),
            caller: format!("person:{}", person.name),
            subject: match about {
                About::Public(digest) => digest.to_vec(),
                About::Nothing | About::Read(_) => Vec::new(),
            },
        };
        let written = async {
            let id = fresh()?;
            let subject = match about {
                About::Read(bytes) => Some(Subject {
                    // An id, a digest or a query; anything longer is not worth the room.
                    bytes: bytes.get(..MAX_ASKED).unwrap_or(bytes),
                    salt: fresh()?,
                }),
                About::Nothing | About::Public(_) => None,
            };
            self.write_and_wake("note_refusal", &[News::Outbox], async |conn| {
                Ok(access::refused(conn, &self.scope, &id, refusal, subject).await?)
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
