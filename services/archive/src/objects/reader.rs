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
    Folder(mpsc::Receiver<Result<Vec<u8>, FolderError>>),
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
                    let read =
                        folder.stream(&digest, |piece| sender.blocking_send(Ok(piece)).is_ok());
                    if let Err(error) = read {
                        let _gone = sender.blocking_send(Err(error));
                    }
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
            Inner::Folder(pieces) => Ok(pieces.recv().await.transpose()?),
            Inner::Buckets(reader) => Ok(reader.next().await?.map(Vec::from)),
        }
    }
}
