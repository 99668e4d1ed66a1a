//! One batch of a mailbox: verified, applied conversation by conversation, stored in one transaction.

use std::collections::HashSet;

use greffe_api::relay as api;
use greffe_envelope::pb;
use greffe_types::{ConversationId, Digest};
use prost::Message as _;

use super::apply::{Applied, Group};
use super::event::{Event, Received, reason};
use super::place::Outcome;
use super::verify::{Item, Unusable, Verified, verify};
use super::{Taken, apply, report};
use crate::device::Device;
use crate::error::{ClientError, Result};
use crate::live::LiveGuard;
use crate::store::{ItemRow, Op, StoredContent};

impl Device {
    /// Takes a batch in. On an error nothing of it counts: what is in memory is read anew.
    pub(crate) async fn take_in(&self, items: Vec<api::ReceiveResponse>) -> Result<Taken> {
        let mut taken = Taken::default();
        let (verified, held) = self.verify_all(items, &mut taken.events).await?;
        let mut groups: Vec<(ConversationId, Vec<Verified>)> = Vec::new();
        for item in verified {
            let id = item.conversation;
            if taken.stalled.contains(&id) {
                continue;
            }
            if let Item::Welcome(_) = item.item {
                // Whatever came before it in this conversation has to be in its place first.
                self.store_groups(core::mem::take(&mut groups), &mut taken)
                    .await?;
                self.join(item, &mut taken).await?;
                continue;
            }
            match groups.iter_mut().find(|(other, _)| *other == id) {
                Some((_, group)) => group.push(item),
                None => groups.push((id, vec![item])),
            }
        }
        self.store_groups(groups, &mut taken).await?;
        taken.stalled.extend(held);
        self.0.progress.send_modify(|count| *count += 1);
        Ok(taken)
    }

    /// Receipts, envelope signatures and certificates, on every core. Beside what may be applied, the conversations in which
    /// something was false: it cannot take its place, so neither can what follows, and the mailbox brings it again.
    async fn verify_all(
        &self,
        items: Vec<api::ReceiveResponse>,
        events: &mut Vec<Event>,
    ) -> Result<(Vec<Verified>, HashSet<ConversationId>)> {
        let client = self.client();
        let unknown: HashSet<Digest> = items
            .iter()
            .filter_map(named_certificate)
            .filter(|digest| client.0.certificates.get(digest).is_none())
            .collect();
        let unknown: Vec<Digest> = unknown.into_iter().collect();
        match self.fetch_certificates(&unknown, None).await {
            // The relay has none that holds: the messages that name it will say so.
            Err(ClientError::Trust { .. }) => {}
            fetched => fetched?,
        }
        let mut results = self.verify_part(items).await?;
        let doubtful = |(_, result): &(_, Result<Verified, Unusable>)| {
            matches!(result, Err(Unusable::False(reason::RECEIPT)))
        };
        if results.iter().any(doubtful) {
            // A new receipt key may be in force.
            client.refresh_trust().await?;
            let again = results.into_iter().map(|(response, _)| response).collect();
            results = self.verify_part(again).await?;
        }
        let mut good = Vec::with_capacity(results.len());
        let mut held = HashSet::new();
        for (response, result) in results {
            let Ok(conversation) = ConversationId::try_from(response.conversation.as_slice())
            else {
                continue;
            };
            if held.contains(&conversation) {
                continue;
            }
            match result {
                Ok(verified) => good.push(verified),
                Err(unusable) => {
                    held.insert(conversation);
                    events.push(Event::Withheld {
                        conversation,
                        sequence: response.sequence,
                        envelope: Digest::ZERO,
                        sender: String::new(),
                        reason: match unusable {
                            Unusable::Certificate => reason::CERTIFICATE,
                            Unusable::False(stated) => stated,
                        },
                        reported: false,
                    });
                }
            }
        }
        Ok((good, held))
    }

    async fn verify_part(
        &self,
        items: Vec<api::ReceiveResponse>,
    ) -> Result<Vec<(api::ReceiveResponse, Result<Verified, Unusable>)>> {
        let client = self.client();
        let state = client.trust()?;
        let certificates = client.0.certificates.clone();
        client
            .compute_all(items, move |response| {
                let verified = verify(&state, &certificates, &response);
                (response, verified)
            })
            .await
    }

    /// Applies items to their conversations and stores everything at once.
    async fn store_groups(
        &self,
        groups: Vec<(ConversationId, Vec<Verified>)>,
        taken: &mut Taken,
    ) -> Result<()> {
        let mut applied: Vec<Applied> = Vec::new();
        for (id, items) in groups {
            if let Some(group) = self.apply_group(id, items, taken).await? {
                applied.push(group);
            }
        }
        let mut guards: Vec<LiveGuard> = Vec::new();
        let mut ops = Vec::new();
        for group in applied {
            let (guard, outcomes, change) = group.into_parts();
            let finished = self.finish(outcomes).await?;
            ops.extend(change);
            let mut rows = Vec::new();
            for done in finished {
                rows.extend(done.row);
                ops.extend(done.ops);
                taken.events.extend(done.event);
            }
            if !rows.is_empty() {
                ops.push(Op::Items(rows));
            }
            ops.push(Op::Conversation(guard.row.clone()));
            taken
                .acks
                .insert(guard.row.conversation, guard.row.sequence);
            guards.push(guard);
        }
        self.client().0.store.write(ops).await?;
        for guard in &mut guards {
            guard.settled();
        }
        Ok(())
    }

    /// One conversation's items in their order; none when nothing of it is new.
    async fn apply_group(
        &self,
        id: ConversationId,
        items: Vec<Verified>,
        taken: &mut Taken,
    ) -> Result<Option<Applied>> {
        let guard = match self.acquire(&id).await {
            Ok(guard) => guard,
            Err(error) if error.reason() == "CONVERSATION_UNKNOWN" => {
                taken.stalled.insert(id);
                taken.events.push(Event::Refused {
                    conversation: Some(id),
                    sequence: items.first().map_or(0, |item| item.sequence),
                    reason: error.reason().to_owned(),
                });
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let known = guard.row.sequence;
        if let Some(other) = items
            .iter()
            .find(|item| item.sequence == known && item.chain.head != guard.row.head)
        {
            // Two pasts for one number: the relay has forked the conversation, or the archive has.
            taken.stalled.insert(id);
            taken.events.push(Event::Refused {
                conversation: Some(id),
                sequence: other.sequence,
                reason: "CHAIN_FORKED".to_owned(),
            });
            return Ok(None);
        }
        let fresh: Vec<Verified> = items
            .into_iter()
            .filter(|item| item.sequence > known)
            .collect();
        if fresh.is_empty() {
            taken.acks.insert(id, known);
            return Ok(None);
        }
        if !guard.is_shown() || guard.mls.is_none() {
            // Not opened without the notice acknowledged, and nothing goes on in a broken conversation.
            taken.stalled.insert(id);
            return Ok(None);
        }
        let group = Group::prepare(self, guard, fresh).await?;
        apply::run(self, group, taken).await.map(Some)
    }

    /// What is left once the conversations have moved on: recomputing, opening, sealing for the database.
    async fn finish(&self, outcomes: Vec<Outcome>) -> Result<Vec<Finished>> {
        let device = self.clone();
        let finished = self
            .client()
            .compute_all(outcomes, move |outcome| device.finish_one(outcome));
        finished.await?.into_iter().collect()
    }

    fn finish_one(&self, outcome: Outcome) -> Result<Finished> {
        let (place, seeded) = match outcome {
            Outcome::Done(done) => return Ok(*done),
            Outcome::Open(place, seeded) => (place, seeded),
        };
        let header = seeded.message.envelope.header();
        let fields = header.message();
        let digest = seeded.message.envelope.digest();
        let mut row = place.row(self.id(), pb::EntryKind::Message);
        row.sender.clone_from(&fields.sender_user);
        row.sent_at = fields.sent_at;
        let opened = match super::verify::open(&seeded) {
            Ok(opened) => opened,
            Err((stated, mismatch)) => {
                row.reason = stated.to_owned();
                let report = mismatch
                    .filter(|mismatch| mismatch.reason().is_some())
                    .map(|_| report::sign(self, &seeded, &place, stated));
                return Ok(Finished {
                    event: Some(Event::Withheld {
                        conversation: place.conversation,
                        sequence: place.sequence,
                        envelope: digest,
                        sender: fields.sender_user.clone(),
                        reason: stated,
                        reported: report.is_some(),
                    }),
                    row: Some(row),
                    ops: report.map(Op::Report).into_iter().collect(),
                });
            }
        };
        let ops = place.about(self.id(), &opened.content);
        let mut stored = StoredContent {
            content: Some(opened.content),
            unread: opened.unread,
            ..Default::default()
        };
        if !fields.attachments.is_empty() {
            stored.cek = opened.cek.as_bytes().to_vec();
            stored.core = opened.core.to_vec();
            stored.attachments.clone_from(&fields.attachments);
        }
        row.content = self
            .client()
            .0
            .store
            .seal_content(&self.id(), &digest, &stored)?;
        Ok(Finished {
            event: Some(Event::Message(Box::new(Received {
                conversation: place.conversation,
                sequence: place.sequence,
                envelope: digest,
                sender: fields.sender_user.clone(),
                device: header.device(),
                sent_at: header.sent_at(),
                archived_at: place.archived_at,
                mode: header.mode(),
                record_class: fields.record_class.clone(),
                content: stored.content.unwrap_or_default(),
                wraps_recomputed: seeded.message.wraps.len(),
            }))),
            row: Some(row),
            ops: ops.into_iter().collect(),
        })
    }
}

/// An item that has taken its place: what to store and what to say.
#[derive(Default)]
pub(crate) struct Finished {
    pub(crate) row: Option<ItemRow>,
    pub(crate) ops: Vec<Op>,
    pub(crate) event: Option<Event>,
}

/// The certificate that a message's header names, when it can be read at all.
fn named_certificate(response: &api::ReceiveResponse) -> Option<Digest> {
    let Some(api::receive_response::Item::Message(message)) = &response.item else {
        return None;
    };
    let body = pb::EnvelopeBody::decode(message.envelope.as_ref()?.body.as_slice()).ok()?;
    let header = pb::Header::decode(body.header.as_slice()).ok()?;
    Digest::try_from(header.device_cert.as_slice()).ok()
}
