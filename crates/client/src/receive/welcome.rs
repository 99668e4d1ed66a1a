//! Joining: a Welcome is examined, its disclosure verified and found current, its members' certificates verified; then this
//! device is in, and opens nothing before its user has acknowledged the notice.

use greffe_mls::{MlsError, Refusal, Table};
use greffe_types::{Digest, Millis};

use super::Taken;
use super::event::Event;
use super::verify::{Item, Verified};
use crate::device::Device;
use crate::error::{ClientError, Result};
use crate::live::Live;
use crate::store::{ConversationRow, ConversationState, Op};

/// Certificates that one Welcome may make us fetch one by one.
const FETCHES: usize = 2_000;

impl Device {
    /// Joins by a Welcome and stores it.
    pub(super) async fn join(&self, item: Verified, taken: &mut Taken) -> Result<()> {
        let id = item.conversation;
        let guard = self.lock(&id).await;
        let store = &self.client().0.store;
        let known = store.conversation(&self.id(), &id).await?;
        if known
            .as_ref()
            .is_some_and(|row| row.joined >= item.sequence)
        {
            taken.acks.insert(id, item.sequence);
            return Ok(());
        }
        let sequence = item.sequence;
        let (mls, change) = match self.enter(&item).await {
            Ok(joined) => joined,
            // Not now: the mailbox brings it again.
            Err(error) if error.is_retryable() || matches!(error, ClientError::Store(_)) => {
                return Err(error);
            }
            // Nothing is said against the Welcome: it cannot be judged as long as the nodes do not vouch for what is in force.
            Err(
                error @ (ClientError::Trust { .. }
                | ClientError::Log { .. }
                | ClientError::Call { .. }),
            ) => {
                tracing::warn!(conversation = %id, reason = error.reason(), %error, "a Welcome waits");
                taken.stalled.insert(id);
                taken.events.push(Event::Refused {
                    conversation: Some(id),
                    sequence,
                    reason: reason_of(&error),
                });
                return Ok(());
            }
            Err(error) => {
                tracing::warn!(conversation = %id, reason = error.reason(), %error, "a Welcome was refused");
                taken.acks.insert(id, sequence);
                taken.events.push(Event::Refused {
                    conversation: Some(id),
                    sequence,
                    reason: reason_of(&error),
                });
                return Ok(());
            }
        };
        let digest = mls.disclosure().digest;
        let state = self.client().trust()?;
        let disclosure = state
            .disclosure(&digest)
            .cloned()
            .ok_or_else(|| ClientError::store("a disclosure that MLS accepted is not known"))?;
        let row = ConversationRow {
            device: self.id(),
            conversation: id,
            state: ConversationState::Active,
            reason: String::new(),
            mode: mls.disclosure().mode,
            disclosure: digest,
            joined: sequence,
            sequence,
            head: item.chain.head,
            // A device that was here before goes on counting.
            counter: known.as_ref().map_or(0, |row| row.counter),
            previous: known.as_ref().map_or(Digest::ZERO, |row| row.previous),
        };
        let ops = vec![self.mls_op(&change)?, Op::Conversation(row.clone())];
        let mut guard = Self::place(guard, Live::new(mls, row, disclosure));
        store.write(ops).await?;
        let acknowledged = store.acknowledgements(&self.id(), Some(&id)).await?;
        guard.take_acknowledgements(acknowledged);
        guard.settled();
        taken.acks.insert(id, sequence);
        taken.events.push(Event::Invited {
            conversation: id,
            mode: guard.row.mode,
            sequence,
        });
        Ok(())
    }

    async fn enter(
        &self,
        item: &Verified,
    ) -> Result<(greffe_mls::Conversation, greffe_mls::StateChange)> {
        let Item::Welcome(delivered) = &item.item else {
            return Err(ClientError::Answer("no Welcome"));
        };
        let client = self.client();
        let store = &client.0.store;
        if let Err(error) = self.ensure_all_current().await {
            if error.is_retryable() {
                return Err(error);
            }
            // What is in force may have changed since this mailbox was opened.
            client.refresh_trust().await?;
            self.ensure_all_current().await?;
        }
        let mut refreshed = false;
        for _ in 0..FETCHES {
            let keys = self.0.mls.welcome_rows(&delivered.welcome)?;
            let mut rows = store.mls_rows(&self.id(), &keys).await?;
            rows.extend(store.mls_table(&self.id(), Table::Disclosure).await?);
            let (device, welcome) = (self.clone(), delivered.welcome.clone());
            let joined = client
                .compute(move || device.0.mls.join(&welcome, rows))
                .await?;
            match joined {
                Ok((mls, _)) if mls.id() != item.conversation => {
                    return Err(ClientError::Answer("a Welcome to another conversation"));
                }
                Ok(joined) => return Ok(joined),
                Err(MlsError::Refused(Refusal::UnknownCertificate(digest))) => {
                    // Members may have come long ago: each certificate is judged as of its own beginning here, and by
                    // the archive's time at every message.
                    self.fetch_certificates(&[digest], None).await?;
                    if client.0.certificates.get(&digest).is_none() {
                        return Err(ClientError::Mls(MlsError::Refused(
                            Refusal::UnknownCertificate(digest),
                        )));
                    }
                }
                Err(MlsError::Refused(Refusal::Disclosure(_))) if !refreshed => {
                    refreshed = true;
                    client.refresh_trust().await?;
                    self.ensure_all_current().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(ClientError::Answer("a Welcome with too many members"))
    }

    /// The nodes' word on every disclosure in force, so that whichever the Welcome carries can be judged.
    async fn ensure_all_current(&self) -> Result<()> {
        let client = self.client();
        let state = client.trust()?;
        let now: Millis = client.now();
        for disclosure in state.current_disclosures() {
            // One that nobody may seal to any more needs no word.
            if disclosure.check_period(now).is_ok() {
                client.0.trust.ensure_current(disclosure).await?;
            }
        }
        Ok(())
    }
}

fn reason_of(error: &ClientError) -> String {
    match error {
        ClientError::Mls(MlsError::Refused(Refusal::Disclosure(stated))) => stated.to_string(),
        ClientError::Mls(MlsError::Refused(refusal)) => refusal.code().to_owned(),
        error => error.reason().to_owned(),
    }
}
