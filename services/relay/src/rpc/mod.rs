//! The relay's RPCs: parse, authorise, call the app.

mod attachments;
mod conversation;
mod directory;
mod receive;
mod send;

use std::sync::Arc;

use greffe_service_kit::serve::caller;
use greffe_types::ConversationId;
use tonic::{Request, Response, Status};

use crate::app::App;
use crate::auth;
use crate::error::RelayError;
use crate::session::Session;

/// Both services of the relay.
#[derive(Debug, Clone)]
pub struct Rpc {
    app: Arc<App>,
}

impl Rpc {
    /// Over a relay.
    pub const fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    /// Runs a use case for a device; a refusal that an honest client does not earn is recorded in the log.
    async fn for_device<Q, T>(
        &self,
        operation: &'static str,
        request: Request<Q>,
        act: impl AsyncFnOnce(Session, Q) -> Result<T, RelayError>,
    ) -> Result<Response<T>, Status> {
        let session = auth::session(&self.app, request.metadata()).await?;
        let device = session.device;
        match act(session, request.into_inner()).await {
            Ok(answer) => Ok(Response::new(answer)),
            Err(error) => {
                self.record(operation, &format!("device:{device}"), &error);
                Err(error.into())
            }
        }
    }

    /// Runs a use case for an application.
    async fn for_app<Q, T>(
        &self,
        operation: &'static str,
        request: Request<Q>,
        act: impl AsyncFnOnce(Q) -> Result<T, RelayError>,
    ) -> Result<Response<T>, Status> {
        let who = caller(&request)?.to_string();
        match act(request.into_inner()).await {
            Ok(answer) => Ok(Response::new(answer)),
            Err(error) => {
                self.record(operation, &who, &error);
                Err(error.into())
            }
        }
    }

    fn record(&self, operation: &str, caller: &str, error: &RelayError) {
        if error.is_recorded() {
            self.app
                .record_refusal(operation, caller, error.reason(), &[]);
        }
    }
}

/// The group id of a request.
fn conversation_id(bytes: &[u8]) -> Result<ConversationId, RelayError> {
    ConversationId::try_from(bytes).map_err(|_| RelayError::Field("conversation"))
}
