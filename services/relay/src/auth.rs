//! Who calls the relay: an application by its certificate, a device by the session that comes with the call.

use std::sync::Arc;

use greffe_policy::{Caller, CallerKind};
use greffe_service_kit::errors::ServiceError;
use greffe_service_kit::serve::{Authenticator, tls_caller};
use greffe_service_kit::tls::{self, PeerKind};
use http::HeaderMap;
use tonic::metadata::MetadataMap;

use crate::app::App;
use crate::error::RelayError;
use crate::session::{METADATA, Session, SessionError};

/// Authenticates devices by their sessions.
#[derive(Debug, Clone)]
pub struct DeviceSessions(Arc<App>);

impl DeviceSessions {
    /// Of a relay.
    pub const fn new(app: Arc<App>) -> Self {
        Self(app)
    }
}

#[tonic::async_trait]
impl Authenticator for DeviceSessions {
    async fn authenticate(
        &self,
        _method: &str,
        kinds: &[CallerKind],
        peer: &tls::Caller,
        metadata: &HeaderMap,
    ) -> Result<Caller, ServiceError> {
        if peer.id.kind() != PeerKind::App || !kinds.contains(&CallerKind::DeviceSession) {
            return Ok(tls_caller(peer));
        }
        let metadata = MetadataMap::from_headers(metadata.clone());
        let session = session(&self.0, &metadata).await?;
        Ok(Caller::DeviceSession(session.device))
    }

    fn refused(&self, method: &str, caller: &str, reason: &str) {
        self.0.record_refusal(method, caller, reason, &[]);
    }
}

/// The session of a call: genuine, for this relay and tenant, not run out, and its certificate still valid.
///
/// # Errors
/// [`RelayError::Session`], [`RelayError::CertificateInvalid`].
pub async fn session(app: &App, metadata: &MetadataMap) -> Result<Session, RelayError> {
    let token = metadata.get_bin(METADATA).ok_or(SessionError::Missing)?;
    let token = token.to_bytes().map_err(|_| SessionError::Malformed)?;
    let now = app.now();
    let session = app.sessions.check(&token, now)?;
    // a bundle may have revoked it since the login
    app.devices.valid(&session.certificate, now).await?;
    Ok(session)
}
