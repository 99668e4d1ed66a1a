//! Many entries at a time: each has its own verdict, whatever becomes of the others.

use std::collections::HashMap;

use greffe_archive::store::wraps::{self, Erasable};
use greffe_archive::store::{keys, records};
use greffe_envelope::chain::ChainState;
use greffe_envelope::envelope::envelope_digest;
use greffe_envelope::pb;
use greffe_types::{Digest, Millis};

use crate::ingest_refusals::{message_of, void_reason};
use crate::support::{World, receipt_of, verified};
use crate::world::{Talk, device};

/// More than a statement takes, of several conversations.
const EACH: u64 = 48;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_among_many_leaves_the_others_as_they_are() {
    let world = World::new().await;
    let archive = world.start().await;
    let bundle = world.verified_bundle();
    let mut talks: Vec<_> = (1..=8).map(Talk::new).collect();
    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for n in 0..EACH {
        for talk in &mut talks {
            let mut request = talk.message(&format!("{n}"));
            expected.push(match n % 8 {
                3 => {
                    message_of(&mut request).ciphertext[0] ^= 1;
                    Some("CIPHERTEXT_MISMATCH")
                }
                // The message before it once more; with the next one, twice in a batch wherever batches end.
                5 | 6 => {
                    let before = &requests[requests.len() - talks_before(n)];
                    request.entry = entry_of(before);
                    Some("DUPLICATE_ENTRY")
                }
                _ => None,
            });
            requests.push(request);
        }
    }
    let answers = archive.send(requests.clone()).await.unwrap();
    assert_eq!(answers.len(), requests.len());
    let mut chains: HashMap<Vec<u8>, ChainState> = talks
        .iter()
        .map(|talk| (talk.id.to_vec(), ChainState::start(talk.id)))
        .collect();
    for ((answer, request), expected) in answers.iter().zip(&requests).zip(&expected) {
        assert_eq!(
            (&answer.conversation, answer.sequence),
            (&request.conversation, request.sequence)
        );
        let receipt = verified(answer, &bundle);
        let chain = chains.get_mut(&request.conversation).unwrap();
        *chain = chain.accept(&receipt).unwrap();
        match expected {
            None => assert_eq!(receipt.kind(), pb::EntryKind::Message),
            Some(reason) => assert_eq!(void_reason(answer), *reason),
        }
    }
    let (app, scope) = (&archive.app, &archive.app.scope);
    let last = keys::last(app.db.read(), scope).await.unwrap();
    assert_eq!(last, requests.len() as u64, "every number is one record");
    for (request, expected) in requests.iter_mut().zip(&expected) {
        if expected.is_some() {
            continue;
        }
        let message = message_of(request).clone();
        let envelope = envelope_digest(&message.envelope.unwrap().body);
        let found = wraps::load(app.wraps.read(), scope, &envelope)
            .await
            .unwrap();
        assert_eq!(found, message.wraps);
        let seed = wraps::mls_message(app.wraps.read(), scope, &envelope)
            .await
            .unwrap();
        assert_eq!(seed, Some(message.mls_message));
    }
    // What was answered among what was not: the same, and on it goes.
    let mut again = requests.clone();
    let new: Vec<_> = talks
        .iter_mut()
        .map(|talk| talk.message("and on"))
        .collect();
    again.extend(new);
    let later = archive.send(again).await.unwrap();
    assert_eq!(later[..answers.len()], answers[..]);
    for (answer, talk) in later[answers.len()..].iter().zip(&talks) {
        assert_eq!(receipt_of(answer).sequence, EACH + 1);
        assert_eq!(
            receipt_of(answer).previous_head,
            chains[&talk.id.to_vec()].head.to_vec()
        );
    }
    archive.stop().await;
}

/// How many requests ago the message came that a number repeats.
fn talks_before(n: u64) -> usize {
    if n % 8 == 5 { 8 } else { 16 }
}

fn entry_of(
    request: &greffe_api::archive::IngestRequest,
) -> Option<greffe_api::archive::ingest_request::Entry> {
    request.entry.clone()
}

fn wrap(n: u8) -> pb::Wrap {
    pb::Wrap {
        tenant: "acme".into(),
        key_id: vec![n; 32],
        sealed: vec![n; 100],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_wraps_none_is_stored_when_some_were_destroyed_and_none_is_replaced() {
    let world = World::new().await;
    let archive = world.start().await;
    let (app, scope) = (&archive.app, &archive.app.scope);
    let envelopes: Vec<Digest> = (0..200).map(|n| Digest::new([n; 32])).collect();
    let sealed: Vec<[pb::Wrap; 2]> = (0..200).map(|n| [wrap(n), wrap(n ^ 1)]).collect();
    let all = |message: &'static [u8]| -> Vec<Erasable<'_>> {
        let each = envelopes.iter().zip(&sealed);
        each.map(|(envelope, wraps)| Erasable {
            envelope,
            wraps,
            mls_message: message,
        })
        .collect()
    };
    let store = async |erasable: &[Erasable<'_>]| {
        app.wraps
            .run_tx("test", async |conn| {
                wraps::insert(conn, scope, erasable).await
            })
            .await
            .unwrap()
    };
    app.wraps
        .run_tx("test", async |conn| {
            wraps::destroy(conn, scope, &envelopes[150], Millis::new(1)).await
        })
        .await
        .unwrap();
    assert!(!store(&all(b"first")).await);
    let found = wraps::load_all(app.wraps.read(), scope, &envelopes)
        .await
        .unwrap();
    assert!(found.is_empty());

    assert!(store(&all(b"first")[..150]).await);
    let mut others = all(b"second");
    others[0].wraps = &sealed[7];
    assert!(store(&others[..150]).await);
    let found = wraps::load_all(app.wraps.read(), scope, &envelopes)
        .await
        .unwrap();
    let messages = wraps::mls_messages(app.wraps.read(), scope, &envelopes)
        .await
        .unwrap();
    assert_eq!((found.len(), messages.len()), (150, 150));
    for (envelope, wraps) in envelopes.iter().zip(&sealed).take(150) {
        assert_eq!(found[envelope], wraps);
        assert_eq!(messages[envelope], b"first");
    }
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_large_conversation_are_kept_once() {
    let world = World::new().await;
    let archive = world.start().await;
    let (app, scope) = (&archive.app, &archive.app.scope);
    let mut talk = Talk::new(1);
    talk.members = (1..=150).map(|n| device(&format!("user-{n}"), n)).collect();
    let requests = vec![talk.message("one"), talk.message("two")];
    let answers = archive.send(requests).await.unwrap();
    assert!(answers.iter().all(|answer| answer.receipt.is_some()));
    let rows: i64 = greffe_service_kit::db::sql::query_scalar("SELECT COUNT(*) FROM member_sets")
        .fetch_one(app.db.read())
        .await
        .unwrap();
    assert_eq!(rows, 150);
    // A part of them under another name is another set.
    let members: Vec<_> = (1..=130_u8)
        .map(|n| (format!("user-{n}"), greffe_types::DeviceId::new([n; 16])))
        .collect();
    for _ in 0..2 {
        app.write("test", async |conn| {
            Ok(records::keep_member_set(conn, scope, &Digest::new([1; 32]), &members).await?)
        })
        .await
        .unwrap();
    }
    let rows: i64 = greffe_service_kit::db::sql::query_scalar("SELECT COUNT(*) FROM member_sets")
        .fetch_one(app.db.read())
        .await
        .unwrap();
    assert_eq!(rows, 280);
    archive.stop().await;
}
