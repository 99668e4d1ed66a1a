//! An object that comes in pieces: hashed while it is sent, in every bucket and read back, or not there at all.

use bytes::{Bytes, BytesMut};
use futures::future::try_join_all;
use greffe_types::{Digest, Millis};
use sha2::{Digest as _, Sha256};

use crate::bucket::{Part, Writer};
use crate::error::StoreError;
use crate::store::Store;

/// Bytes sent at a time: 16 MiB. An upload holds at most three times as many in memory, whatever its size.
pub const PART: usize = 16 << 20;

impl Store {
    /// Begins an object that comes in pieces. It is not locked: a record that names it does that, by [`Store::lock`].
    pub fn upload(&self, digest: Digest) -> Upload {
        Upload::new(self.clone(), digest, None, self.buckets().iter().cloned())
    }
}

/// An unfinished object. Dropping it throws away what was sent, as far as the server can be reached; a rule of the bucket
/// that ends unfinished uploads after a day takes the rest.
#[derive(Debug)]
pub struct Upload {
    store: Store,
    digest: Digest,
    until: Option<Millis>,
    writers: Vec<Writer>,
    buffer: BytesMut,
    hash: Sha256,
    size: u64,
}

impl Upload {
    pub(crate) fn new(
        store: Store,
        digest: Digest,
        until: Option<Millis>,
        buckets: impl Iterator<Item = crate::bucket::Bucket>,
    ) -> Self {
        let writers = buckets
            .map(|bucket| {
                let key = bucket.key(&digest);
                Writer::new(bucket, key, until)
            })
            .collect();
        Self {
            store,
            digest,
            until,
            writers,
            buffer: BytesMut::new(),
            hash: Sha256::new(),
            size: 0,
        }
    }

    /// Adds bytes; `most` is how many the whole may have.
    ///
    /// # Errors
    /// [`StoreError::Size`] when it gets too large, or a failed request.
    pub async fn write(&mut self, bytes: &[u8], most: u64) -> Result<(), StoreError> {
        let size = self.size.saturating_add(bytes.len() as u64);
        if size > most {
            return Err(StoreError::Size {
                expected: most,
                found: size,
            });
        }
        self.hash.update(bytes);
        self.size = size;
        self.buffer.extend_from_slice(bytes);
        while self.buffer.len() > PART {
            let part = self.buffer.split_to(PART).freeze();
            self.send(part).await?;
        }
        Ok(())
    }

    /// Without writers, after a part that failed, nothing can be finished any more.
    async fn send(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        if self.writers.is_empty() {
            return Err(StoreError::BrokenOff(self.digest));
        }
        let part = Part::new(bytes).await;
        let writers = core::mem::take(&mut self.writers);
        let sent = writers.into_iter().map(|writer| add(writer, part.clone()));
        self.writers = try_join_all(sent).await?;
        Ok(())
    }

    /// Gives the object its name once its size is `size` and its digest the announced one: in every bucket and read back when
    /// this returns. Where it is there already, whole, it is left alone.
    ///
    /// # Errors
    /// [`StoreError::Size`], [`StoreError::Digest`], or a failed request.
    pub async fn finish(mut self, size: u64) -> Result<(), StoreError> {
        if self.size != size {
            return Err(StoreError::Size {
                expected: size,
                found: self.size,
            });
        }
        let found = Digest::new(core::mem::take(&mut self.hash).finalize().into());
        if found != self.digest {
            return Err(StoreError::Digest {
                expected: self.digest,
                found,
            });
        }
        self.complete().await
    }

    /// As [`Upload::finish`], for bytes that were compared already.
    async fn complete(mut self) -> Result<(), StoreError> {
        if self.writers.is_empty() {
            return Err(StoreError::BrokenOff(self.digest));
        }
        let last = Part::new(self.buffer.split().freeze()).await;
        let store = self.store.clone();
        let (digest, until) = (self.digest, self.until);
        let _one = store.one_at_a_time(&digest).await;
        let writers = core::mem::take(&mut self.writers);
        let done = writers
            .into_iter()
            .map(|writer| complete(writer, digest, last.clone(), until));
        try_join_all(done).await?;
        Ok(())
    }
}

/// A writer that fails is dropped, with its upload.
async fn add(mut writer: Writer, part: Part) -> Result<Writer, StoreError> {
    writer.part(part).await?;
    Ok(writer)
}

async fn complete(
    mut writer: Writer,
    digest: Digest,
    last: Part,
    until: Option<Millis>,
) -> Result<(), StoreError> {
    let (bucket, key) = (writer.bucket().clone(), writer.key().to_owned());
    if bucket.newest_is(&key, &digest).await? {
        writer.abort().await?;
        return match until {
            Some(until) => bucket.extend(&digest, until).await.map(drop),
            None => Ok(()),
        };
    }
    let version = writer.finish(last).await?;
    bucket.read_back(&digest, &version, until).await
}
