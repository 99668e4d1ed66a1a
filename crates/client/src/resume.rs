//! After a crash or a stop: what was made and stored but perhaps not sent goes out again, byte for byte.

use greffe_api::relay as api;
use prost::Message as _;

use crate::device::Device;
use crate::error::{ClientError, Result};
use crate::membership::EPOCH_STALE;
use crate::receive::Event;
use crate::store::OutboxKind;

impl Device {
    /// Sends again creations, commits, acknowledgements and reports that a crash left behind; once for each opened device.
    /// Messages are the [`crate::Sender`]'s.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn resume(&self) -> Result<()> {
        let mut resumed = self.0.resumed.lock().await;
        if *resumed {
            return Ok(());
        }
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
        *resumed = true;
        Ok(())
    }
}
