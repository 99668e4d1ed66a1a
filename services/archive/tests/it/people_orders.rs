//! Orders: an exact list, several people, a leaf of the log, one reader.

use greffe_api::archive as api;
use greffe_envelope::opening::sealed_order;
use greffe_envelope::pb::{self, log_entry::Event};
use greffe_envelope::statement::Signed;
use greffe_service_kit::clock::Clock as _;
use greffe_types::{Digest, Millis};
use tonic::Code;

use crate::people::{approval, by, order, sign_order};
use crate::support::{Archive, World, receipt_of, refusal};
use crate::world::{Talk, attachment_ciphertext, reader_key, sign_bundle};

/// A change, and what comes of it.
type Flip<T> = (fn(&mut T), &'static str);

/// Three messages, and a matter for orders over them.
async fn records(world: &World, archive: &Archive) -> Vec<Digest> {
    let mut talk = Talk::new(1);
    let requests = (0..3).map(|n| talk.message(&n.to_string())).collect();
    let answers = archive.send(requests).await.unwrap();
    archive.open_matter(world, 1).await;
    answers
        .iter()
        .map(|answer| Digest::try_from(receipt_of(answer).entry_digest.as_slice()).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_filed_approved_logged_and_read() {
    let world = World::new().await;
    let archive = world.start().await;
    let records = records(&world, &archive).await;
    let (order, list) = order(&world, &records[..2]);
    let filed = archive.file(&world, &order, list.clone()).await.unwrap();
    assert_eq!(filed.state(), api::OrderState::Pending);
    assert_eq!(filed.missing, "0 of 2 approvals");
    // Filing it again is a retry.
    archive.file(&world, &order, list.clone()).await.unwrap();
    let refused = archive.fetch(&world, "fay").await.unwrap_err();
    assert_eq!(refused.1, "ORDER_NOT_RELEASED");

    let first = approval(&world, &order, "bea");
    let waiting = archive.approve(&world, first.clone()).await.unwrap();
    assert_eq!(waiting.missing, "1 of 2 approvals");
    archive.approve(&world, first).await.unwrap();
    let released = archive
        .approve(&world, approval(&world, &order, "cam"))
        .await
        .unwrap();
    assert_eq!(released.state(), api::OrderState::Released);
    assert_eq!((released.missing.as_str(), released.salt.len()), ("", 0));
    let leaf = world.log.entries()[released.log_index as usize]
        .event
        .clone();
    let expected = pb::ReleasedOrder {
        order: released.order.clone(),
        approvals: released.approvals.clone(),
        salt: vec![],
    };
    assert_eq!(leaf, Some(Event::ReleasedOrder(expected)));
    let refused = archive
        .approve(&world, approval(&world, &order, "ivy"))
        .await;
    assert_eq!(refused.unwrap_err().1, "ORDER_RELEASED");

    let fetched = archive.fetch(&world, "fay").await.unwrap();
    assert_eq!(fetched.len(), 2);
    for (record, digest) in fetched.iter().zip(&list) {
        let about = record.record.as_ref().unwrap();
        assert_eq!(&about.summary.as_ref().unwrap().digest, digest);
        let envelope = about.envelope.clone().unwrap();
        let envelope = greffe_envelope::envelope::Envelope::decode(envelope).unwrap();
        assert_eq!(envelope.digest().as_bytes(), digest.as_slice());
        assert_eq!(
            greffe_envelope::label::sha256(&record.ciphertext),
            envelope.ciphertext_digest()
        );
        assert_eq!(record.wraps.len(), 1);
        let named = greffe_envelope::message::wrap_ref(&record.wraps[0]).unwrap();
        assert_eq!([named], envelope.body().wraps[..]);
    }
    let read = |event: &Event| matches!(event, Event::Access(a) if a.action == "fetch" && a.count == 2 && a.subject.len() == 32);
    world.log.wait_for(read).await;

    let get = by(&world, "bea", api::GetOrderRequest { order: vec![9; 16] });
    let got = archive.orders().get_order(get).await.unwrap().into_inner();
    assert_eq!((got.records, got.status), (list, Some(released)));
    world.clock.set(Millis::new(order.expiry));
    let refused = archive.fetch(&world, "fay").await.unwrap_err();
    assert_eq!(refused.1, "ORDER_WINDOW");
    let listed = by(&world, "ann", api::ListOrdersRequest::default());
    let listed = archive
        .orders()
        .list_orders(listed)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.orders[0].state(), api::OrderState::Expired);
    archive.stop().await;
}

/// Attack 21, at the archive: the same person twice, the requester, the wrong role, somebody revoked.
#[tokio::test(flavor = "multi_thread")]
async fn attack_21_approvals_that_are_no_quorum_release_nothing() {
    let world = World::new().await;
    let archive = world.start().await;
    let records = records(&world, &archive).await;
    let (mut order, list) = order(&world, &records);
    order.requester = "ann".into();
    archive.file(&world, &order, list).await.unwrap();
    let refused = async |person: &str| {
        let approval = approval(&world, &order, person);
        archive.approve(&world, approval).await.unwrap_err().1
    };
    assert_eq!(refused("ann").await, "CALLER_NOT_ALLOWED");
    assert_eq!(refused("hal").await, "CALLER_NOT_ALLOWED");
    assert_eq!(refused("dan").await, "APPROVALS_NOT_AN_APPROVER");
    archive
        .approve(&world, approval(&world, &order, "bea"))
        .await
        .unwrap();
    let mut again = approval(&world, &order, "bea");
    again.at += 1;
    let twice = archive.approve(&world, again).await.unwrap_err();
    assert_eq!(twice.1, "APPROVALS_SAME_PERSON");
    // Two approvers, but nobody of compliance.
    let waiting = archive
        .approve(&world, approval(&world, &order, "ivy"))
        .await
        .unwrap();
    assert_eq!(
        waiting.missing,
        "no approver of their own for the role compliance"
    );

    // Bea is revoked before the last approval: hers no longer counts, and the leaf does not name her.
    let mut message = world.bundle.message().clone();
    message.version = 2;
    message.previous = world.bundle.digest().to_vec();
    message
        .roster
        .iter_mut()
        .for_each(|p| p.revoked = p.name == "bea");
    let next = sign_bundle(message);
    world.log.add(Event::Statement(next.raw().clone()));
    while archive.app.bundle().version() != 2 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let status = archive
        .approve(&world, approval(&world, &order, "cam"))
        .await
        .unwrap();
    assert_eq!(status.state(), api::OrderState::Released);
    let signers: Vec<String> = status
        .approvals
        .iter()
        .map(|a| a.signatures[0].signer.clone())
        .collect();
    assert_eq!(signers, ["cam", "ivy"]);
    archive.stop().await;
}

/// Attack 22: an approval counts for one order, its list and its count, and for nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn attack_22_an_approval_of_something_else_is_refused() {
    let world = World::new().await;
    let archive = world.start().await;
    let records = records(&world, &archive).await;
    let (order, list) = order(&world, &records);
    archive.file(&world, &order, list.clone()).await.unwrap();
    // Another order over the same records, for another reader's key and a longer window.
    let mut longer = order.clone();
    longer.id = vec![8; 16];
    longer.expiry += 1;
    let flips: [Flip<pb::Approval>; 6] = [
        (|a| a.records_root[0] ^= 1, "ORDER_RECORDS_DIFFER"),
        (|a| a.records_count += 1, "ORDER_RECORDS_DIFFER"),
        (|a| a.order[0] ^= 1, "ORDER_UNKNOWN"),
        (|a| a.tenant = "other".into(), "FIELD_INVALID"),
        (|a| a.at += 400_000, "ACT_IN_THE_FUTURE"),
        (|a| a.at = 0, "ok"),
    ];
    for (flip, reason) in flips {
        let mut approval = approval(&world, &order, "bea");
        flip(&mut approval);
        let outcome = archive.approve(&world, approval).await;
        let found = outcome.map_or_else(|refused| refused.1, |_| "ok".into());
        assert_eq!(found, reason);
    }
    let elsewhere = archive
        .approve(&world, approval(&world, &longer, "cam"))
        .await;
    assert_eq!(elsewhere.unwrap_err().1, "ORDER_UNKNOWN");
    // A signature in another person's name, and an approval brought by somebody else.
    let cam = approval(&world, &order, "cam");
    let forged = Signed::sign(cam.clone(), &[("cam", &crate::world::person_key("ivy"))]);
    let send = async |caller: &str, raw: pb::SignedStatement| {
        let request = api::ApproveOrderRequest {
            approval: Some(raw),
        };
        let answer = archive
            .orders()
            .approve_order(by(&world, caller, request))
            .await;
        refusal(answer.unwrap_err()).1
    };
    assert_eq!(send("cam", forged.into_raw()).await, "SIGNATURE_REFUSED");
    let genuine = Signed::sign(cam, &[("cam", &crate::world::person_key("cam"))]);
    assert_eq!(send("ivy", genuine.into_raw()).await, "ORDER_NOT_YOURS");
    let refused = archive.fetch(&world, "fay").await.unwrap_err();
    assert_eq!(refused.1, "ORDER_NOT_RELEASED");
    archive.stop().await;
}

/// Attack 67: the list has to give the order's root and count; what is hidden in either is found.
#[tokio::test(flavor = "multi_thread")]
async fn attack_67_a_list_that_is_not_the_orders_is_refused() {
    let world = World::new().await;
    let archive = world.start().await;
    let records = records(&world, &archive).await;
    let (small, small_list) = order(&world, &records[..2]);
    let (large, large_list) = order(&world, &records);
    let mut miscounted = small.clone();
    miscounted.records_count = 3;
    let mut reversed = small_list.clone();
    reversed.reverse();
    let twice = vec![small_list[0].clone(), small_list[0].clone()];
    for (order, list) in [
        (&large, &small_list),
        (&small, &large_list),
        (&miscounted, &small_list),
        (&miscounted, &large_list),
        (&small, &reversed),
        (&small, &twice),
        (&small, &vec![]),
    ] {
        let refused = archive.file(&world, order, list.clone()).await.unwrap_err();
        assert_eq!(refused, (Code::InvalidArgument, "ORDER_RECORDS".into()));
    }
    let (unknown, list) = order(&world, &[records[0], Digest::new([1; 32])]);
    let refused = archive.file(&world, &unknown, list).await.unwrap_err();
    assert_eq!(refused.1, "ORDER_RECORD_UNKNOWN");
    let logged = |event: &Event| matches!(event, Event::Refusal(r) if r.reason == "ORDER_RECORDS" && r.caller == "person:gus");
    world.log.wait_for(logged).await;
    archive.stop().await;
}

/// Attack 33, at the archive: only a reader of the roster, by the key of the roster; and only that reader fetches.
#[tokio::test(flavor = "multi_thread")]
async fn attack_33_another_reader_or_key_is_refused() {
    let world = World::new().await;
    let archive = world.start().await;
    let records = records(&world, &archive).await;
    let (good, list) = order(&world, &records);
    let flips: [Flip<pb::Order>; 9] = [
        (
            |o| o.reader_key = reader_key("ann").public_key(),
            "ORDER_READER",
        ),
        (|o| o.reader_key.clear(), "ORDER_READER"),
        (|o| o.reader = "zoe".into(), "ORDER_READER"),
        (|o| o.reader = "hal".into(), "ORDER_READER"),
        (|o| o.expiry = o.not_before, "ORDER_WINDOW"),
        (|o| (o.not_before, o.expiry) = (1, 2), "ORDER_WINDOW"),
        (|o| o.matter = vec![2; 16], "MATTER_UNKNOWN"),
        (|o| o.purpose.clear(), "FIELD_INVALID"),
        (|o| o.nonce.clear(), "FIELD_INVALID"),
    ];
    for (flip, reason) in flips {
        let mut order = good.clone();
        flip(&mut order);
        let refused = archive
            .file(&world, &order, list.clone())
            .await
            .unwrap_err();
        assert_eq!(refused.1, reason);
    }
    let mut others = good.clone();
    others.requester = "ann".into();
    let raw = sign_order(&others).into_raw();
    let request = api::FileOrderRequest {
        order: Some(raw),
        records: list.clone(),
    };
    let brought = archive
        .orders()
        .file_order(by(&world, "gus", request))
        .await;
    assert_eq!(refusal(brought.unwrap_err()).1, "ORDER_NOT_YOURS");

    archive.file(&world, &good, list).await.unwrap();
    for person in ["bea", "cam"] {
        let approval = approval(&world, &good, person);
        archive.approve(&world, approval).await.unwrap();
    }
    let refused = archive.fetch(&world, "ann").await.unwrap_err();
    assert_eq!(refused.1, "CALLER_NOT_ALLOWED");
    archive.fetch(&world, "fay").await.unwrap();
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_order_shows_the_log_a_commitment_only() {
    let world = World::new().await;
    let archive = world.start().await;
    let records = records(&world, &archive).await;
    let (mut order, list) = order(&world, &records);
    order.seal_until = world.clock.now().get() + 1_000_000;
    archive.file(&world, &order, list).await.unwrap();
    archive
        .approve(&world, approval(&world, &order, "bea"))
        .await
        .unwrap();
    let status = archive
        .approve(&world, approval(&world, &order, "cam"))
        .await
        .unwrap();
    let released = pb::ReleasedOrder {
        order: status.order.clone(),
        approvals: status.approvals.clone(),
        salt: status.salt.clone(),
    };
    assert_eq!(status.salt.len(), 32);
    let leaf = world.log.entries()[status.log_index as usize].event.clone();
    assert_eq!(
        leaf,
        Some(Event::SealedOrder(sealed_order(&released).to_vec()))
    );
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachment_is_read_under_its_order_only() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let bytes = attachment_ciphertext(3);
    let name = greffe_envelope::label::sha256(&bytes);
    let start = api::AttachmentStart {
        digest: name.to_vec(),
        size: bytes.len() as u64,
        conversation: talk.id.to_vec(),
    };
    archive.put_attachment(start, &[&bytes]).await.unwrap();
    let with = talk.message_with("with", |header| {
        header.attachments = vec![pb::AttachmentRef {
            digest: name.to_vec(),
            size: bytes.len() as u64,
        }];
    });
    let answers = archive
        .send(vec![with, talk.message("without")])
        .await
        .unwrap();
    let digests: Vec<Digest> = answers
        .iter()
        .map(|a| Digest::try_from(receipt_of(a).entry_digest.as_slice()).unwrap())
        .collect();
    archive.open_matter(&world, 1).await;
    let (order, list) = order(&world, &digests[..1]);
    archive.file(&world, &order, list).await.unwrap();
    for person in ["bea", "cam"] {
        let approval = approval(&world, &order, person);
        archive.approve(&world, approval).await.unwrap();
    }
    let fetch = async |record: &Digest, digest: &Digest| {
        let request = api::FetchAttachmentRequest {
            order: vec![9; 16],
            record: record.to_vec(),
            digest: digest.to_vec(),
        };
        let mut stream = archive
            .orders()
            .fetch_attachment(by(&world, "fay", request))
            .await
            .map_err(|status| refusal(status).1)?
            .into_inner();
        let mut whole = Vec::new();
        while let Some(part) = stream.message().await.map_err(|s| refusal(s).1)? {
            whole.extend(part.chunk);
        }
        Ok::<_, String>(whole)
    };
    assert_eq!(fetch(&digests[0], &name).await.unwrap(), bytes);
    for (record, digest) in [(&digests[1], &name), (&digests[0], &digests[0])] {
        let refused = fetch(record, digest).await.unwrap_err();
        assert_eq!(refused, "ORDER_RECORD_OUTSIDE");
    }
    // Members know the digests of record and attachment, and must not learn from the log of a sealed order.
    let logged = |event: &Event| matches!(event, Event::Refusal(r) if r.operation.contains("FetchAttachment") && r.subject.len() == 32);
    let (index, _) = world.log.wait_for(logged).await;
    let read = crate::people::listed_read(&world, &archive, index).await;
    assert_eq!(read.subject, [9; 16]);
    archive.stop().await;
}

/// Promise 5, at the archive: what the log does not take is not released, however many have approved.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_the_log_refuses_is_not_released() {
    let world = World::new().await;
    let archive = world.start().await;
    let records = records(&world, &archive).await;
    let (order, list) = order(&world, &records);
    archive.file(&world, &order, list).await.unwrap();
    archive
        .approve(&world, approval(&world, &order, "bea"))
        .await
        .unwrap();
    world.log.refuse(Some("LOG_CLOSED"));
    let refused = archive
        .approve(&world, approval(&world, &order, "cam"))
        .await
        .unwrap_err();
    assert_eq!(refused, (Code::FailedPrecondition, "NOT_LOGGED".into()));
    let refused = archive.fetch(&world, "fay").await.unwrap_err();
    assert_eq!(refused.1, "ORDER_NOT_RELEASED");
    world.log.refuse(None);
    archive.stop().await;
}
