//! A time to destroy by: our clock, and cosignatures that a quorum of witnesses gave just now.

use core::time::Duration;
use std::collections::BTreeMap;

use greffe_api::audit::GetCheckpointRequest;
use greffe_api::audit::log_service_client::LogServiceClient;
use greffe_envelope::trust::Bundle;
use greffe_policy::TrustedNow;
use greffe_service_kit::errors::{Reason, ServiceError};
use greffe_tlog::{CosignerKey, NoteVerifier, SignedCheckpoint};
use greffe_types::Millis;
use tonic::Code;

use crate::app::App;
use crate::error::ArchiveError;

/// The log, or its witnesses, do not answer.
pub const LOG_UNAVAILABLE: Reason = Reason::new("LOG_UNAVAILABLE");

/// How old the cosignatures may be: the log asks its witnesses again when theirs are older.
const MAX_AGE: Duration = Duration::from_secs(60);
/// Longest that the log may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A time that witnesses agree with, under a checkpoint of at least `size` leaves.
///
/// # Errors
/// When the log does not answer, answers with less, or too few witnesses agree with our clock.
pub async fn now(app: &App, size: u64) -> Result<TrustedNow, ArchiveError> {
    let request = GetCheckpointRequest {
        minimum_size: size,
        maximum_age_ms: MAX_AGE.as_millis() as u64,
    };
    let mut log = LogServiceClient::new(app.audit.clone());
    let response = tokio::time::timeout(PATIENCE, log.get_checkpoint(request))
        .await
        .map_err(|late| unavailable().because(late))?
        .map_err(|status| unavailable().because(status))?
        .into_inner();
    Ok(agree(&app.bundle(), &response.checkpoint, size, app.now())?)
}

/// The time that follows from a checkpoint and our clock.
fn agree(
    bundle: &Bundle,
    checkpoint: &[u8],
    size: u64,
    own: Millis,
) -> Result<TrustedNow, ServiceError> {
    let refused = |what: &'static str| unavailable().with("what", what);
    let log = bundle.log();
    let key = log
        .key
        .as_slice()
        .try_into()
        .map_err(|_| refused("log key"))?;
    let log = NoteVerifier::new(&log.origin, key).map_err(|e| refused("log key").because(e))?;
    let checkpoint =
        SignedCheckpoint::open(checkpoint, &log).map_err(|e| refused("checkpoint").because(e))?;
    if checkpoint.head().size < size {
        return Err(refused("checkpoint's size"));
    }
    let mut times = BTreeMap::new();
    for witness in &bundle.message().witnesses {
        let key = witness
            .key
            .as_slice()
            .try_into()
            .map_err(|_| refused("witness key"))?;
        let key =
            CosignerKey::new(&witness.name, key).map_err(|e| refused("witness key").because(e))?;
        let newest = key
            .newest(&checkpoint)
            .map_err(|e| refused("cosignature").because(e))?;
        if let Some(at) = newest {
            times.insert(witness.name.clone(), at);
        }
    }
    let quorum = bundle.message().cosigner_quorum as usize;
    TrustedNow::agree(own, &times, quorum).map_err(|error| crate::people::clock_refusal(&error))
}

fn unavailable() -> ServiceError {
    ServiceError::new(
        Code::Unavailable,
        LOG_UNAVAILABLE,
        "no recent checkpoint with enough cosignatures can be had; nothing was destroyed, try again",
    )
    .retry_after(Duration::from_secs(1))
}
