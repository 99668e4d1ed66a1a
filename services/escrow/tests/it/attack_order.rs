//! Attacks on orders: approvals that are missing, forged or of something else; logs that do not have them.

use std::time::Duration;

use greffe_api::escrow::OpenOrder;
use greffe_envelope::opening::{RecordList, order_event};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_tlog::Tree;
use greffe_types::Digest;

use crate::log::{cosigned, now};
use crate::records::{
    Record, approval, approved, archived, list, open, opening, order, order_refused, placed,
    record_refused, release, sign_order,
};
use crate::world::{World, person_key, reader_key, signer};

async fn refused(world: &World, released: pb::ReleasedOrder) -> String {
    order_refused(world, &release(world, released)).await
}

async fn with_records(numbers: &[u8]) -> (World, Vec<Record>, RecordList) {
    let (world, journal) = World::with_key().await;
    let records = archived(&world, &journal, numbers);
    let list = list(&records);
    (world, records, list)
}

/// One approval short, the same human twice, self-approval, an expired or revoked approver, a role missing, bulk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_21_no_opening_without_enough_different_valid_approvers() {
    let (mut world, records, list) = with_records(&[1]).await;
    let case = |people: &[&str]| approved(order(&list), people);
    assert_eq!(refused(&world, case(&[])).await, "APPROVALS_TOO_FEW");
    assert_eq!(refused(&world, case(&["ann"])).await, "APPROVALS_TOO_FEW");
    assert_eq!(
        refused(&world, case(&["bob", "cleo"])).await,
        "APPROVALS_ROLE_MISSING"
    );
    assert_eq!(
        refused(&world, case(&["ann", "ann"])).await,
        "APPROVALS_SAME_PERSON"
    );
    assert_eq!(
        refused(&world, case(&["ann", "rita"])).await,
        "APPROVALS_SELF"
    );
    assert_eq!(
        refused(&world, case(&["ann", "dan"])).await,
        "APPROVALS_NOT_AN_APPROVER"
    );
    assert_eq!(
        refused(&world, case(&["bob", "ann"])).await,
        "APPROVAL_MALFORMED"
    );

    // Bulk: one more approver above three records, which do not even have to exist.
    let digests = (1..=4).map(|n| Digest::new([n; 32])).collect();
    let bulk = RecordList::new(digests).unwrap();
    let two = approved(order(&bulk), &["ann", "bob"]);
    assert_eq!(refused(&world, two).await, "APPROVALS_TOO_FEW");
    let three = release(&world, approved(order(&bulk), &["ann", "bob", "cleo"]));
    assert_eq!(open(&world, 0, &three, vec![]).await.unwrap(), []);

    // An order that stands no longer, or not yet.
    let mut over = order(&list);
    over.expiry = now().get() - 1;
    assert_eq!(
        refused(&world, approved(over, &["ann", "bob"])).await,
        "ORDER_WINDOW"
    );
    let mut early = order(&list);
    early.not_before = now().get() + 60_000;
    assert_eq!(
        refused(&world, approved(early, &["ann", "bob"])).await,
        "ORDER_WINDOW"
    );

    // Released in time; then an approver is revoked, and it opens nothing any more. No partial opening before, either.
    let good = release(&world, case(&["ann", "bob"]));
    let asked = opening(&list, &records[0]);
    assert_eq!(record_refused(&world, &good, asked).await, "");
    world
        .change_bundle(|bundle| bundle.roster[1].revoked = true)
        .await;
    assert_eq!(
        refused(&world, case(&["ann", "bob"])).await,
        "APPROVALS_REVOKED"
    );
    world
        .change_bundle(|bundle| {
            bundle.roster[1].revoked = false;
            bundle.roster[1].not_after = now().get() - 1;
        })
        .await;
    assert_eq!(
        refused(&world, case(&["ann", "bob"])).await,
        "APPROVALS_OUTSIDE_VALIDITY"
    );
}

/// Every field of an order, the approvals staying those of another; every field of an approval.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_22_approvals_are_of_one_order_and_no_other() {
    let (world, _, list) = with_records(&[1]).await;
    let good = approved(order(&list), &["ann", "bob"]);
    let changes: [fn(&mut pb::Order); 13] = [
        |o| o.id[0] ^= 1,
        |o| o.tenant = "other".into(),
        |o| o.matter[0] ^= 1,
        |o| o.purpose.push('!'),
        |o| o.records_root[0] ^= 1,
        |o| o.records_count += 1,
        |o| o.reader = "gus".into(),
        |o| o.reader_key = reader_key("gus").public_key(),
        |o| o.not_before -= 1,
        |o| o.expiry += 1,
        |o| o.nonce[0] ^= 1,
        |o| o.seal_until = 1,
        |o| o.requester = "ann".into(),
    ];
    for (field, change) in changes.iter().enumerate() {
        let mut changed = order(&list);
        change(&mut changed);
        // For another reader, everything about the reader changes.
        if changed.reader == "gus" {
            changed.reader_key = reader_key("gus").public_key();
        }
        // The requester signs what was changed; the approvers did not.
        let mut replayed = good.clone();
        replayed.order = Some(sign_order(changed.clone()).into_raw());
        replayed.salt = if changed.seal_until > 0 {
            vec![4; 32]
        } else {
            vec![]
        };
        let reason = refused(&world, replayed).await;
        let expected = match field {
            1 => "ORDER_MALFORMED",
            7 => "ORDER_READER_KEY",
            12 => "ORDER_SIGNATURE",
            _ => "APPROVAL_MALFORMED",
        };
        assert_eq!(reason, expected, "order, field {field}");
        // Nobody signs what was changed.
        let mut forged = good.clone();
        forged.order.as_mut().unwrap().statement = sign_order(changed.clone()).bytes().to_vec();
        forged.salt = if changed.seal_until > 0 {
            vec![4; 32]
        } else {
            vec![]
        };
        let reason = refused(&world, forged).await;
        let unsigned = ["ORDER_SIGNATURE", "ORDER_MALFORMED"];
        assert!(
            unsigned.contains(&reason.as_str()),
            "order, field {field}: {reason}"
        );
    }
    let signed = Signed::<pb::Order>::decode(good.order.clone().unwrap()).unwrap();
    let changes: [(fn(&mut pb::Approval), &str); 6] = [
        (|a| a.tenant = "other".into(), "APPROVAL_MALFORMED"),
        (|a| a.order[0] ^= 1, "APPROVAL_MALFORMED"),
        (|a| a.records_root[0] ^= 1, "APPROVAL_MALFORMED"),
        (|a| a.records_count += 1, "APPROVAL_MALFORMED"),
        (|a| a.person = "cleo".into(), "APPROVAL_SIGNATURE"),
        (
            |a| a.at = now().get() + 3_600_000,
            "APPROVALS_IN_THE_FUTURE",
        ),
    ];
    for (field, (change, expected)) in changes.iter().enumerate() {
        let mut changed = approval(&signed, "bob");
        change(&mut changed);
        let mut released = good.clone();
        let signed = Signed::sign(changed, &[("bob", &person_key("bob"))]).into_raw();
        released.approvals[1] = signed.clone();
        assert_eq!(
            refused(&world, released).await,
            *expected,
            "approval, field {field}"
        );
        // The same bytes beside the old signature.
        let mut released = good.clone();
        released.approvals[1].statement = signed.statement;
        let reason = refused(&world, released).await;
        let either = ["APPROVAL_MALFORMED", "APPROVAL_SIGNATURE"];
        assert!(
            either.contains(&reason.as_str()),
            "approval, field {field}: {reason}"
        );
    }
}

/// No proof, a wrong leaf, an old, unwitnessed or forked checkpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_23_no_opening_without_the_order_in_a_witnessed_log() {
    let (world, records, list) = with_records(&[1]).await;
    let good = release(&world, approved(order(&list), &["ann", "bob"]));
    let with = |change: &dyn Fn(&mut OpenOrder)| {
        let mut order = good.clone();
        change(&mut order);
        order
    };
    let reason = async |order: OpenOrder| order_refused(&world, &order).await;
    let minutes = Duration::from_secs(60);
    let log = &world.log;
    let at = good.log_index + 1;
    let old = with(&|o| o.checkpoint = log.checkpoint_at(at, 2, 6 * minutes));
    assert_eq!(reason(old).await, "CHECKPOINT_UNWITNESSED");
    let alone = with(&|o| o.checkpoint = log.checkpoint_at(at, 1, Duration::ZERO));
    assert_eq!(reason(alone).await, "CHECKPOINT_UNWITNESSED");
    let unsigned = with(&|o| o.checkpoint = b"no note".to_vec());
    assert_eq!(reason(unsigned).await, "CHECKPOINT_REFUSED");
    let missing = with(&|o| o.path.clear());
    assert_eq!(reason(missing).await, "ORDER_NOT_IN_LOG");
    let elsewhere = with(&|o| o.log_index -= 1);
    assert_eq!(reason(elsewhere).await, "ORDER_NOT_IN_LOG");
    // Before it was logged.
    let size = good.log_index;
    let before = with(&|o| o.checkpoint = log.checkpoint_at(size, 2, Duration::ZERO));
    assert_eq!(reason(before).await, "ORDER_NOT_IN_LOG");
    // Somebody else's leaf, truly in the log.
    let leaf = prost::Message::encode_to_vec(&log.entries()[0]);
    let wrong = placed(&world, good.released.clone().unwrap(), 0, leaf);
    assert_eq!(reason(wrong).await, "ORDER_LEAF");
    // This very order, in clear and sealed, logged by another than the archive: nobody who watches the log counts it.
    let mut hidden = order(&list);
    hidden.seal_until = hidden.expiry;
    for released in [
        good.released.clone().unwrap(),
        approved(hidden, &["ann", "bob"]),
    ] {
        let (index, leaf) = log.add("relay", order_event(&released));
        let wrong = placed(&world, released, index, leaf);
        assert_eq!(reason(wrong).await, "ORDER_LEAF");
    }
    // The order was never logged, but log and witnesses sign a tree that has it.
    let unlogged = approved(order(&list), &["ann", "cleo"]);
    let entry = pb::LogEntry {
        tenant: "acme".into(),
        recorded_by: "archive".into(),
        at: now().get(),
        event: Some(order_event(&unlogged)),
    };
    let leaf = prost::Message::encode_to_vec(&entry);
    let mut tree = Tree::new();
    tree.append_entries(&[&leaf]);
    let forked = OpenOrder {
        released: Some(unlogged),
        log_index: 0,
        leaf,
        path: vec![],
        checkpoint: cosigned(tree.head(), 2, now()),
    };
    assert_eq!(reason(forked).await, "LOG_FORKED");
    assert_eq!(
        record_refused(&world, &good, opening(&list, &records[0])).await,
        ""
    );
}

/// A coordinator that logs what nobody approved: each node looks at the signatures by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_25_a_lying_coordinator_gets_nothing_from_any_node() {
    let (world, records, list) = with_records(&[1]).await;
    let good = approved(order(&list), &["ann", "bob"]);
    let signed = Signed::<pb::Order>::decode(good.order.clone().unwrap()).unwrap();
    let forge = |person: &str, key: u8| {
        Signed::sign(approval(&signed, person), &[(person, &signer(key))]).into_raw()
    };
    let mut forged = good.clone();
    forged.approvals[1] = forge("bob", 200);
    let mut stranger = good.clone();
    stranger.approvals[1] = forge("zoe", 200);
    let mut unsigned = good.clone();
    unsigned.approvals[1].signatures.clear();
    let mut none = good.clone();
    none.approvals.clear();
    let mut by_coordinator = good.clone();
    let own = sign_order(order(&list)).message().clone();
    by_coordinator.order = Some(Signed::sign(own, &[("rita", &signer(200))]).into_raw());
    for (released, expected) in [
        (forged, "APPROVAL_SIGNATURE"),
        (stranger, "APPROVAL_SIGNATURE"),
        (unsigned, "APPROVAL_SIGNATURE"),
        (none, "APPROVALS_TOO_FEW"),
        (by_coordinator, "ORDER_SIGNATURE"),
    ] {
        let order = release(&world, released);
        for at in 0..3 {
            let asked = vec![opening(&list, &records[0])];
            let error = open(&world, at, &order, asked).await.unwrap_err();
            assert_eq!(error.reason.as_deref(), Some(expected), "node {at}");
        }
    }
}

/// A reader's key that the roster does not have, or has for somebody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_33_answers_are_sealed_to_readers_of_the_roster_only() {
    let (mut world, records, list) = with_records(&[1]).await;
    let case = |change: fn(&mut pb::Order)| {
        let mut order = order(&list);
        change(&mut order);
        approved(order, &["ann", "bob"])
    };
    let own = case(|o| {
        let key = greffe_envelope::opening::HybridSecretKey::from_seed(&[99; 32]);
        o.reader_key = key.public_key();
    });
    assert_eq!(refused(&world, own).await, "ORDER_READER_KEY");
    let another = case(|o| o.reader_key = reader_key("gus").public_key());
    assert_eq!(refused(&world, another).await, "ORDER_READER_KEY");
    let unknown = case(|o| o.reader = "zoe".into());
    assert_eq!(refused(&world, unknown).await, "ORDER_READER");
    let no_reader = case(|o| {
        o.reader = "bob".into();
    });
    assert_eq!(refused(&world, no_reader).await, "ORDER_READER");
    // Rotated: the old key is no longer the roster's, also for an order released before.
    let good = release(&world, approved(order(&list), &["ann", "bob"]));
    assert_eq!(
        record_refused(&world, &good, opening(&list, &records[0])).await,
        ""
    );
    world
        .change_bundle(|bundle| bundle.roster[4].reader_key = reader_key("gus").public_key())
        .await;
    assert_eq!(order_refused(&world, &good).await, "ORDER_READER_KEY");
}

/// The approvers saw a list: its root and count are what is enforced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_67_records_that_the_approvers_did_not_see_stay_closed() {
    let (world, journal) = World::with_key().await;
    let records = archived(&world, &journal, &[1, 2, 3]);
    let seen = list(&records[..2]);
    let good = release(&world, approved(order(&seen), &["ann", "bob"]));
    // A record outside of the list, at an index inside and outside, with a path of a larger tree.
    let all = list(&records);
    let outside = opening(&all, &records[2]);
    assert_eq!(
        record_refused(&world, &good, outside.clone()).await,
        "RECORD_NOT_IN_ORDER"
    );
    for index in 0..4 {
        let mut moved = outside.clone();
        moved.index = index;
        moved.path = opening(&seen, &records[0]).path;
        assert_eq!(
            record_refused(&world, &good, moved).await,
            "RECORD_NOT_IN_ORDER"
        );
    }
    // A root that hides three records behind a count of two.
    let mut lying = order(&all);
    lying.records_count = 2;
    let lying = release(&world, approved(lying, &["ann", "bob"]));
    for record in &records {
        let reason = record_refused(&world, &lying, opening(&all, record)).await;
        assert_eq!(reason, "RECORD_NOT_IN_ORDER");
    }
    // Inside, each opens; at an index that is another's it does not.
    for record in &records[..2] {
        let mut swapped = opening(&seen, record);
        swapped.index ^= 1;
        assert_eq!(
            record_refused(&world, &good, swapped).await,
            "RECORD_NOT_IN_ORDER"
        );
        assert_eq!(
            record_refused(&world, &good, opening(&seen, record)).await,
            ""
        );
    }
}
