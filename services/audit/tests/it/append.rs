//! What is taken, what is refused, and that an index is given once.

use std::sync::Arc;
use std::time::Duration;

use greffe_api::audit as api;
use greffe_envelope::pb::{self, log_entry::Event};
use greffe_envelope::statement::Signed;
use greffe_service_kit::clock::ManualClock;
use greffe_types::Millis;
use prost::Message as _;
use tonic::Code;

use crate::world::{World, app, append, checkpoint, entry, fill, of, request, signer};

fn reason(answer: &api::AppendResponse) -> &str {
    answer.error.as_ref().map_or("", |error| &error.reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_stands_for_one_event() {
    let world = World::new().await;
    let running = world.start().await;
    let first = fill(&world, 0, 3).await;
    let indices: Vec<u64> = first.iter().map(|answer| answer.index).collect();
    assert_eq!(indices, [0, 1, 2]);
    let leaf = pb::LogEntry::decode(first[1].leaf.as_slice()).unwrap();
    assert_eq!((leaf.recorded_by.as_str(), leaf.at > 0), ("relay", true));
    assert_eq!(leaf.event, entry(1).event);

    // Again, also twice in one batch: the same index and bytes. Another event: refused, and the stream goes on.
    let requests = vec![
        request(1, entry(1)),
        request(9, entry(9)),
        request(1, entry(7)),
        request(9, entry(9)),
        request(9, entry(8)),
        request(10, entry(1)),
    ];
    let answers = append(&mut world.relay(), requests).await.unwrap();
    assert_eq!((answers[0].index, &answers[0].leaf), (1, &first[1].leaf));
    assert_eq!((answers[1].index, answers[3].index), (3, 3));
    assert_eq!(answers[1].leaf, answers[3].leaf);
    assert_eq!(reason(&answers[2]), "IDEMPOTENCY_CONFLICT");
    assert_eq!(reason(&answers[4]), "IDEMPOTENCY_CONFLICT");
    assert_eq!((answers[5].index, reason(&answers[5])), (4, ""));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_43_a_burst_is_taken_whole_and_operations_equal_leaves() {
    let world = World::new().await;
    let running = world.start().await;
    let bursts = (0..6).map(|n| fill(&world, n * 1000, (n + 1) * 1000));
    let answers = futures::future::join_all(bursts).await;
    let mut indices: Vec<u64> = answers.iter().flatten().map(|a| a.index).collect();
    indices.sort_unstable();
    assert_eq!(indices, (0..6000).collect::<Vec<_>>());
    checkpoint(&world, 6000).await.unwrap();
    let beyond = checkpoint(&world, 6000).await.unwrap();
    assert!(String::from_utf8(beyond).unwrap().contains("\n6000\n"));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_44_whatever_is_not_a_clean_typed_event_is_refused() {
    let world = World::new().await;
    let running = world.start().await;
    let refusal = |change: fn(&mut pb::Refusal)| {
        let mut refusal = pb::Refusal {
            reason: "EPOCH_STALE".into(),
            operation: "/greffe.relay.v1.RelayService/Send".into(),
            caller: "device:07".into(),
            subject: vec![1; 32],
        };
        change(&mut refusal);
        of(Event::Refusal(refusal))
    };
    let cert = |change: fn(&mut pb::DeviceCert), kind: &str| {
        let mut cert = pb::DeviceCert {
            tenant: "acme".into(),
            user: "alice".into(),
            device: vec![1; 16],
            ..Default::default()
        };
        change(&mut cert);
        let mut signed = Signed::sign(cert, &[("issuer", &signer(2))]).into_raw();
        signed.r#type = kind.into();
        of(Event::Statement(signed))
    };
    let mut stuffed = pb::SignedStatement::default();
    if let Some(Event::Statement(signed)) = cert(|_| {}, "device-cert").event {
        stuffed = signed;
        // An unknown field, in which anything could be carried.
        stuffed.statement.extend_from_slice(b"\xfa\x01\x06SECRET");
    }
    let stamped = |change: fn(&mut pb::LogEntry)| {
        let mut entry = entry(1);
        change(&mut entry);
        entry
    };
    let long = of(Event::Tombstone(pb::Tombstone {
        envelope: vec![1; 32],
        acts: vec![
            Signed::sign(
                pb::PersonAct {
                    act: vec![7; 70_000],
                    ..Default::default()
                },
                &[("ann", &signer(5))],
            )
            .into_raw(),
        ],
        backups_expire_at: 0,
    }));
    let cases = [
        (refusal(|_| {}), ""),
        (cert(|_| {}, "device-cert"), ""),
        (refusal(|r| r.caller.push('\n')), "ENTRY_INVALID"),
        (refusal(|r| r.caller.push('\r')), "ENTRY_INVALID"),
        (refusal(|r| r.operation.push('\u{1b}')), "ENTRY_INVALID"),
        (refusal(|r| r.operation.push('\u{2028}')), "ENTRY_INVALID"),
        (refusal(|r| r.reason.push_str(" because")), "ENTRY_INVALID"),
        (refusal(|r| r.subject = vec![1; 31]), "ENTRY_INVALID"),
        (refusal(|r| r.caller = "x".repeat(513)), "ENTRY_INVALID"),
        (cert(|c| c.user.push('\n'), "device-cert"), "ENTRY_INVALID"),
        (cert(|_| {}, "person-token"), "ENTRY_INVALID"),
        (cert(|_| {}, "device-login"), "ENTRY_INVALID"),
        (cert(|_| {}, "disclosure"), "ENTRY_INVALID"),
        (of(Event::Statement(stuffed)), "ENTRY_INVALID"),
        (of(Event::SealedOrder(vec![1; 33])), "ENTRY_INVALID"),
        (sealed_opened(32, 32), ""),
        (sealed_opened(32, 0), "ENTRY_INVALID"),
        (sealed_opened(33, 32), "ENTRY_INVALID"),
        (stamped(|e| e.event = None), "ENTRY_INVALID"),
        (stamped(|e| e.at = 1), "ENTRY_INVALID"),
        (stamped(|e| e.recorded_by = "relay".into()), "ENTRY_INVALID"),
        (stamped(|e| e.tenant = "other".into()), "TENANT_MISMATCH"),
        (long, "ENTRY_TOO_LARGE"),
    ];
    let requests = (100..)
        .zip(&cases)
        .map(|(id, (entry, _))| request(id, entry.clone()))
        .collect();
    let answers = append(&mut world.relay(), requests).await.unwrap();
    for (number, (answer, (_, expected))) in answers.iter().zip(&cases).enumerate() {
        assert_eq!(reason(answer), *expected, "case {number}");
    }
    let mut short = request(1, entry(1));
    short.id.pop();
    let answers = append(&mut world.relay(), vec![short]).await.unwrap();
    assert_eq!(reason(&answers[0]), "ENTRY_INVALID");
    // What was refused left nothing behind.
    assert_eq!(fill(&world, 1, 2).await[0].index, 3);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn time_never_goes_back_in_the_log() {
    let mut world = World::new().await;
    let clock = ManualClock::at(Millis::new(1_000_000));
    world.clock = Arc::new(clock.clone());
    world.settings = "clock_tolerance_ms = 5000".into();
    let running = world.start().await;
    let at =
        |answer: &api::AppendResponse| pb::LogEntry::decode(answer.leaf.as_slice()).unwrap().at;
    assert_eq!(at(&fill(&world, 0, 1).await[0]), 1_000_000);
    clock.set(Millis::new(995_000));
    assert_eq!(at(&fill(&world, 1, 2).await[0]), 1_000_000);
    clock.set(Millis::new(994_999));
    let late = append(&mut world.relay(), vec![request(2, entry(2))]).await;
    assert_eq!(reason(&late.unwrap()[0]), "CLOCK_BEHIND_LOG");
    // A retry of what is there needs no clock.
    assert_eq!(fill(&world, 1, 2).await[0].index, 1);
    clock.advance(Duration::from_secs(10));
    assert_eq!(at(&fill(&world, 2, 3).await[0]), 1_004_999);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_append_is_refused_and_that_is_logged() {
    let world = World::new().await;
    let running = world.start().await;
    let desk = world.channel(&app("desk"));
    let mut desk = api::audit_service_client::AuditServiceClient::new(desk);
    let refused = append(&mut desk, vec![request(1, entry(1))]).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied);
    checkpoint(&world, 1).await.unwrap();
    let request = api::ListEntriesRequest { start: 0, count: 9 };
    let leaves = world.reader().list_entries(request).await.unwrap();
    let leaves = leaves.into_inner().leaves;
    let leaf = pb::LogEntry::decode(leaves[0].as_slice()).unwrap();
    let Some(Event::Refusal(refusal)) = leaf.event else {
        panic!("not a refusal")
    };
    assert_eq!(leaf.recorded_by, "audit");
    assert_eq!(refusal.reason, "CALLER_NOT_ALLOWED");
    assert_eq!(refusal.caller, "app:desk");
    assert_eq!(refusal.operation, "/greffe.audit.v1.AuditService/Append");
    running.stop().await.unwrap();
}

/// An opening under a sealed order, whose digests have these lengths.
fn sealed_opened(order: usize, opened: usize) -> pb::LogEntry {
    of(Event::SealedOpened(pb::SealedOpened {
        sealed_order: vec![1; order],
        opened: vec![2; opened],
    }))
}
