//! Who calls: services and applications by certificate, people by a token that they signed themselves.

use core::time::Duration;
use std::sync::Arc;

use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::Bundle;
use greffe_policy::{Caller, CallerKind, MAX_SKEW};
use greffe_service_kit::errors::ServiceError;
use greffe_service_kit::serve::{Authenticator, tls_caller};
use greffe_service_kit::tls;
use greffe_types::{Millis, TimeRange};
use http::HeaderMap;
use tonic::metadata::MetadataMap;

use super::refusal::{CALLER_NOT_A_PERSON, TOKEN_MISSING, TOKEN_REFUSED};
use super::signers::roles;
use crate::app::App;

/// Metadata that carries the token: protobuf of a `SignedStatement` "person-token".
pub const PERSON_TOKEN: &str = "greffe-person-bin";
/// The name that tokens for this service are addressed to.
pub const AUDIENCE: &str = "archive";
/// Longest that a token is valid.
pub const MAX_TOKEN_LIFE: Duration = Duration::from_secs(15 * 60);

/// The archive's authenticator. A person needs both: an application's certificate and a token of their own.
#[derive(Debug, Clone)]
pub struct ArchiveAuth(Arc<App>);

impl ArchiveAuth {
    /// Over an archive.
    pub const fn new(app: Arc<App>) -> Self {
        Self(app)
    }
}

#[tonic::async_trait]
impl Authenticator for ArchiveAuth {
    async fn authenticate(
        &self,
        _method: &str,
        kinds: &[CallerKind],
        peer: &tls::Caller,
        metadata: &HeaderMap,
    ) -> Result<Caller, ServiceError> {
        let connected = tls_caller(peer);
        let for_people = kinds.iter().any(|k| matches!(k, CallerKind::Person(_)));
        if !for_people {
            return Ok(connected);
        }
        if !matches!(connected, Caller::App(_)) {
            return Err(CALLER_NOT_A_PERSON.refuse());
        }
        let metadata = MetadataMap::from_headers(metadata.clone());
        let mut tokens = metadata.get_all_bin(PERSON_TOKEN).iter();
        let (Some(token), None) = (tokens.next(), tokens.next()) else {
            return Err(TOKEN_MISSING.refuse());
        };
        let token = token.to_bytes().map_err(|_| TOKEN_REFUSED.refuse())?;
        person(&token, &self.0.bundle(), self.0.now())
    }

    fn refused(&self, method: &str, caller: &str, reason: &str) {
        self.0.appender.append_refusal(method, caller, reason, &[]);
    }
}

/// The person that a token speaks for, with the roles of the current roster. A token may be used again within its window:
/// it opens reads, while acts carry signatures and nonces of their own.
fn person(token: &[u8], bundle: &Bundle, now: Millis) -> Result<Caller, ServiceError> {
    let signed = Signed::<pb::PersonToken>::decode_bytes(token)
        .map_err(|error| TOKEN_REFUSED.refuse().because(error))?;
    let window = TimeRange::new(Millis::new(signed.not_before), Millis::new(signed.expiry))
        .filter(|window| window.not_after() <= window.not_before().plus(MAX_TOKEN_LIFE))
        .ok_or_else(|| TOKEN_REFUSED.refuse())?;
    let ours = signed.tenant == bundle.tenant().as_str() && signed.audience == AUDIENCE;
    // The person's clock may be ahead of ours by as much as that of any signer.
    let valid = window.not_before() <= now.plus(MAX_SKEW) && now < window.not_after();
    if !ours || !valid || signed.nonce.len() != 16 {
        return Err(TOKEN_REFUSED.refuse());
    }
    let person = bundle
        .verify_person(&signed, &signed.person, &[], now)
        .map_err(|error| TOKEN_REFUSED.refuse().because(error))?;
    Ok(Caller::Person {
        name: person.name.clone(),
        roles: roles(person),
    })
}
