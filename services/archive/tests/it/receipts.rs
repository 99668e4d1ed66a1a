//! Receipts on their way into the log: batches, paths, proofs of knowledge.

use std::time::{Duration, Instant};

use greffe_api::archive::ingest_request::Entry;
use greffe_archive::store::batches;
use greffe_envelope::envelope::Envelope;
use greffe_envelope::pb::{self, log_entry::Event};
use greffe_tlog::{TreeHead, leaf_hash, verify_inclusion};
use greffe_types::Digest;
use prost::Message as _;

use crate::support::{Archive, World, receipt_of};
use crate::world::{Talk, ingest_message};

/// The way of a record's receipt into the log, once it is there.
async fn proof_of(archive: &Archive, record: u64) -> pb::ReceiptProof {
    let app = &archive.app;
    loop {
        if let Some(proof) = batches::receipt_proof(app.db.read(), &app.scope, record)
            .await
            .unwrap()
        {
            return proof;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_receipt_is_proved_to_be_in_the_log() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let mut requests = vec![talk.handshake()];
    requests.extend((0..12).map(|n| talk.message(&format!("{n}"))));
    let answers = archive.send(requests).await.unwrap();
    let mut next = 1;
    for (answer, record) in answers.iter().zip(1..) {
        let receipt = receipt_of(answer);
        let proof = proof_of(&archive, record).await;
        let entry = pb::LogEntry::decode(proof.log_entry.as_slice()).unwrap();
        assert_eq!(entry, world.log.entries()[proof.log_index as usize]);
        assert_eq!(entry.recorded_by, "archive");
        let Some(Event::Receipts(batch)) = entry.event else {
            panic!("not a batch of receipts");
        };
        assert_eq!(batch.count, proof.batch_size);
        assert_eq!(batch.proofs_verified, batch.count);
        assert_eq!(batch.first + proof.batch_index, record);
        let path: Vec<_> = proof
            .batch_path
            .iter()
            .map(|hash| Digest::try_from(hash.as_slice()).unwrap())
            .collect();
        let head = TreeHead {
            size: batch.count,
            root: Digest::try_from(batch.root.as_slice()).unwrap(),
        };
        verify_inclusion(&leaf_hash(receipt.bytes()), proof.batch_index, &head, &path).unwrap();
        next = next.max(batch.first + batch.count);
    }
    assert_eq!(next, 14);
    archive.stop().await;
}

/// The same thing refused twice for the same reason has one digest: its receipts are two, each in a batch of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_void_that_repeats_is_in_the_log_each_time() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let first = talk.message("once");
    let entry = first.entry.clone().unwrap();
    archive.archive(first).await;
    proof_of(&archive, 1).await;
    let mut leaves = Vec::new();
    for record in [2, 3] {
        let again = talk.request(entry.clone());
        let answer = archive.send(vec![again]).await.unwrap().remove(0);
        assert_eq!(receipt_of(&answer).kind(), pb::EntryKind::Void);
        let proof = proof_of(&archive, record).await;
        let logged = pb::LogEntry::decode(proof.log_entry.as_slice()).unwrap();
        let Some(Event::Receipts(batch)) = logged.event else {
            panic!("not a batch of receipts");
        };
        assert_eq!(batch.first + proof.batch_index, record);
        leaves.push(proof.log_index);
    }
    assert_ne!(leaves[0], leaves[1]);
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_archive_logs_a_receipt_soon() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    archive.archive(talk.message("warm")).await;
    proof_of(&archive, 1).await;
    let begun = Instant::now();
    archive.archive(talk.message("now")).await;
    proof_of(&archive, 2).await;
    // 200 ms are promised; a busy machine gets more.
    assert!(begun.elapsed() < Duration::from_secs(2));
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_false_proof_of_knowledge_is_an_incident_and_no_void() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let mut sealed = talk.seal("false", |_| ());
    let wrap = &mut sealed.wraps[0];
    // The scalar of the proof, changed in its lowest bit: well formed, and false.
    *wrap.sealed.last_mut().unwrap() ^= 1;
    let mut body = sealed.envelope.body().clone();
    body.wraps[0] = greffe_envelope::message::wrap_ref(wrap).unwrap();
    sealed.envelope = Envelope::sign(&body, &talk.members[0].key).unwrap();
    let sender = talk.members[0].clone();
    let bad = talk.request(Entry::Message(ingest_message(&sealed, &sender)));
    let good = talk.message("true");
    let answers = archive.send(vec![bad, good]).await.unwrap();
    let receipt = receipt_of(&answers[0]);
    assert_eq!(receipt.kind(), pb::EntryKind::Message);
    let (_, incident) = world
        .log
        .wait_for(|event| matches!(event, Event::Refusal(r) if r.reason == "PROOF_INVALID"))
        .await;
    let Some(Event::Refusal(incident)) = incident.event else {
        unreachable!()
    };
    assert_eq!(incident.subject, receipt.entry_digest);
    let proof = proof_of(&archive, 1).await;
    let entry = pb::LogEntry::decode(proof.log_entry.as_slice()).unwrap();
    let Some(Event::Receipts(batch)) = entry.event else {
        unreachable!()
    };
    assert_eq!(batch.proofs_verified + 1, batch.count);
    archive.stop().await;
}
