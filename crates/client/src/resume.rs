//! After a crash, a stop or a relay that could not be reached: what was made and stored but perhaps not sent goes out again,
//! byte for byte.

use core::sync::atomic::Ordering;

use greffe_api::relay as api;
use prost::Message as _;

use crate::device::Device;
use crate::error::{ClientError, Result};
use crate::membership::EPOCH_STALE;
use crate::receive::Event;
use crate::store::OutboxKind;

impl Device {
    /// Sends again creations, commits, acknowledgements and reports that a crash, or a call without an answer, left behind.
    /// Messages are the [`crate::Sender`]'s.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn resume(&self) -> Result<()> {
        let _one = self.0.resuming.lock().await;
        if self.0.resumed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let outcome = self.send_again().await;
        if outcome.is_err() {
            self.0.resumed.store(false, Ordering::Release);
        }
        outcome
    }

    /// As [`Device::resume`], for those to whom nothing of it matters: a relay that cannot be reached is asked next time.
    pub(crate) async fn try_resume(&self) -> Result<()> {
        match self.resume().await {
            Err(error) if error.is_retryable() => Ok(()),
            resumed => resumed,
        }
    }

    /// Whether something is known to be done is not: it stays stored, and the next call looks after it.
    pub(crate) fn unanswered(&self, error: &ClientError) {
        if error.is_retryable() {
            self.0.resumed.store(false, Ordering::Release);
        }
    }

    async fn send_again(&self) -> Result<()> {
        let store = &self.client().0.store;
        for row in store.outbox(&self.id()).await? {
            match row.kind {
                OutboxKind::Creation => {
                    let request = api::CreateConversationRequest::decode(row.payload.as_slice())
                        .map_err(ClientError::store)?;
                    match self.finish_creation(row.conversation, request).await {
                        Ok(()) => {}
                        Err(error) if error.is_retryable() => return Err(error),
                        Err(error) => self.keep_events(vec![Event::NotSent {
                            conversation: row.conversation,
                            envelope: row.digest,
                            reason: error.reason().to_owned(),
                        }]),
                    }
                }
                OutboxKind::Commit => match self.submit_commit(&row).await {
                    // It comes back in the mailbox.
                    Ok(()) => {}
                    Err(error) if error.is_retryable() => return Err(error),
                    Err(error) => {
                        self.drop_commit(&row).await?;
                        if error.reason() != EPOCH_STALE {
                            self.keep_events(vec![Event::NotSent {
                                conversation: row.conversation,
                                envelope: row.digest,
                                reason: error.reason().to_owned(),
                            }]);
                        }
                    }
                },
                OutboxKind::Message => {}
            }
        }
        for acknowledgement in store.acknowledgements(&self.id(), None).await? {
            match self.finish_acknowledgement(acknowledgement).await {
                Ok(_) => {}
                Err(error) if error.is_retryable() => return Err(error),
                // Another disclosure is in force by now; its notice is acknowledged by whoever is shown it.
                Err(error) => tracing::warn!(
                    reason = error.reason(),
                    "an acknowledgement is not taken any more"
                ),
            }
        }
        self.flush_reports().await;
        Ok(())
    }
}
