//! Who makes a call: from the certificate alone, or from a session or token that only the service can verify.

use greffe_policy::{Caller, CallerKind};
use http::HeaderMap;

use crate::errors::ServiceError;
use crate::tls::{self, PeerKind};

/// Turns a certificate and what came with the call into a caller.
#[tonic::async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// Authenticates the caller of `method`. `kinds` are those that its rule allows: they say which credentials to look
    /// for. Whether the caller found is allowed is not decided here.
    ///
    /// # Errors
    /// A credential that is missing, malformed, expired or false: UNAUTHENTICATED with a stable reason.
    async fn authenticate(
        &self,
        method: &str,
        kinds: &[CallerKind],
        peer: &tls::Caller,
        metadata: &HeaderMap,
    ) -> Result<Caller, ServiceError>;

    /// A call was refused before it reached its handler; must not block.
    fn refused(&self, method: &str, caller: &str, reason: &str) {
        let _ = (method, caller, reason);
    }
}

/// The caller that a certificate alone gives.
pub fn tls_caller(peer: &tls::Caller) -> Caller {
    let name = peer.id.name().to_owned();
    match peer.id.kind() {
        PeerKind::Service => Caller::Service(name),
        PeerKind::App => Caller::App(name),
    }
}

/// For services whose callers are services and applications only.
#[derive(Debug, Clone, Copy, Default)]
pub struct TlsOnly;

#[tonic::async_trait]
impl Authenticator for TlsOnly {
    async fn authenticate(
        &self,
        _method: &str,
        _kinds: &[CallerKind],
        peer: &tls::Caller,
        _metadata: &HeaderMap,
    ) -> Result<Caller, ServiceError> {
        Ok(tls_caller(peer))
    }
}
