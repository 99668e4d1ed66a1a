//! Drills: a node proves that it holds its share, for one question, and the log has it; one that has lost it does not.

use greffe_api::escrow::ProveShareRequest;
use greffe_envelope::ceremony::{ShareHolders, ShareProofError, verify_share_proof};
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::Signed;
use greffe_escrow::app::MIGRATIONS;
use greffe_service_kit::db::{Connection, Database, DbOptions, Source, sql};
use greffe_service_kit::errors::CallError;

use crate::world::{Journal, World, tenant};

async fn prove(
    world: &World,
    at: usize,
    journal: &Journal,
    nonce: Vec<u8>,
) -> Result<(pb::SignedStatement, u64), String> {
    let request = ProveShareRequest {
        key_id: journal.key.key_id().to_vec(),
        nonce,
    };
    match world.client(at).prove_share(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            Ok((answer.proof.unwrap(), answer.log_index))
        }
        Err(status) => Err(CallError::from(status).reason.unwrap()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_proves_its_share_and_one_that_lost_it_does_not() {
    let (mut world, journal) = World::with_key().await;
    let holders = ShareHolders::check(&journal.epoch, &journal.record).unwrap();
    let nonce = [9; 32];
    let mut proofs = Vec::new();
    for at in 0..3 {
        let (raw, index) = prove(&world, at, &journal, nonce.to_vec()).await.unwrap();
        let entry = world.log.entries().remove(index as usize);
        assert_eq!(entry.event, Some(Event::Statement(raw.clone())));
        let node = &world.nodes[at];
        let proof = Signed::<pb::ShareProof>::decode(raw).unwrap();
        proof.verify(&node.name, &node.keys.signing_key).unwrap();
        verify_share_proof(&proof, &holders, &node.name, &nonce).unwrap();
        proofs.push(proof.message().clone());
    }
    // Nobody proves with another one's words, for another question, or later.
    let check = |proof: &pb::ShareProof, node: &str, nonce: &[u8; 32]| {
        verify_share_proof(proof, &holders, node, nonce)
    };
    let other = |proof: &pb::ShareProof, change: fn(&mut pb::ShareProof)| {
        let mut proof = proof.clone();
        change(&mut proof);
        proof
    };
    let own = &proofs[0];
    assert_eq!(
        check(own, "escrow-2", &nonce),
        Err(ShareProofError::Other("node"))
    );
    assert_eq!(
        check(own, "escrow-1", &[8; 32]),
        Err(ShareProofError::Other("question"))
    );
    let stolen = other(&proofs[1], |proof| {
        proof.node = "escrow-1".into();
        proof.index = 1;
    });
    let later = other(own, |proof| proof.at += 1);
    let altered = other(own, |proof| proof.response[31] ^= 1);
    for forged in [stolen, later, altered] {
        assert_eq!(
            check(&forged, "escrow-1", &nonce),
            Err(ShareProofError::Proof)
        );
    }
    assert_eq!(
        prove(&world, 0, &journal, vec![1; 31]).await,
        Err("MALFORMED".to_owned())
    );

    world.stop(2).await;
    lose_shares(&world).await;
    world.start(2).await;
    world.caught_up().await;
    let lost = prove(&world, 2, &journal, nonce.to_vec()).await;
    assert_eq!(lost, Err("NO_SHARE".to_owned()));
    prove(&world, 1, &journal, nonce.to_vec()).await.unwrap();
    // Without the log there is no proof.
    world.log.deaf(true);
    let unlogged = prove(&world, 1, &journal, nonce.to_vec()).await;
    assert_eq!(unlogged, Err("LOG_UNAVAILABLE".to_owned()));
    // Each is a leaf: there are not any number of them.
    world.log.deaf(false);
    let mut refused = None;
    for _ in 0..200 {
        if let Err(reason) = prove(&world, 0, &journal, nonce.to_vec()).await {
            refused = Some(reason);
            break;
        }
    }
    assert_eq!(refused.as_deref(), Some("RATE_LIMITED"));
}

async fn lose_shares(world: &World) {
    let node = &world.nodes[2];
    let source = match &node.store {
        Some(store) => Source::postgres(store.url(), &tenant(), &node.name).unwrap(),
        None => Source::File(node.folder.join("escrow.db")),
    };
    let db = Database::open(&source, &MIGRATIONS, DbOptions::default())
        .await
        .unwrap();
    db.take_lease(&tenant(), "test").await.unwrap();
    let done = db
        .run_tx("test", async |tx: &mut Connection| {
            sql::query("DELETE FROM share").execute(tx).await
        })
        .await;
    assert_eq!(done.unwrap().rows_affected(), 1);
    db.close().await.unwrap();
}
