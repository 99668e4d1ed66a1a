//! Locks and legal holds of a version: set, and read back.

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockMode, ObjectLockRetention,
    ObjectLockRetentionMode,
};
use greffe_types::Millis;

use super::{Bucket, code, status};
use crate::error::StoreError;

/// The lock of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lock {
    /// Whether it is compliance mode: nobody can end it.
    pub(crate) compliance: bool,
    /// First instant at which the version may be deleted.
    pub(crate) until: Millis,
}

impl Lock {
    /// As the headers of a read show it.
    pub(super) fn shown(mode: Option<&ObjectLockMode>, until: Option<&DateTime>) -> Option<Self> {
        Some(Self {
            compliance: *mode? == ObjectLockMode::Compliance,
            until: millis(until?),
        })
    }

    /// Whether it keeps the version at least that long.
    pub(crate) fn keeps(self, until: Millis) -> bool {
        self.compliance && self.until >= until
    }
}

impl Bucket {
    /// A version's lock as the server tells; none when it has none.
    pub(crate) async fn lock(&self, key: &str, version: &str) -> Result<Option<Lock>, StoreError> {
        let answer = self
            .client
            .get_object_retention()
            .bucket(&self.name)
            .key(key)
            .version_id(version)
            .send()
            .await;
        match answer {
            Ok(output) => Ok(output.retention.and_then(|retention| {
                Some(Lock {
                    compliance: retention.mode? == ObjectLockRetentionMode::Compliance,
                    until: millis(&retention.retain_until_date?),
                })
            })),
            Err(error) if none_set(&code(&error, status(&error))) => Ok(None),
            Err(error) => Err(self.failed("GetObjectRetention")(error)),
        }
    }

    /// Locks a version in compliance mode. The server refuses an earlier date than the one that stands.
    pub(crate) async fn set_lock(
        &self,
        key: &str,
        version: &str,
        until: Millis,
    ) -> Result<(), StoreError> {
        self.client
            .put_object_retention()
            .bucket(&self.name)
            .key(key)
            .version_id(version)
            .retention(
                ObjectLockRetention::builder()
                    .mode(ObjectLockRetentionMode::Compliance)
                    .retain_until_date(seconds(until))
                    .build(),
            )
            .send()
            .await
            .map_err(self.failed("PutObjectRetention"))?;
        Ok(())
    }

    /// Whether a legal hold stands on a version.
    pub(crate) async fn held(&self, key: &str, version: &str) -> Result<bool, StoreError> {
        let answer = self
            .client
            .get_object_legal_hold()
            .bucket(&self.name)
            .key(key)
            .version_id(version)
            .send()
            .await;
        match answer {
            Ok(output) => Ok(output
                .legal_hold
                .and_then(|hold| hold.status)
                .is_some_and(|status| status == ObjectLockLegalHoldStatus::On)),
            Err(error) if none_set(&code(&error, status(&error))) => Ok(false),
            Err(error) => Err(self.failed("GetObjectLegalHold")(error)),
        }
    }

    /// Puts a legal hold on a version, or takes it off.
    pub(crate) async fn set_held(
        &self,
        key: &str,
        version: &str,
        held: bool,
    ) -> Result<(), StoreError> {
        let status = if held {
            ObjectLockLegalHoldStatus::On
        } else {
            ObjectLockLegalHoldStatus::Off
        };
        self.client
            .put_object_legal_hold()
            .bucket(&self.name)
            .key(key)
            .version_id(version)
            .legal_hold(ObjectLockLegalHold::builder().status(status).build())
            .send()
            .await
            .map_err(self.failed("PutObjectLegalHold"))?;
        Ok(())
    }
}

/// Whole seconds, rounded up: what S3 keeps.
pub(crate) fn seconds(at: Millis) -> DateTime {
    DateTime::from_secs(i64::try_from(at.get().div_ceil(1000)).unwrap_or(i64::MAX))
}

fn millis(at: &DateTime) -> Millis {
    Millis::new(
        at.to_millis()
            .ok()
            .and_then(|m| u64::try_from(m).ok())
            .unwrap_or_default(),
    )
}

/// Whether the answer says that a version has no lock or no hold; servers differ in how they say it.
fn none_set(code: &str) -> bool {
    matches!(
        code,
        "NoSuchObjectLockConfiguration" | "ObjectLockConfigurationNotFoundError"
    )
}
