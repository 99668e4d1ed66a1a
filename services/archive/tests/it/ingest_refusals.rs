//! What is not archived: gaps, other entries, old relays, voids, keys used twice.

use std::time::Duration;

use greffe_api::archive as api;
use greffe_api::archive::ingest_request::Entry;
use greffe_envelope::chain::void_digest;
use greffe_envelope::pb::{self, log_entry::Event};
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::verify_void;
use greffe_service_kit::db::{Database, DbOptions, Source};
use greffe_types::Digest;
use prost::Message as _;
use tonic::Code;

use crate::support::{Archive, World, receipt_of, refusal, verified};
use crate::world::{
    NOW, Talk, device, ingest_message, journal, journal_until, private_message, sign_bundle,
};

pub fn void_reason(answer: &api::IngestResponse) -> String {
    let void: Signed<pb::Void> = Signed::decode(answer.void.clone().unwrap()).unwrap();
    void.reason.clone()
}

/// The message of a request.
pub fn message_of(request: &mut api::IngestRequest) -> &mut api::IngestMessage {
    match &mut request.entry {
        Some(Entry::Message(message)) => message,
        _ => unreachable!(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_tried_again_and_nothing_is_archived_after_it() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let (one, two, three) = (talk.message("1"), talk.message("2"), talk.message("3"));
    let answers = archive
        .send(vec![one, three.clone(), two.clone()])
        .await
        .unwrap();
    assert_eq!(receipt_of(&answers[0]).sequence, 1);
    assert_eq!(answers[1].retry_reason, "SEQUENCE_GAP");
    assert_eq!(answers[1].receipt, None);
    assert_eq!(receipt_of(&answers[2]).sequence, 2);
    assert_eq!(archive.archive(three).await.sequence, 3);
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_never_given_twice() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let first = archive.archive(talk.message("first")).await;
    talk.sequence = 0;
    let other = talk.message("another entry under the same number");
    let refused = archive.send(vec![other]).await.unwrap_err();
    assert_eq!(
        refusal(refused),
        (Code::FailedPrecondition, "SEQUENCE_TAKEN".into())
    );
    assert_eq!(
        archive.archive(talk.message("second")).await.previous_head,
        first.head
    );
    world
        .log
        .wait_for(|event| matches!(event, Event::Refusal(r) if r.reason == "SEQUENCE_TAKEN"))
        .await;
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_fenced_off_archives_nothing() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    talk.fence = 7;
    archive.archive(talk.message("from the new relay")).await;
    talk.fence = 6;
    let stale = talk.message("from the old relay");
    let refused = archive.send(vec![stale]).await.unwrap_err();
    assert_eq!(refusal(refused), (Code::Aborted, "FENCED".into()));
    // In another conversation too, and after a restart.
    archive.stop().await;
    let archive = world.start().await;
    let mut other = Talk::new(2);
    other.fence = 6;
    let refused = archive.send(vec![other.message("old")]).await.unwrap_err();
    assert_eq!(refusal(refused).1, "FENCED");
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_52_an_archive_that_was_fenced_off_writes_nothing() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    archive.archive(talk.message("before")).await;
    let app = archive.app.clone();
    let source = match &world.stores {
        Some([main, _]) => {
            Source::postgres(&main.runtime_url(), &app.scope.tenant, "archive").unwrap()
        }
        None => Source::File(world.folder.path().join("archive/archive.db")),
    };
    let options = DbOptions {
        migrate: world.stores.is_none(),
        ..DbOptions::default()
    };
    let other = Database::open(&source, &greffe_archive::store::MAIN, options)
        .await
        .unwrap();
    let taking = other.take_lease(&app.scope.tenant, "another process");
    tokio::select! {
        lease = taking => drop(lease.unwrap()),
        () = run_out(&world) => {}
    }
    let refused = archive.send(vec![talk.message("after")]).await.unwrap_err();
    // The process ends as soon as it knows, and a stream may end with it before its answer is out, or with
    // the connection.
    let reason = refusal(refused).1;
    assert!(
        ["FENCED", "SERVICE_STOPPING", ""].contains(&reason.as_str()),
        "{reason}"
    );
    let why = archive.ended().await;
    let causes = greffe_service_kit::errors::Causes(&why).to_string();
    assert!(causes.contains("epoch"), "{causes}");
    let written = greffe_archive::store::keys::last(other.read(), &app.scope)
        .await
        .unwrap();
    assert_eq!(written, 1);
}

/// The archive's lease, as if the process were stopped for longer than it holds.
async fn run_out(world: &World) {
    loop {
        if let Some([main, _]) = &world.stores {
            main.psql("UPDATE lease SET expires = 0");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Everything that can never be archived becomes a void, and the conversation goes on.
#[tokio::test(flavor = "multi_thread")]
async fn attack_73_what_can_never_be_archived_is_void_and_the_conversation_goes_on() {
    let world = World::new().await;
    let archive = world.start().await;
    let bundle = world.verified_bundle();
    let mut talk = Talk::new(1);
    let mut before = archive.archive(talk.handshake()).await;

    let mut bad: Vec<(&str, api::IngestRequest)> = Vec::new();
    let mut spliced = talk.message("spliced");
    message_of(&mut spliced).ciphertext[0] ^= 1;
    bad.push(("CIPHERTEXT_MISMATCH", spliced));
    let mut unsigned = talk.message("unsigned");
    message_of(&mut unsigned)
        .envelope
        .as_mut()
        .unwrap()
        .signature[0] ^= 1;
    bad.push(("SIGNATURE_INVALID", unsigned));
    let mut carried = talk.message("carried by another");
    message_of(&mut carried).mls_message = private_message(&talk.id, 1, &Digest::ZERO);
    bad.push(("MLS_MESSAGE_MISMATCH", carried));
    let mut noise = talk.message("noise");
    message_of(&mut noise).envelope.as_mut().unwrap().body = vec![1, 2, 3];
    bad.push(("ENVELOPE_MALFORMED", noise));
    bad.push((
        "RECORD_CLASS_UNKNOWN",
        talk.message_with("class", |h| h.record_class = "gossip".into()),
    ));
    bad.push((
        "DISCLOSURE_MISMATCH",
        talk.message_with("mode", |h| h.mode = pb::Mode::Supervised.into()),
    ));
    let mut stranger = talk.message("stranger");
    message_of(&mut stranger).device_cert = Some(device("mallory", 9).cert.raw().clone());
    bad.push(("CERTIFICATE_MISMATCH", stranger));
    let mut wrapless = talk.message("wrapless");
    message_of(&mut wrapless).wraps.clear();
    bad.push(("WRAPS_MISMATCH", wrapless));
    let mut forged = journal(70, 2).disclosure.message().clone();
    forged.serial = 9;
    let forged = Signed::sign(forged, &[("root", &crate::world::signer(99))]);
    bad.push(("DISCLOSURE_INVALID", talk.handshake_with(forged.into_raw())));

    for (reason, request) in bad {
        let answer = archive.send(vec![request]).await.unwrap().remove(0);
        assert_eq!(void_reason(&answer), reason);
        let receipt = verified(&answer, &bundle);
        assert_eq!(receipt.kind(), pb::EntryKind::Void);
        assert_eq!(receipt.previous_head, before.head);
        let void: Signed<pb::Void> = Signed::decode(answer.void.clone().unwrap()).unwrap();
        let entry = verify_void(&void, &bundle).unwrap();
        assert_eq!(receipt.entry_digest, entry.to_vec());
        let refused = Digest::try_from(void.refused_digest.as_slice()).unwrap();
        assert_eq!(entry, void_digest(&refused, reason));
        before = receipt;
        // It is archived itself, and told to the log.
        let object = greffe_envelope::label::sha256(&void.raw().encode_to_vec());
        assert!(archive.app.objects.contains(&object).await.unwrap());
        let digest = void.digest();
        world
            .log
            .wait_for(|event| {
                matches!(event, Event::Statement(s)
                    if s.r#type == "void" && greffe_envelope::label::sha256(&s.statement) == digest)
            })
            .await;
    }
    let after = archive.archive(talk.message("and on")).await;
    assert_eq!(after.previous_head, before.head);
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_void_again_gets_the_same_void() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let mut bad = talk.message("bad");
    message_of(&mut bad).ciphertext[0] ^= 1;
    let first = archive.send(vec![bad.clone()]).await.unwrap();
    assert_eq!(archive.send(vec![bad]).await.unwrap(), first);
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_revoked_through_the_log_is_refused_from_then_on() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    archive.archive(talk.message("before")).await;
    let mut next = world.bundle.message().clone();
    next.version = 2;
    next.previous = world.bundle.digest().to_vec();
    next.revocations.push(pb::Revocation {
        certificate: talk.members[0].cert.digest().to_vec(),
        from: 0,
    });
    world
        .log
        .add(Event::Statement(sign_bundle(next).into_raw()));
    while archive.app.bundle().version() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answers = archive.send(vec![talk.message("after")]).await.unwrap();
    assert_eq!(void_reason(&answers[0]), "CERTIFICATE_REVOKED");
    let receipt = receipt_of(&answers[0]);
    assert_eq!(receipt.bundle_version, 2);
    archive.stop().await;
}

/// A wrap whose ML-KEM half was copied would be opened under another order.
#[tokio::test(flavor = "multi_thread")]
async fn attack_65_a_mlkem_ciphertext_used_twice_is_refused() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let victim = talk.message("the victim's");
    let stolen = victim.clone();
    archive.archive(victim).await;
    archive.stop().await;
    // It is remembered over restarts; the attacker signs an envelope of their own around the copied half.
    let archive = world.start().await;
    let answers = archive
        .send(vec![
            copied(&mut talk, stolen.clone()),
            copied(&mut talk, stolen),
        ])
        .await
        .unwrap();
    assert_eq!(void_reason(&answers[0]), "KEM_CIPHERTEXT_REUSED");
    assert_eq!(void_reason(&answers[1]), "KEM_CIPHERTEXT_REUSED");

    // Within one batch as well: the first use stands, the second is void.
    let fresh = talk.message("fresh");
    let copy = copied(&mut talk, fresh.clone());
    let answers = archive.send(vec![fresh, copy]).await.unwrap();
    assert_eq!(receipt_of(&answers[0]).kind(), pb::EntryKind::Message);
    assert_eq!(void_reason(&answers[1]), "KEM_CIPHERTEXT_REUSED");
    archive.stop().await;
}

/// A message of the attacker's own, whose wrap has another message's ML-KEM ciphertext.
fn copied(talk: &mut Talk, mut victim: api::IngestRequest) -> api::IngestRequest {
    let mut sealed = talk.seal("the attacker's", |_| ());
    let theirs = &message_of(&mut victim).wraps[0].sealed;
    let wrap = &mut sealed.wraps[0];
    wrap.sealed[..1088].copy_from_slice(&theirs[..1088]);
    let mut body = sealed.envelope.body().clone();
    body.wraps[0] = greffe_envelope::message::wrap_ref(wrap).unwrap();
    sealed.envelope =
        greffe_envelope::envelope::Envelope::sign(&body, &talk.members[0].key).unwrap();
    let sender = talk.members[0].clone();
    talk.request(Entry::Message(ingest_message(&sealed, &sender)))
}

/// What the relay should have refused is not archived either.
#[tokio::test(flavor = "multi_thread")]
async fn attack_10_no_envelope_a_duplicate_or_a_retired_key_is_not_archived() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let mut bare = talk.message("no envelope");
    message_of(&mut bare).envelope = None;
    let first = talk.message("once");
    let again = talk.request(first.entry.clone().unwrap());
    let answers = archive.send(vec![bare, first, again]).await.unwrap();
    assert_eq!(void_reason(&answers[0]), "ENVELOPE_MALFORMED");
    assert_eq!(receipt_of(&answers[1]).kind(), pb::EntryKind::Message);
    assert_eq!(void_reason(&answers[2]), "DUPLICATE_ENTRY");

    // The tenant moves to another key; a message sealed to the old one comes after the commit.
    let next = journal(71, 2);
    world.log.add(Event::Statement(next.record.raw().clone()));
    world
        .log
        .add(Event::Statement(next.disclosure.raw().clone()));
    let commit = talk.handshake_with(next.disclosure.raw().clone());
    patiently(&archive, &commit).await;
    let retired = talk.message("sealed to the retired key");
    let answers = archive.send(vec![retired]).await.unwrap();
    assert_eq!(void_reason(&answers[0]), "DISCLOSURE_MISMATCH");
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_10_a_key_whose_period_is_over_is_not_archived() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    archive.archive(talk.message("in its period")).await;
    let late = journal_until(72, 2, NOW.get() + 1000);
    world.log.add(Event::Statement(late.record.raw().clone()));
    world
        .log
        .add(Event::Statement(late.disclosure.raw().clone()));
    let commit = talk.handshake_with(late.disclosure.raw().clone());
    patiently(&archive, &commit).await;
    world.clock.advance(Duration::from_secs(1));
    let sealed = talk.seal_to("too late", &late.key, |h| {
        h.key_ids = vec![late.record.key_id.clone()];
    });
    let sender = talk.members[0].clone();
    let expired = talk.request(Entry::Message(ingest_message(&sealed, &sender)));
    let answers = archive.send(vec![expired]).await.unwrap();
    assert_eq!(void_reason(&answers[0]), "JOURNALING_KEY_EXPIRED");
    archive.stop().await;
}

/// Certificates that only a directory vouches for.
#[tokio::test(flavor = "multi_thread")]
async fn attack_71_a_device_that_the_issuer_did_not_certify_is_refused() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let mut forged = device("alice", 5);
    forged.cert = Signed::sign(
        forged.cert.message().clone(),
        &[("issuer", &crate::world::signer(99))],
    );
    talk.members[0] = forged;
    let answers = archive.send(vec![talk.message("hello")]).await.unwrap();
    assert_eq!(void_reason(&answers[0]), "CERTIFICATE_INVALID");
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disclosure_that_the_log_does_not_have_yet_is_waited_for() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    archive.archive(talk.handshake()).await;
    let next = journal(70, 2).disclosure;
    let commit = talk.handshake_with(next.raw().clone());
    let answers = archive.send(vec![commit.clone()]).await.unwrap();
    assert_eq!(answers[0].retry_reason, "DISCLOSURE_UNKNOWN");
    world.log.add(Event::Statement(next.raw().clone()));
    let receipt = patiently(&archive, &commit).await;
    assert_eq!(receipt.kind(), pb::EntryKind::Handshake);
    // A commit back to the older disclosure weakens what members agreed to.
    let back = talk.handshake();
    let answers = archive.send(vec![back]).await.unwrap();
    assert_eq!(void_reason(&answers[0]), "DISCLOSURE_WEAKENED");
    archive.stop().await;
}

/// Tries an entry until it is archived.
pub async fn patiently(archive: &Archive, request: &api::IngestRequest) -> Signed<pb::Receipt> {
    loop {
        let answer = archive.send(vec![request.clone()]).await.unwrap().remove(0);
        if answer.retry_reason.is_empty() {
            return receipt_of(&answer);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_behind_the_log_archives_nothing() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    archive.archive(talk.message("in time")).await;
    world
        .clock
        .set(greffe_types::Millis::new(1_700_000_000_000));
    let answers = archive
        .send(vec![talk.message("in the past")])
        .await
        .unwrap();
    assert_eq!(answers[0].retry_reason, "CLOCK_BEHIND_LOG");
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_relay_may_ingest() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut client = greffe_api::archive::ingest_service_client::IngestServiceClient::new(
        archive.people.clone(),
    );
    let refused = client
        .get_conversation_state(api::GetConversationStateRequest {
            conversation: vec![1; 16],
        })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    archive.stop().await;
}
