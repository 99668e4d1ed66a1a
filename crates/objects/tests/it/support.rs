//! Buckets, credentials and objects for the tests.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use bytes::Bytes;
use greffe_objects::{BucketSettings, NewObject, Store, Timeouts};
use greffe_testkit::ceph::{Ceph, OWNER, REGION, SERVICE};
use greffe_types::{Digest, Millis};
use sha2::{Digest as _, Sha256};

/// What the archive's credentials need on a bucket and on its objects; nothing else is granted to them.
pub(crate) const PERMISSIONS: [&str; 13] = [
    "s3:GetBucketVersioning",
    "s3:GetBucketObjectLockConfiguration",
    "s3:ListBucket",
    "s3:ListBucketVersions",
    "s3:PutObject",
    "s3:GetObject",
    "s3:GetObjectVersion",
    "s3:PutObjectRetention",
    "s3:GetObjectRetention",
    "s3:PutObjectLegalHold",
    "s3:GetObjectLegalHold",
    "s3:DeleteObjectVersion",
    "s3:AbortMultipartUpload",
];

/// What a bucket is created with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Versioned,
    Locking,
}

/// Creates a bucket as its owner, and lets the service do `permissions`.
pub(crate) async fn bucket(ceph: &Ceph, kind: Kind, permissions: &[&str]) -> String {
    bucket_denying(ceph, kind, permissions, None).await
}

/// As [`bucket`], and refuses one. Whoever puts an object may do all with it at this server, unless it is refused.
pub(crate) async fn bucket_denying(
    ceph: &Ceph,
    kind: Kind,
    permissions: &[&str],
    denied: Option<&str>,
) -> String {
    let owner = ceph.client(OWNER);
    let name = ceph.bucket_name();
    owner
        .create_bucket()
        .bucket(&name)
        .object_lock_enabled_for_bucket(kind == Kind::Locking)
        .send()
        .await
        .unwrap();
    if kind == Kind::Versioned {
        owner
            .put_bucket_versioning()
            .bucket(&name)
            .versioning_configuration(
                VersioningConfiguration::builder()
                    .status(BucketVersioningStatus::Enabled)
                    .build(),
            )
            .send()
            .await
            .unwrap();
    }
    let statement = |effect: &str, actions: &[&str]| {
        format!(
            r#"{{"Effect":"{effect}","Action":["{}"],
                "Principal":{{"AWS":["arn:aws:iam:::user/{}"]}},
                "Resource":["arn:aws:s3:::{name}","arn:aws:s3:::{name}/*"]}}"#,
            actions.join("\",\""),
            SERVICE.name
        )
    };
    let mut statements = vec![statement("Allow", permissions)];
    statements.extend(denied.map(|denied| statement("Deny", &[denied])));
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{}]}}"#,
        statements.join(",")
    );
    owner
        .put_bucket_policy()
        .bucket(&name)
        .policy(policy)
        .send()
        .await
        .unwrap();
    name
}

pub(crate) fn settings(endpoint: &str, bucket: &str) -> BucketSettings {
    BucketSettings {
        endpoint: endpoint.to_owned(),
        region: REGION.to_owned(),
        bucket: bucket.to_owned(),
        prefix: "tenant/".to_owned(),
        access_key_id: SERVICE.access_key.to_owned(),
        secret_access_key: SERVICE.secret_key.into(),
        path_style: true,
        ca: None,
        timeouts: Timeouts::default(),
    }
}

/// Two buckets and the store on them.
pub(crate) struct World {
    pub(crate) ceph: Arc<Ceph>,
    pub(crate) owner: Client,
    pub(crate) service: Client,
    pub(crate) primary: String,
    pub(crate) replica: String,
    pub(crate) store: Store,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::granting(&PERMISSIONS).await
    }

    /// With other permissions than a store needs.
    pub(crate) async fn granting(permissions: &[&str]) -> Self {
        let ceph = tokio::task::spawn_blocking(Ceph::shared).await.unwrap();
        let primary = bucket(&ceph, Kind::Locking, permissions).await;
        let replica = bucket(&ceph, Kind::Locking, permissions).await;
        let endpoint = ceph.endpoint();
        let store = Store::open(
            &settings(&endpoint, &primary),
            Some(&settings(&endpoint, &replica)),
        )
        .await
        .unwrap();
        Self {
            owner: ceph.client(OWNER),
            service: ceph.client(SERVICE),
            ceph,
            primary,
            replica,
            store,
        }
    }

    /// The store on the primary alone.
    pub(crate) async fn alone(&self) -> Store {
        Store::open(&settings(&self.ceph.endpoint(), &self.primary), None)
            .await
            .unwrap()
    }

    pub(crate) async fn put(&self, bytes: &[u8], until: Millis) -> Digest {
        let new = object(bytes, until);
        self.store.put(core::slice::from_ref(&new)).await.unwrap();
        new.digest
    }

    /// Puts other bytes over an object, as anybody with the service's credentials can.
    pub(crate) async fn rot(&self, bucket: &str, digest: &Digest, bytes: Vec<u8>) {
        self.service
            .put_object()
            .bucket(bucket)
            .key(key(digest))
            .body(ByteStream::from(bytes))
            .send()
            .await
            .unwrap();
    }

    /// Version ids of an object, the newest first, and how many delete marks there are.
    pub(crate) async fn versions(&self, bucket: &str, digest: &Digest) -> (Vec<String>, usize) {
        let listed = self
            .owner
            .list_object_versions()
            .bucket(bucket)
            .prefix(key(digest))
            .send()
            .await
            .unwrap();
        let versions = listed
            .versions()
            .iter()
            .map(|v| v.version_id().unwrap().to_owned())
            .collect();
        (versions, listed.delete_markers().len())
    }
}

pub(crate) fn object(bytes: &[u8], until: Millis) -> NewObject {
    NewObject {
        digest: digest(bytes),
        bytes: Bytes::copy_from_slice(bytes),
        retain_until: until,
    }
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}

/// Where the store keeps an object, spelt out anew: moving objects would lose them.
pub(crate) fn key(digest: &Digest) -> String {
    let name = digest.to_string();
    format!("tenant/objects/{}/{}", &name[..2], &name[2..])
}

pub(crate) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Millis::new(u64::try_from(since.as_millis()).unwrap())
}

pub(crate) fn in_seconds(seconds: u64) -> Millis {
    now().plus(Duration::from_secs(seconds))
}

/// Bytes that do not compress and differ by `seed`.
pub(crate) fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
