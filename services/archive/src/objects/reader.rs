//! An object that is read in pieces.

use greffe_types::Digest;
use tokio::sync::mpsc;

use super::{FolderError, ObjectError, Objects};

/// Pieces of the folder's reader in memory.
const PIECES: usize = 2;

/// Pieces of at most [`super::CHUNK`] bytes. The last one comes only once the digest of the whole has been compared.
#[derive(Debug)]
pub struct Reader(Inner);

#[derive(Debug)]
enum Inner {
    /// None is the end: a channel that closes without it has lost its reader.
    Folder(mpsc::Receiver<Result<Option<Vec<u8>>, FolderError>>),
    Buckets(Box<greffe_objects::Reader>),
}

impl Reader {
    pub(super) async fn open(objects: &Objects, digest: Digest) -> Result<Self, ObjectError> {
        let inner = match objects {
            Objects::Folder(folder) => {
                let (sender, receiver) = mpsc::channel(PIECES);
                let folder = folder.clone();
                // Ends when the receiver is dropped.
                drop(tokio::task::spawn_blocking(move || {
                    let read = folder.stream(&digest, |piece| {
                        sender.blocking_send(Ok(Some(piece))).is_ok()
                    });
                    let _gone = sender.blocking_send(read.map(|()| None));
                }));
                Inner::Folder(receiver)
            }
            Objects::Buckets(store) => Inner::Buckets(Box::new(store.reader(&digest).await?)),
        };
        Ok(Self(inner))
    }

    /// The next piece; none at the end.
    ///
    /// # Errors
    /// [`ObjectError::Digest`] when the bytes are rotted, [`ObjectError::Missing`], or a failed read.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ObjectError> {
        match &mut self.0 {
            Inner::Folder(pieces) => match pieces.recv().await {
                Some(piece) => Ok(piece?),
                None => Err(ObjectError::Stopping),
            },
            Inner::Buckets(reader) => Ok(reader.next().await?.map(Vec::from)),
        }
    }
}
