//! Put, lock, hold, read, list, remove.

use std::time::Duration;

use greffe_objects::StoreError;
use greffe_types::Millis;

use crate::support::{World, digest, in_seconds, noise, now, object};

#[tokio::test]
async fn an_object_is_in_both_buckets_locked_and_put_once() {
    let world = World::new().await;
    let until = in_seconds(600);
    let name = world.put(b"ciphertext", until).await;
    for bucket in [&world.primary, &world.replica] {
        let (versions, marks) = world.versions(bucket, &name).await;
        assert_eq!((versions.len(), marks), (1, 0));
        let shown = world
            .service
            .get_object_retention()
            .bucket(bucket)
            .key(crate::support::key(&name))
            .version_id(&versions[0])
            .send()
            .await
            .unwrap()
            .retention
            .unwrap();
        assert_eq!(shown.mode.unwrap().as_str(), "COMPLIANCE");
        let date = shown.retain_until_date.unwrap().to_millis().unwrap();
        assert_eq!(date as u64, until.get().div_ceil(1000) * 1000);
    }
    assert_eq!(world.store.read(&name).await.unwrap(), b"ciphertext");
    assert!(world.store.contains(&name).await.unwrap());
    // Again, with an earlier date and with a later one: no second version, and the lock only grows.
    world.put(b"ciphertext", in_seconds(60)).await;
    assert!(world.store.locked_until(&name).await.unwrap() >= Some(until));
    let later = in_seconds(1200);
    world.put(b"ciphertext", later).await;
    assert!(world.store.locked_until(&name).await.unwrap() >= Some(later));
    for bucket in [&world.primary, &world.replica] {
        assert_eq!(world.versions(bucket, &name).await.0.len(), 1);
    }
    let mut wrong = object(b"other", until);
    wrong.digest = name;
    let refused = world.store.put(&[wrong]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Digest { .. }), "{refused}");
    let none = digest(b"never put");
    assert!(!world.store.contains(&none).await.unwrap());
    for refused in [
        world.store.read(&none).await.unwrap_err(),
        world.store.lock(&none, until).await.unwrap_err(),
    ] {
        assert_eq!(refused.reason(), "OBJECT_MISSING");
    }
}

#[tokio::test]
async fn concurrent_puts_of_one_object_leave_one_version_and_of_two_processes_whole_ones() {
    let world = World::new().await;
    let until = in_seconds(600);
    let new = object(b"the same", until);
    let puts = (0..16).map(|_| world.store.put(core::slice::from_ref(&new)));
    for done in futures::future::join_all(puts).await {
        done.unwrap();
    }
    assert_eq!(world.versions(&world.primary, &new.digest).await.0.len(), 1);
    assert_eq!(world.versions(&world.replica, &new.digest).await.0.len(), 1);

    let other = world.alone().await;
    let new = object(b"the same from two processes", until);
    let (a, b) = tokio::join!(
        world.store.put(core::slice::from_ref(&new)),
        other.put(core::slice::from_ref(&new))
    );
    a.unwrap();
    b.unwrap();
    let (versions, _) = world.versions(&world.primary, &new.digest).await;
    assert!((1..=2).contains(&versions.len()));
    assert!(
        world
            .store
            .scrub(&new.digest, Some(until))
            .await
            .unwrap()
            .clean()
    );
}

#[tokio::test]
async fn of_two_concurrent_extensions_the_later_date_stands() {
    let world = World::new().await;
    let name = world.put(b"held long", in_seconds(60)).await;
    let dates: Vec<Millis> = (1..=12).map(|n| in_seconds(n * 1000)).collect();
    let locks = dates
        .iter()
        .rev()
        .map(|date| world.store.lock(&name, *date));
    for done in futures::future::join_all(locks).await {
        done.unwrap();
    }
    let until = world.store.locked_until(&name).await.unwrap();
    assert!(until >= dates.last().copied());
}

#[tokio::test]
async fn an_object_is_removed_once_its_lock_ran_out_and_not_before() {
    let world = World::new().await;
    let until = in_seconds(4);
    let name = world.put(b"short-lived", until).await;
    let refused = world.store.remove(&name, now()).await.unwrap_err();
    assert_eq!(refused.reason(), "OBJECT_LOCKED");
    // A wrong clock of ours does not help: the server goes by its own.
    let refused = world
        .store
        .remove(&name, Millis::new(u64::MAX))
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), "OBJECT_STORE_REFUSED");
    assert_eq!(world.store.read(&name).await.unwrap(), b"short-lived");

    // What somebody put over it goes with it.
    world.rot(&world.primary, &name, b"rot".to_vec()).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    world.store.remove(&name, now()).await.unwrap();
    for bucket in [&world.primary, &world.replica] {
        assert_eq!(world.versions(bucket, &name).await, (Vec::new(), 0));
    }
    world.store.remove(&name, now()).await.unwrap();
    assert_eq!(
        world.store.read(&name).await.unwrap_err().reason(),
        "OBJECT_MISSING"
    );
}

#[tokio::test]
async fn a_legal_hold_keeps_an_object_without_a_lock() {
    let world = World::new().await;
    let bytes = noise(1, 1000);
    let name = digest(&bytes);
    let mut upload = world.store.upload(name);
    upload.write(&bytes, 1000).await.unwrap();
    upload.finish(1000).await.unwrap();
    assert_eq!(world.store.locked_until(&name).await.unwrap(), None);
    world.store.hold(&name, true).await.unwrap();
    assert!(world.store.held(&name).await.unwrap());
    let refused = world.store.remove(&name, now()).await.unwrap_err();
    assert_eq!(refused.reason(), "OBJECT_HELD");
    // The server refuses as well, whoever asks.
    for bucket in [&world.primary, &world.replica] {
        let (versions, _) = world.versions(bucket, &name).await;
        let delete = world
            .owner
            .delete_object()
            .bucket(bucket)
            .key(crate::support::key(&name))
            .version_id(&versions[0]);
        assert!(delete.send().await.is_err());
    }
    world.store.hold(&name, false).await.unwrap();
    assert!(!world.store.held(&name).await.unwrap());
    world.store.remove(&name, now()).await.unwrap();
    assert!(!world.store.contains(&name).await.unwrap());
}

#[tokio::test]
async fn objects_are_listed_once_in_order_and_from_any_place() {
    let world = World::new().await;
    let mut names = Vec::new();
    for n in 0..9_u64 {
        names.push(world.put(&noise(n + 10, 50), in_seconds(600)).await);
    }
    world
        .rot(&world.primary, &names[3], b"second version".to_vec())
        .await;
    names.sort();
    assert_eq!(world.store.list(None).await.unwrap(), names);
    assert_eq!(world.store.list(Some(&names[4])).await.unwrap(), names[5..]);
    assert!(world.store.list(names.last()).await.unwrap().is_empty());
}
