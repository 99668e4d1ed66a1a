//! Attachments: carried to the archive as they come, with a copy here until every member has the message.
//!
//! A message may name an attachment once the archive has said that it is durable and read back, and the copy here is
//! durable too. Neither side trusts the other's digest: both hash what they stored. A replica that takes over has no copies
//! and fetches one from the archive when it is asked for.

mod fetch;
mod staging;
mod upload;

use greffe_service_kit::db::Connection;
use std::sync::Arc;

use greffe_api::relay as api;
use greffe_envelope::limits::MAX_ATTACHMENT_CIPHERTEXT;
use greffe_service_kit::clock::SharedClock;
use greffe_service_kit::db::Database;
use greffe_service_kit::shares::{Full, Share, Shares};
use greffe_service_kit::tls::Channel;
use greffe_types::{ConversationId, Digest};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

pub use staging::{Staging, StagingError};

use crate::error::RelayError;
use crate::session::Session;
use crate::store::{Scope, acknowledgements, attachments, conversations, members};

/// Most bytes of a chunk.
const MAX_CHUNK: usize = 1 << 20;
/// Bytes of a chunk that we send.
const CHUNK: usize = 256 << 10;
/// Transfers at once, each with a few chunks in memory.
const TRANSFERS: u64 = 64;
/// Of these, of one device.
const TRANSFERS_PER_DEVICE: u64 = 8;

/// Attachments on their way in and out. Cheap to clone.
#[derive(Clone)]
pub struct Attachments {
    db: Database,
    scope: Scope,
    clock: SharedClock,
    archive: Channel,
    staging: Staging,
    transfers: Arc<Shares>,
}

impl std::fmt::Debug for Attachments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Attachments")
    }
}

/// Where an attachment's ciphertext is.
enum Copy {
    /// In a file of ours.
    Here(File),
    /// In the archive only, so many bytes.
    Archived(u64),
}

/// What a DownloadAttachment call answers.
pub type Chunks = ReceiverStream<Result<api::DownloadAttachmentResponse, Status>>;

/// An attachment that a device announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Announced {
    conversation: ConversationId,
    digest: Digest,
    size: u64,
}

impl Attachments {
    /// With a folder to stage them in.
    pub fn new(
        db: Database,
        scope: Scope,
        clock: SharedClock,
        archive: Channel,
        staging: Staging,
    ) -> Self {
        Self {
            db,
            scope,
            clock,
            archive,
            staging,
            transfers: Shares::new(TRANSFERS, TRANSFERS_PER_DEVICE),
        }
    }

    /// Carries an attachment to the archive and stages it: complete in both, or in neither.
    ///
    /// # Errors
    /// Refusals; nothing is complete then, and the same upload may come again.
    pub async fn upload(
        &self,
        session: &Session,
        mut parts: Streaming<api::UploadAttachmentRequest>,
    ) -> Result<Digest, RelayError> {
        let announced = announced(&mut parts).await?;
        self.check_member(session, &announced.conversation).await?;
        let _transfer = self.transfer(session)?;
        upload::carry(&self.archive, &self.staging, announced, parts).await?;
        let now = self.clock.now();
        let (scope, a) = (&self.scope, announced);
        self.db
            .run_tx("attachment", async |conn: &mut Connection| {
                attachments::insert(conn, scope, &a.conversation, &a.digest, a.size, now).await?;
                Ok::<_, RelayError>(())
            })
            .await?;
        Ok(announced.digest)
    }

    /// Gives a member an attachment of a message that was sequenced while it was one.
    ///
    /// # Errors
    /// [`RelayError::NoAttachment`] when there is none for this device, or no longer.
    pub async fn download(
        &self,
        session: &Session,
        conversation: ConversationId,
        digest: Digest,
    ) -> Result<Chunks, RelayError> {
        self.check_named(session, &conversation, &digest).await?;
        let transfer = self.transfer(session)?;
        let copy = self.copy(&conversation, &digest).await?;
        let (sender, receiver) = mpsc::channel(4);
        let this = self.clone();
        tokio::spawn(async move {
            let _transfer = transfer;
            // The answer has begun already: fetching a large one takes longer than any call may take to answer.
            let sent = match this.open(&conversation, &digest, copy).await {
                Ok(file) => pieces(file, &sender).await,
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                // Nobody is left to tell when the device went away.
                let _gone = sender.send(Err(Status::from(error))).await;
            }
        });
        Ok(ReceiverStream::new(receiver))
    }

    /// Where an attachment is.
    async fn copy(
        &self,
        conversation: &ConversationId,
        digest: &Digest,
    ) -> Result<Copy, RelayError> {
        match self.staging.open(conversation, digest).await {
            Ok(file) => return Ok(Copy::Here(file)),
            Err(RelayError::NoAttachment) => {}
            Err(error) => return Err(error),
        }
        let (db, scope) = (self.db.read(), &self.scope);
        match attachments::find(db, scope, conversation, digest).await? {
            Some((size, true)) => Ok(Copy::Archived(size)),
            _ => Err(RelayError::NoAttachment),
        }
    }

    /// The copy here; fetched from the archive when another replica took the upload in.
    async fn open(
        &self,
        conversation: &ConversationId,
        digest: &Digest,
        copy: Copy,
    ) -> Result<File, RelayError> {
        match copy {
            Copy::Here(file) => Ok(file),
            Copy::Archived(size) => {
                fetch::restage(&self.archive, &self.staging, conversation, digest, size).await?;
                self.staging.open(conversation, digest).await
            }
        }
    }

    fn transfer(&self, session: &Session) -> Result<Share, RelayError> {
        self.transfers
            .take(session.device, 1)
            .map_err(|full| match full {
                Full::All => RelayError::Busy("too many attachments are on their way"),
                Full::Each => {
                    RelayError::DeviceBusy("too many of its attachments are on their way")
                }
            })
    }

    /// Uploading needs what sending needs.
    async fn check_member(
        &self,
        session: &Session,
        conversation: &ConversationId,
    ) -> Result<(), RelayError> {
        let (db, scope) = (self.db.read(), &self.scope);
        let row = conversations::get(db, scope, conversation)
            .await?
            .ok_or(RelayError::NoConversation)?;
        let stays = members::stays(db, scope, &session.device, Some(conversation)).await?;
        if !stays.iter().any(|stay| stay.until_seq.is_none()) {
            return Err(RelayError::NoConversation);
        }
        acknowledgements::find(db, scope, conversation, &session.device, &row.disclosure)
            .await?
            .map(drop)
            .ok_or(RelayError::NotAcknowledged)
    }

    /// A message that the device may have names the attachment.
    async fn check_named(
        &self,
        session: &Session,
        conversation: &ConversationId,
        digest: &Digest,
    ) -> Result<(), RelayError> {
        let (db, scope) = (self.db.read(), &self.scope);
        let named = attachments::named_by(db, scope, conversation, digest).await?;
        let stays = members::stays(db, scope, &session.device, Some(conversation)).await?;
        let acknowledged =
            acknowledgements::disclosures(db, scope, conversation, &session.device).await?;
        let covered = named.iter().any(|(sequence, disclosure)| {
            acknowledged.contains(disclosure)
                && stays.iter().any(|stay| {
                    stay.from_seq < *sequence
                        && stay.until_seq.is_none_or(|until| *sequence <= until)
                })
        });
        if covered {
            Ok(())
        } else {
            Err(RelayError::NoAttachment)
        }
    }
}

/// Hands out a file's pieces until nobody takes them.
async fn pieces(
    mut file: File,
    sender: &mpsc::Sender<Result<api::DownloadAttachmentResponse, Status>>,
) -> Result<(), RelayError> {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let read = (&mut file).take(CHUNK as u64).read_to_end(&mut chunk).await;
        if read.map_err(|error| StagingError::Io("read", error))? == 0 {
            return Ok(());
        }
        let piece = api::DownloadAttachmentResponse { chunk };
        if sender.send(Ok(piece)).await.is_err() {
            return Ok(());
        }
    }
}

async fn announced(
    parts: &mut Streaming<api::UploadAttachmentRequest>,
) -> Result<Announced, RelayError> {
    let first = parts.message().await.ok().flatten().and_then(|p| p.part);
    let Some(api::upload_attachment_request::Part::Start(start)) = first else {
        return Err(RelayError::Field("start"));
    };
    if start.size == 0 || start.size > MAX_ATTACHMENT_CIPHERTEXT {
        return Err(RelayError::Field("start.size"));
    }
    Ok(Announced {
        conversation: ConversationId::try_from(start.conversation.as_slice())
            .map_err(|_| RelayError::Field("start.conversation"))?,
        digest: Digest::try_from(start.digest.as_slice())
            .map_err(|_| RelayError::Field("start.digest"))?,
        size: start.size,
    })
}
