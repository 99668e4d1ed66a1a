//! A bucket that cannot hold records is refused at the start, and the refusal says what is missing and what to do.

use greffe_objects::{BucketSettings, Store, StoreError, Unfit};
use greffe_testkit::ceph::Ceph;
use greffe_testkit::free_port;

use crate::support::{Kind, PERMISSIONS, bucket, bucket_denying, settings};

async fn unfit(settings: &BucketSettings) -> Unfit {
    let error = Store::open(settings, None).await.unwrap_err();
    assert_eq!(error.reason(), "OBJECT_BUCKET_UNFIT", "{error:?}");
    assert!(!error.retriable());
    assert!(error.to_string().contains(&settings.bucket));
    match error {
        StoreError::Unfit { unfit, .. } => unfit,
        other => panic!("{other}"),
    }
}

async fn ceph() -> std::sync::Arc<Ceph> {
    tokio::task::spawn_blocking(Ceph::shared).await.unwrap()
}

#[tokio::test]
async fn a_bucket_without_versions_or_lock_or_existence_is_refused() {
    let ceph = ceph().await;
    let at = ceph.endpoint();
    let plain = bucket(&ceph, Kind::Plain, &PERMISSIONS).await;
    assert_eq!(unfit(&settings(&at, &plain)).await, Unfit::Versioning);
    let versioned = bucket(&ceph, Kind::Versioned, &PERMISSIONS).await;
    assert_eq!(unfit(&settings(&at, &versioned)).await, Unfit::ObjectLock);
    assert_eq!(unfit(&settings(&at, "nowhere")).await, Unfit::Missing);
    let locking = bucket(&ceph, Kind::Locking, &PERMISSIONS).await;
    let mut wrong = settings(&at, &locking);
    wrong.secret_access_key = "wrong".into();
    assert_eq!(unfit(&wrong).await, Unfit::Credentials);
    let fit = settings(&at, &locking);
    Store::open(&fit, None).await.unwrap();
    // The replica is looked at as closely.
    let error = Store::open(&fit, Some(&settings(&at, &plain)))
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&plain), "{error}");
}

#[tokio::test]
async fn each_missing_permission_is_named() {
    let ceph = ceph().await;
    let mut told = Vec::new();
    for missing in PERMISSIONS {
        let name = bucket_denying(&ceph, Kind::Locking, &PERMISSIONS, Some(missing)).await;
        let settings = settings(&ceph.endpoint(), &name);
        match Store::open(&settings, None).await {
            Ok(_) => {}
            Err(StoreError::Unfit {
                unfit: Unfit::Permissions(named),
                ..
            }) => told.push((missing, named)),
            Err(other) => panic!("without {missing}: {other:?}"),
        }
    }
    let every: Vec<_> = PERMISSIONS
        .into_iter()
        .map(|missing| (missing, vec![missing]))
        .collect();
    assert_eq!(told, every);
}

#[tokio::test]
async fn settings_and_endpoints_that_cannot_work_are_told_apart() {
    let mut bad = settings("ftp://x", "records");
    let error = Store::open(&bad, None).await.unwrap_err();
    assert_eq!(error.reason(), "OBJECT_STORE_SETTING");
    bad.endpoint = format!("http://127.0.0.1:{}", free_port());
    let error = Store::open(&bad, None).await.unwrap_err();
    assert_eq!(error.reason(), "OBJECT_STORE_REFUSED");
    assert!(error.retriable());
    assert!(!format!("{error:?} {bad:?}").contains("service-secret"));
    bad.prefix = "no-slash".to_owned();
    let error = Store::open(&bad, None).await.unwrap_err();
    assert!(error.to_string().contains("prefix"), "{error}");
}

#[tokio::test]
async fn a_server_is_believed_by_the_authority_named_and_no_other() {
    let ceph = ceph().await;
    let authority = || rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (ours, other) = (authority(), authority());
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, pem: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        Some(path)
    };
    let gateway = {
        let (ceph, pem, key) = (
            ceph.clone(),
            ours.cert.pem(),
            ours.signing_key.serialize_pem(),
        );
        tokio::task::spawn_blocking(move || ceph.tls_gateway(&pem, &key))
            .await
            .unwrap()
    };
    let name = bucket(&ceph, Kind::Locking, &PERMISSIONS).await;
    let mut settings = settings(&gateway.endpoint(), &name);
    settings.ca = write("ours.pem", ours.cert.pem());
    Store::open(&settings, None).await.unwrap();
    settings.ca = write("other.pem", other.cert.pem());
    let refused = Store::open(&settings, None).await.unwrap_err();
    assert_eq!(refused.reason(), "OBJECT_STORE_REFUSED", "{refused:?}");
    for (file, what) in [
        (Some(folder.path().join("none.pem")), "cannot be read"),
        (write("empty.pem", "nothing".into()), "holds no certificate"),
    ] {
        settings.ca = file;
        let refused = Store::open(&settings, None).await.unwrap_err();
        assert!(refused.to_string().contains(what), "{refused:?}");
    }
}
