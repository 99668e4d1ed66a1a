//! Large objects in constant memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use greffe_types::Digest;
use sha2::{Digest as _, Sha256};

use crate::support::{World, digest, in_seconds, noise};

const MIB: u64 = 1 << 20;

/// Bytes of this process in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_mebibytes_stream_both_ways_in_constant_memory() {
    let world = World::new().await;
    let size = 200 * MIB + 12345;
    let piece = noise(3, MIB as usize);
    let sizes =
        || (0..size.div_ceil(MIB)).map(|n| usize::try_from(MIB.min(size - n * MIB)).unwrap());
    let mut hash = Sha256::new();
    for (n, len) in sizes().enumerate() {
        hash.update((n as u64).to_le_bytes());
        hash.update(&piece[8..len]);
    }
    let name = Digest::new(hash.finalize().into());

    let (peak, stop) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let before = resident();
    let watcher = {
        let (peak, stop) = (peak.clone(), stop.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                peak.fetch_max(resident(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        })
    };
    let started = Instant::now();
    let mut upload = world.store.upload(name);
    for (n, len) in sizes().enumerate() {
        let mut bytes = piece[..len].to_vec();
        bytes[..8].copy_from_slice(&(n as u64).to_le_bytes());
        upload.write(&bytes, size).await.unwrap();
    }
    upload.finish(size).await.unwrap();
    let written = started.elapsed();
    world.store.lock(&name, in_seconds(60)).await.unwrap();
    let started = Instant::now();
    let mut reader = world.store.reader(&name).await.unwrap();
    let mut read = 0;
    while let Some(piece) = reader.next().await.unwrap() {
        assert!(piece.len() <= greffe_objects::CHUNK);
        read += piece.len() as u64;
    }
    stop.store(true, Ordering::Relaxed);
    watcher.join().unwrap();
    assert_eq!(read, size);
    let grown = peak.load(Ordering::Relaxed).saturating_sub(before);
    println!(
        "200 MiB into two buckets, read back from each: {written:?}; read: {:?}; memory grew by {} MiB",
        started.elapsed(),
        grown / MIB
    );
    assert!(grown < 120 * MIB, "memory grew by {} MiB", grown / MIB);
}

#[tokio::test]
async fn a_batch_is_put_side_by_side() {
    let world = World::new().await;
    let until = in_seconds(600);
    let batch: Vec<_> = (0..128)
        .map(|n| crate::support::object(&noise(1000 + n, 4096), until))
        .collect();
    let started = Instant::now();
    world.store.put(&batch).await.unwrap();
    let first = started.elapsed();
    let started = Instant::now();
    world.store.put(&batch).await.unwrap();
    println!(
        "128 objects of 4 KiB into two buckets, read back from each: {first:?}; again: {:?}",
        started.elapsed()
    );
    for new in &batch {
        assert_eq!(world.store.read(&new.digest).await.unwrap(), new.bytes);
    }
}

#[tokio::test]
async fn an_upload_is_complete_or_not_there() {
    let world = World::new().await;
    let bytes = noise(4, 17 << 20);
    let size = bytes.len() as u64;
    let name = digest(&bytes);
    let mut short = world.store.upload(name);
    short.write(&bytes[1..], size).await.unwrap();
    let refused = short.finish(size).await.unwrap_err();
    assert_eq!(refused.reason(), "OBJECT_SIZE_MISMATCH");
    let mut other = world.store.upload(name);
    other.write(&bytes[1..], size).await.unwrap();
    other.write(&[0], size).await.unwrap();
    let refused = other.finish(size).await.unwrap_err();
    assert_eq!(refused.reason(), "OBJECT_DIGEST_MISMATCH");
    let mut long = world.store.upload(name);
    long.write(&bytes, size).await.unwrap();
    let refused = long.write(&[0], size).await.unwrap_err();
    assert_eq!(refused.reason(), "OBJECT_SIZE_MISMATCH");
    drop(long);
    assert!(!world.store.contains(&name).await.unwrap());
    // What was sent is thrown away, in a while.
    for bucket in [&world.primary, &world.replica] {
        let mut left = usize::MAX;
        for _ in 0..50 {
            let uploads = world.owner.list_multipart_uploads().bucket(bucket).send();
            left = uploads.await.unwrap().uploads().len();
            if left == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(left, 0, "unfinished uploads in {bucket}");
    }
    let mut whole = world.store.upload(name);
    whole.write(&bytes, size).await.unwrap();
    whole.finish(size).await.unwrap();
    let mut again = world.store.upload(name);
    again.write(&bytes, size).await.unwrap();
    again.finish(size).await.unwrap();
    assert_eq!(world.versions(&world.primary, &name).await.0.len(), 1);
    assert_eq!(world.store.read(&name).await.unwrap(), bytes);
    assert_eq!(world.store.locked_until(&name).await.unwrap(), None);
    let empty = digest(b"");
    world.store.upload(empty).finish(0).await.unwrap();
    assert_eq!(world.store.read(&empty).await.unwrap(), b"");
}
