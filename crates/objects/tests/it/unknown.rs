//! Attack 51 against buckets: a put that fails, or whose outcome nobody knows, is nothing until it was read back.

use greffe_objects::{Store, StoreError};
use greffe_testkit::ceph::{OWNER, SERVICE};
use greffe_testkit::proxy::{Mode, Proxy};

use crate::support::{PERMISSIONS, World, in_seconds, object, settings};

/// The store of a world through a proxy before its first bucket.
async fn behind(world: &World) -> (Store, Proxy) {
    let proxy = Proxy::start(&world.ceph.endpoint()).await;
    let primary = settings(&proxy.endpoint(), &world.primary);
    let replica = settings(&world.ceph.endpoint(), &world.replica);
    let store = Store::open(&primary, Some(&replica)).await.unwrap();
    (store, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_51_a_put_of_unknown_outcome_is_an_error_and_the_same_put_again_ends_it() {
    let world = World::new().await;
    let (store, proxy) = behind(&world).await;
    for (mode, bytes, arrived) in [
        (Mode::Away, &b"away"[..], false),
        (Mode::CutRequest, b"cut in the middle", false),
        (Mode::CutAnswer, b"cut before the answer", true),
        (Mode::Forge, b"a lie", false),
    ] {
        let new = object(bytes, in_seconds(600));
        proxy.set(mode);
        let before = proxy.struck();
        let failed = store.put(core::slice::from_ref(&new)).await;
        let failed = failed.expect_err("it was said to be stored");
        assert!(proxy.struck() > before, "{mode:?} struck nothing");
        if mode == Mode::Forge {
            // What the server was said to have is not there when it is read back.
            assert!(!matches!(failed, StoreError::Digest { .. }), "{failed}");
        }
        proxy.set(Mode::Pass);
        let there = world.versions(&world.primary, &new.digest).await.0;
        assert_eq!(!there.is_empty(), arrived, "{mode:?}");

        store.put(core::slice::from_ref(&new)).await.unwrap();
        assert_eq!(store.read(&new.digest).await.unwrap(), bytes);
        let until = store.locked_until(&new.digest).await.unwrap();
        assert!(until >= Some(new.retain_until), "{mode:?}");
        // Whatever the failed requests left has its lock, and there is no more of it than there were requests.
        let left = world.versions(&world.primary, &new.digest).await.0;
        assert!((1..=5).contains(&left.len()), "{mode:?}: {left:?}");
        let clean = store.scrub(&new.digest, Some(new.retain_until)).await;
        assert!(clean.unwrap().clean(), "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_51_an_upload_whose_last_answer_is_lost_is_not_there_until_it_was_read_back() {
    let world = World::new().await;
    let (store, proxy) = behind(&world).await;
    for (mode, seed) in [(Mode::CutAnswer, 5), (Mode::Forge, 6)] {
        let bytes = crate::support::noise(seed, 300_000);
        let (name, size) = (crate::support::digest(&bytes), bytes.len() as u64);
        let mut upload = store.upload(name);
        upload.write(&bytes, size).await.unwrap();
        proxy.set(mode);
        assert!(upload.finish(size).await.is_err(), "{mode:?}");
        proxy.set(Mode::Pass);
        let mut upload = store.upload(name);
        upload.write(&bytes, size).await.unwrap();
        upload.finish(size).await.unwrap();
        assert_eq!(store.read(&name).await.unwrap(), bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_51_credentials_that_lose_a_right_store_nothing_that_is_believed() {
    let world = World::new().await;
    for (n, denied) in ["s3:PutObject", "s3:GetObjectVersion"]
        .into_iter()
        .enumerate()
    {
        let new = object(format!("record {n}").as_bytes(), in_seconds(600));
        let allow = |actions: &[&str]| actions.join("\",\"");
        let statement = |effect: &str, actions: String| {
            format!(
                r#"{{"Effect":"{effect}","Action":["{actions}"],"Principal":{{"AWS":["arn:aws:iam:::user/{}"]}},
                    "Resource":["arn:aws:s3:::{name}","arn:aws:s3:::{name}/*"]}}"#,
                SERVICE.name,
                name = world.primary
            )
        };
        let policy = |statements: Vec<String>| {
            let policy = format!(
                r#"{{"Version":"2012-10-17","Statement":[{}]}}"#,
                statements.join(",")
            );
            let put = world.ceph.client(OWNER).put_bucket_policy();
            put.bucket(&world.primary).policy(policy).send()
        };
        let all = || statement("Allow", allow(&PERMISSIONS));
        policy(vec![all(), statement("Deny", allow(&[denied]))])
            .await
            .unwrap();
        let failed = world.store.put(core::slice::from_ref(&new)).await;
        let failed = failed.expect_err(denied);
        assert!(failed.to_string().contains(&world.primary), "{failed}");
        policy(vec![all()]).await.unwrap();
        world.store.put(core::slice::from_ref(&new)).await.unwrap();
        let until = world.store.locked_until(&new.digest).await.unwrap();
        assert!(until >= Some(new.retain_until));
    }
}
