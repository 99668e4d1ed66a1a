//! Messages and mailboxes as a client has them: sealed for real, sent on one stream, received on another.

use std::time::Duration;

use greffe_api::relay as api;
use greffe_api::relay::receive_response::Item;
use greffe_envelope::chain::ChainState;
use greffe_envelope::derive::Seed;
use greffe_envelope::envelope::envelope_digest;
use greffe_envelope::message::Draft;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::stream::plaintext_len;
use greffe_envelope::trust::verify_receipt;
use greffe_policy::Pack;
use greffe_types::{ConversationId, Digest, MessageId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::tenant::NAME;
use super::{Member, World, now};

/// Longest that a test waits for something that comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a device remembers of its own messages, and of what it has seen, in one conversation.
#[derive(Debug, Clone)]
pub(crate) struct Talk {
    pub(crate) counter: u64,
    pub(crate) previous: Digest,
    pub(crate) seen: (u64, Digest),
}

impl Talk {
    pub(crate) fn new() -> Self {
        Self {
            counter: 0,
            previous: Digest::ZERO,
            seen: (0, Digest::ZERO),
        }
    }

    /// Seals the next message.
    pub(crate) fn next(
        &mut self,
        world: &World,
        from: &mut Member,
        text: &str,
    ) -> api::SendRequest {
        let request = self.seal(world, from, text, |_| {});
        self.counter += 1;
        self.previous = digest_of(&request);
        request
    }

    /// Seals a message with another header than it should have; nothing is remembered.
    pub(crate) fn seal(
        &self,
        world: &World,
        from: &mut Member,
        text: &str,
        change: impl FnOnce(&mut pb::Header),
    ) -> api::SendRequest {
        let disclosure = world
            .tenant
            .trust
            .read()
            .current_disclosure(pb::Mode::Journaled)
            .unwrap()
            .clone();
        let pack = Pack::embedded("us-broker-dealer").unwrap();
        let device = &from.device;
        let mut message_id = [0; 16];
        getrandom::fill(&mut message_id).unwrap();
        let mut header = pb::Header {
            tenants: vec![NAME.into()],
            conversation: from.conversation.id().to_vec(),
            message_id: message_id.to_vec(),
            mode: pb::Mode::Journaled.into(),
            sender_user: device.user.clone(),
            sender_device: device.id.to_vec(),
            device_cert: device.cert.digest().to_vec(),
            mls_epoch: from.conversation.epoch(),
            sent_at: now().get(),
            record_class: pack.message_class().name().into(),
            classification: String::new(),
            key_ids: disclosure
                .keys()
                .iter()
                .map(|k| k.key_id().to_vec())
                .collect(),
            policy_digest: pack.digest().to_vec(),
            attachments: vec![],
            device_counter: self.counter + 1,
            previous: self.previous.to_vec(),
            seen_seq: self.seen.0,
            seen_head: self.seen.1.to_vec(),
        };
        change(&mut header);
        let content = pb::Content {
            kind: pb::ContentKind::Text.into(),
            text: text.into(),
            attachments: header
                .attachments
                .iter()
                .map(|named| pb::ContentAttachment {
                    name: "a.bin".into(),
                    media_type: "application/octet-stream".into(),
                    // any size that is padded to the one the ciphertext has
                    size: plaintext_len(named.size).unwrap() - 8,
                    padded_digest: named.digest.clone(),
                })
                .collect(),
            ..Default::default()
        };
        let seed = Seed::random().unwrap();
        let conversation = ConversationId::try_from(header.conversation.as_slice()).unwrap();
        let message = MessageId::try_from(header.message_id.as_slice()).unwrap();
        let keys: Vec<_> = disclosure.keys().iter().collect();
        let sealed = Draft::new(&seed, NAME, &conversation, &message, &device.id)
            .seal(&header, &content, &keys, &device.envelope_key)
            .unwrap();
        let digest = sealed.envelope.digest();
        let (mls_message, rows) = from.conversation.seal(seed.as_bytes(), &digest).unwrap();
        from.device.write(&rows);
        from.conversation.persisted();
        api::SendRequest {
            envelope: Some(sealed.envelope.into_raw()),
            wraps: sealed.wraps,
            ciphertext: sealed.ciphertext,
            mls_message,
        }
    }
}

/// The envelope digest of a message.
pub(crate) fn digest_of(request: &api::SendRequest) -> Digest {
    envelope_digest(&request.envelope.as_ref().unwrap().body)
}

/// A Send stream.
pub(crate) struct Outgoing {
    sender: mpsc::Sender<api::SendRequest>,
    answers: Streaming<api::SendResponse>,
}

impl Outgoing {
    pub(crate) async fn open(from: &Member) -> Self {
        let (sender, receiver) = mpsc::channel(1024);
        let request = from.device.request(ReceiverStream::new(receiver));
        let answers = from.device.relay.clone().send(request).await.unwrap();
        Self {
            sender,
            answers: answers.into_inner(),
        }
    }

    pub(crate) async fn push(&self, request: api::SendRequest) {
        self.sender.send(request).await.unwrap();
    }

    pub(crate) async fn answer(&mut self) -> Result<api::SendResponse, Status> {
        let answer = tokio::time::timeout(PATIENCE, self.answers.message()).await;
        Ok(answer.unwrap()?.expect("the stream ended"))
    }

    /// Sends one message and waits for its answer.
    pub(crate) async fn send(&mut self, request: api::SendRequest) -> api::SendResponse {
        let digest = digest_of(&request);
        self.push(request).await;
        let answer = self.answer().await.unwrap();
        assert_eq!(answer.envelope, digest.to_vec());
        answer
    }

    /// No answer comes for a while.
    pub(crate) async fn silent(&mut self) {
        let wait = Duration::from_millis(300);
        let answer = tokio::time::timeout(wait, self.answers.message()).await;
        assert!(answer.is_err(), "{answer:?}");
    }
}

/// A mailbox, which checks signature and continuity of every receipt it is given.
pub(crate) struct Mail {
    sender: mpsc::Sender<api::ReceiveRequest>,
    answers: Streaming<api::ReceiveResponse>,
}

impl Mail {
    pub(crate) async fn open(of: &Member, window: u32) -> Self {
        Self::of_device(&of.device, window).await
    }

    pub(crate) async fn of_device(device: &super::Device, window: u32) -> Self {
        let (sender, receiver) = mpsc::channel(1024);
        let part = Some(api::receive_request::Part::Window(window));
        sender.send(api::ReceiveRequest { part }).await.unwrap();
        let request = device.request(ReceiverStream::new(receiver));
        let answers = device.relay.clone().receive(request).await.unwrap();
        Self {
            sender,
            answers: answers.into_inner(),
        }
    }

    pub(crate) async fn next(&mut self) -> Result<api::ReceiveResponse, Status> {
        let answer = tokio::time::timeout(PATIENCE, self.answers.message()).await;
        Ok(answer.expect("nothing came")?.expect("the stream ended"))
    }

    /// Everything up to the next CaughtUp.
    pub(crate) async fn all(&mut self) -> Vec<api::ReceiveResponse> {
        let mut all = Vec::new();
        loop {
            let next = self.next().await.unwrap();
            if matches!(next.item, Some(Item::CaughtUp(_))) {
                return all;
            }
            all.push(next);
        }
    }

    /// The next item that is not a CaughtUp.
    pub(crate) async fn item(&mut self) -> api::ReceiveResponse {
        loop {
            let next = self.next().await.unwrap();
            if !matches!(next.item, Some(Item::CaughtUp(_))) {
                return next;
            }
        }
    }

    /// Nothing but perhaps a CaughtUp comes for a while.
    pub(crate) async fn silent(&mut self) {
        let end = tokio::time::Instant::now() + Duration::from_millis(300);
        while let Ok(next) = tokio::time::timeout_at(end, self.answers.message()).await {
            let next = next.unwrap().unwrap();
            assert!(matches!(next.item, Some(Item::CaughtUp(_))), "{next:?}");
        }
    }

    pub(crate) async fn acknowledge(&self, conversation: &ConversationId, sequence: u64) {
        let part = Some(api::receive_request::Part::Ack(api::ReceiveAck {
            conversation: conversation.to_vec(),
            sequence,
        }));
        self.sender
            .send(api::ReceiveRequest { part })
            .await
            .unwrap();
    }
}

/// Signatures, dense numbers, continuous chain: what every member checks. Gives the head after the last item.
pub(crate) fn check_chain(
    world: &World,
    items: &[api::ReceiveResponse],
    from: Option<ChainState>,
) -> ChainState {
    let bundle = world.tenant.trust.read().bundle().clone();
    let mut state = from;
    for item in items {
        let receipt = Signed::<pb::Receipt>::decode(item.receipt.clone().unwrap()).unwrap();
        let given = verify_receipt(&receipt, &bundle).unwrap();
        assert_eq!(given.sequence, item.sequence);
        state = Some(match state {
            Some(state) => state.accept(receipt.message()).unwrap(),
            None => given,
        });
    }
    state.expect("at least one item")
}

/// Numbers of items.
pub(crate) fn numbers(items: &[api::ReceiveResponse]) -> Vec<u64> {
    items.iter().map(|item| item.sequence).collect()
}
