//! What a bucket has to do before anything is trusted to it: each need is tried, on objects below `<prefix>probe/`.
//!
//! One object locked for two minutes is left behind by each start, and removed by a later one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_s3::types::{BucketVersioningStatus, ObjectLockEnabled};
use bytes::Bytes;
use greffe_types::Millis;

use crate::bucket::{Bucket, Part, Version, Writer};
use crate::error::{StoreError, Unfit};

/// How long the probe's object is locked.
const LOCK: Duration = Duration::from_secs(120);
const BYTES: &[u8] = b"This object shows that the bucket locks. It may be deleted.\n";

/// Tries everything.
///
/// # Errors
/// [`StoreError::Unfit`], or a failed request.
pub(crate) async fn probe(bucket: Bucket) -> Result<(), StoreError> {
    let bucket = &bucket;
    let mut probe = Probe {
        bucket,
        missing: Vec::new(),
    };
    probe.settings().await?;
    let left = probe.lists().await?;
    let held = probe.unlocked().await?;
    probe.stop_if_missing()?;
    if held {
        return Err(probe.unfit(Unfit::LockNotKept(
            "a version under a legal hold was deleted",
        )));
    }
    probe.locked().await?;
    probe.parts().await?;
    probe.stop_if_missing()?;
    for version in left {
        // One that is still locked, by a start just before, stays until a later start.
        let _locked = bucket.delete(&version.key, &version.id).await;
    }
    Ok(())
}

struct Probe<'a> {
    bucket: &'a Bucket,
    /// Permissions found missing.
    missing: Vec<&'static str>,
}

impl Probe<'_> {
    async fn settings(&mut self) -> Result<(), StoreError> {
        let bucket = self.bucket;
        let versioning = bucket
            .client
            .get_bucket_versioning()
            .bucket(&bucket.name)
            .send()
            .await
            .map_err(bucket.failed("GetBucketVersioning"));
        if let Some(versioning) = self.needs("s3:GetBucketVersioning", versioning)?
            && versioning.status != Some(BucketVersioningStatus::Enabled)
        {
            return Err(self.unfit(Unfit::Versioning));
        }
        let lock = bucket
            .client
            .get_object_lock_configuration()
            .bucket(&bucket.name)
            .send()
            .await
            .map_err(bucket.failed("GetObjectLockConfiguration"));
        let lock = match lock {
            Err(StoreError::Request { code, .. })
                if code == "ObjectLockConfigurationNotFoundError" =>
            {
                return Err(self.unfit(Unfit::ObjectLock));
            }
            lock => self.needs("s3:GetBucketObjectLockConfiguration", lock)?,
        };
        if let Some(lock) = lock {
            let enabled = lock
                .object_lock_configuration
                .and_then(|configuration| configuration.object_lock_enabled);
            if enabled != Some(ObjectLockEnabled::Enabled) {
                return Err(self.unfit(Unfit::ObjectLock));
            }
        }
        Ok(())
    }

    /// What earlier probes left; and whether a key that is not there can be told from one that may not be read.
    async fn lists(&mut self) -> Result<Vec<Version>, StoreError> {
        let page = self
            .bucket
            .page(&self.bucket.other_key("probe/"), None)
            .await;
        let page = self.needs("s3:ListBucketVersions", page)?;
        let nothing = self
            .bucket
            .open(&self.bucket.other_key("probe/none"), None)
            .await;
        self.needs("s3:ListBucket", nothing)?;
        Ok(page.map(|page| page.versions).unwrap_or_default())
    }

    /// Everything that is done with a version that is not locked; whether it could be deleted under a legal hold.
    async fn unlocked(&mut self) -> Result<bool, StoreError> {
        let bucket = self.bucket;
        let key = bucket.other_key("probe/unlocked");
        let put = bucket.put(&key, part().await, None).await;
        let Some(version) = self.needs("s3:PutObject", put)? else {
            return Ok(false);
        };
        let newest = bucket.open(&key, None).await.map(drop);
        self.needs("s3:GetObject", newest)?;
        let read = bucket.open(&key, Some(&version)).await.map(drop);
        self.needs("s3:GetObjectVersion", read)?;
        let lock = bucket.lock(&key, &version).await;
        self.needs("s3:GetObjectRetention", lock)?;
        let mut deleted = false;
        let hold = bucket.set_held(&key, &version, true).await;
        if self.needs("s3:PutObjectLegalHold", hold)?.is_some() {
            let held = bucket.held(&key, &version).await;
            if self.needs("s3:GetObjectLegalHold", held)? == Some(false) {
                return Err(self.unfit(Unfit::LockNotKept("a legal hold is not shown")));
            }
            deleted = bucket.delete(&key, &version).await.is_ok();
            if !deleted {
                bucket.set_held(&key, &version, false).await?;
            }
        }
        if !deleted {
            let removed = bucket.delete(&key, &version).await;
            self.needs("s3:DeleteObjectVersion", removed)?;
        }
        Ok(deleted)
    }

    /// A lock in compliance mode holds against these credentials.
    async fn locked(&mut self) -> Result<(), StoreError> {
        let bucket = self.bucket;
        let key = bucket.other_key("probe/locked");
        let until = now().plus(LOCK);
        let put = bucket.put(&key, part().await, Some(until)).await;
        let Some(version) = self.needs("s3:PutObjectRetention", put)? else {
            return Ok(());
        };
        let longer = until.plus(Duration::from_secs(1));
        let set = bucket.set_lock(&key, &version, longer).await;
        if self.needs("s3:PutObjectRetention", set)?.is_none() {
            return Ok(());
        }
        let shows = |lock: Option<crate::bucket::Lock>| lock.is_some_and(|lock| lock.keeps(longer));
        if !shows(bucket.lock(&key, &version).await?) {
            return Err(self.unfit(Unfit::LockNotKept("a lock in compliance mode is not shown")));
        }
        let shortened = bucket.set_lock(&key, &version, until).await;
        if shortened.is_ok() || !shows(bucket.lock(&key, &version).await?) {
            return Err(self.unfit(Unfit::LockNotKept("a lock was shortened")));
        }
        if bucket.delete(&key, &version).await.is_ok() {
            return Err(self.unfit(Unfit::LockNotKept("a locked version was deleted")));
        }
        Ok(())
    }

    async fn parts(&mut self) -> Result<(), StoreError> {
        let key = self.bucket.other_key("probe/parts");
        let mut writer = Writer::new(self.bucket.clone(), key, None);
        writer.part(part().await).await?;
        let aborted = writer.abort().await;
        self.needs("s3:AbortMultipartUpload", aborted)?;
        Ok(())
    }

    /// Notes a refused request as a missing permission; other failures end the probe.
    fn needs<T>(
        &mut self,
        permission: &'static str,
        result: Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let error = match result {
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        match &error {
            StoreError::Request { code, .. } => match code.as_str() {
                "NoSuchBucket" => Err(self.unfit(Unfit::Missing)),
                "InvalidAccessKeyId" | "SignatureDoesNotMatch" => {
                    Err(self.unfit(Unfit::Credentials))
                }
                "AccessDenied" | "status 403" => {
                    self.missing.push(permission);
                    Ok(None)
                }
                _ => Err(error),
            },
            _ => Err(error),
        }
    }

    fn stop_if_missing(&self) -> Result<(), StoreError> {
        if self.missing.is_empty() {
            return Ok(());
        }
        Err(self.unfit(Unfit::Permissions(self.missing.clone())))
    }

    fn unfit(&self, unfit: Unfit) -> StoreError {
        StoreError::Unfit {
            bucket: self.bucket.name.clone(),
            unfit,
        }
    }
}

async fn part() -> Part {
    Part::new(Bytes::from_static(BYTES)).await
}

pub(crate) fn now() -> Millis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Millis::new(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
