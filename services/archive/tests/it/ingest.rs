//! The way of an entry: receipts, the chain, retries, restarts.

use greffe_archive::store::keys;
use greffe_archive::store::wraps::{self, Erasable};
use greffe_envelope::chain::ChainState;
use greffe_envelope::label::sha256;
use greffe_envelope::pb;
use greffe_types::{Digest, Millis};

use crate::support::{World, receipt_of, verified};
use crate::world::{NOW, Talk, pack};

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_a_conversation_are_archived_chained_and_receipted() {
    let world = World::new().await;
    let archive = world.start().await;
    let bundle = world.verified_bundle();
    let mut talk = Talk::new(1);
    let mut requests = vec![talk.handshake()];
    for n in 0..20 {
        requests.push(talk.message(&format!("message {n}")));
    }
    let answers = archive.send(requests.clone()).await.unwrap();
    assert_eq!(answers.len(), 21);
    let mut chain = ChainState::start(talk.id);
    for (answer, n) in answers.iter().zip(1..) {
        let receipt = verified(answer, &bundle);
        assert_eq!(answer.sequence, n);
        assert_eq!(receipt.archived_at, NOW.get());
        chain = chain.accept(&receipt).unwrap();
    }
    let commit = receipt_of(&answers[0]);
    assert_eq!(commit.kind(), pb::EntryKind::Handshake);
    let message = receipt_of(&answers[1]);
    assert_eq!(message.kind(), pb::EntryKind::Message);
    let kept = pack().retain_until("communication", NOW).unwrap();
    assert_eq!(message.retain_until, kept.get());
    // Six years for the longest class of the pack: a commit explains messages of any class.
    assert!(commit.retain_until > message.retain_until);

    let state = archive
        .ingest()
        .get_conversation_state(greffe_api::archive::GetConversationStateRequest {
            conversation: talk.id.to_vec(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(state.sequence, 21);
    assert_eq!(state.head, chain.head.to_vec());
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_write_once_and_the_key_is_apart() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let request = talk.message("hello");
    let Some(greffe_api::archive::ingest_request::Entry::Message(sent)) = request.entry.clone()
    else {
        unreachable!()
    };
    let receipt = archive.archive(request).await;
    let envelope = Digest::try_from(receipt.entry_digest.as_slice()).unwrap();
    let app = &archive.app;
    let content = sha256(&sent.ciphertext);
    assert_eq!(app.object(content).await.unwrap(), sent.ciphertext);
    assert_eq!(
        app.objects.locked_until(&content).await.unwrap(),
        Some(Millis::new(receipt.retain_until))
    );
    let kept = wraps::load(app.wraps.read(), &app.scope, &envelope)
        .await
        .unwrap();
    assert_eq!(kept, sent.wraps);
    let seed = wraps::mls_message(app.wraps.read(), &app.scope, &envelope)
        .await
        .unwrap();
    assert_eq!(seed, Some(sent.mls_message.clone()));
    // Neither the wrap nor the MLS message is anywhere in the main database or among the objects.
    archive.stop().await;
    for (name, bytes) in files(&world.data()) {
        let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        let found = holds(&sent.wraps[0].sealed[..64]) || holds(&sent.mls_message);
        assert_eq!(found, name.starts_with("wraps.db"), "{name}");
    }
    if let Some([main, store]) = &world.stores {
        for secret in [&sent.wraps[0].sealed[..64], &sent.mls_message] {
            assert!(!main.holds(secret));
            assert!(store.holds(secret));
        }
    }
}

fn files(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            found.push((name, std::fs::read(&path).unwrap()));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_entry_again_gets_its_stored_receipt_also_after_a_restart() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let requests = vec![
        talk.handshake(),
        talk.message("once"),
        talk.message("twice"),
    ];
    let first = archive.send(requests.clone()).await.unwrap();
    // Later, over one stream, also twice in one batch.
    world.clock.advance(core::time::Duration::from_secs(60));
    let mut again = requests.clone();
    again.extend(requests.clone());
    let second = archive.send(again).await.unwrap();
    assert_eq!(second[..3], first);
    assert_eq!(second[3..], first);
    archive.stop().await;

    let archive = world.start_behind().await;
    let third = archive.send(requests).await.unwrap();
    assert_eq!(third, first);
    // The chain goes on where it was: trust was restored, not followed anew.
    let next = archive.archive(talk.message("after the restart")).await;
    assert_eq!(next.previous_head, receipt_of(&first[2]).head);
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_new_entry_twice_in_a_batch_is_archived_once() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let (one, two) = (talk.message("one"), talk.message("two"));
    let answers = archive
        .send(vec![one.clone(), one, two.clone(), two])
        .await
        .unwrap();
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[2], answers[3]);
    assert_eq!(
        receipt_of(&answers[2]).previous_head,
        receipt_of(&answers[0]).head
    );
    let last = keys::last(archive.app.db.read(), &archive.app.scope)
        .await
        .unwrap();
    assert_eq!(last, 2);
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_before_the_rows_is_found_by_the_retry() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let request = talk.message("interrupted");
    let Some(greffe_api::archive::ingest_request::Entry::Message(sent)) = request.entry.clone()
    else {
        unreachable!()
    };
    // As a crash between the erasable store and the main database leaves it.
    let app = archive.app.clone();
    let envelope = greffe_envelope::envelope::envelope_digest(&sent.envelope.clone().unwrap().body);
    let object = sent.ciphertext.clone();
    let new = greffe_archive::objects::NewObject {
        digest: sha256(&object),
        bytes: object.into(),
        retain_until: NOW,
    };
    app.objects.put(vec![new]).await.unwrap();
    app.wraps
        .run_tx("test", async |conn| {
            let erasable = Erasable {
                envelope: &envelope,
                wraps: &sent.wraps,
                mls_message: &sent.mls_message,
            };
            wraps::insert(conn, &app.scope, &[erasable]).await
        })
        .await
        .unwrap();
    let receipt = archive.archive(request).await;
    assert_eq!(receipt.entry_digest, envelope.to_vec());
    assert_eq!(
        app.objects
            .locked_until(&sha256(&sent.ciphertext))
            .await
            .unwrap(),
        Some(Millis::new(receipt.retain_until))
    );
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_conversations_share_batches() {
    let world = World::new().await;
    let archive = world.start().await;
    let bundle = world.verified_bundle();
    let mut talks: Vec<_> = (1..=8).map(Talk::new).collect();
    let mut requests = Vec::new();
    for n in 0..25 {
        for talk in &mut talks {
            requests.push(talk.message(&format!("{n}")));
        }
    }
    let answers = archive.send(requests).await.unwrap();
    assert_eq!(answers.len(), 200);
    let mut chains: Vec<_> = talks
        .iter()
        .map(|talk| ChainState::start(talk.id))
        .collect();
    for answers in answers.chunks(8) {
        for (answer, chain) in answers.iter().zip(&mut chains) {
            *chain = chain.accept(&verified(answer, &bundle)).unwrap();
        }
    }
    archive.stop().await;
}
