//! Attack 46: what the buckets' own credentials cannot do. Attack 50: a byte rotted is found, repaired, and never served.

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    BucketVersioningStatus, ObjectLockRetention, ObjectLockRetentionMode, VersioningConfiguration,
};
use greffe_objects::Finding;

use crate::support::{World, digest, in_seconds, key, noise};

#[tokio::test]
async fn attack_46_the_buckets_own_credentials_neither_delete_nor_shorten_nor_downgrade_nor_suspend()
 {
    let world = World::granting(&["s3:*"]).await;
    let until = in_seconds(3600);
    let name = world.put(b"a record", until).await;
    // The same request takes an object that has no lock: what refuses below is the lock.
    let loose = digest(b"no record");
    let mut upload = world.store.upload(loose);
    upload.write(b"no record", 9).await.unwrap();
    upload.finish(9).await.unwrap();
    for bucket in [&world.primary, &world.replica] {
        let (versions, _) = world.versions(bucket, &loose).await;
        let delete = world.service.delete_object().bucket(bucket);
        let delete = delete.key(key(&loose)).version_id(&versions[0]);
        delete.send().await.unwrap();
    }
    let key = key(&name);
    for (who, client) in [("owner", &world.owner), ("service", &world.service)] {
        for bucket in [&world.primary, &world.replica] {
            let (versions, _) = world.versions(bucket, &name).await;
            let version = &versions[0];
            for bypass in [false, true] {
                let delete = client
                    .delete_object()
                    .bucket(bucket)
                    .key(&key)
                    .version_id(version)
                    .bypass_governance_retention(bypass);
                let refused = delete.send().await.expect_err("the version was deleted");
                assert_eq!(refused.code(), Some("AccessDenied"), "{who}");
            }
            let soon = in_seconds(1).get() / 1000;
            for (mode, at) in [
                (ObjectLockRetentionMode::Compliance, soon),
                (ObjectLockRetentionMode::Governance, soon),
                (ObjectLockRetentionMode::Governance, until.get() / 1000 + 9),
            ] {
                let set = client
                    .put_object_retention()
                    .bucket(bucket)
                    .key(&key)
                    .version_id(version)
                    .bypass_governance_retention(true)
                    .retention(
                        ObjectLockRetention::builder()
                            .mode(mode.clone())
                            .retain_until_date(DateTime::from_secs(at as i64))
                            .build(),
                    );
                assert!(set.send().await.is_err(), "{who} set {mode} until {at}");
            }
            let suspend = client
                .put_bucket_versioning()
                .bucket(bucket)
                .versioning_configuration(
                    VersioningConfiguration::builder()
                        .status(BucketVersioningStatus::Suspended)
                        .build(),
                );
            let refused = suspend.send().await.expect_err("versioning was suspended");
            assert_eq!(refused.code(), Some("InvalidBucketState"), "{who}");
            let delete = client.delete_bucket().bucket(bucket);
            let refused = delete.send().await.expect_err("the bucket was deleted");
            assert_eq!(refused.code(), Some("BucketNotEmpty"), "{who}");
        }
    }
    assert!(world.store.locked_until(&name).await.unwrap() >= Some(until));
    assert!(world.store.scrub(&name, Some(until)).await.unwrap().clean());
    assert_eq!(world.store.read(&name).await.unwrap(), b"a record");
}

#[tokio::test]
async fn attack_46_a_delete_mark_hides_nothing_and_is_found() {
    let world = World::new().await;
    let until = in_seconds(3600);
    let name = world.put(b"hidden", until).await;
    for bucket in [&world.primary, &world.replica] {
        let delete = world.owner.delete_object().bucket(bucket).key(key(&name));
        delete.send().await.unwrap();
    }
    assert_eq!(world.store.read(&name).await.unwrap(), b"hidden");
    assert_eq!(world.store.list(None).await.unwrap(), [name]);
    let scrubbed = world.store.scrub(&name, Some(until)).await.unwrap();
    let found: Vec<_> = scrubbed
        .findings
        .iter()
        .map(|(_, what)| what.clone())
        .collect();
    assert_eq!(found, [Finding::Hidden, Finding::Hidden]);
    assert!(!scrubbed.lost);
    assert!(world.store.scrub(&name, Some(until)).await.unwrap().clean());
    assert!(world.store.locked_until(&name).await.unwrap() >= Some(until));
}

#[tokio::test]
async fn attack_46_a_version_without_a_lock_is_locked_by_the_scrub() {
    let world = World::new().await;
    let until = in_seconds(3600);
    let bytes = noise(5, 100);
    let name = world.put(&bytes, until).await;
    // The right bytes, put again without a lock: whole, and deletable at once.
    world.rot(&world.primary, &name, bytes.clone()).await;
    assert_eq!(world.store.locked_until(&name).await.unwrap(), None);
    let scrubbed = world.store.scrub(&name, Some(until)).await.unwrap();
    assert_eq!(
        scrubbed.findings,
        [(world.primary.clone(), Finding::Unlocked)]
    );
    assert!(world.store.locked_until(&name).await.unwrap() >= Some(until));
}

#[tokio::test]
async fn attack_50_one_rotted_byte_is_found_repaired_from_the_replica_and_never_served() {
    let world = World::new().await;
    let until = in_seconds(3600);
    let bytes = noise(7, 5000);
    let name = world.put(&bytes, until).await;
    let mut rotted = bytes.clone();
    rotted[2500] ^= 1;
    world.rot(&world.primary, &name, rotted).await;

    assert_eq!(world.store.read(&name).await.unwrap(), bytes);
    // Without the replica the older version serves.
    let alone = world.alone().await;
    assert_eq!(alone.read(&name).await.unwrap(), bytes);

    let scrubbed = world.store.scrub(&name, Some(until)).await.unwrap();
    assert_eq!(
        scrubbed.findings,
        [(world.primary.clone(), Finding::Rotted)]
    );
    assert!(!scrubbed.lost);
    // A new version over the rotted one; nothing was deleted.
    let (versions, _) = world.versions(&world.primary, &name).await;
    assert_eq!(versions.len(), 3);
    let newest = world
        .service
        .get_object()
        .bucket(&world.primary)
        .key(key(&name))
        .send()
        .await
        .unwrap();
    assert_eq!(newest.object_lock_mode.unwrap().as_str(), "COMPLIANCE");
    assert_eq!(newest.body.collect().await.unwrap().to_vec(), bytes);
    assert!(world.store.scrub(&name, Some(until)).await.unwrap().clean());
    assert!(world.store.locked_until(&name).await.unwrap() >= Some(until));
}

#[tokio::test]
async fn attack_50_a_large_object_rotted_at_either_end_is_never_handed_out_whole() {
    let world = World::new().await;
    let size = 9 << 20;
    let bytes = noise(9, size);
    let name = digest(&bytes);
    let mut upload = world.store.upload(name);
    upload.write(&bytes, size as u64).await.unwrap();
    upload.finish(size as u64).await.unwrap();
    let until = in_seconds(3600);
    world.store.lock(&name, until).await.unwrap();
    for at in [0, size - 1] {
        let mut rotted = bytes.clone();
        rotted[at] ^= 0x80;
        world.rot(&world.primary, &name, rotted).await;
        let mut reader = world.store.reader(&name).await.unwrap();
        let mut handed = 0;
        let refused = loop {
            match reader.next().await {
                Ok(Some(piece)) => handed += piece.len(),
                Ok(None) => panic!("the rotted object was handed out"),
                Err(error) => break error,
            }
        };
        assert_eq!(refused.reason(), "OBJECT_ROTTED");
        assert!(refused.retriable());
        assert!(handed < size);
        // The next reader gets the other copy.
        assert_eq!(world.store.read(&name).await.unwrap(), bytes);
        let scrubbed = world.store.scrub(&name, Some(until)).await.unwrap();
        assert_eq!(
            scrubbed.findings,
            [(world.primary.clone(), Finding::Rotted)]
        );
        assert_eq!(world.alone().await.read(&name).await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn attack_50_what_is_rotted_everywhere_is_called_lost_and_not_served() {
    let world = World::new().await;
    let name = digest(b"never put whole");
    for bucket in [&world.primary, &world.replica] {
        world.rot(bucket, &name, b"never put whale".to_vec()).await;
    }
    let scrubbed = world.store.scrub(&name, None).await.unwrap();
    assert!(scrubbed.lost);
    assert_eq!(scrubbed.findings.len(), 2);
    let refused = world.store.read(&name).await.unwrap_err();
    assert_eq!(refused.reason(), "OBJECT_DIGEST_MISMATCH");
}

#[tokio::test]
async fn a_copy_that_is_gone_comes_back_with_its_lock_and_its_hold() {
    let world = World::new().await;
    let until = in_seconds(3600);
    let bytes = noise(21, 300);
    let alone = world.alone().await;
    let new = crate::support::object(&bytes, until);
    alone.put(core::slice::from_ref(&new)).await.unwrap();
    alone.hold(&new.digest, true).await.unwrap();
    let scrubbed = world.store.scrub(&new.digest, None).await.unwrap();
    assert_eq!(
        scrubbed.findings,
        [(world.replica.clone(), Finding::Missing)]
    );
    assert!(world.store.locked_until(&new.digest).await.unwrap() >= Some(until));
    let (versions, _) = world.versions(&world.replica, &new.digest).await;
    let hold = world
        .service
        .get_object_legal_hold()
        .bucket(&world.replica)
        .key(key(&new.digest))
        .version_id(&versions[0])
        .send()
        .await
        .unwrap();
    assert_eq!(hold.legal_hold.unwrap().status.unwrap().as_str(), "ON");
}
