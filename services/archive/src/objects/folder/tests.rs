//! Tests of the write-once directory.

use std::os::unix::fs::PermissionsExt as _;

use bytes::Bytes;
use futures::FutureExt as _;

use super::*;

fn store() -> (tempfile::TempDir, Folder) {
    let folder = tempfile::tempdir().unwrap();
    let objects = Folder::open(folder.path()).unwrap();
    (folder, objects)
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}

fn put(objects: &Folder, bytes: &[u8], until: u64) -> Digest {
    let digest = digest(bytes);
    let new = NewObject {
        digest,
        bytes: Bytes::copy_from_slice(bytes),
        retain_until: Millis::new(until),
    };
    objects.put(&[new]).unwrap();
    digest
}

#[test]
fn an_object_is_read_only_and_comes_back_whole() {
    let (_folder, objects) = store();
    let name = put(&objects, b"ciphertext", 50);
    assert_eq!(objects.read(&name).unwrap(), b"ciphertext");
    assert_eq!(objects.verify(&name).unwrap(), 10);
    let mode = fs::metadata(objects.path(&name))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o222, 0);
    assert_eq!(put(&objects, b"ciphertext", 40), name);
    let wrong = NewObject {
        digest: name,
        bytes: Bytes::from_static(b"other"),
        retain_until: Millis::new(1),
    };
    assert!(matches!(
        objects.put(&[wrong]),
        Err(FolderError::Digest { .. })
    ));
    assert_eq!(objects.read(&name).unwrap(), b"ciphertext");
}

#[test]
fn a_lock_only_grows_and_holds_until_its_date() {
    let (_folder, objects) = store();
    let name = put(&objects, b"x", 100);
    objects.lock(&name, Millis::new(10)).unwrap();
    assert_eq!(objects.locked_until(&name).unwrap(), Some(Millis::new(100)));
    objects.lock(&name, Millis::new(200)).unwrap();
    assert!(matches!(
        objects.remove(&name, Millis::new(199)),
        Err(FolderError::Locked { until, .. }) if until == Millis::new(200)
    ));
    assert!(objects.contains(&name));
    objects.remove(&name, Millis::new(200)).unwrap();
    assert!(!objects.contains(&name));
    objects.remove(&name, Millis::new(200)).unwrap();
    assert!(matches!(
        objects.lock(&name, Millis::new(300)),
        Err(FolderError::Missing(_))
    ));
}

#[test]
fn a_lock_that_cannot_be_read_refuses_removal() {
    let (_folder, objects) = store();
    let name = put(&objects, b"x", 100);
    fs::remove_file(objects.lock_path(&name)).unwrap();
    fs::write(objects.lock_path(&name), "soon").unwrap();
    assert!(matches!(
        objects.remove(&name, Millis::new(u64::MAX)),
        Err(FolderError::Lock(_))
    ));
}

#[test]
fn of_two_concurrent_extensions_the_later_date_stays() {
    let (_folder, objects) = store();
    let name = put(&objects, b"x", 1);
    for round in 0..50_u64 {
        std::thread::scope(|scope| {
            for n in 0..4 {
                let (objects, until) = (&objects, Millis::new(100 * round + 10 + n));
                scope.spawn(move || objects.lock(&name, until).unwrap());
            }
        });
        let latest = Millis::new(100 * round + 13);
        assert_eq!(objects.locked_until(&name).unwrap(), Some(latest));
    }
}

#[test]
fn a_scrub_names_what_is_wrong_and_mends_a_lock() {
    let (_folder, objects) = store();
    let name = put(&objects, b"bytes", 100);
    assert!(objects.scrub(&name, Millis::new(100)).unwrap().clean());
    fs::remove_file(objects.lock_path(&name)).unwrap();
    for wrong in ["", "soon"] {
        if !wrong.is_empty() {
            fs::remove_file(objects.lock_path(&name)).unwrap();
            fs::write(objects.lock_path(&name), wrong).unwrap();
        }
        let scrubbed = objects.scrub(&name, Millis::new(100)).unwrap();
        assert_eq!(scrubbed.findings[0].1, Finding::Unlocked);
        assert!(!scrubbed.lost);
        assert_eq!(objects.locked_until(&name).unwrap(), Some(Millis::new(100)));
    }
    let path = objects.path(&name);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, b"bites").unwrap();
    let scrubbed = objects.scrub(&name, Millis::new(100)).unwrap();
    assert_eq!(scrubbed.findings[0].1, Finding::Rotted);
    assert!(scrubbed.lost);
}

#[test]
fn a_rotted_byte_is_named_and_never_served() {
    let (_folder, objects) = store();
    let bytes = vec![7; 3 * CHUNK + 5];
    let name = put(&objects, &bytes, 1);
    let mut pieces = Vec::new();
    objects
        .stream(&name, |piece| {
            pieces.push(piece.len());
            true
        })
        .unwrap();
    assert_eq!(pieces, [CHUNK, CHUNK, CHUNK, 5]);

    let path = objects.path(&name);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let mut rotted = bytes.clone();
    rotted[0] ^= 1;
    fs::write(&path, rotted).unwrap();
    assert!(matches!(
        objects.read(&name),
        Err(FolderError::Digest { .. })
    ));
    let mut handed = 0;
    let result = objects.stream(&name, |piece| {
        handed += piece.len();
        true
    });
    assert!(matches!(result, Err(FolderError::Digest { .. })));
    assert!(handed < bytes.len());
}

#[test]
fn an_upload_is_complete_or_not_there() {
    let (folder, objects) = store();
    let bytes = b"in parts";
    let name = digest(bytes);
    let mut short = objects.upload().unwrap();
    short.write(b"in ", 8).unwrap();
    assert!(matches!(
        short.finish(&name, 8),
        Err(FolderError::Size { .. })
    ));
    let mut other = objects.upload().unwrap();
    other.write(b"in partz", 8).unwrap();
    assert!(matches!(
        other.finish(&name, 8),
        Err(FolderError::Digest { .. })
    ));
    let mut long = objects.upload().unwrap();
    assert!(matches!(
        long.write(b"in parts!", 8),
        Err(FolderError::Size { .. })
    ));
    drop(long);
    assert!(!objects.contains(&name));
    assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
    let mut whole = objects.upload().unwrap();
    whole.write(b"in ", 8).unwrap();
    whole.write(b"parts", 8).unwrap();
    whole.finish(&name, 8).unwrap();
    assert_eq!(objects.read(&name).unwrap(), bytes);
    assert_eq!(objects.locked_until(&name).unwrap(), None);
}

#[test]
fn what_was_unfinished_is_gone_after_a_restart() {
    let (folder, objects) = store();
    let name = put(&objects, b"kept", 9);
    let mut upload = objects.upload().unwrap();
    upload.write(b"lost", 4).unwrap();
    // The process dies: nothing is dropped.
    core::mem::forget(upload);
    let again = Folder::open(folder.path()).unwrap();
    assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
    assert_eq!(again.read(&name).unwrap(), b"kept");
    assert_eq!(again.locked_until(&name).unwrap(), Some(Millis::new(9)));
}

#[test]
fn attack_51_a_failed_fsync_stops_every_further_write() {
    let folder = tempfile::tempdir().unwrap();
    drop(Folder::open(folder.path()).unwrap());
    let objects = Folder {
        inner: Arc::new(Inner {
            root: folder.path().to_owned(),
            poisoned: CancellationToken::new(),
            temporary: AtomicU64::new(0),
            locking: Default::default(),
            sync: |_| Err(io::Error::other("no medium")),
        }),
    };
    let bytes = b"x";
    let new = NewObject {
        digest: digest(bytes),
        bytes: Bytes::copy_from_slice(bytes),
        retain_until: Millis::new(1),
    };
    assert!(matches!(
        objects.put(core::slice::from_ref(&new)),
        Err(FolderError::Poisoned)
    ));
    assert!(!objects.contains(&new.digest));
    // The process hears of it, and ends.
    assert!(objects.poisoned().now_or_never().is_some());
    assert!(matches!(objects.upload(), Err(FolderError::Poisoned)));
    // A new start replays: the write goes through on a disk that works again.
    Folder::open(folder.path()).unwrap().put(&[new]).unwrap();
}
