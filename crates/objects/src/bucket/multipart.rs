//! An object written in parts, into one bucket: there once it is finished, with its lock, or not at all.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, ObjectLockMode,
};
use greffe_types::Millis;

use super::{Bucket, Part, seconds};
use crate::error::StoreError;

/// An unfinished object. Nothing is sent before the second part: a small object is one request.
#[derive(Debug)]
pub(crate) struct Writer {
    bucket: Bucket,
    key: String,
    until: Option<Millis>,
    id: Option<String>,
    parts: Vec<CompletedPart>,
}

impl Writer {
    pub(crate) fn new(bucket: Bucket, key: String, until: Option<Millis>) -> Self {
        Self {
            bucket,
            key,
            until,
            id: None,
            parts: Vec::new(),
        }
    }

    pub(crate) const fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Adds a part: at least 5 MiB, unless it is the last.
    pub(crate) async fn part(&mut self, Part { bytes, sum }: Part) -> Result<(), StoreError> {
        let id = match &self.id {
            Some(id) => id.clone(),
            None => {
                let id = self.begin().await?;
                self.id = Some(id.clone());
                id
            }
        };
        let number = i32::try_from(self.parts.len() + 1).unwrap_or(i32::MAX);
        let output = self
            .bucket
            .client
            .upload_part()
            .bucket(&self.bucket.name)
            .key(&self.key)
            .upload_id(id)
            .part_number(number)
            .checksum_sha256(&sum)
            .body(ByteStream::from(bytes))
            .send()
            .await
            .map_err(self.bucket.failed("UploadPart"))?;
        self.parts.push(
            CompletedPart::builder()
                .part_number(number)
                .set_e_tag(output.e_tag)
                .checksum_sha256(sum)
                .build(),
        );
        Ok(())
    }

    /// Adds what is left and gives the object its name; the version it is.
    pub(crate) async fn finish(&mut self, last: Part) -> Result<String, StoreError> {
        if self.id.is_none() {
            return self.bucket.put(&self.key, last, self.until).await;
        }
        if !last.bytes.is_empty() {
            self.part(last).await?;
        }
        let output = self
            .bucket
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket.name)
            .key(&self.key)
            .set_upload_id(self.id.clone())
            .multipart_upload(
                CompletedMultipartUpload::builder()
                    .set_parts(Some(core::mem::take(&mut self.parts)))
                    .build(),
            )
            .send()
            .await
            .map_err(self.bucket.failed("CompleteMultipartUpload"))?;
        self.id = None;
        self.bucket
            .version("CompleteMultipartUpload", output.version_id)
    }

    async fn begin(&self) -> Result<String, StoreError> {
        let output = self
            .bucket
            .client
            .create_multipart_upload()
            .bucket(&self.bucket.name)
            .key(&self.key)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .set_object_lock_mode(self.until.map(|_| ObjectLockMode::Compliance))
            .set_object_lock_retain_until_date(self.until.map(seconds))
            .send()
            .await
            .map_err(self.bucket.failed("CreateMultipartUpload"))?;
        output.upload_id.ok_or_else(|| StoreError::Request {
            bucket: self.bucket.name.clone(),
            operation: "CreateMultipartUpload",
            code: "the answer names no upload".to_owned(),
            retriable: false,
            source: "no upload id".into(),
        })
    }

    /// Throws away what was sent.
    pub(crate) async fn abort(&mut self) -> Result<(), StoreError> {
        let Some(id) = self.id.take() else {
            return Ok(());
        };
        self.bucket
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket.name)
            .key(&self.key)
            .upload_id(id)
            .send()
            .await
            .map_err(self.bucket.failed("AbortMultipartUpload"))?;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let mut left = Self {
            bucket: self.bucket.clone(),
            key: core::mem::take(&mut self.key),
            until: None,
            id: Some(id),
            parts: Vec::new(),
        };
        // What this cannot throw away, the bucket's rule for unfinished uploads does.
        drop(runtime.spawn(async move {
            let _left = left.abort().await;
        }));
    }
}
