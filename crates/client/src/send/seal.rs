//! Sealing: a message gets its place behind this device's last one, its wraps, its signature and its MLS message.

use greffe_api::relay as api;
use greffe_envelope::message::Draft;
use greffe_envelope::pb;
use greffe_mls::StateChange;
use greffe_service_kit::telemetry::trace;
use greffe_types::{ConversationId, Digest};
use prost::Message as _;
use tracing::Span;

use super::prepare::Ready;
use crate::device::Device;
use crate::error::{ClientError, Result};
use crate::live::{Live, LiveGuard};
use crate::store::{Op, OutboxKind, OutboxRow, StoredContent};

/// A sealed message: the exact bytes that go out, and where they stand.
#[derive(Clone)]
pub(super) struct Sealed {
    pub(super) conversation: ConversationId,
    pub(super) digest: Digest,
    pub(super) request: api::SendRequest,
    pub(super) epoch: u64,
    pub(super) counter: u64,
    pub(super) previous: Digest,
    /// From its seal to its answer.
    pub(super) _span: Span,
}

fn span(digest: &Digest) -> Span {
    trace::of(digest.as_bytes(), tracing::info_span!("client.send"))
}

impl Sealed {
    /// From the exact bytes that were stored.
    pub(super) fn stored(row: &OutboxRow) -> Result<Self> {
        let request =
            api::SendRequest::decode(row.payload.as_slice()).map_err(ClientError::store)?;
        let damaged = || ClientError::store("a message in the outbox is damaged");
        let body = request
            .envelope
            .as_ref()
            .ok_or_else(damaged)?
            .body
            .as_slice();
        let body = pb::EnvelopeBody::decode(body).map_err(ClientError::store)?;
        let header = pb::Header::decode(body.header.as_slice()).map_err(ClientError::store)?;
        Ok(Self {
            conversation: row.conversation,
            digest: row.digest,
            epoch: header.mls_epoch,
            counter: header.device_counter,
            previous: Digest::try_from(header.previous.as_slice()).map_err(|_| damaged())?,
            _span: span(&row.digest),
            request,
        })
    }
}

impl Device {
    /// Seals messages of one conversation in their order and stores them with the MLS state: when this returns, they may
    /// be sent; when it fails, nothing of them may. `rewind` takes the place of the last message's counter and digest when
    /// messages behind it were refused; `replaced` are the envelopes that these messages take the place of.
    pub(super) async fn seal(
        &self,
        conversation: &ConversationId,
        messages: Vec<Ready>,
        rewind: Option<(u64, Digest)>,
        replaced: Vec<Digest>,
    ) -> Result<Vec<Sealed>> {
        let mut guard = self.acquire(conversation).await?;
        guard.speaking()?;
        let device = self.clone();
        let work = self.client().compute(move || {
            let sealed = device.seal_all(&mut guard, messages, rewind);
            (guard, sealed)
        });
        let (mut guard, sealed): (LiveGuard, _) = work.await?;
        let (sealed, rows, change) = sealed?;
        let mut ops: Vec<Op> = replaced
            .into_iter()
            .map(|digest| Op::OutboxDone {
                device: self.id(),
                digest,
            })
            .collect();
        if let Some(change) = change {
            ops.push(self.mls_op(&change)?);
        }
        ops.push(Op::Conversation(guard.row.clone()));
        ops.extend(rows.into_iter().map(Op::Outbox));
        self.client().0.store.write(ops).await?;
        guard.settled();
        Ok(sealed)
    }

    /// The last messages were refused without a number: their places in this device's count are free again.
    pub(super) async fn rewind(
        &self,
        conversation: &ConversationId,
        (counter, previous): (u64, Digest),
        refused: Vec<Digest>,
    ) -> Result<()> {
        let mut guard = self.acquire(conversation).await?;
        let live = guard.begin();
        (live.row.counter, live.row.previous) = (counter, previous);
        let mut ops = vec![Op::Conversation(live.row.clone())];
        ops.extend(refused.into_iter().map(|digest| Op::OutboxDone {
            device: self.id(),
            digest,
        }));
        self.client().0.store.write(ops).await?;
        guard.settled();
        Ok(())
    }

    fn seal_all(
        &self,
        guard: &mut LiveGuard,
        messages: Vec<Ready>,
        rewind: Option<(u64, Digest)>,
    ) -> Result<(Vec<Sealed>, Vec<OutboxRow>, Option<StateChange>)> {
        let live = guard.begin();
        if let Some((counter, previous)) = rewind {
            (live.row.counter, live.row.previous) = (counter, previous);
        }
        let (mut sealed, mut rows, mut last) = (Vec::new(), Vec::new(), None);
        for message in messages {
            let (one, row, change) = self.seal_one(live, message)?;
            sealed.push(one);
            rows.push(row);
            // It holds everything since the database was last written.
            last = Some(change);
        }
        Ok((sealed, rows, last))
    }

    fn seal_one(&self, live: &mut Live, ready: Ready) -> Result<(Sealed, OutboxRow, StateChange)> {
        let disclosure = live.disclosure.clone();
        let epoch = live.speaking()?.epoch();
        let said = disclosure.message();
        let keys: Vec<_> = disclosure.keys().iter().collect();
        let mut key_ids: Vec<Vec<u8>> = keys.iter().map(|key| key.key_id().to_vec()).collect();
        key_ids.sort();
        let cert = self.certificate();
        let (counter, previous) = (live.row.counter + 1, live.row.previous);
        let header = pb::Header {
            tenants: said.tenants.clone(),
            conversation: live.row.conversation.to_vec(),
            message_id: ready.message.to_vec(),
            mode: said.mode,
            sender_user: cert.user.clone(),
            sender_device: self.id().to_vec(),
            device_cert: cert.digest().to_vec(),
            mls_epoch: epoch,
            sent_at: ready.sent_at,
            record_class: ready.record_class,
            classification: ready.classification,
            key_ids,
            policy_digest: said.policy_digest.clone(),
            attachments: ready.attachments.clone(),
            device_counter: counter,
            previous: previous.to_vec(),
            seen_seq: live.row.sequence,
            seen_head: live.row.head.to_vec(),
        };
        let draft = Draft::new(
            &ready.seed,
            &cert.tenant,
            &live.row.conversation,
            &ready.message,
            &self.id(),
        );
        let mut stored = StoredContent::default();
        if !ready.attachments.is_empty() {
            stored.cek = draft.cek().as_bytes().to_vec();
            stored.core = draft.core().to_vec();
            stored.attachments = ready.attachments;
        }
        let made = draft.seal(&header, &ready.content, &keys, &self.0.key)?;
        stored.content = Some(ready.content);
        let digest = made.envelope.digest();
        let (mls_message, change) = live.speaking()?.seal(ready.seed.as_bytes(), &digest)?;
        (live.row.counter, live.row.previous) = (counter, digest);
        let request = api::SendRequest {
            envelope: Some(made.envelope.into_raw()),
            wraps: made.wraps,
            ciphertext: made.ciphertext,
            mls_message,
        };
        let conversation = live.row.conversation;
        let store = &self.client().0.store;
        let row = OutboxRow {
            device: self.id(),
            conversation,
            kind: OutboxKind::Message,
            digest,
            payload: request.encode_to_vec(),
            content: store.seal_content(&self.id(), &digest, &stored)?,
        };
        let sealed = Sealed {
            conversation,
            digest,
            request,
            epoch,
            counter,
            previous,
            _span: span(&digest),
        };
        Ok((sealed, row, change))
    }

    /// A message found in the outbox, to be sealed anew; none when its attachments' data is not at hand any more.
    pub(super) fn reread(&self, row: &OutboxRow) -> Result<Option<Ready>> {
        let store = &self.client().0.store;
        let stored = store.open_content(&self.id(), &row.digest, &row.content)?;
        let (Some(content), true) = (stored.content, stored.attachments.is_empty()) else {
            return Ok(None);
        };
        let sealed = Sealed::stored(row)?;
        let body = sealed.request.envelope.unwrap_or_default().body;
        let body = pb::EnvelopeBody::decode(body.as_slice()).map_err(ClientError::store)?;
        let header = pb::Header::decode(body.header.as_slice()).map_err(ClientError::store)?;
        Ok(Some(Ready {
            seed: greffe_envelope::derive::Seed::random().map_err(ClientError::Randomness)?,
            message: greffe_types::MessageId::new(crate::client::random()?),
            content,
            attachments: Vec::new(),
            record_class: header.record_class,
            classification: header.classification,
            sent_at: header.sent_at,
        }))
    }
}
