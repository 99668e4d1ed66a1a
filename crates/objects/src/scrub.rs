//! Scrubbing: every copy of an object read again, compared, and put right from a whole one.

use greffe_types::{Digest, Millis};

use crate::bucket::Bucket;
use crate::error::StoreError;
use crate::probe::now;
use crate::store::Store;
use crate::upload::Upload;

/// What was wrong with a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// The bucket has no version of it.
    Missing,
    /// A delete mark hides it.
    Hidden,
    /// The newest version has other bytes. It stays below the new one until its own lock has run out.
    Rotted,
    /// It is not locked, not in compliance mode, or not long enough.
    Unlocked,
    /// No legal hold, where another copy is under one.
    NotHeld,
}

impl Finding {
    /// Its name in metrics and logs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Hidden => "hidden",
            Self::Rotted => "rotted",
            Self::Unlocked => "unlocked",
            Self::NotHeld => "not_held",
        }
    }
}

/// What a scrub found, and whether an object is whole now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scrubbed {
    /// What was wrong: the bucket's name, and what. All of it is put right, unless the object is lost.
    pub findings: Vec<(String, Finding)>,
    /// No bucket has a whole version: it cannot be repaired.
    pub lost: bool,
}

/// One bucket's copy, as found.
struct Copy<'a> {
    bucket: &'a Bucket,
    /// The newest version whose bytes are right.
    whole: Option<String>,
    wrong: Option<Finding>,
    until: Option<Millis>,
    held: bool,
}

impl Store {
    /// Reads every copy of an object through, compares digest and lock, and puts right what is wrong: a new version from a
    /// whole one, the lock until `retain_until` (or the latest that a whole copy has), the legal hold.
    ///
    /// # Errors
    /// A failed request. What was put right by then stays so.
    pub async fn scrub(
        &self,
        digest: &Digest,
        retain_until: Option<Millis>,
    ) -> Result<Scrubbed, StoreError> {
        let mut copies = Vec::new();
        for bucket in self.buckets() {
            copies.push(look(bucket, digest).await?);
        }
        let mut scrubbed = Scrubbed::default();
        for copy in &copies {
            if let Some(wrong) = &copy.wrong {
                scrubbed.note(copy.bucket, wrong.clone());
            }
        }
        let Some(source) = copies.iter().find(|copy| copy.whole.is_some()) else {
            scrubbed.lost = true;
            return Ok(scrubbed);
        };
        // The server takes no date that has passed: what may be removed by now needs no lock.
        let until = copies
            .iter()
            .filter_map(|copy| copy.until)
            .chain(retain_until)
            .max()
            .filter(|until| *until > now());
        let held = copies.iter().any(|copy| copy.held);
        for copy in &copies {
            if copy.wrong.is_some() {
                self.repair(digest, source, copy.bucket, until).await?;
            }
            self.secure(digest, copy, until, held, &mut scrubbed)
                .await?;
        }
        self.trusted(digest);
        Ok(scrubbed)
    }

    /// Puts a new version from a whole one.
    async fn repair(
        &self,
        digest: &Digest,
        source: &Copy<'_>,
        bucket: &Bucket,
        until: Option<Millis>,
    ) -> Result<(), StoreError> {
        let from = source.bucket;
        let Some(mut body) = from
            .open(&from.key(digest), source.whole.as_deref())
            .await?
        else {
            return Err(StoreError::Missing(*digest));
        };
        let size = body.size;
        let mut upload = Upload::new(
            self.clone(),
            *digest,
            until,
            core::iter::once(bucket.clone()),
        );
        while let Some(bytes) = from.next(&mut body).await? {
            upload.write(&bytes, size).await?;
        }
        upload.finish(size).await
    }

    /// Lock and legal hold of what is newest now.
    async fn secure(
        &self,
        digest: &Digest,
        copy: &Copy<'_>,
        until: Option<Millis>,
        held: bool,
        scrubbed: &mut Scrubbed,
    ) -> Result<(), StoreError> {
        let (bucket, key) = (copy.bucket, copy.bucket.key(digest));
        if let Some(until) = until
            && copy.wrong.is_none()
            && copy.until.is_none_or(|at| at < until)
        {
            scrubbed.note(bucket, Finding::Unlocked);
            bucket.extend(digest, until).await?;
        }
        if held && (!copy.held || copy.wrong.is_some()) {
            if copy.wrong.is_none() {
                scrubbed.note(bucket, Finding::NotHeld);
            }
            for version in bucket.whole_versions(&key).await? {
                bucket.set_held(&key, &version.id, true).await?;
            }
        }
        Ok(())
    }
}

impl Scrubbed {
    fn note(&mut self, bucket: &Bucket, finding: Finding) {
        self.findings.push((bucket.name.clone(), finding));
    }

    /// Whether nothing was wrong.
    pub const fn clean(&self) -> bool {
        self.findings.is_empty() && !self.lost
    }
}

/// Looks at a bucket's versions, from the newest on, until one is whole.
async fn look<'a>(bucket: &'a Bucket, digest: &Digest) -> Result<Copy<'a>, StoreError> {
    let key = bucket.key(digest);
    let mut copy = Copy {
        bucket,
        whole: None,
        wrong: Some(Finding::Missing),
        until: None,
        held: false,
    };
    for (index, version) in bucket.versions(&key).await?.into_iter().enumerate() {
        if version.marker {
            if index == 0 {
                copy.wrong = Some(Finding::Hidden);
            }
            continue;
        }
        let Some(body) = bucket.open(&key, Some(&version.id)).await? else {
            continue;
        };
        if bucket.digest(body).await? != *digest {
            if copy.wrong != Some(Finding::Hidden) {
                copy.wrong = Some(Finding::Rotted);
            }
            continue;
        }
        if index == 0 {
            copy.wrong = None;
        }
        let lock = bucket.lock(&key, &version.id).await?;
        copy.until = lock.filter(|lock| lock.compliance).map(|lock| lock.until);
        copy.held = bucket.held(&key, &version.id).await?;
        copy.whole = Some(version.id);
        break;
    }
    Ok(copy)
}
