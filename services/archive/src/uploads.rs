//! Attachments on their way in: streamed to the store, complete and read back, or not there at all.

use std::sync::Arc;

use greffe_api::archive as api;
use greffe_api::archive::put_attachment_request::Part;
use greffe_envelope::limits::MAX_ATTACHMENT_CIPHERTEXT;
use greffe_service_kit::errors::{Reason, ServiceError};
use greffe_types::{ConversationId, Digest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::app::App;
use crate::error::{ArchiveError, invalid};
use crate::objects::ObjectError;
use crate::store::attachments;

/// Most bytes of one part: 1 MiB.
const MAX_CHUNK: usize = 1 << 20;
/// Pieces on their way to a relay.
const PIECES: usize = 4;

/// Larger than an attachment may be.
pub const ATTACHMENT_TOO_LARGE: Reason = Reason::new("ATTACHMENT_TOO_LARGE");
/// Size or digest are not those announced.
pub const ATTACHMENT_MISMATCH: Reason = Reason::new("ATTACHMENT_MISMATCH");

/// There is no complete attachment of that digest.
pub const ATTACHMENT_MISSING: Reason = Reason::new("ATTACHMENT_MISSING");

/// What is announced.
struct Announced {
    digest: Digest,
    size: u64,
    conversation: ConversationId,
}

/// Receives an attachment; gives its digest once it is durable and was read back.
pub async fn receive(
    app: &App,
    mut parts: Streaming<api::PutAttachmentRequest>,
) -> Result<Digest, Status> {
    let first = parts.message().await?.and_then(|request| request.part);
    let Some(Part::Start(start)) = first else {
        return Err(invalid("part: the first one announces the attachment").into());
    };
    let announced = announced(&start)?;
    let Announced { digest, size, .. } = announced;
    // The row is there before the object: what an interrupted upload leaves behind is found by it.
    begin(app, &announced).await?;

    match store(app, &mut parts, digest, size).await? {
        Ok(()) => {}
        Err(ObjectError::Size { expected, found }) => {
            return Err(mismatch("size")
                .with("expected", expected)
                .with("found", found)
                .into());
        }
        Err(ObjectError::Digest { .. }) => return Err(mismatch("digest").into()),
        Err(error) => return Err(ArchiveError::from(error).into()),
    }
    complete(app, &announced).await?;
    Ok(digest)
}

/// Gives an attachment that is complete, in pieces; the last one only once the digest of the whole was compared.
pub async fn give(
    app: &Arc<App>,
    digest: Digest,
) -> Result<ReceiverStream<Result<api::GetAttachmentResponse, Status>>, Status> {
    let complete = async {
        let mut db = app.db.read().acquire().await?;
        attachments::sizes(&mut db, &app.scope, &[digest]).await
    };
    if complete.await.map_err(ArchiveError::from)?.is_empty() {
        return Err(ServiceError::new(
            Code::NotFound,
            ATTACHMENT_MISSING,
            "there is no such attachment, or no longer",
        )
        .into());
    }
    let (sender, receiver) = mpsc::channel(PIECES);
    let app = app.clone();
    tokio::spawn(async move {
        if let Err(error) = pieces(&app, digest, &sender).await {
            // Nobody is left to tell when the relay went away.
            let _gone = sender.send(Err(Status::from(error))).await;
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// Hands out an attachment's pieces until nobody takes them.
async fn pieces(
    app: &App,
    digest: Digest,
    sender: &mpsc::Sender<Result<api::GetAttachmentResponse, Status>>,
) -> Result<(), ArchiveError> {
    let mut pieces = app.objects.reader(digest).await?;
    while let Some(chunk) = pieces.next().await? {
        let piece = api::GetAttachmentResponse { chunk };
        if sender.send(Ok(piece)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Writes every part as it comes. The outer error is the caller's or the connection's, the inner one the store's.
async fn store(
    app: &App,
    parts: &mut Streaming<api::PutAttachmentRequest>,
    digest: Digest,
    size: u64,
) -> Result<Result<(), ObjectError>, Status> {
    let mut upload = match app.objects.upload(digest).await {
        Ok(upload) => upload,
        Err(error) => return Ok(Err(error)),
    };
    while let Some(request) = parts.message().await? {
        let Some(Part::Chunk(bytes)) = request.part else {
            return Err(invalid("part: bytes, after the announcement").into());
        };
        if bytes.len() > MAX_CHUNK {
            return Err(invalid("chunk: at most 1 MiB").into());
        }
        if let Err(error) = upload.write(bytes, size).await {
            return Ok(Err(error));
        }
    }
    Ok(upload.finish(size).await)
}

/// Notes that it is on its way. One of that name that is being removed has to be gone first.
async fn begin(app: &App, announced: &Announced) -> Result<(), ArchiveError> {
    let begun = app
        .write("begin_attachment", async |conn| {
            let Announced {
                digest,
                size,
                conversation,
            } = announced;
            let now = app.now();
            Ok(attachments::begin(conn, &app.scope, digest, *size, conversation, now).await?)
        })
        .await?;
    if begun {
        return Ok(());
    }
    Err(again("an attachment of that name is being removed").into())
}

/// Notes that it is complete, unless it was removed meanwhile.
async fn complete(app: &App, announced: &Announced) -> Result<(), ArchiveError> {
    let Announced { digest, size, .. } = announced;
    let noted = app.objects.contains(digest).await?
        && app
            .write("complete_attachment", async |conn| {
                Ok(attachments::complete(conn, &app.scope, digest, *size, app.now()).await?)
            })
            .await?;
    if noted {
        return Ok(());
    }
    // What was put after the removal has its row again, by which the sweep finds it.
    begin(app, announced).await?;
    Err(again("the upload took too long and was removed").into())
}

fn again(why: &'static str) -> ServiceError {
    ServiceError::new(
        Code::Unavailable,
        crate::error::STORE_UNAVAILABLE,
        format!("{why}; send it again"),
    )
    .retry_after(core::time::Duration::from_secs(1))
}

fn announced(start: &api::AttachmentStart) -> Result<Announced, ServiceError> {
    if start.size > MAX_ATTACHMENT_CIPHERTEXT {
        return Err(ServiceError::new(
            Code::InvalidArgument,
            ATTACHMENT_TOO_LARGE,
            "an attachment has at most 5 GiB: send it in parts",
        ));
    }
    Ok(Announced {
        digest: Digest::try_from(start.digest.as_slice())
            .map_err(|_| invalid("start.digest: 32 bytes"))?,
        size: start.size,
        conversation: ConversationId::try_from(start.conversation.as_slice())
            .map_err(|_| invalid("start.conversation: 16 bytes"))?,
    })
}

fn mismatch(what: &'static str) -> ServiceError {
    ServiceError::new(
        Code::InvalidArgument,
        ATTACHMENT_MISMATCH,
        "what came is not what was announced; nothing was kept",
    )
    .with("what", what)
}
