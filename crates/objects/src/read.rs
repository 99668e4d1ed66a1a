//! Reading: bytes that have the digest they go by, from whichever copy is whole.
//!
//! A small object is compared as a whole before any of it is handed out, and the next copy is tried without a word. A large
//! one is handed out while it is hashed, its last piece held back until the digest is compared; if that fails the reader
//! ends with [`StoreError::Rotted`], nobody has got the whole, and the next reader of that object checks a copy through before
//! it hands out its first piece.

use bytes::{Bytes, BytesMut};
use greffe_types::Digest;
use sha2::{Digest as _, Sha256};

use crate::CHUNK;
use crate::bucket::{Body, Bucket};
use crate::error::StoreError;
use crate::store::Store;

/// Up to this many bytes an object is compared before it is handed out: 4 MiB.
const SMALL: u64 = 4 << 20;

/// An object that is read.
#[derive(Debug)]
pub struct Reader {
    store: Store,
    digest: Digest,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Compared already.
    Whole(Bytes),
    Streaming(Box<Streaming>),
    Ended,
}

#[derive(Debug)]
struct Streaming {
    bucket: Bucket,
    body: Body,
    hash: Sha256,
    held: BytesMut,
}

/// Why a copy does not do.
enum Unusable {
    Missing,
    Rotted(Digest),
    Failed(StoreError),
}

impl Store {
    /// An object's bytes.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Digest`] when every copy is rotted, [`StoreError::Rotted`], or a failed request.
    pub async fn read(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        match self.read_once(digest).await {
            // Now that it is suspected, a copy is checked through first.
            Err(StoreError::Rotted { .. }) => self.read_once(digest).await,
            done => done,
        }
    }

    async fn read_once(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let mut reader = self.reader(digest).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = reader.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// Opens an object to read it in pieces, in constant memory.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn reader(&self, digest: &Digest) -> Result<Reader, StoreError> {
        let careful = self.is_suspect(digest);
        let mut worst = Unusable::Missing;
        for bucket in self.buckets() {
            match self.copy(bucket, digest, None, careful).await {
                Ok(reader) => return Ok(reader),
                Err(why) => worst = worst.or(why),
            }
        }
        // What is newest does for nobody: somebody put another version, or a delete mark, over the record's.
        for bucket in self.buckets() {
            let older = match bucket.whole_versions(&bucket.key(digest)).await {
                Ok(versions) => versions,
                Err(error) => {
                    worst = worst.or(Unusable::Failed(error));
                    continue;
                }
            };
            for version in older {
                match self.copy(bucket, digest, Some(&version.id), true).await {
                    Ok(reader) => return Ok(reader),
                    Err(why) => worst = worst.or(why),
                }
            }
        }
        Err(match worst {
            Unusable::Missing => StoreError::Missing(*digest),
            Unusable::Rotted(found) => StoreError::Digest {
                expected: *digest,
                found,
            },
            Unusable::Failed(error) => error,
        })
    }

    /// Opens one copy; `careful` reads a large one through first.
    async fn copy(
        &self,
        bucket: &Bucket,
        digest: &Digest,
        version: Option<&str>,
        careful: bool,
    ) -> Result<Reader, Unusable> {
        let key = bucket.key(digest);
        let mut body = bucket
            .open(&key, version)
            .await
            .map_err(Unusable::Failed)?
            .ok_or(Unusable::Missing)?;
        let state = if body.size <= SMALL {
            let mut bytes = BytesMut::new();
            while let Some(more) = bucket.next(&mut body).await.map_err(Unusable::Failed)? {
                bytes.extend_from_slice(&more);
            }
            self.compare(bucket, digest, Sha256::new_with_prefix(&bytes))?;
            State::Whole(bytes.freeze())
        } else {
            if careful {
                let version = body.version.clone();
                let found = bucket.digest(body).await.map_err(Unusable::Failed)?;
                if found != *digest {
                    return Err(Unusable::Rotted(found));
                }
                body = bucket
                    .open(&key, Some(&version))
                    .await
                    .map_err(Unusable::Failed)?
                    .ok_or(Unusable::Missing)?;
            }
            State::Streaming(Box::new(Streaming {
                bucket: bucket.clone(),
                body,
                hash: Sha256::new(),
                held: BytesMut::new(),
            }))
        };
        Ok(Reader {
            store: self.clone(),
            digest: *digest,
            state,
        })
    }

    fn compare(&self, bucket: &Bucket, digest: &Digest, hash: Sha256) -> Result<(), Unusable> {
        let found = Digest::new(hash.finalize().into());
        if found == *digest {
            return Ok(());
        }
        tracing::error!(bucket = bucket.name, %digest, "a copy is rotted");
        self.suspected(digest);
        Err(Unusable::Rotted(found))
    }
}

impl Unusable {
    /// What is worth telling when several copies do not do: one that could not be asked may be whole.
    fn or(self, other: Self) -> Self {
        match (&self, &other) {
            (Self::Failed(_), _) | (Self::Rotted(_), Self::Missing | Self::Rotted(_)) => self,
            _ => other,
        }
    }
}

impl Reader {
    /// The next piece, of at most [`CHUNK`] bytes; none once the whole was handed out and its digest compared.
    ///
    /// # Errors
    /// [`StoreError::Rotted`], or a failed request. Nothing more comes after an error.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        match core::mem::replace(&mut self.state, State::Ended) {
            State::Ended => Ok(None),
            State::Whole(mut bytes) => {
                if bytes.is_empty() {
                    return Ok(None);
                }
                let piece = bytes.split_to(bytes.len().min(CHUNK));
                self.state = State::Whole(bytes);
                Ok(Some(piece))
            }
            State::Streaming(mut streaming) => {
                let Streaming {
                    bucket,
                    body,
                    hash,
                    held,
                } = &mut *streaming;
                while held.len() <= CHUNK {
                    let Some(bytes) = bucket.next(body).await? else {
                        let hash = core::mem::take(hash);
                        return match self.store.compare(bucket, &self.digest, hash) {
                            Ok(()) => Ok(Some(held.split().freeze())),
                            Err(_) => Err(StoreError::Rotted {
                                digest: self.digest,
                                bucket: bucket.name.clone(),
                            }),
                        };
                    };
                    hash.update(&bytes);
                    held.extend_from_slice(&bytes);
                }
                let piece = held.split_to(CHUNK).freeze();
                self.state = State::Streaming(streaming);
                Ok(Some(piece))
            }
        }
    }
}
