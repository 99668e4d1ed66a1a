//! Calls that this service refused at its door become entries of the log, few at a time.

use core::time::Duration;

use greffe_api::audit::AppendRequest;
use greffe_envelope::pb::{LogEntry, Refusal, log_entry::Event};
use greffe_policy::{Caller, CallerKind};
use greffe_service_kit::errors::ServiceError;
use greffe_service_kit::serve::{Authenticator, tls_caller};
use greffe_service_kit::tls;
use greffe_types::TenantId;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::app::App;
use crate::entry::check;

/// Refusals that wait; more than these are only counted, in the process's log.
const WAITING: usize = 64;
/// Whoever is refused cannot fill the log faster than this.
const PAUSE: Duration = Duration::from_millis(100);

/// Callers by their certificate; what is refused to them is logged.
#[derive(Debug)]
pub(crate) struct Refusals(mpsc::Sender<Refusal>);

impl Refusals {
    /// Starts the task that appends. It ends with the server.
    pub(crate) fn start(app: App, tenant: &TenantId, name: &str) -> Self {
        let (sender, mut receiver) = mpsc::channel(WAITING);
        let (tenant, name) = (tenant.clone(), name.to_owned());
        tokio::spawn(async move {
            while let Some(refusal) = receiver.recv().await {
                append(&app, &tenant, &name, refusal).await;
                sleep(PAUSE).await;
            }
        });
        Self(sender)
    }
}

async fn append(app: &App, tenant: &TenantId, name: &str, refusal: Refusal) {
    let mut id = [0; 16];
    if let Err(error) = getrandom::fill(&mut id) {
        tracing::error!(%error, "no randomness: a refusal is not logged");
        return;
    }
    let request = AppendRequest {
        id: id.to_vec(),
        entry: Some(LogEntry {
            tenant: tenant.to_string(),
            event: Some(Event::Refusal(refusal)),
            ..Default::default()
        }),
        trace: Vec::new(),
    };
    let outcome = match check(request, tenant, name) {
        Ok(proposed) => app.append(proposed).await,
        Err(refused) => Ok(Err(refused)),
    };
    match outcome {
        Ok(Ok(_)) => {}
        Ok(Err(refused)) => tracing::warn!(error = %refused, "a refusal is not logged"),
        Err(error) => tracing::warn!(%error, "a refusal is not logged"),
    }
}

#[tonic::async_trait]
impl Authenticator for Refusals {
    async fn authenticate(
        &self,
        _method: &str,
        _kinds: &[CallerKind],
        peer: &tls::Caller,
        _metadata: &http::HeaderMap,
    ) -> Result<Caller, ServiceError> {
        Ok(tls_caller(peer))
    }

    fn refused(&self, method: &str, caller: &str, reason: &str) {
        let refusal = Refusal {
            reason: reason.to_owned(),
            // A path that nobody serves is the caller's own text.
            operation: method
                .chars()
                .filter(char::is_ascii_graphic)
                .take(200)
                .collect(),
            caller: caller.to_owned(),
            subject: Vec::new(),
        };
        if self.0.try_send(refusal).is_err() {
            tracing::warn!(caller, reason, "more refusals than are logged");
        }
    }
}
