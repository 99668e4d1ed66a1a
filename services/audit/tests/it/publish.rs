//! Publishing: by quorum only, under the witnesses of the day, as fresh as was asked for.

use std::time::Duration;

use greffe_api::audit as api;
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::Bundle;
use greffe_service_kit::checkpoint::verify;
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_service_kit::errors::CallError;
use greffe_tlog::Witnessed;

use crate::world::{World, append, checkpoint, fill, of, request, root, signer};

fn witnessed(note: &[u8], bundle: &Bundle) -> Option<Witnessed> {
    let verified = verify(note, bundle, SystemClock.now(), None).ok()?;
    Some(verified.1)
}

async fn within(world: &World, age_ms: u64) -> Result<Vec<u8>, CallError> {
    let request = api::GetCheckpointRequest {
        minimum_size: 0,
        maximum_age_ms: age_ms,
    };
    let answer = world.reader().get_checkpoint(request).await?;
    Ok(answer.into_inner().checkpoint)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_nothing_is_shown_and_with_one_everything() {
    let mut world = World::new().await;
    world.settings = "wait_ms = 700".into();
    let running = world.start().await;
    fill(&world, 0, 2).await;
    checkpoint(&world, 2).await.unwrap();
    for node in &world.nodes[1..] {
        node.down(true);
    }
    let answers = fill(&world, 2, 5).await;
    assert_eq!(answers[2].index, 4, "taken, and on disk");
    let waited = checkpoint(&world, 5).await.unwrap_err();
    assert_eq!(waited.reason.as_deref(), Some("NOT_COSIGNED"));
    let request = api::ListEntriesRequest { start: 0, count: 9 };
    let listed = world.reader().list_entries(request).await.unwrap();
    assert_eq!(listed.into_inner().leaves.len(), 2);
    let mut stream = world
        .reader()
        .follow(api::FollowRequest { start: 0 })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().leaves.len(), 2);
    let more = tokio::time::timeout(Duration::from_millis(300), stream.message()).await;
    assert!(more.is_err(), "nothing that no quorum has seen");

    world.nodes[2].down(false);
    let rest = stream.message().await.unwrap().unwrap();
    assert_eq!((rest.start, rest.leaves.len()), (2, 3));
    let note = checkpoint(&world, 5).await.unwrap();
    let by = witnessed(&note, &world.first_bundle()).unwrap();
    let mut by = by.by().to_vec();
    by.sort();
    assert_eq!(by, ["escrow-1", "escrow-3"]);

    // One that was out of order is caught up with from where it stands.
    world.nodes[1].down(false);
    fill(&world, 5, 6).await;
    checkpoint(&world, 6).await.unwrap();
    while world.nodes[1].size() < 6 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_as_fresh_as_was_asked_for() {
    let mut world = World::new().await;
    world.settings = "recosign_ms = 3600000\nwait_ms = 2000".into();
    let running = world.start().await;
    fill(&world, 0, 1).await;
    let first = checkpoint(&world, 1).await.unwrap();
    let bundle = world.first_bundle();
    let first_time = witnessed(&first, &bundle).unwrap().as_of();
    tokio::time::sleep(Duration::from_millis(3200)).await;
    let same = within(&world, 0).await.unwrap();
    assert_eq!(witnessed(&same, &bundle).unwrap().as_of(), first_time);
    let fresh = within(&world, 2500).await.unwrap();
    let fresh_time = witnessed(&fresh, &bundle).unwrap().as_of();
    assert!(fresh_time > first_time, "{fresh_time} after {first_time}");
    // Followers see it, without leaves.
    let mut stream = world
        .reader()
        .follow(api::FollowRequest { start: 1 })
        .await
        .unwrap()
        .into_inner();
    let again = stream.message().await.unwrap().unwrap();
    assert!(again.leaves.is_empty());
    assert!(witnessed(&again.checkpoint, &bundle).unwrap().as_of() >= fresh_time);
    // No witness, no fresh one.
    for node in &world.nodes {
        node.down(true);
    }
    tokio::time::sleep(Duration::from_millis(3200)).await;
    let refused = within(&world, 2500).await.unwrap_err();
    assert_eq!(refused.reason.as_deref(), Some("NOT_COSIGNED"));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_cosigns_again_by_itself() {
    let mut world = World::new().await;
    world.settings = "recosign_ms = 50".into();
    let running = world.start().await;
    fill(&world, 0, 1).await;
    checkpoint(&world, 1).await.unwrap();
    let asked = world.nodes[0].asked();
    while world.nodes[0].asked() < asked + 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.nodes[0].size(), 1);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn witnesses_change_with_the_bundle_that_the_log_brings() {
    let world = World::new().await;
    let running = world.start().await;
    fill(&world, 0, 1).await;
    checkpoint(&world, 1).await.unwrap();
    let first = world.first_bundle();
    // Not signed by the root, or by the root alone: logged, and nothing more.
    let alone = world.bundle(2, first.digest().to_vec(), &[3, 4]);
    let mut next = Signed::<pb::TrustBundle>::decode(alone.clone()).unwrap();
    next.add_signature("escrow-1", &signer(10));
    let next = next.into_raw();
    let mut forged = next.clone();
    forged.signatures[0].signature[3] ^= 1;
    for (id, refused) in [(10, forged), (11, alone)] {
        let requests = vec![request(id, of(Event::Statement(refused)))];
        let answers = append(&mut world.relay(), requests).await.unwrap();
        assert_eq!(answers[0].error, None);
    }
    checkpoint(&world, 3).await.unwrap();
    assert_eq!(world.nodes[3].asked(), 0);

    let requests = vec![request(12, of(Event::Statement(next.clone())))];
    let answers = append(&mut world.relay(), requests).await.unwrap();
    assert_eq!(answers[0].error, None);
    let note = checkpoint(&world, 4).await.unwrap();
    assert!(
        witnessed(&note, &first).is_some(),
        "whoever follows up to it knows the old witnesses"
    );
    let second = Bundle::verify(Signed::decode(next).unwrap(), &root()).unwrap();
    // The old witnesses alone would do for the first bundle, not for the second.
    world.nodes[0].down(true);
    world.nodes[1].down(true);
    fill(&world, 100, 101).await;
    let note = checkpoint(&world, 5).await.unwrap();
    assert!(witnessed(&note, &first).is_none());
    assert!(witnessed(&note, &second).is_some());
    running.stop().await.unwrap();

    // It is remembered.
    let running = world.start().await;
    fill(&world, 200, 201).await;
    let note = checkpoint(&world, 5).await.unwrap();
    assert!(witnessed(&note, &second).is_some());
    running.stop().await.unwrap();
}
