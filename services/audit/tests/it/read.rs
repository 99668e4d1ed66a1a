//! Reading: what is served verifies, and nothing is served before a quorum has cosigned it.

use greffe_api::audit as api;
use greffe_api::audit::get_inclusion_proof_request::Leaf;
use greffe_service_kit::checkpoint::verify;
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_service_kit::errors::CallError;
use greffe_service_kit::follow::{FollowState, Follower};
use greffe_tlog::{
    SignedCheckpoint, TreeHead, decode_bundle, decode_hashes, leaf_hash, verify_consistency,
    verify_inclusion,
};
use greffe_types::Digest;
use tonic::Code;

use crate::world::{World, app, checkpoint, fill};

/// Checks the quorum.
fn opened(world: &World, note: &[u8]) -> SignedCheckpoint {
    verify(note, &world.first_bundle(), SystemClock.now(), None)
        .unwrap()
        .0
}

fn digests(hashes: &[Vec<u8>]) -> Vec<Digest> {
    let hashes = hashes.iter();
    hashes
        .map(|hash| Digest::try_from(hash.as_slice()).unwrap())
        .collect()
}

async fn inclusion(
    world: &World,
    leaf: Leaf,
    size: u64,
) -> Result<api::GetInclusionProofResponse, CallError> {
    let request = api::GetInclusionProofRequest {
        leaf: Some(leaf),
        size,
    };
    let answer = world.reader().get_inclusion_proof(request).await?;
    Ok(answer.into_inner())
}

async fn tile(world: &World, path: &str) -> Result<Vec<u8>, CallError> {
    let request = api::GetTileRequest { path: path.into() };
    Ok(world.reader().get_tile(request).await?.into_inner().tile)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_proof_leads_to_the_cosigned_root() {
    let world = World::new().await;
    let running = world.start().await;
    let mut heads = vec![TreeHead::empty()];
    let mut leaves = Vec::new();
    for (from, to) in [(0, 1), (1, 200), (200, 300), (300, 777)] {
        leaves.extend(fill(&world, from, to).await);
        heads.push(opened(&world, &checkpoint(&world, to).await.unwrap()).head());
    }
    let newest = *heads.last().unwrap();
    assert_eq!(newest.size, 777);
    for old in &heads {
        for new in heads.iter().filter(|new| new.size >= old.size) {
            let request = api::GetConsistencyProofRequest {
                old_size: old.size,
                new_size: new.size,
            };
            let proof = world.reader().get_consistency_proof(request).await.unwrap();
            verify_consistency(old, new, &digests(&proof.into_inner().path)).unwrap();
        }
    }
    for index in [0, 1, 199, 255, 256, 511, 776] {
        let sent = &leaves[index as usize];
        let found = inclusion(&world, Leaf::Index(index), 0).await.unwrap();
        assert_eq!((&found.leaf, found.size), (&sent.leaf, 777));
        let hash = leaf_hash(&sent.leaf);
        verify_inclusion(&hash, index, &newest, &digests(&found.path)).unwrap();
        let by_hash = inclusion(&world, Leaf::LeafHash(hash.to_vec()), 777).await;
        assert_eq!(by_hash.unwrap(), found);
    }
    let older = inclusion(&world, Leaf::Index(5), 200).await.unwrap();
    let hash = leaf_hash(&leaves[5].leaf);
    verify_inclusion(&hash, 5, &heads[2], &digests(&older.path)).unwrap();

    // What is not there, and what is not published.
    let missing = inclusion(&world, Leaf::Index(777), 0).await.unwrap_err();
    assert_eq!(missing.code, Code::NotFound);
    let missing = inclusion(&world, Leaf::LeafHash(vec![1; 32]), 0).await;
    assert_eq!(missing.unwrap_err().code, Code::NotFound);
    let beyond = inclusion(&world, Leaf::Index(5), 778).await.unwrap_err();
    assert_eq!(beyond.reason.as_deref(), Some("SIZE_NOT_PUBLISHED"));
    let malformed = inclusion(&world, Leaf::LeafHash(vec![1; 31]), 0).await;
    assert_eq!(malformed.unwrap_err().code, Code::InvalidArgument);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_are_those_that_monitors_read() {
    let world = World::new().await;
    let running = world.start().await;
    let sent = fill(&world, 0, 300).await;
    let note = checkpoint(&world, 300).await.unwrap();
    let folder = world.path("audit").join("log");
    let on_disk = std::fs::read(folder.join("checkpoint")).unwrap();
    assert_eq!(
        opened(&world, &on_disk).head(),
        opened(&world, &note).head()
    );
    for path in [
        "tile/entries/000",
        "tile/entries/001.p/44",
        "tile/0/000",
        "tile/0/001.p/44",
        "tile/1/000.p/1",
    ] {
        let served = tile(&world, path).await.unwrap();
        assert_eq!(served, std::fs::read(folder.join(path)).unwrap(), "{path}");
    }
    let bundle = tile(&world, "tile/entries/001.p/44").await.unwrap();
    let hashes = tile(&world, "tile/0/001.p/44").await.unwrap();
    let hashes = decode_hashes(&hashes, 44).unwrap();
    for ((entry, hash), answer) in decode_bundle(&bundle, 44)
        .unwrap()
        .into_iter()
        .zip(hashes)
        .zip(&sent[256..])
    {
        assert_eq!((entry, leaf_hash(entry)), (answer.leaf.as_slice(), hash));
    }
    assert!(
        !folder.join("tile/0/000.p").exists(),
        "replaced by the full one"
    );
    for (path, code) in [
        ("tile/0/001", Code::NotFound),
        ("tile/1/000", Code::NotFound),
        ("tile/0/001.p/45", Code::NotFound),
        ("tile/0/../../log.sqlite", Code::InvalidArgument),
        ("checkpoint", Code::InvalidArgument),
    ] {
        assert_eq!(tile(&world, path).await.unwrap_err().code, code, "{path}");
    }
    let list = |start, count| {
        let mut reader = world.reader();
        async move {
            let request = api::ListEntriesRequest { start, count };
            reader.list_entries(request).await
        }
    };
    let some = list(290, 1000).await.unwrap().into_inner();
    assert_eq!((some.start, some.leaves.len()), (290, 10));
    assert_eq!(some.leaves[9], sent[299].leaf);
    assert!(list(300, 1).await.unwrap().into_inner().leaves.is_empty());
    for count in [0, 1001] {
        assert_eq!(
            list(0, count).await.unwrap_err().code(),
            Code::InvalidArgument
        );
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_get_every_leaf_and_a_slow_one_holds_nobody_up() {
    let world = World::new().await;
    let running = world.start().await;
    fill(&world, 0, 2500).await;
    checkpoint(&world, 2500).await.unwrap();
    // This one never takes anything.
    let mut idle = world.reader();
    let _idle = idle.follow(api::FollowRequest { start: 0 }).await.unwrap();
    let follower = |state| {
        let channel = world.channel(&app("desk"));
        Follower::new(channel, world.trust(), world.clock.clone(), state).unwrap()
    };
    let mut first = follower(FollowState::default());
    while first.state().size < 2500 {
        first.next().await.unwrap();
    }
    // Live, and from where another one stopped.
    let mut second = follower(first.state());
    fill(&world, 2500, 2600).await;
    for follower in [&mut first, &mut second] {
        let mut seen = Vec::new();
        while follower.state().size < 2600 {
            let followed = follower.next().await.unwrap();
            assert!(followed.size >= followed.state.size);
            seen.extend(followed.leaves.into_iter().map(|(_, entry)| entry.event));
        }
        let expected: Vec<_> = (2500..2600).map(|n| crate::world::entry(n).event).collect();
        assert_eq!(seen, expected);
    }
    // Whoever knows more than this log is told that something is wrong with it.
    let ahead = world
        .reader()
        .follow(api::FollowRequest { start: 2601 })
        .await;
    let ahead = CallError::from(ahead.unwrap_err());
    assert_eq!(ahead.reason.as_deref(), Some("LOG_BEHIND_CHECKPOINT"));
    running.stop().await.unwrap();
}
