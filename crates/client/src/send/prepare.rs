//! Before a message is sealed: its seed and id are drawn, its attachments encrypted under them and uploaded.

use std::fs::File;
use std::io::{Cursor, Read};
use std::sync::Arc;

use greffe_api::relay as api;
use greffe_envelope::attachment::{AttachmentError, AttachmentSealer, PaddedHasher};
use greffe_envelope::derive::{Cek, Seed};
use greffe_envelope::message::Draft;
use greffe_envelope::pb;
use greffe_types::{ConversationId, Digest, MessageId};
use tokio::sync::mpsc;

use super::{Outgoing, OutgoingAttachment, Source};
use crate::client::random;
use crate::device::Device;
use crate::error::{ClientError, Result, call};
use crate::receive::body;

/// Bytes read, and sent, at a time.
const PIECE: usize = 1 << 20;
/// Pieces between the reader and the connection.
const AHEAD: usize = 4;

/// Everything of a message that does not depend on where it will stand.
pub(super) struct Ready {
    pub(super) seed: Seed,
    pub(super) message: MessageId,
    pub(super) content: pb::Content,
    pub(super) attachments: Vec<pb::AttachmentRef>,
    pub(super) record_class: String,
    pub(super) classification: String,
    pub(super) sent_at: u64,
}

impl Source {
    fn open(&self) -> std::io::Result<(Box<dyn Read + Send>, u64)> {
        Ok(match self {
            Self::Bytes(bytes) => (Box::new(Cursor::new(bytes.clone())), bytes.len() as u64),
            Self::File(path) => {
                let file = File::open(path)?;
                let length = file.metadata()?.len();
                (Box::new(file), length)
            }
        })
    }
}

impl Device {
    /// Draws seed and id, and uploads the attachments; nothing is in the conversation yet.
    pub(super) async fn prepare(&self, outgoing: &Outgoing) -> Result<Ready> {
        let message = MessageId::new(random()?);
        let seed = Seed::random().map_err(ClientError::Randomness)?;
        let conversation = outgoing.conversation;
        let draft = Draft::new(
            &seed,
            &self.certificate().tenant,
            &conversation,
            &message,
            &self.id(),
        );
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        for (index, attachment) in (0..).zip(&outgoing.attachments) {
            let place = KeyPlace {
                cek: draft.cek().clone(),
                core: *draft.core(),
                index,
            };
            let (content, reference) = self.upload(&conversation, place, attachment).await?;
            inside.push(content);
            outside.push(reference);
        }
        let record_class = match &outgoing.record_class {
            Some(class) => class.clone(),
            None => {
                let guard = self.acquire(&conversation).await?;
                let packs = self.client().connection().packs();
                let pack = crate::notice::pack_of(packs, guard.disclosure.message())?;
                pack.message_class().name().to_owned()
            }
        };
        let now = self.client().now();
        Ok(Ready {
            seed,
            message,
            content: pb::Content {
                attachments: inside,
                ..outgoing.content()
            },
            attachments: outside,
            record_class,
            classification: outgoing.classification.clone(),
            sent_at: outgoing.sent_at.unwrap_or(now).get(),
        })
    }

    /// Reads an attachment three times: for the key, for the name of its ciphertext, and to send it. No pass holds more
    /// than a piece in memory.
    async fn upload(
        &self,
        conversation: &ConversationId,
        place: KeyPlace,
        attachment: &OutgoingAttachment,
    ) -> Result<(pb::ContentAttachment, pb::AttachmentRef)> {
        let place = Arc::new(place);
        let (first, source) = (attachment.clone(), attachment.clone());
        let (padded, length) = self.client().compute(move || hash(&first)).await??;
        let sealing = place.clone();
        let reference = self
            .client()
            .compute(move || encrypt(&source, &sealing, &padded, length, |_| true))
            .await??;
        let start = api::UploadStart {
            digest: reference.digest.clone(),
            size: reference.size,
            conversation: conversation.to_vec(),
        };
        let mut pause = self.client().pause();
        loop {
            match self
                .send_upload(start.clone(), attachment, &place, padded, length)
                .await
            {
                Ok(()) => break,
                Err(error) => pause.after(error).await?,
            }
        }
        let content = pb::ContentAttachment {
            name: attachment.name.clone(),
            media_type: attachment.media_type.clone(),
            size: length,
            padded_digest: padded.to_vec(),
        };
        Ok((content, reference))
    }

    async fn send_upload(
        &self,
        start: api::UploadStart,
        attachment: &OutgoingAttachment,
        place: &Arc<KeyPlace>,
        padded: Digest,
        length: u64,
    ) -> Result<()> {
        use api::upload_attachment_request::Part;
        let digest = start.digest.clone();
        let (sender, outgoing) = body(AHEAD);
        let first = api::UploadAttachmentRequest {
            part: Some(Part::Start(start)),
        };
        // The channel is empty: there is room.
        let _ = sender.send(first).await;
        let (attachment, place) = (attachment.clone(), place.clone());
        let encrypting = tokio::task::spawn_blocking(move || {
            encrypt(&attachment, &place, &padded, length, |piece| {
                give(&sender, piece)
            })
        });
        let request = self.request(outgoing).await?;
        let answer = self.relay_client()?.upload_attachment(request).await;
        let encrypted = encrypting.await.map_err(ClientError::store)?;
        let answer = answer.map_err(call("UploadAttachment"))?.into_inner();
        encrypted?;
        if answer.digest != digest {
            return Err(ClientError::Answer("an attachment of another digest"));
        }
        Ok(())
    }
}

/// Where an attachment's key comes from.
struct KeyPlace {
    cek: Cek,
    core: Digest,
    index: u32,
}

/// Hands a piece to the connection; false when nobody takes it any more.
fn give(sender: &mpsc::Sender<api::UploadAttachmentRequest>, piece: &[u8]) -> bool {
    let part = api::upload_attachment_request::Part::Chunk(piece.to_vec());
    let request = api::UploadAttachmentRequest { part: Some(part) };
    sender.blocking_send(request).is_ok()
}

/// First pass: the digest of the padded data, and its length.
fn hash(attachment: &OutgoingAttachment) -> Result<(Digest, u64)> {
    let refused = refused(attachment);
    let (mut reader, length) = attachment.source.open().map_err(unreadable(attachment))?;
    let mut hasher = PaddedHasher::new(length).map_err(&refused)?;
    let mut buffer = vec![0; PIECE];
    loop {
        let count = reader.read(&mut buffer).map_err(unreadable(attachment))?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]).map_err(&refused)?;
    }
    Ok((hasher.finish().map_err(&refused)?, length))
}

/// The relay took no more; its answer says why, and comes before this.
const fn unwanted() -> ClientError {
    ClientError::Answer("an end of the upload before its end")
}

/// Encrypts, giving the ciphertext away piece by piece; ends at once when nobody takes it.
fn encrypt(
    attachment: &OutgoingAttachment,
    place: &KeyPlace,
    padded: &Digest,
    length: u64,
    mut give: impl FnMut(&[u8]) -> bool,
) -> Result<pb::AttachmentRef> {
    let refused = refused(attachment);
    let (mut reader, _) = attachment.source.open().map_err(unreadable(attachment))?;
    let mut out = Vec::with_capacity(2 * PIECE);
    let mut sealer = AttachmentSealer::new(
        &place.cek,
        &place.core,
        place.index,
        padded,
        length,
        &mut out,
    )
    .map_err(&refused)?;
    let mut buffer = vec![0; PIECE];
    let mut wanted = true;
    let mut flush = |out: &mut Vec<u8>| {
        for piece in out.chunks(PIECE) {
            wanted = wanted && give(piece);
        }
        out.clear();
        wanted
    };
    loop {
        let count = reader.read(&mut buffer).map_err(unreadable(attachment))?;
        if count == 0 {
            break;
        }
        sealer
            .update(&buffer[..count], &mut out)
            .map_err(&refused)?;
        if !flush(&mut out) {
            return Err(unwanted());
        }
    }
    let reference = sealer.finish(&mut out).map_err(&refused)?;
    if flush(&mut out) {
        Ok(reference)
    } else {
        Err(unwanted())
    }
}

fn refused(attachment: &OutgoingAttachment) -> impl Fn(AttachmentError) -> ClientError {
    let name = attachment.name.clone();
    move |source| ClientError::Attachment {
        name: name.clone(),
        source,
    }
}

fn unreadable(attachment: &OutgoingAttachment) -> impl Fn(std::io::Error) -> ClientError {
    let name = attachment.name.clone();
    move |source| ClientError::Io {
        operation: "read the attachment",
        name: name.clone(),
        source,
    }
}
