//! An object that comes in parts: hashed while it is written, complete and read back, or not there at all.

use greffe_types::Digest;

use super::{ObjectError, Objects, blocking, folder};

/// An unfinished object; dropping it removes what was written.
#[derive(Debug)]
pub struct Upload {
    digest: Digest,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    /// None once a write has failed.
    Folder(Option<folder::Upload>),
    Buckets(Box<greffe_objects::Upload>),
}

impl Upload {
    pub(super) async fn begin(objects: &Objects, digest: Digest) -> Result<Self, ObjectError> {
        let inner = match objects {
            Objects::Folder(folder) => {
                let folder = folder.clone();
                Inner::Folder(Some(blocking(move || folder.upload()).await?))
            }
            Objects::Buckets(store) => Inner::Buckets(Box::new(store.upload(digest))),
        };
        Ok(Self { digest, inner })
    }

    /// Adds bytes; `most` is how many the whole may have.
    ///
    /// # Errors
    /// [`ObjectError::Size`] when it gets too large, or a failed write: nothing can be added then.
    pub async fn write(&mut self, bytes: Vec<u8>, most: u64) -> Result<(), ObjectError> {
        match &mut self.inner {
            Inner::Folder(slot) => {
                let mut upload = slot.take().ok_or(ObjectError::Stopping)?;
                let written = blocking(move || upload.write(&bytes, most).map(|()| upload)).await?;
                *slot = Some(written);
                Ok(())
            }
            Inner::Buckets(upload) => Ok(upload.write(&bytes, most).await?),
        }
    }

    /// Gives the object its name once size and digest are those announced: durable and read back when this returns, and not
    /// locked until a record names it.
    ///
    /// # Errors
    /// [`ObjectError::Size`], [`ObjectError::Digest`], or a failed write; the object is not there then.
    pub async fn finish(self, size: u64) -> Result<(), ObjectError> {
        let digest = self.digest;
        match self.inner {
            Inner::Folder(slot) => {
                let upload = slot.ok_or(ObjectError::Stopping)?;
                blocking(move || upload.finish(&digest, size)).await
            }
            Inner::Buckets(upload) => Ok(upload.finish(size).await?),
        }
    }
}
