//! The store: every object in every bucket, put, locked, held, removed.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::try_join_all;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use greffe_types::{Digest, Millis};
use sha2::{Digest as _, Sha256};

use crate::bucket::{After, Bucket, Part, Version};
use crate::error::StoreError;
use crate::probe;
use crate::settings::BucketSettings;
use crate::turns::{Turn, Turns};

/// Objects of one call that are worked on at a time.
const AT_ONCE: usize = 16;

/// An object to put.
#[derive(Debug, Clone)]
pub struct NewObject {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Bytes,
    /// Its lock.
    pub retain_until: Millis,
}

/// Record objects in one bucket or two. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    buckets: Vec<Bucket>,
    turns: Turns,
    suspects: Mutex<HashSet<Digest>>,
}

impl Store {
    /// Opens the buckets, after trying on each all that a store needs.
    ///
    /// # Errors
    /// [`StoreError::Setting`], [`StoreError::Unfit`], or a failed request.
    pub async fn open(
        primary: &BucketSettings,
        replica: Option<&BucketSettings>,
    ) -> Result<Self, StoreError> {
        let buckets = [Some(primary), replica]
            .into_iter()
            .flatten()
            .map(Bucket::new)
            .collect::<Result<Vec<_>, _>>()?;
        try_join_all(buckets.iter().cloned().map(probe::probe)).await?;
        Ok(Self {
            inner: Arc::new(Inner {
                buckets,
                turns: Turns::default(),
                suspects: Mutex::new(HashSet::new()),
            }),
        })
    }

    /// Puts objects: in every bucket, whole, locked and read back when this returns. One that is there already is left alone;
    /// its lock moves to the later date.
    ///
    /// # Errors
    /// [`StoreError`]. Objects of a failed call may or may not be there; putting them again is safe.
    pub async fn put(&self, new: &[NewObject]) -> Result<(), StoreError> {
        stream::iter(new.to_vec())
            .map(|object| put_one(self.clone(), object))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
    }

    /// Moves an object's lock to a later date, in every bucket, and reads it back. An earlier date changes nothing: a lock
    /// never gets shorter. An object that a bucket has lost is put back from the other one.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when no bucket has it, or a failed request.
    pub async fn lock(&self, digest: &Digest, until: Millis) -> Result<(), StoreError> {
        let there = try_join_all(
            self.buckets()
                .iter()
                .map(|bucket| extend(bucket.clone(), *digest, until)),
        )
        .await?;
        if there.iter().all(|there| *there) {
            return Ok(());
        }
        if there.iter().all(|there| !*there) {
            return Err(StoreError::Missing(*digest));
        }
        let scrubbed = self.scrub(digest, Some(until)).await?;
        if scrubbed.lost {
            return Err(StoreError::Missing(*digest));
        }
        Ok(())
    }

    /// Until when an object is locked in compliance mode, in the bucket where that is the shortest; none when one has no lock.
    ///
    /// # Errors
    /// [`StoreError::Missing`], or a failed request.
    pub async fn locked_until(&self, digest: &Digest) -> Result<Option<Millis>, StoreError> {
        let mut shortest = None;
        for bucket in self.buckets() {
            let key = bucket.key(digest);
            let newest = bucket.versions(&key).await?.into_iter().find(|v| !v.marker);
            let Some(version) = newest else {
                return Err(StoreError::Missing(*digest));
            };
            let lock = bucket.lock(&key, &version.id).await?;
            let Some(lock) = lock.filter(|lock| lock.compliance) else {
                return Ok(None);
            };
            shortest = Some(shortest.map_or(lock.until, |at: Millis| at.min(lock.until)));
        }
        Ok(shortest)
    }

    /// Puts a legal hold on every version of an object, or takes it off, in every bucket, and reads it back.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::NotSet`], or a failed request.
    pub async fn hold(&self, digest: &Digest, held: bool) -> Result<(), StoreError> {
        try_join_all(
            self.buckets()
                .iter()
                .map(|bucket| hold(bucket.clone(), *digest, held)),
        )
        .await?;
        Ok(())
    }

    /// Whether a legal hold stands on an object in any bucket.
    ///
    /// # Errors
    /// A failed request.
    pub async fn held(&self, digest: &Digest) -> Result<bool, StoreError> {
        for bucket in self.buckets() {
            let key = bucket.key(digest);
            for version in bucket.whole_versions(&key).await? {
                if bucket.held(&key, &version.id).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Whether a bucket has an object of that name; its bytes are not looked at.
    ///
    /// # Errors
    /// A failed request.
    pub async fn contains(&self, digest: &Digest) -> Result<bool, StoreError> {
        for bucket in self.buckets() {
            if !bucket.whole_versions(&bucket.key(digest)).await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes every version of an object, in every bucket, once all their locks have run out at `now` and no legal hold
    /// stands. While one is locked, nothing is removed. One that is gone already is no error.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Held`], or a failed request: the server refuses by its own clock as well.
    pub async fn remove(&self, digest: &Digest, now: Millis) -> Result<(), StoreError> {
        let _one = self.one_at_a_time(digest).await;
        let mut doomed: Vec<(&Bucket, String, Version)> = Vec::new();
        for bucket in self.buckets() {
            let key = bucket.key(digest);
            for version in bucket.versions(&key).await? {
                if !version.marker {
                    bucket.removable(digest, &key, &version.id, now).await?;
                }
                doomed.push((bucket, key.clone(), version));
            }
        }
        // The oldest first, the replica first: until the end a whole version is the newest one.
        for (bucket, key, version) in doomed.into_iter().rev() {
            bucket.delete(&key, &version.id).await?;
        }
        self.trusted(digest);
        Ok(())
    }

    /// Up to a thousand objects of any bucket, in the order of their digests, after one; hidden ones included.
    ///
    /// # Errors
    /// A failed request.
    pub async fn list(&self, after: Option<&Digest>) -> Result<Vec<Digest>, StoreError> {
        let mut found = std::collections::BTreeSet::new();
        let mut complete_to: Option<Digest> = None;
        for bucket in self.buckets() {
            let from = after.map(|digest| After {
                key: bucket.key(digest),
                version: None,
            });
            let page = bucket.page(&bucket.other_key("objects/"), from).await?;
            found.extend(page.versions.iter().filter_map(|v| bucket.named(&v.key)));
            let end = page.next.as_ref().and_then(|next| bucket.named(&next.key));
            complete_to = match (complete_to, end) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        found.retain(|digest| {
            complete_to.is_none_or(|end| *digest <= end) && after.is_none_or(|after| digest > after)
        });
        Ok(found.into_iter().collect())
    }

    pub(crate) fn buckets(&self) -> &[Bucket] {
        &self.inner.buckets
    }

    /// Puts, finishes and removals of one object follow one another within this process. Others have their own: what they do
    /// meanwhile is found out by what is read back.
    pub(crate) async fn one_at_a_time(&self, digest: &Digest) -> Turn<'_> {
        self.inner.turns.wait(digest).await
    }

    /// A copy of it was found rotted: the next reader checks before it hands out anything.
    pub(crate) fn suspected(&self, digest: &Digest) {
        self.suspects().insert(*digest);
    }

    pub(crate) fn trusted(&self, digest: &Digest) {
        self.suspects().remove(digest);
    }

    pub(crate) fn is_suspect(&self, digest: &Digest) -> bool {
        self.suspects().contains(digest)
    }

    fn suspects(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.inner
            .suspects
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

// Free functions that own what they work on: futures of closures over references cannot be spawned.

async fn put_one(store: Store, new: NewObject) -> Result<(), StoreError> {
    let part = Part::new(new.bytes.clone()).await;
    let found = Digest::new(Sha256::digest(&new.bytes).into());
    if found != new.digest {
        return Err(StoreError::Digest {
            expected: new.digest,
            found,
        });
    }
    let _one = store.one_at_a_time(&new.digest).await;
    let puts = store
        .buckets()
        .iter()
        .map(|bucket| put_into(bucket.clone(), new.clone(), part.clone()));
    try_join_all(puts).await?;
    Ok(())
}

async fn put_into(bucket: Bucket, new: NewObject, part: Part) -> Result<(), StoreError> {
    let key = bucket.key(&new.digest);
    let until = new.retain_until;
    // Another process may have removed it between the two.
    if bucket.newest_is(&key, &new.digest).await? && bucket.extend(&new.digest, until).await? {
        return Ok(());
    }
    let version = bucket.put(&key, part, Some(until)).await?;
    bucket.read_back(&new.digest, &version, Some(until)).await
}

async fn extend(bucket: Bucket, digest: Digest, until: Millis) -> Result<bool, StoreError> {
    bucket.extend(&digest, until).await
}

async fn hold(bucket: Bucket, digest: Digest, held: bool) -> Result<(), StoreError> {
    let key = bucket.key(&digest);
    let versions = bucket.whole_versions(&key).await?;
    // One that is gone has no hold to be taken off.
    if versions.is_empty() && held {
        return Err(StoreError::Missing(digest));
    }
    for version in versions {
        bucket.set_held(&key, &version.id, held).await?;
        if bucket.held(&key, &version.id).await? != held {
            return Err(bucket.not_set(&digest, "legal hold"));
        }
    }
    Ok(())
}

impl Bucket {
    /// Whether the newest version has the bytes that its name says.
    pub(crate) async fn newest_is(&self, key: &str, digest: &Digest) -> Result<bool, StoreError> {
        match self.open(key, None).await? {
            Some(body) => Ok(self.digest(body).await? == *digest),
            None => Ok(false),
        }
    }

    /// The versions that are bytes, not marks.
    pub(crate) async fn whole_versions(&self, key: &str) -> Result<Vec<Version>, StoreError> {
        let mut versions = self.versions(key).await?;
        versions.retain(|version| !version.marker);
        Ok(versions)
    }

    /// Locks every version at least until then; false when there is none. The server never shortens: of two that extend at
    /// the same time the later date stands.
    pub(crate) async fn extend(&self, digest: &Digest, until: Millis) -> Result<bool, StoreError> {
        let key = self.key(digest);
        let versions = self.whole_versions(&key).await?;
        for version in &versions {
            self.extend_version(digest, &key, &version.id, until)
                .await?;
        }
        Ok(!versions.is_empty())
    }

    pub(crate) async fn extend_version(
        &self,
        digest: &Digest,
        key: &str,
        version: &str,
        until: Millis,
    ) -> Result<(), StoreError> {
        let keeps = |lock: Option<crate::bucket::Lock>| lock.is_some_and(|lock| lock.keeps(until));
        if keeps(self.lock(key, version).await?) {
            return Ok(());
        }
        let set = self.set_lock(key, version, until).await;
        if keeps(self.lock(key, version).await?) {
            return Ok(());
        }
        set?;
        Err(self.not_set(digest, "lock"))
    }

    /// Compares a version that was just put with what it has to be: bytes and lock.
    pub(crate) async fn read_back(
        &self,
        digest: &Digest,
        version: &str,
        until: Option<Millis>,
    ) -> Result<(), StoreError> {
        let key = self.key(digest);
        let Some(body) = self.open(&key, Some(version)).await? else {
            return Err(StoreError::Missing(*digest));
        };
        let shown = body.lock;
        let found = self.digest(body).await?;
        if found != *digest {
            return Err(StoreError::Digest {
                expected: *digest,
                found,
            });
        }
        let Some(until) = until else { return Ok(()) };
        let lock = match shown {
            Some(lock) => Some(lock),
            None => self.lock(&key, version).await?,
        };
        if lock.is_some_and(|lock| lock.keeps(until)) {
            Ok(())
        } else {
            Err(self.not_set(digest, "lock"))
        }
    }

    async fn removable(
        &self,
        digest: &Digest,
        key: &str,
        version: &str,
        now: Millis,
    ) -> Result<(), StoreError> {
        if let Some(lock) = self.lock(key, version).await?
            && now < lock.until
        {
            return Err(StoreError::Locked {
                digest: *digest,
                until: lock.until,
            });
        }
        if self.held(key, version).await? {
            return Err(StoreError::Held(*digest));
        }
        Ok(())
    }

    pub(crate) fn not_set(&self, digest: &Digest, what: &'static str) -> StoreError {
        StoreError::NotSet {
            digest: *digest,
            bucket: self.name.clone(),
            what,
        }
    }

    /// The object that a key names.
    fn named(&self, key: &str) -> Option<Digest> {
        let rest = key.strip_prefix(&self.other_key("objects/"))?;
        greffe_types::from_hex(&rest.replacen('/', "", 1))
            .ok()
            .map(Digest::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compiles: every call may run in a task of its own.
    #[test]
    fn every_call_can_be_spawned() {
        fn send<T: Send>(_: fn(Store) -> T) {}
        send(|store| async move { store.put(&[]).await });
        send(|store| async move { store.lock(&Digest::ZERO, Millis::new(0)).await });
        send(|store| async move { store.locked_until(&Digest::ZERO).await });
        send(|store| async move { store.hold(&Digest::ZERO, true).await });
        send(|store| async move { store.remove(&Digest::ZERO, Millis::new(0)).await });
        send(|store| async move { store.scrub(&Digest::ZERO, None).await });
        send(|store| async move { store.read(&Digest::ZERO).await });
        send(|store| async move { store.list(None).await });
        send(|store| async move { store.contains(&Digest::ZERO).await });
        send(|store| async move {
            let mut upload = store.upload(Digest::ZERO);
            upload.write(b"", 0).await?;
            upload.finish(0).await
        });
        send(|_| async move {
            let settings: BucketSettings = unreachable();
            Store::open(&settings, Some(&settings)).await
        });
    }

    fn unreachable<T>() -> T {
        panic!("nothing here is run")
    }
}
