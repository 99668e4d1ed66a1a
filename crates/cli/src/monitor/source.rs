//! Where a monitor has the log from.

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
