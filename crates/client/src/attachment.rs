//! Attachments of received messages: fetched and opened on demand, streamed, whole or not at all.

use std::io::Write;

use futures::StreamExt as _;
use greffe_api::relay as api;
use greffe_envelope::attachment::{AttachmentError, AttachmentOpener};
use greffe_envelope::derive::Cek;
use greffe_types::{ConversationId, Digest};

use crate::device::Device;
use crate::error::{ClientError, Result, call};
use crate::store::damaged;

impl Device {
    /// Fetches an attachment of a message that was taken in, and writes its data. When this fails, what was written is to
    /// be thrown away: only the end says that it was the sender's.
    ///
    /// # Errors
    /// When there is no such attachment, the relay does not have it any more, or it is not what header and content name.
    pub async fn attachment(
        &self,
        id: &ConversationId,
        sequence: u64,
        index: u32,
        out: &mut (impl Write + Send),
    ) -> Result<u64> {
        let store = &self.client().0.store;
        let before = sequence.saturating_sub(1);
        let items = store.items(&self.id(), id, before, 1).await?;
        let absent = || {
            ClientError::refused(
                "ATTACHMENT_UNKNOWN",
                format!("number {sequence} of conversation {id} has no attachment {index} here"),
            )
        };
        let item = items
            .into_iter()
            .find(|item| item.sequence == sequence && !item.content.is_empty())
            .ok_or_else(absent)?;
        let stored = store.open_content(&self.id(), &item.digest, &item.content)?;
        let place = index as usize;
        let content = stored.content.unwrap_or_default();
        let inside = content.attachments.get(place).ok_or_else(absent)?;
        let outside = stored.attachments.get(place).ok_or_else(absent)?;
        let cek: [u8; 32] = stored
            .cek
            .as_slice()
            .try_into()
            .map_err(|_| damaged("item"))?;
        let core = Digest::try_from(stored.core.as_slice()).map_err(|_| damaged("item"))?;
        let opener = AttachmentOpener::new(&Cek::from_bytes(cek), &core, index, inside, outside);
        let opener = opener.map_err(refused(&inside.name))?;
        let request = api::DownloadAttachmentRequest {
            conversation: id.to_vec(),
            digest: outside.digest.clone(),
        };
        let request = self.request(request).await?;
        let answer = self.relay_client()?.download_attachment(request).await;
        let stream = answer.map_err(call("DownloadAttachment"))?.into_inner();
        let pieces = stream.map(|piece| Ok(piece.map_err(call("DownloadAttachment"))?.chunk));
        open_stream(opener, &inside.name, pieces, out).await
    }
}

/// Opens ciphertext as it comes and writes the data; gives its length once everything was found right.
pub(crate) async fn open_stream(
    mut opener: AttachmentOpener,
    name: &str,
    pieces: impl futures::Stream<Item = Result<Vec<u8>>>,
    out: &mut (impl Write + Send),
) -> Result<u64> {
    let mut pieces = core::pin::pin!(pieces);
    let (mut plain, mut written) = (Vec::new(), 0);
    let mut write = |plain: &mut Vec<u8>| {
        written += plain.len() as u64;
        let done = out.write_all(plain);
        plain.clear();
        done.map_err(|source| ClientError::Io {
            operation: "write the attachment",
            name: name.to_owned(),
            source,
        })
    };
    while let Some(piece) = pieces.next().await {
        opener.update(&piece?, &mut plain).map_err(refused(name))?;
        write(&mut plain)?;
    }
    opener.finish(&mut plain).map_err(refused(name))?;
    write(&mut plain)?;
    Ok(written)
}

pub(crate) fn refused(name: &str) -> impl Fn(AttachmentError) -> ClientError + '_ {
    move |source| ClientError::Attachment {
        name: name.to_owned(),
        source,
    }
}
