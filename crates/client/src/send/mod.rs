//! Sending: messages are sealed in the order they were given, stored with the MLS state before anything leaves, kept on their
//! way many at a time, and reported as sent when the archive's receipt has been verified.

mod engine;
mod flight;
mod prepare;
mod seal;

use core::pin::Pin;
use core::task::{Context, Poll};
use std::path::PathBuf;
use std::sync::Arc;

use greffe_envelope::limits::MAX_ATTACHMENTS;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_types::{ConversationId, Digest, Millis};
use tokio::sync::{mpsc, oneshot};

use crate::device::Device;
use crate::error::{ClientError, Result};
use crate::notice::pack_of;

/// Messages that wait to be sealed.
const QUEUE: usize = 256;

/// A message to send.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The conversation.
    pub conversation: ConversationId,
    /// What the message is.
    pub kind: pb::ContentKind,
    /// The text, byte for byte.
    pub text: Vec<u8>,
    /// Subject line; empty for chat.
    pub subject: String,
    /// Envelope digest of the message this one answers.
    pub reply_to: Option<Digest>,
    /// Envelope digest of the text or mail that an edit, a retraction or a reaction is about: none in texts and mails.
    pub target: Option<Digest>,
    /// The sender of the original had no name.
    pub unknown_sender: bool,
    /// Attachments.
    pub attachments: Vec<OutgoingAttachment>,
    /// Record class; none for the pack's class of messages.
    pub record_class: Option<String>,
    /// Free label of the application: at most 64 bytes.
    pub classification: String,
    /// When it was written; none for now.
    pub sent_at: Option<Millis>,
}

impl Outgoing {
    /// A text.
    pub fn text(conversation: ConversationId, text: impl Into<Vec<u8>>) -> Self {
        Self {
            conversation,
            kind: pb::ContentKind::Text,
            text: text.into(),
            subject: String::new(),
            reply_to: None,
            target: None,
            unknown_sender: false,
            attachments: Vec::new(),
            record_class: None,
            classification: String::new(),
            sent_at: None,
        }
    }

    /// Another version of a message of the same user: text and subject stand for its own from now on. Earlier ones stay on
    /// record, and members and readers can see them.
    pub fn edit(conversation: ConversationId, target: Digest, text: impl Into<Vec<u8>>) -> Self {
        Self::about(conversation, pb::ContentKind::Edit, target, text)
    }

    /// Takes a message of the same user back. It stays on record, and members and readers can see it.
    pub fn retraction(conversation: ConversationId, target: Digest) -> Self {
        Self::about(
            conversation,
            pb::ContentKind::Retraction,
            target,
            Vec::new(),
        )
    }

    /// A sign at a message: 1 to 64 bytes.
    pub fn reaction(conversation: ConversationId, target: Digest, text: &str) -> Self {
        Self::about(conversation, pb::ContentKind::Reaction, target, text)
    }

    /// Takes such a sign back.
    pub fn reaction_removal(conversation: ConversationId, target: Digest, text: &str) -> Self {
        Self::about(conversation, pb::ContentKind::ReactionRemoval, target, text)
    }

    fn about(
        conversation: ConversationId,
        kind: pb::ContentKind,
        target: Digest,
        text: impl Into<Vec<u8>>,
    ) -> Self {
        Self {
            kind,
            target: Some(target),
            ..Self::text(conversation, text)
        }
    }

    /// What is sealed, without its attachments.
    pub(crate) fn content(&self) -> pb::Content {
        pb::Content {
            kind: self.kind.into(),
            text: self.text.clone(),
            reply_to: self.reply_to.map_or_else(Vec::new, |d| d.to_vec()),
            attachments: Vec::new(),
            subject: self.subject.clone(),
            unknown_sender: self.unknown_sender,
            target: self.target.map_or_else(Vec::new, |d| d.to_vec()),
        }
    }
}

/// An attachment to send.
#[derive(Debug, Clone)]
pub struct OutgoingAttachment {
    /// File name; may be empty.
    pub name: String,
    /// Media type.
    pub media_type: String,
    /// Its data.
    pub source: Source,
}

/// Data that can be read more than once: its key depends on what it is, so it is read before it is encrypted.
#[derive(Debug, Clone)]
pub enum Source {
    /// Bytes in memory.
    Bytes(Arc<[u8]>),
    /// A file, which must not change meanwhile (that is noticed, and refused).
    File(PathBuf),
}

/// A message that relay and archive have taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// The conversation.
    pub conversation: ConversationId,
    /// Its number.
    pub sequence: u64,
    /// Envelope digest.
    pub envelope: Digest,
    /// The archive's receipt, verified.
    pub receipt: Signed<pb::Receipt>,
}

/// Sends messages of one device, many at a time. Cheap to clone; messages go out in the order of their `send` calls.
#[derive(Debug, Clone)]
pub struct Sender {
    device: Device,
    jobs: mpsc::Sender<Job>,
}

/// A message on its way: a future of its receipt.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<Sent>>);

/// A message with whoever waits for it.
#[derive(Debug)]
pub(crate) struct Job {
    outgoing: Arc<Outgoing>,
    answer: oneshot::Sender<Result<Sent>>,
}

impl Future for Pending {
    type Output = Result<Sent>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| {
            answer.unwrap_or_else(|_| {
                Err(ClientError::refused(
                    "SENDER_STOPPED",
                    "the sender stopped; what was stored goes out with the next one",
                ))
            })
        })
    }
}

impl Sender {
    /// Hands a message over; waits while too many are on their way.
    ///
    /// # Errors
    /// When the message is refused here: wrong class, too many attachments. Everything else is said by [`Pending`].
    pub async fn send(&self, outgoing: Outgoing) -> Result<Pending> {
        self.device.check(&outgoing).await?;
        let (answer, pending) = oneshot::channel();
        let job = Job {
            outgoing: Arc::new(outgoing),
            answer,
        };
        self.jobs.send(job).await.map_err(|_| {
            ClientError::refused("SENDER_STOPPED", "the sender has stopped: open another one")
        })?;
        Ok(Pending(pending))
    }
}

impl Device {
    /// A sender. While one is open, others are the same; what a crash left unsent goes out first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sender(&self) -> Result<Sender> {
        self.try_resume().await?;
        let mut current = self.0.sender.lock().await;
        if let Some(jobs) = current.as_ref().filter(|jobs| !jobs.is_closed()) {
            return Ok(Sender {
                device: self.clone(),
                jobs: jobs.clone(),
            });
        }
        let (jobs, waiting) = mpsc::channel(QUEUE);
        *current = Some(jobs.clone());
        // The last one may still wait for its receipts: counters go on from there.
        let turn = self.0.sending.clone().lock_owned().await;
        let recovered = self.0.client.0.store.outbox(&self.id()).await?;
        let engine = engine::Engine::new(self.clone(), waiting, recovered, turn)?;
        tokio::spawn(engine.run());
        Ok(Sender {
            device: self.clone(),
            jobs,
        })
    }

    /// Sends one message and waits for its receipt.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send(&self, outgoing: Outgoing) -> Result<Sent> {
        self.sender().await?.send(outgoing).await?.await
    }

    /// What can be refused before anything is done.
    async fn check(&self, outgoing: &Outgoing) -> Result<()> {
        if outgoing.attachments.len() > MAX_ATTACHMENTS {
            return Err(ClientError::refused(
                "TOO_MANY_ATTACHMENTS",
                format!("a message has at most {MAX_ATTACHMENTS} attachments: send several"),
            ));
        }
        if outgoing.text.len() as u64 > greffe_envelope::limits::MAX_CONTENT {
            return Err(ClientError::refused(
                "MESSAGE_TOO_LARGE",
                "a message has at most 1 MiB of text: attach it as a file",
            ));
        }
        let mut guard = self.acquire(&outgoing.conversation).await?;
        guard.speaking()?;
        if let Some(class) = &outgoing.record_class {
            let connection = self.client().connection();
            let pack = pack_of(connection.packs(), guard.disclosure.message())?;
            pack.class(class).map_err(|error| {
                ClientError::refused(
                    error.reason(),
                    format!("{error}: choose one of its classes"),
                )
            })?;
        }
        if outgoing.kind == pb::ContentKind::Text || outgoing.kind == pb::ContentKind::Mail {
            return match outgoing.target {
                None => Ok(()),
                Some(_) => Err(ClientError::refused(
                    "CONTENT_TARGET",
                    "a text or a mail is about no other message: name the one it answers, or send an edit",
                )),
            };
        }
        if !outgoing.attachments.is_empty() {
            return Err(ClientError::refused(
                "CONTENT_EXTRA",
                "an edit, a retraction or a reaction has no attachments: send another message",
            ));
        }
        self.check_act(guard, outgoing).await
    }
}
