//! Through crashes, restores from old copies, and damaged files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use greffe_api::audit as api;
use greffe_service_kit::errors::Causes;
use greffe_testkit::store::Store;
use greffe_tlog::leaf_hash;

use crate::world::{World, append, checkpoint, entry, fill, request};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy(&item.path(), &target);
        } else {
            fs::copy(item.path(), target).unwrap();
        }
    }
}

/// Leaves no row and no table of the log.
fn forget_database(world: &World) {
    if let Some(store) = &world.store {
        return store.empty();
    }
    for item in fs::read_dir(world.path("audit")).unwrap() {
        let path = item.unwrap().path();
        if path.to_string_lossy().contains("log.sqlite") {
            fs::remove_file(path).unwrap();
        }
    }
}

async fn start_fails(world: &World) -> String {
    match world.try_start().await {
        Ok(_) => panic!("it started"),
        Err(error) => Causes(&error).to_string(),
    }
}

/// Lists everything published.
async fn leaves(world: &World) -> Vec<Vec<u8>> {
    let request = api::ListEntriesRequest {
        start: 0,
        count: 1000,
    };
    let listed = world.reader().list_entries(request).await.unwrap();
    listed.into_inner().leaves
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_38_an_acknowledged_entry_survives_a_stop_before_it_was_signed() {
    let world = World::new().await;
    let running = world.start().await;
    fill(&world, 0, 2).await;
    checkpoint(&world, 2).await.unwrap();
    for node in &world.nodes {
        node.down(true);
    }
    // Signed or not, no witness has seen them when the service goes.
    let answers = fill(&world, 2, 40).await;
    running.stop().await.unwrap();
    for node in &world.nodes {
        assert!(node.size() <= 2);
        node.down(false);
    }
    let running = world.start().await;
    checkpoint(&world, 40).await.unwrap();
    let leaves = leaves(&world).await;
    for answer in &answers {
        assert_eq!(leaves[answer.index as usize], answer.leaf);
    }
    // The caller that lost the answer asks again and gets the same.
    let again = append(&mut world.relay(), vec![request(5, entry(5))]).await;
    assert_eq!(again.unwrap()[0].index, 5);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_38_a_task_that_dies_at_any_moment_loses_nothing() {
    let world = World::new().await;
    let mut taken = Vec::new();
    for round in 0..6_u64 {
        let running = world.start().await;
        let mut relay = world.relay();
        let from = round * 300;
        let requests = (from..from + 300).map(|n| request(n, entry(n))).collect();
        let appending = append(&mut relay, requests);
        let cut = tokio::time::sleep(Duration::from_millis(3 * round));
        tokio::select! {
            answers = appending => taken.extend(answers.unwrap()),
            () = cut => {}
        }
        running.stop().await.unwrap();
    }
    let running = world.start().await;
    for round in 0..6 {
        taken.extend(fill(&world, round * 300, (round + 1) * 300).await);
    }
    checkpoint(&world, 1800).await.unwrap();
    for answer in &taken {
        let request = api::GetInclusionProofRequest {
            leaf: Some(api::get_inclusion_proof_request::Leaf::LeafHash(
                leaf_hash(&answer.leaf).to_vec(),
            )),
            size: 0,
        };
        let proof = world.reader().get_inclusion_proof(request).await.unwrap();
        let proof = proof.into_inner();
        assert_eq!((proof.index, proof.size), (answer.index, 1800));
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_41_a_log_restored_below_a_cosigned_size_signs_nothing() {
    let mut world = World::new().await;
    world.settings = "wait_ms = 3000".into();
    let data = world.path("audit");
    let running = world.start().await;
    fill(&world, 0, 10).await;
    checkpoint(&world, 10).await.unwrap();
    running.stop().await.unwrap();
    copy(&data, &world.path("backup"));
    let old = world.store.as_ref().map(Store::copy);
    let running = world.start().await;
    fill(&world, 10, 20).await;
    checkpoint(&world, 20).await.unwrap();
    while world.nodes.iter().take(3).any(|node| node.size() < 20) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.stop().await.unwrap();

    // Only the database, beside the newer checkpoint.
    let newer = world.path("newer");
    copy(&data, &newer);
    let new = world.store.as_ref().map(Store::copy);
    forget_database(&world);
    match &old {
        Some(old) => world.store.as_ref().unwrap().restore(old),
        None => {
            let old = world.path("backup").join("log.sqlite");
            fs::copy(&old, data.join("log.sqlite")).unwrap();
        }
    }
    let said = start_fails(&world).await;
    assert!(said.contains("LOG_BEHIND_CHECKPOINT"), "{said}");

    // The whole folder: only the witnesses know better.
    fs::remove_dir_all(&data).unwrap();
    copy(&world.path("backup"), &data);
    let running = world.start().await;
    let late = (100..140).map(|n| request(n, entry(n))).collect();
    let _ = append(&mut world.relay(), late).await;
    let refused = checkpoint(&world, 11).await.unwrap_err();
    assert_eq!(refused.reason.as_deref(), Some("LOG_BEHIND_CHECKPOINT"));
    let refused = append(&mut world.relay(), vec![request(99, entry(99))]).await;
    assert_eq!(
        refused.unwrap_err().reason.as_deref(),
        Some("LOG_BEHIND_CHECKPOINT")
    );
    assert_eq!(
        leaves(&world).await.len(),
        10,
        "what was published is shown"
    );
    running.stop().await.unwrap();
    for node in &world.nodes[..3] {
        assert_eq!(node.size(), 20);
    }

    // The newest copy goes on.
    fs::remove_dir_all(&data).unwrap();
    copy(&newer, &data);
    if let Some(new) = &new {
        world.store.as_ref().unwrap().restore(new);
    }
    let running = world.start().await;
    fill(&world, 20, 21).await;
    checkpoint(&world, 21).await.unwrap();
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_41_an_emptied_log_signs_nothing() {
    let mut world = World::new().await;
    world.settings = "wait_ms = 3000".into();
    let data = world.path("audit");
    let running = world.start().await;
    fill(&world, 0, 3).await;
    checkpoint(&world, 3).await.unwrap();
    running.stop().await.unwrap();
    forget_database(&world);
    world.migrate().await;
    fs::remove_dir_all(data.join("log")).unwrap();
    let running = world.start().await;
    let refused = checkpoint(&world, 1).await.unwrap_err();
    assert_eq!(refused.reason.as_deref(), Some("LOG_BEHIND_CHECKPOINT"));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_36_what_rots_between_two_starts_is_found_and_not_signed() {
    let world = World::new().await;
    let running = world.start().await;
    fill(&world, 0, 300).await;
    checkpoint(&world, 300).await.unwrap();
    running.stop().await.unwrap();
    let data = world.path("audit");
    let log = data.join("log");
    for file in [
        "tile/0/000",
        "tile/0/001.p/44",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/44",
    ] {
        let path = log.join(file);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 0x10;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, bad).unwrap();
        let said = start_fails(&world).await;
        assert!(said.contains("LOG_DAMAGED"), "{file}: {said}");
        fs::write(&path, good).unwrap();
    }
    if let Some(store) = &world.store {
        // A leaf, by somebody whom no trigger binds.
        let rot = "SET session_replication_role = replica;
             UPDATE leaf SET leaf = set_byte(leaf, 0, get_byte(leaf, 0) # 16) WHERE idx = 123";
        store.psql(rot);
        let said = start_fails(&world).await;
        assert!(said.contains("LOG_DAMAGED"), "{said}");
        store.psql(rot);
        return missing_tile(world, &log).await;
    }
    // A leaf, in the database's own pages.
    let database = data.join("log.sqlite");
    let good = fs::read(&database).unwrap();
    let mut needle = [0_u8; 32];
    needle[..8].copy_from_slice(&123_u64.to_be_bytes());
    let mut bad = good.clone();
    // Everywhere: a page that was split leaves old bytes behind.
    for at in 0..good.len() - 32 {
        if good[at..at + 32] == needle {
            bad[at + 31] ^= 1;
        }
    }
    assert_ne!(bad, good);
    fs::write(&database, bad).unwrap();
    let said = start_fails(&world).await;
    assert!(said.contains("LOG_DAMAGED"), "{said}");
    fs::write(&database, good).unwrap();
    missing_tile(world, &log).await;
}

/// A tile that is only missing is written again.
async fn missing_tile(world: World, log: &Path) {
    fs::remove_file(log.join("tile/0/000")).unwrap();
    let running = world.start().await;
    fill(&world, 300, 301).await;
    checkpoint(&world, 301).await.unwrap();
    assert!(log.join("tile/0/000").exists());
    running.stop().await.unwrap();
}
