//! Where a monitor has the log from.

use std::time::Duration;

use greffe_api::audit as api;
use greffe_api::audit::log_service_client::LogServiceClient;
use greffe_service_kit::tls::Channel;
use greffe_types::Digest;

use crate::fail::{Exit, Failure, Result};

/// What the log hands over; nothing of it is believed.
pub(super) trait Source {
    /// The newest checkpoint that the log has, of whatever age.
    async fn checkpoint(&mut self) -> Result<Vec<u8>>;
    /// Leaves from an index on, at most `count`.
    async fn entries(&mut self, start: u64, count: u32) -> Result<Vec<Vec<u8>>>;
    /// The proof that a tree continues a smaller one.
    async fn consistency(&mut self, old: u64, new: u64) -> Result<Vec<Digest>>;
}

/// What was asked for, if it comes in time.
///
/// # Errors
/// As the log answered, or `DEADLINE_EXCEEDED`.
pub(super) async fn within<T>(
    patience: Duration,
    what: &str,
    answer: impl Future<Output = Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(patience, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(late(format_args!(
            "asking the log for {what}: no answer within {} s; see that the audit service runs and is not overloaded",
            patience.as_secs_f64()
        ))),
    }
}

/// The log takes longer than it may.
pub(super) fn late(message: impl core::fmt::Display) -> Failure {
    Failure::new(Exit::Unavailable, "DEADLINE_EXCEEDED", message)
}

impl Source for LogServiceClient<Channel> {
    async fn checkpoint(&mut self) -> Result<Vec<u8>> {
        let answer = self.get_checkpoint(api::GetCheckpointRequest::default());
        let answer = answer.await.map_err(failed("the newest checkpoint"))?;
        Ok(answer.into_inner().checkpoint)
    }

    async fn entries(&mut self, start: u64, count: u32) -> Result<Vec<Vec<u8>>> {
        let answer = self.list_entries(api::ListEntriesRequest { start, count });
        Ok(answer.await.map_err(failed("entries"))?.into_inner().leaves)
    }

    async fn consistency(&mut self, old_size: u64, new_size: u64) -> Result<Vec<Digest>> {
        let request = api::GetConsistencyProofRequest { old_size, new_size };
        let answer = self.get_consistency_proof(request).await;
        let path = answer
            .map_err(failed("a proof of consistency"))?
            .into_inner()
            .path;
        path.iter()
            .map(|hash| Digest::try_from(hash.as_slice()))
            .collect::<core::result::Result<_, _>>()
            .map_err(|error| {
                Failure::new(
                    Exit::Unverified,
                    "ANSWER_INVALID",
                    format_args!("a proof of consistency: {error}"),
                )
            })
    }
}

fn failed(what: &'static str) -> impl FnOnce(tonic::Status) -> Failure {
    move |status| Failure::status(format_args!("asking the log for {what}"), &status)
}
