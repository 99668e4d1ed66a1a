//! The node as a witness over the wire: one history, its state on disk before its word, and no start without it.

use std::time::Duration;

use greffe_api::escrow::AddCheckpointRequest;
use greffe_service_kit::errors::{CallError, Causes};
use greffe_tlog::{CosignerKey, Note, NoteSigner, SignedCheckpoint, Tree, TreeHead};
use greffe_types::Digest;

use crate::log::{LOG_KEY, ORIGIN, signed};
use crate::world::{World, migrate};

/// Heads of a history whose first entries are like any other's.
fn heads(mark: u8, common: u8, size: u8) -> Vec<TreeHead> {
    let mut tree = Tree::new();
    let mut heads = vec![tree.head()];
    for n in 0..size {
        tree.append_entries(&[[if n < common { 0 } else { mark }, n]]);
        heads.push(tree.head());
    }
    heads
}

fn request(old: u64, proof: &[Digest], head: TreeHead) -> AddCheckpointRequest {
    AddCheckpointRequest {
        old_size: old,
        proof: proof.iter().map(Digest::to_vec).collect(),
        checkpoint: signed(head),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_37_two_roots_for_one_size_are_refused_and_remembered() {
    let mut world = World::new().await;
    let (ours, theirs) = (heads(1, 0, 3), heads(2, 0, 3));
    let mut witness = world.witness(0);
    let answer = witness
        .add_checkpoint(request(0, &[], ours[3]))
        .await
        .unwrap()
        .into_inner();
    assert!(!answer.conflict);
    // The lines are those of a signed note, by the key of the bundle.
    let text = [signed(ours[3]), answer.cosignature].concat();
    let log = NoteSigner::new(ORIGIN, &LOG_KEY).unwrap().verifier();
    assert!(Note::parse(&text).is_ok());
    let checkpoint = SignedCheckpoint::open(&text, &log).unwrap();
    let node = &world.nodes[0];
    let key = node.keys.witness_key.as_slice().try_into().unwrap();
    let cosigner = CosignerKey::new(&node.name, key).unwrap();
    assert!(cosigner.newest(&checkpoint).unwrap().is_some());

    // The log is told where the witness stands.
    let behind = witness
        .add_checkpoint(request(0, &[], heads(1, 0, 4)[4]))
        .await;
    let behind = behind.unwrap().into_inner();
    assert!(behind.conflict && behind.cosignature.is_empty());
    assert_eq!(behind.known_size, 3);
    let back = witness
        .add_checkpoint(request(0, &[], ours[2]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((back.conflict, back.known_size), (true, 3));

    let fork = CallError::from(
        witness
            .add_checkpoint(request(3, &[], theirs[3]))
            .await
            .unwrap_err(),
    );
    assert_eq!(fork.reason.as_deref(), Some("LOG_FORKED"));
    // After a restart too, and the evidence is in the stored state.
    world.stop(0).await;
    world.start(0).await;
    let mut witness = world.witness(0);
    let fork = CallError::from(
        witness
            .add_checkpoint(request(3, &[], theirs[3]))
            .await
            .unwrap_err(),
    );
    assert_eq!(fork.reason.as_deref(), Some("LOG_FORKED"));
    assert!(
        witness
            .add_checkpoint(request(3, &[], ours[3]))
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_42_a_witness_whose_state_is_lost_does_not_start() {
    let mut world = World::new().await;
    let head = heads(1, 0, 3)[3];
    world
        .witness(0)
        .add_checkpoint(request(0, &[], head))
        .await
        .unwrap();
    world.stop(0).await;
    let folder = world.nodes[0].folder.clone();
    if let Some(store) = &world.nodes[0].store {
        store.empty();
        migrate(store).await;
    }
    for name in ["escrow.db", "escrow.db-wal", "escrow.db-shm"] {
        let _ = std::fs::remove_file(folder.join(name));
    }
    let serving = greffe_escrow::serve(world.config(0), std::future::pending());
    let ended = tokio::time::timeout(Duration::from_secs(10), serving).await;
    let error = ended
        .expect("the node serves without its state")
        .unwrap_err();
    assert!(
        Causes(&error).to_string().contains("WITNESS_STATE_LOST"),
        "{error:?}"
    );
}
