//! Retirement of a journaling key: what root and archive have agreed on ends it at every node, and nothing less does.

use greffe_api::escrow::{AdvanceReshareRequest, GetStatusRequest, ProveShareRequest};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::ROOT;
use greffe_service_kit::errors::CallError;
use tonic::Status;

use crate::log::now;
use crate::records::{approved, archived, list, opening, order, record_refused, release};
use crate::reshare::destroyed;
use crate::world::{Journal, World, signer};

/// The archive's word on a key, as somebody signs it at some time.
fn unused(journal: &Journal, at: u64, key: u8) -> Signed<pb::KeyUnused> {
    let unused = pb::KeyUnused {
        tenant: "acme".into(),
        key_id: journal.key.key_id().to_vec(),
        key_record: journal.record.digest().to_vec(),
        at,
    };
    Signed::sign(unused, &[("archive", &signer(key))])
}

fn retirement(
    journal: &Journal,
    unused: Option<&Signed<pb::KeyUnused>>,
    key: u8,
) -> Signed<pb::KeyRetirement> {
    let retirement = pb::KeyRetirement {
        tenant: "acme".into(),
        key_id: journal.key.key_id().to_vec(),
        key_record: journal.record.digest().to_vec(),
        at: now().get(),
        unused: unused.map(|unused| unused.raw().clone()),
    };
    Signed::sign(retirement, &[(ROOT, &signer(key))])
}

fn reason<T>(outcome: Result<T, Status>) -> String {
    let Err(status) = outcome else {
        return String::new();
    };
    CallError::from(status).reason.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_retired_by_root_and_archive_and_never_while_it_is_disclosed() {
    let mut world = World::new().await;
    let end = now().get() + 3_600_000;
    let ending = pb::KeygenDescriptor {
        not_after: end,
        ..world.descriptor()
    };
    let old = world.make_key_as(ending, 1).await;
    let records = archived(&world, &old, &[1, 2]);
    world.caught_up().await;
    let list = list(&records);
    let order = release(&world, approved(order(&list), &["ann", "bob"]));
    assert_eq!(
        record_refused(&world, &order, opening(&list, &records[0])).await,
        ""
    );
    let good = unused(&old, end, 4);
    let whole = retirement(&old, Some(&good), 1);
    // It is what members are told of: nothing else has taken its place.
    world.publish(whole.raw().clone());
    world.caught_up().await;
    assert_eq!(
        record_refused(&world, &order, opening(&list, &records[1])).await,
        ""
    );
    let next = pb::KeygenDescriptor {
        session: vec![8; 16],
        period: "2027".into(),
        ..world.descriptor()
    };
    let new = world.make_key_as(next, 2).await;
    // The root alone, the archive alone, an archive that spoke before the period had ended, and one that is none.
    let early = unused(&old, end - 1, 4);
    let stranger = unused(&old, end, 200);
    let other = unused(&new, end, 4);
    for bad in [
        retirement(&old, None, 1),
        retirement(&old, Some(&good), 200),
        retirement(&old, Some(&early), 1),
        retirement(&old, Some(&stranger), 1),
        retirement(&old, Some(&other), 1),
    ] {
        world.publish(bad.into_raw());
    }
    world.caught_up().await;
    let again = release(&world, order.released.clone().unwrap());
    assert_eq!(
        record_refused(&world, &again, opening(&list, &records[0])).await,
        ""
    );
    world.publish(whole.raw().clone());
    world.caught_up().await;
    for at in 0..3 {
        destroyed(&world, at, &old.epoch.digest(), &whole.digest()).await;
        let status = world.client(at).get_status(GetStatusRequest {}).await;
        let keys = status.unwrap().into_inner().keys;
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0].key_id, new.key.key_id().as_bytes());
        assert!(keys[0].active);
    }
    let gone = release(&world, order.released.clone().unwrap());
    let refused =
        async |world: &World| record_refused(world, &gone, opening(&list, &records[0])).await;
    assert_eq!(refused(&world).await, "KEY_RETIRED");
    let question = ProveShareRequest {
        key_id: old.key.key_id().to_vec(),
        nonce: vec![1; 32],
    };
    let proof = world.client(0).prove_share(question).await;
    assert_eq!(reason(proof), "KEY_RETIRED");
    let reshare = pb::ReshareDescriptor {
        tenant: "acme".into(),
        session: vec![1; 16],
        key_id: old.key.key_id().to_vec(),
        previous: old.epoch.digest().to_vec(),
        threshold: 2,
        nodes: world.nodes.iter().map(|node| node.name.clone()).collect(),
        dealers: vec![1, 2, 3],
        expiry: now().get() + 600_000,
    };
    let reshare = AdvanceReshareRequest {
        descriptor: Some(Signed::sign(reshare, &[(ROOT, &signer(1))]).into_raw()),
        round: 0,
        messages: vec![],
    };
    let dealt = world.client(0).advance_reshare(reshare).await;
    assert_eq!(reason(dealt), "KEY_RETIRED");
    // It comes back by nothing: no disclosure of it counts, and a restart changes nothing.
    world.publish(world.disclosure(&old.record, 3).into_raw());
    world.stop(0).await;
    world.start(0).await;
    world.caught_up().await;
    assert_eq!(refused(&world).await, "KEY_RETIRED");
    // The other key goes on.
    let records = archived(&world, &new, &[3]);
    world.caught_up().await;
    let list = crate::records::list(&records);
    let mut wanted = crate::records::order(&list);
    wanted.id = vec![2; 16];
    let order = release(&world, approved(wanted, &["ann", "bob"]));
    assert_eq!(
        record_refused(&world, &order, opening(&list, &records[0])).await,
        ""
    );
}
