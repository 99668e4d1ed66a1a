//! Sending: what gets a number, what does not, and what the same message again is answered.

use greffe_api::archive::ingest_request::Entry;
use greffe_api::relay as api;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::verify_void;
use greffe_service_kit::errors::CallError;

use crate::support::{
    Mail, Member, Outgoing, Talk, Tenant, World, check_chain, digest_of, numbers,
};

/// Alice and Bob, who have both acknowledged.
async fn pair(world: &World) -> (Member, Member) {
    let mut members = world.conversation(5, &["alice", "bob"]).await;
    let bob = members.pop().unwrap();
    (members.pop().unwrap(), bob)
}

fn refused(answer: &api::SendResponse) -> &str {
    assert_eq!(answer.sequence, 0, "{answer:?}");
    assert!(answer.receipt.is_none() && !answer.message.is_empty());
    &answer.reason
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_10_delivered_implies_archived() {
    let world = World::new().await;
    let (mut alice, bob) = pair(&world).await;
    let mut talk = Talk::new();
    let mut out = Outgoing::open(&alice).await;
    let mut mail = Mail::open(&bob, 100).await;
    let welcome = mail.all().await;
    assert_eq!(numbers(&welcome), [1]);
    world.archive.stall(true);
    let request = talk.next(&world, &mut alice, "hello");
    out.push(request.clone()).await;
    // sequenced, but not archived: neither answered nor delivered
    out.silent().await;
    mail.silent().await;
    world.archive.stall(false);
    let answer = out.answer().await.unwrap();
    assert_eq!((answer.sequence, answer.reason.as_str()), (2, ""));
    let item = mail.item().await;
    assert_eq!(item.receipt, answer.receipt);
    let archived = world.archive.requests();
    let Some(Entry::Message(message)) = &archived[1].entry else {
        panic!("no message");
    };
    // what is delivered is what is archived, to the byte
    let Some(api::receive_response::Item::Message(delivered)) = &item.item else {
        panic!("no message");
    };
    assert_eq!(delivered.envelope, request.envelope);
    assert_eq!(delivered.envelope, message.envelope);
    assert_eq!(delivered.wraps, message.wraps);
    assert_eq!(delivered.ciphertext, message.ciphertext);
    assert_eq!(delivered.mls_message, message.mls_message);
    assert_eq!(message.device_cert.as_ref(), Some(alice.device.cert.raw()));
    let users: Vec<_> = archived[1].participants.iter().map(|p| &p.user).collect();
    assert_eq!(users, ["alice", "bob"]);
    let mut all = welcome;
    all.push(item);
    check_chain(&world, &all, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_10_a_duplicate_is_one_record_and_answers_the_same() {
    let world = World::new().await;
    let (mut alice, bob) = pair(&world).await;
    let mut talk = Talk::new();
    let mut out = Outgoing::open(&alice).await;
    let first = talk.next(&world, &mut alice, "one");
    let second = talk.next(&world, &mut alice, "two");
    world.archive.stall(true);
    for request in [&first, &second, &first, &first] {
        out.push(request.clone()).await;
    }
    let mut other = Outgoing::open(&alice).await;
    other.push(first.clone()).await;
    other.silent().await;
    world.archive.stall(false);
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(out.answer().await.unwrap());
    }
    answers.push(other.answer().await.unwrap());
    let found: Vec<_> = answers.iter().map(|a| a.sequence).collect();
    assert_eq!(found, [2, 3, 2, 2, 2]);
    assert!(
        answers
            .iter()
            .filter(|a| a.sequence == 2)
            .all(|a| *a == answers[0])
    );
    // long after, too
    assert_eq!(out.send(first).await, answers[0]);
    assert_eq!(world.archive.requests().len(), 3);
    let mut mail = Mail::open(&bob, 100).await;
    assert_eq!(numbers(&mail.all().await), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_12_one_message_id_with_another_body_is_refused_and_logged() {
    let world = World::new().await;
    let (mut alice, _bob) = pair(&world).await;
    let mut talk = Talk::new();
    let mut out = Outgoing::open(&alice).await;
    let mut id = Vec::new();
    let first = talk.seal(&world, &mut alice, "buy", |header| {
        id = header.message_id.clone();
    });
    let answer = out.send(first.clone()).await;
    assert_eq!(answer.sequence, 2);
    (talk.counter, talk.previous) = (1, digest_of(&first));
    let second = talk.seal(&world, &mut alice, "sell", |header| {
        header.message_id = id.clone();
    });
    assert_eq!(refused(&out.send(second).await), "IDEMPOTENCY_CONFLICT");
    world.audit.refusal("IDEMPOTENCY_CONFLICT").await;

    // two bodies under one id, neither of them sequenced when it is checked
    let mut third = talk.clone();
    let one = third.next(&world, &mut alice, "one");
    let id = greffe_envelope::envelope::Envelope::decode(one.envelope.clone().unwrap())
        .unwrap()
        .header()
        .message_id();
    let two = third.seal(&world, &mut alice, "two", |header| {
        header.message_id = id.to_vec();
    });
    out.push(one).await;
    out.push(two).await;
    assert_eq!(out.answer().await.unwrap().sequence, 3);
    assert_eq!(
        refused(&out.answer().await.unwrap()),
        "IDEMPOTENCY_CONFLICT"
    );
    assert_eq!(world.archive.requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_10_no_envelope_a_wrong_key_or_a_false_proof_is_refused() {
    let world = World::new().await;
    let (mut alice, bob) = pair(&world).await;
    let talk = Talk::new();
    let mut out = Outgoing::open(&alice).await;
    let good = talk.seal(&world, &mut alice, "hello", |_| {});
    let mut answers = Vec::new();
    let mut try_it = async |request: api::SendRequest| {
        out.push(request).await;
        answers.push(refused(&out.answer().await.unwrap()).to_owned());
    };
    // no envelope
    try_it(api::SendRequest {
        envelope: None,
        ..good.clone()
    })
    .await;
    // no wrap: nothing for the journal
    try_it(api::SendRequest {
        wraps: vec![],
        ..good.clone()
    })
    .await;
    // a wrap whose proof is another's: signed as it is, so only the arithmetic can tell
    let forged = forged_proof(&world, &mut alice, &talk);
    try_it(forged).await;
    // another ciphertext
    let mut request = good.clone();
    request.ciphertext[0] ^= 1;
    try_it(request).await;
    // somebody else's signature
    let mut request = good.clone();
    request.envelope.as_mut().unwrap().signature = vec![7; 64];
    try_it(request).await;
    // the MLS message of another envelope
    let other = talk.seal(&world, &mut alice, "other", |_| {});
    let mut request = good.clone();
    request.mls_message = other.mls_message;
    try_it(request).await;
    // another mode, another policy, another record class than disclosed
    let header = |change: fn(&mut pb::Header)| change;
    for change in [
        header(|h| h.policy_digest = vec![9; 32]),
        header(|h| h.record_class = "gossip".into()),
    ] {
        let request = talk.seal(&world, &mut alice, "x", change);
        try_it(request).await;
    }
    // a chain that never was, a counter with a hole, another predecessor
    for change in [
        header(|h| (h.seen_seq, h.seen_head) = (1, vec![1; 32])),
        header(|h| (h.seen_seq, h.seen_head) = (99, vec![1; 32])),
        header(|h| (h.device_counter, h.previous) = (2, vec![3; 32])),
    ] {
        let request = talk.seal(&world, &mut alice, "x", change);
        try_it(request).await;
    }
    assert_eq!(
        answers,
        [
            "ENVELOPE_MALFORMED",
            "WRAPS_MISMATCH",
            "PROOF_INVALID",
            "CIPHERTEXT_MISMATCH",
            "SIGNATURE_INVALID",
            "MLS_MESSAGE_MISMATCH",
            "DISCLOSURE_MISMATCH",
            "RECORD_CLASS_UNKNOWN",
            "SEEN_HEAD_MISMATCH",
            "SEEN_HEAD_MISMATCH",
            "COUNTER_MISMATCH",
        ]
    );
    world.audit.refusal("PROOF_INVALID").await;
    // as another device
    let mut theirs = Outgoing::open(&bob).await;
    assert_eq!(refused(&theirs.send(good.clone()).await), "SENDER_MISMATCH");
    // nothing of it took a number, and the message itself still goes
    assert_eq!(world.archive.requests().len(), 1);
    assert_eq!(out.send(good).await.sequence, 2);
}

/// A message whose wrap carries the proof of another, with digest and signature to match.
fn forged_proof(world: &World, from: &mut Member, talk: &Talk) -> api::SendRequest {
    use greffe_envelope::envelope::{Envelope, envelope_digest};
    use greffe_envelope::wrap::WrapView;
    let mut request = talk.seal(world, from, "forged", |_| {});
    let other = talk.seal(world, from, "other", |_| {});
    let at = request.wraps[0].sealed.len() - 131;
    let proof = other.wraps[0].sealed[at..].to_vec();
    request.wraps[0].sealed[at..].copy_from_slice(&proof);
    let digest = WrapView::parse(&request.wraps[0].sealed).unwrap().digest();
    let mut body = Envelope::decode(request.envelope.unwrap())
        .unwrap()
        .body()
        .clone();
    body.wraps[0].digest = digest.to_vec();
    let envelope = Envelope::sign(&body, &from.device.envelope_key).unwrap();
    let digest = envelope_digest(&envelope.raw().body);
    let (mls_message, change) = from.conversation.seal(&[1; 32], &digest).unwrap();
    from.device.write(&change);
    from.conversation.persisted();
    request.mls_message = mls_message;
    request.envelope = Some(envelope.into_raw());
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sends_before_the_notice_is_acknowledged_or_after_leaving() {
    let world = World::new().await;
    let mut carol = world.device("carol", 3).await.create(6).await.unwrap();
    let talk = Talk::new();
    let request = talk.seal(&world, &mut carol, "too early", |_| {});
    let mut out = Outgoing::open(&carol).await;
    assert_eq!(
        refused(&out.send(request.clone()).await),
        "NOTICE_NOT_ACKNOWLEDGED"
    );
    carol.acknowledge().await.unwrap();
    assert_eq!(out.send(request).await.sequence, 1);

    let (mut alice, mut bob) = pair(&world).await;
    let stale = Talk::new().seal(&world, &mut bob, "stale", |_| {});
    let device = bob.device.id;
    let (handshake, change) = alice
        .conversation
        .remove(&[device], crate::support::now())
        .unwrap();
    alice.device.write(&change);
    alice.submit(&handshake).await.unwrap();
    alice.apply();
    let mut theirs = Outgoing::open(&bob).await;
    assert_eq!(refused(&theirs.send(stale).await), "CONVERSATION_UNKNOWN");
    // and one who stays is told that the epoch has moved
    let old = Talk::new().seal(&world, &mut alice, "old", |h| h.mls_epoch = 1);
    let mut out = Outgoing::open(&alice).await;
    assert_eq!(refused(&out.send(old).await), "MLS_MESSAGE_MISMATCH");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_73_a_void_takes_the_number_and_the_conversation_moves_on() {
    let world = World::new().await;
    let (mut alice, bob) = pair(&world).await;
    let mut talk = Talk::new();
    let mut out = Outgoing::open(&alice).await;
    world.archive.void_next("WRAP_REUSED");
    let refused = talk.next(&world, &mut alice, "refused");
    let answer = out.send(refused.clone()).await;
    assert_eq!(answer.sequence, 2);
    let void = Signed::<pb::Void>::decode(answer.void.clone().unwrap()).unwrap();
    let bundle = world.tenant.trust.read().bundle().clone();
    verify_void(&void, &bundle).unwrap();
    assert_eq!(void.reason, "WRAP_REUSED");
    assert_eq!(void.refused_digest, digest_of(&refused).to_vec());
    // voids count
    let next = talk.next(&world, &mut alice, "next");
    assert_eq!(out.send(next).await.sequence, 3);
    let mut mail = Mail::open(&bob, 100).await;
    let items = mail.all().await;
    assert_eq!(numbers(&items), [1, 2, 3]);
    let Some(api::receive_response::Item::Void(delivered)) = &items[1].item else {
        panic!("{:?}", items[1]);
    };
    assert_eq!(Some(delivered), answer.void.as_ref());
    check_chain(&world, &items, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_are_on_their_way_and_answered_in_order() {
    let world = World::new().await;
    let (mut alice, bob) = pair(&world).await;
    let mut talk = Talk::new();
    let mut out = Outgoing::open(&alice).await;
    let mut requests = Vec::new();
    for n in 0..100 {
        requests.push(talk.next(&world, &mut alice, &format!("line {n}")));
    }
    for request in &requests {
        out.push(request.clone()).await;
    }
    for (request, sequence) in requests.iter().zip(2..) {
        let answer = out.answer().await.unwrap();
        assert_eq!(answer.envelope, digest_of(request).to_vec());
        assert_eq!(answer.sequence, sequence, "{answer:?}");
    }
    let mut mail = Mail::open(&bob, 4096).await;
    let items = mail.all().await;
    assert_eq!(numbers(&items), (1..=101).collect::<Vec<_>>());
    check_chain(&world, &items, None);
}

/// Counters and numbers are counted in memory while a transaction runs: what is refused in it counts for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_11_retries_and_refusals_among_many_leave_the_others_as_they_are() {
    const EACH: u64 = 60;
    let world = World::new().await;
    let (mut alice, mut bob) = pair(&world).await;
    let (mut alices, mut bobs) = (Talk::new(), Talk::new());
    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for n in 0..EACH {
        let mut want = |request, reason| {
            requests.push(request);
            expected.push(reason);
        };
        if n % 5 == 1 {
            let hole = alices.seal(&world, &mut alice, "hole", |h| h.device_counter += 1);
            want(hole, "COUNTER_MISMATCH");
        }
        let request = alices.next(&world, &mut alice, "one");
        want(request.clone(), "");
        if n % 3 == 1 {
            want(request, "");
        }
        if n % 7 == 1 {
            let other = alices.seal(&world, &mut alice, "other", |h| h.previous = vec![3; 32]);
            want(other, "PREVIOUS_MISMATCH");
        }
    }
    let mut out = Outgoing::open(&alice).await;
    let mut theirs = Outgoing::open(&bob).await;
    for request in &requests {
        out.push(request.clone()).await;
    }
    for _ in 0..EACH {
        let request = bobs.next(&world, &mut bob, "theirs");
        theirs.push(request).await;
    }
    let mut given = std::collections::BTreeMap::new();
    for (request, reason) in requests.iter().zip(expected) {
        let answer = out.answer().await.unwrap();
        if reason.is_empty() {
            let number = given.entry(digest_of(request)).or_insert(answer.sequence);
            assert_eq!((answer.reason.as_str(), answer.sequence), ("", *number));
        } else {
            assert_eq!(refused(&answer), reason);
        }
    }
    let mut all: Vec<_> = given.into_values().collect();
    for _ in 0..EACH {
        all.push(theirs.answer().await.unwrap().sequence);
    }
    all.sort_unstable();
    assert_eq!(all, (2..=2 * EACH + 1).collect::<Vec<_>>());
    assert_eq!(
        world.archive.requests().len() as u64,
        2 * EACH + 1,
        "each once"
    );
    let mut mail = Mail::open(&bob, 4096).await;
    check_chain(&world, &mail.all().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_10_a_revoked_device_is_refused() {
    let world = World::new().await;
    let (mut alice, mut bob) = pair(&world).await;
    let mut alices = Mail::open(&alice, 100).await;
    let mut mail = Mail::open(&bob, 100).await;
    mail.all().await;
    let mut talk = Talk::new();
    let request = talk.next(&world, &mut alice, "hello");
    // the stream is open before: a session alone carries nothing
    let mut out = Outgoing::open(&alice).await;
    let next = world.tenant.revoke(&alice.device.cert.digest().to_vec());
    world.publish(next.into_raw()).await.unwrap();
    assert_eq!(refused(&out.send(request).await), "CERTIFICATE_REVOKED");
    world.audit.refusal("CERTIFICATE_REVOKED").await;
    mail.silent().await;
    // its own mailbox ends
    let mut bobs = Talk::new();
    let request = bobs.next(&world, &mut bob, "to the others");
    let mut theirs = Outgoing::open(&bob).await;
    assert_eq!(theirs.send(request).await.sequence, 2);
    let ended = loop {
        match alices.next().await {
            Ok(_) => {}
            Err(status) => break CallError::from(status),
        }
    };
    assert_eq!(ended.reason.as_deref(), Some("CERTIFICATE_INVALID"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_10_nothing_is_sealed_to_a_retired_key() {
    let retired = Tenant::with_key_until(1_000);
    let world = World::of(retired, "").await;
    let mut alice = world.device("alice", 1).await.create(5).await.unwrap();
    alice.acknowledge().await.unwrap();
    let request = Talk::new().next(&world, &mut alice, "too late");
    let mut out = Outgoing::open(&alice).await;
    assert_eq!(refused(&out.send(request).await), "JOURNALING_KEY_EXPIRED");
    world.audit.refusal("JOURNALING_KEY_EXPIRED").await;
    assert!(world.archive.requests().is_empty());
}
