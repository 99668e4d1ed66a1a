//! One bucket out of reach: nothing is acknowledged that is not in both, and what is in the other is served.

use greffe_objects::{Store, Timeouts};

use crate::support::{World, in_seconds, object, settings};
use std::time::Duration;

#[tokio::test]
async fn a_put_needs_both_buckets_and_a_read_one() {
    let world = World::new().await;
    let gateway = {
        let ceph = world.ceph.clone();
        tokio::task::spawn_blocking(move || ceph.another_gateway())
            .await
            .unwrap()
    };
    let mut first = settings(&gateway.endpoint(), &world.primary);
    first.timeouts = Timeouts {
        connect: Duration::from_secs(1),
        attempt: Duration::from_secs(5),
        operation: Duration::from_secs(10),
        piece: Duration::from_secs(5),
    };
    let second = settings(&world.ceph.endpoint(), &world.replica);
    let store = Store::open(&first, Some(&second)).await.unwrap();
    let until = in_seconds(600);
    let before = object(b"before", until);
    store.put(core::slice::from_ref(&before)).await.unwrap();

    tokio::task::spawn_blocking(move || gateway.kill())
        .await
        .unwrap();
    assert_eq!(store.read(&before.digest).await.unwrap(), b"before");
    let during = object(b"during", until);
    let refused = store.put(core::slice::from_ref(&during)).await.unwrap_err();
    assert!(refused.retriable(), "{refused}");
    assert!(refused.to_string().contains(&world.primary), "{refused}");

    // The same again by another way: it goes through, and leaves one version in each.
    world
        .store
        .put(core::slice::from_ref(&during))
        .await
        .unwrap();
    for bucket in [&world.primary, &world.replica] {
        assert_eq!(world.versions(bucket, &during.digest).await.0.len(), 1);
    }
}
