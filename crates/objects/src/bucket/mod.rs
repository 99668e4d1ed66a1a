//! One bucket: every request that the store makes, with its timeout and a typed error.

mod client;
mod locks;
mod multipart;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ObjectLockMode;
use bytes::Bytes;
use greffe_types::{Digest, Millis};
use sha2::{Digest as _, Sha256};

use crate::error::StoreError;
use crate::settings::Timeouts;

pub(crate) use locks::{Lock, seconds};
pub(crate) use multipart::Writer;

/// A bucket and the place in it.
#[derive(Clone)]
pub(crate) struct Bucket {
    pub(crate) client: Client,
    pub(crate) name: String,
    prefix: String,
    timeouts: Timeouts,
}

/// One version of a key, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) key: String,
    pub(crate) id: String,
    /// A mark that hides the versions below it.
    pub(crate) marker: bool,
    /// Whether it is the newest of its key.
    pub(crate) latest: bool,
    nanos: i128,
}

/// Some versions, and where to go on.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) versions: Vec<Version>,
    pub(crate) next: Option<After>,
}

/// Where a page begins: after this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct After {
    pub(crate) key: String,
    pub(crate) version: Option<String>,
}

/// An object that is being read.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) version: String,
    /// Bytes that the server announces.
    pub(crate) size: u64,
    /// The lock that the server shows with the bytes; some show none.
    pub(crate) lock: Option<Lock>,
    stream: ByteStream,
}

impl core::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Bucket").field(&self.name).finish()
    }
}

impl Bucket {
    /// The key of an object.
    pub(crate) fn key(&self, digest: &Digest) -> String {
        let name = digest.to_string();
        format!("{}objects/{}/{}", self.prefix, &name[..2], &name[2..])
    }

    /// The key of something else.
    pub(crate) fn other_key(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }

    /// Puts bytes as a new version, locked when `until` says so; gives the version.
    pub(crate) async fn put(
        &self,
        key: &str,
        Part { bytes, sum }: Part,
        until: Option<Millis>,
    ) -> Result<String, StoreError> {
        let output = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(key)
            .checksum_sha256(sum)
            .set_object_lock_mode(until.map(|_| ObjectLockMode::Compliance))
            .set_object_lock_retain_until_date(until.map(seconds))
            .body(ByteStream::from(bytes))
            .send()
            .await
            .map_err(self.failed("PutObject"))?;
        self.version("PutObject", output.version_id)
    }

    /// Opens a version, or the newest one; none when it is not there.
    pub(crate) async fn open(
        &self,
        key: &str,
        version: Option<&str>,
    ) -> Result<Option<Body>, StoreError> {
        let answer = self
            .client
            .get_object()
            .bucket(&self.name)
            .key(key)
            .set_version_id(version.map(str::to_owned))
            .send()
            .await;
        match answer {
            Ok(output) => Ok(Some(self.body(output)?)),
            Err(error) if status(&error) == Some(404) => Ok(None),
            // What a delete mark answers when it is asked for by its version.
            Err(error) if status(&error) == Some(405) => Ok(None),
            Err(error) => Err(self.failed("GetObject")(error)),
        }
    }

    fn body(&self, output: GetObjectOutput) -> Result<Body, StoreError> {
        let lock = Lock::shown(
            output.object_lock_mode.as_ref(),
            output.object_lock_retain_until_date.as_ref(),
        );
        Ok(Body {
            version: self.version("GetObject", output.version_id)?,
            size: output
                .content_length
                .and_then(|size| u64::try_from(size).ok())
                .unwrap_or_default(),
            lock,
            stream: output.body,
        })
    }

    /// The next bytes of a body; none at its end.
    pub(crate) async fn next(&self, body: &mut Body) -> Result<Option<Bytes>, StoreError> {
        let limit = self.timeouts.piece;
        match tokio::time::timeout(limit, body.stream.next()).await {
            Ok(None) => Ok(None),
            Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
            Ok(Some(Err(error))) => Err(StoreError::Request {
                bucket: self.name.clone(),
                operation: "GetObject",
                code: "broken off".to_owned(),
                retriable: true,
                source: error.into(),
            }),
            Err(_) => Err(StoreError::Timeout {
                bucket: self.name.clone(),
                operation: "GetObject",
                limit,
            }),
        }
    }

    /// Reads a body to its end; the digest of its bytes.
    pub(crate) async fn digest(&self, mut body: Body) -> Result<Digest, StoreError> {
        let mut hash = Sha256::new();
        while let Some(bytes) = self.next(&mut body).await? {
            hash.update(&bytes);
        }
        Ok(Digest::new(hash.finalize().into()))
    }

    /// Every version of a key, the newest first.
    pub(crate) async fn versions(&self, key: &str) -> Result<Vec<Version>, StoreError> {
        let mut found = Vec::new();
        let mut from = None;
        loop {
            let page = self.page(key, from.take()).await?;
            found.extend(page.versions.into_iter().filter(|v| v.key == key));
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        // Versions and marks come in two lists.
        found.sort_by_key(|v| (!v.latest, core::cmp::Reverse(v.nanos)));
        Ok(found)
    }

    /// A page of the versions whose keys begin with `prefix`, hidden ones included.
    pub(crate) async fn page(&self, prefix: &str, from: Option<After>) -> Result<Page, StoreError> {
        let (key, version) = from.map(|from| (from.key, from.version)).unzip();
        let page = self
            .client
            .list_object_versions()
            .bucket(&self.name)
            .prefix(prefix)
            .set_key_marker(key)
            .set_version_id_marker(version.flatten())
            .send()
            .await
            .map_err(self.failed("ListObjectVersions"))?;
        let versions = page.versions.unwrap_or_default().into_iter().map(|v| {
            let at = v.last_modified;
            (v.key, v.version_id, false, at, v.is_latest)
        });
        let markers = page
            .delete_markers
            .unwrap_or_default()
            .into_iter()
            .map(|v| {
                let at = v.last_modified;
                (v.key, v.version_id, true, at, v.is_latest)
            });
        let versions = versions
            .chain(markers)
            .filter_map(|(key, id, marker, at, latest)| {
                Some(Version {
                    key: key?,
                    id: id?,
                    marker,
                    latest: latest == Some(true),
                    nanos: at.map_or(0, |at| at.as_nanos()),
                })
            })
            .collect();
        let next = page
            .next_key_marker
            .filter(|_| page.is_truncated == Some(true))
            .map(|key| After {
                key,
                version: page.next_version_id_marker,
            });
        Ok(Page { versions, next })
    }

    /// Deletes one version for good. The server refuses while it is locked.
    pub(crate) async fn delete(&self, key: &str, version: &str) -> Result<(), StoreError> {
        self.client
            .delete_object()
            .bucket(&self.name)
            .key(key)
            .version_id(version)
            .send()
            .await
            .map_err(self.failed("DeleteObject"))?;
        Ok(())
    }

    fn version(
        &self,
        operation: &'static str,
        version: Option<String>,
    ) -> Result<String, StoreError> {
        version
            .filter(|version| version != "null")
            .ok_or_else(|| StoreError::Request {
                bucket: self.name.clone(),
                operation,
                code: "the answer names no version: is versioning suspended?".to_owned(),
                retriable: false,
                source: "no version id".into(),
            })
    }

    /// Turns the SDK's error into ours.
    pub(crate) fn failed<E, R>(
        &self,
        operation: &'static str,
    ) -> impl FnOnce(SdkError<E, R>) -> StoreError
    where
        E: ProvideErrorMetadata + core::error::Error + Send + Sync + 'static,
        R: HttpStatus + core::fmt::Debug + Send + Sync + 'static,
    {
        let bucket = self.name.clone();
        let limit = self.timeouts.operation;
        move |error| match &error {
            SdkError::TimeoutError(_) => StoreError::Timeout {
                bucket,
                operation,
                limit,
            },
            _ => {
                let status = status(&error);
                let code = code(&error, status);
                let retriable = match status {
                    None => true,
                    Some(status) => status >= 500 || status == 429 || TRY_AGAIN.contains(&&*code),
                };
                StoreError::Request {
                    bucket,
                    operation,
                    code,
                    retriable,
                    source: Box::new(error),
                }
            }
        }
    }
}

const TRY_AGAIN: [&str; 4] = [
    "SlowDown",
    "RequestTimeout",
    "OperationAborted",
    "ConcurrentModification",
];

/// Bytes to send, with the sum that the server checks when they arrive: the base 64 form of their SHA-256.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) bytes: Bytes,
    pub(crate) sum: String,
}

impl Part {
    /// Large ones are summed off the async threads.
    pub(crate) async fn new(bytes: Bytes) -> Self {
        let sum = |bytes: &[u8]| aws_smithy_types::base64::encode(Sha256::digest(bytes));
        if bytes.len() <= crate::CHUNK {
            let sum = sum(&bytes);
            return Self { bytes, sum };
        }
        let shared = bytes.clone();
        let sum = tokio::task::spawn_blocking(move || sum(&shared))
            .await
            .unwrap_or_default();
        Self { bytes, sum }
    }
}

/// What has an HTTP status.
pub(crate) trait HttpStatus {
    /// The status.
    fn status(&self) -> u16;
}

impl HttpStatus for aws_sdk_s3::config::http::HttpResponse {
    fn status(&self) -> u16 {
        self.status().as_u16()
    }
}

pub(crate) fn status<E, R: HttpStatus>(error: &SdkError<E, R>) -> Option<u16> {
    match error {
        SdkError::ServiceError(error) => Some(error.raw().status()),
        SdkError::ResponseError(error) => Some(error.raw().status()),
        _ => None,
    }
}

/// The server's error code; where there is none, what is known instead.
pub(crate) fn code<E: ProvideErrorMetadata, R>(
    error: &SdkError<E, R>,
    status: Option<u16>,
) -> String {
    if let SdkError::ServiceError(service) = error
        && let Some(code) = service.err().code()
    {
        return code.to_owned();
    }
    match (error, status) {
        (_, Some(status)) => format!("status {status}"),
        (SdkError::DispatchFailure(_), _) => "not reached".to_owned(),
        (SdkError::ConstructionFailure(_), _) => "not a request".to_owned(),
        _ => "no answer".to_owned(),
    }
}
