//! Matters, holds, retention: what people sign is in force and in the log when it is answered.

use greffe_api::archive as api;
use greffe_archive::error::ArchiveError;
use greffe_envelope::pb::log_entry::Event;
use greffe_service_kit::clock::Clock as _;
use greffe_service_kit::db::sql;
use greffe_types::{Digest, Millis};
use tonic::Code;

use crate::people::{by, query, signed_act};
use crate::support::{Archive, World, refusal};
use crate::world::Talk;

fn hold(h: u8, conversation: u8) -> api::HoldAct {
    api::HoldAct {
        hold: vec![h; 16],
        matter: vec![1; 16],
        query: Some(query(|q| q.conversation = vec![conversation; 16])),
        reason: "litigation".into(),
    }
}

async fn matters(world: &World, archive: &Archive) -> Vec<api::Matter> {
    let request = by(world, "ann", api::ListMattersRequest::default());
    let listed = archive.records().list_matters(request).await.unwrap();
    listed.into_inner().matters
}

#[tokio::test(flavor = "multi_thread")]
async fn a_matter_is_opened_once_and_closed_once() {
    let world = World::new().await;
    let archive = world.start().await;
    let act = api::MatterAct {
        matter: vec![1; 16],
        name: "Smith v. Jones".into(),
    };
    let index = archive
        .act(&world, &["ann"], "matter.create", &act, 1)
        .await
        .unwrap();
    let Some(Event::Statement(logged)) = world.log.entries()[index as usize].event.clone() else {
        panic!("not a statement");
    };
    assert_eq!(logged, signed_act(&world, "ann", "matter.create", &act, 1));
    // The very same act is a retry; its nonce under another act is not.
    let again = archive
        .act(&world, &["ann"], "matter.create", &act, 1)
        .await
        .unwrap();
    assert_eq!(again, index);
    let refused = async |people: &[&str], action: &str, act: &api::MatterAct, nonce: u8| {
        archive
            .act(&world, people, action, act, nonce)
            .await
            .unwrap_err()
            .1
    };
    let mut other = act.clone();
    other.matter = vec![2; 16];
    assert_eq!(
        refused(&["ann"], "matter.create", &other, 1).await,
        "ACT_NONCE_REUSED"
    );
    assert_eq!(
        refused(&["ann"], "matter.create", &act, 2).await,
        "MATTER_EXISTS"
    );
    assert_eq!(
        refused(&["ann", "dan"], "matter.create", &other, 3).await,
        "ACTS_COUNT"
    );
    assert_eq!(
        refused(&["gus"], "matter.close", &act, 5).await,
        "CALLER_NOT_ALLOWED"
    );
    assert_eq!(
        refused(&["dan"], "matter.open", &act, 6).await,
        "NO_ACCESS_RULE"
    );
    archive
        .act(&world, &["dan"], "matter.close", &act, 7)
        .await
        .unwrap();
    assert_eq!(
        refused(&["dan"], "matter.close", &act, 8).await,
        "MATTER_CLOSED"
    );
    let held = archive
        .act(&world, &["dan"], "hold.place", &hold(1, 1), 9)
        .await;
    assert_eq!(held.unwrap_err().1, "MATTER_CLOSED");
    let listed = matters(&world, &archive).await;
    assert_eq!(
        (listed.len(), listed[0].name.as_str()),
        (1, "Smith v. Jones")
    );
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_act_counts_for_its_signer_only_and_while_it_is_fresh() {
    let world = World::new().await;
    let archive = world.start().await;
    let act = api::MatterAct {
        matter: vec![1; 16],
        name: "m".into(),
    };
    let send = async |caller: &str, acts| {
        let request = by(&world, caller, api::ActRequest { acts });
        let answer = archive.records().act(request).await;
        refusal(answer.unwrap_err()).1
    };
    let good = signed_act(&world, "ann", "matter.create", &act, 1);
    assert_eq!(send("dan", vec![good.clone()]).await, "ACT_NOT_YOURS");
    assert_eq!(send("ann", vec![]).await, "ACTS_COUNT");
    let mut forged = good.clone();
    forged.signatures[0].signature[3] ^= 1;
    assert_eq!(send("ann", vec![forged]).await, "SIGNATURE_REFUSED");
    let other = signed_act(&world, "dan", "matter.close", &act, 2);
    assert_eq!(send("ann", vec![good.clone(), other]).await, "ACTS_DIFFER");
    world
        .clock
        .set(Millis::new(world.clock.now().get() - 400_000));
    let early = by(
        &world,
        "ann",
        api::ActRequest {
            acts: vec![good.clone()],
        },
    );
    let early = archive.records().act(early).await.unwrap_err();
    assert_eq!(refusal(early).1, "ACT_IN_THE_FUTURE");
    world
        .clock
        .set(Millis::new(world.clock.now().get() + 31 * 24 * 3_600_000));
    let late = by(&world, "ann", api::ActRequest { acts: vec![good] });
    let late = archive.records().act(late).await.unwrap_err();
    assert_eq!(refusal(late).1, "ACT_STALE");
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_add_up_and_are_released_by_two_people_after_a_while() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    archive.archive(talk.message("1")).await;
    archive.open_matter(&world, 1).await;
    for h in [1, 2] {
        archive
            .act(&world, &["dan"], "hold.place", &hold(h, 1), 10 + h)
            .await
            .unwrap();
    }
    // A record that comes later is bound too.
    archive.archive(talk.message("2")).await;
    let holds = async || {
        let found = archive.search(&world, query(|_| ())).await;
        found.into_iter().map(|r| r.holds).collect::<Vec<_>>()
    };
    assert_eq!(holds().await, [2, 2]);

    let release = hold(1, 1);
    for people in [&["dan"][..], &["eve"], &["dan", "ann"], &["eve", "hal"]] {
        let refused = archive
            .act(&world, people, "hold.release", &release, 20)
            .await
            .unwrap_err();
        assert_eq!(refused.0, Code::PermissionDenied, "{people:?}");
    }
    let mut wrong = release.clone();
    wrong.query = Some(query(|q| q.conversation = vec![2; 16]));
    let refused = archive
        .act(&world, &["dan", "eve"], "hold.release", &wrong, 30)
        .await
        .unwrap_err();
    assert_eq!(refused.1, "HOLD_DIFFERS");
    archive
        .act(&world, &["dan", "eve"], "hold.release", &release, 40)
        .await
        .unwrap();
    // It cools off for 72 hours; the other one goes on standing.
    assert_eq!(holds().await, [2, 2]);
    world
        .clock
        .set(Millis::new(world.clock.now().get() + 72 * 3_600_000));
    assert_eq!(holds().await, [1, 1]);
    let listed = matters(&world, &archive).await;
    let bound: Vec<u64> = listed[0].holds.iter().map(|h| h.records).collect();
    assert_eq!(bound, [0, 2]);
    archive.stop().await;
}

/// Attack 46: nobody shortens or deletes, not by any role, nor with the database's own handle.
#[tokio::test(flavor = "multi_thread")]
async fn attack_46_retention_only_grows() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let receipt = archive.archive(talk.message("1")).await;
    let digest = receipt.entry_digest.clone();
    let until = |to| api::RetentionAct {
        records: vec![digest.clone()],
        retain_until: to,
        reason: "policy".into(),
    };
    let everyone = ["eve", "dan"];
    for (to, nonce) in [
        (0, 1),
        (receipt.retain_until - 1, 3),
        (receipt.retain_until, 5),
    ] {
        let refused = archive
            .act(&world, &everyone, "retention.extend", &until(to), nonce)
            .await
            .unwrap_err();
        assert_eq!(refused.1, "RETENTION_SHORTENED");
    }
    let later = receipt.retain_until + 1;
    let refused = archive
        .act(&world, &["hal"], "retention.extend", &until(later), 7)
        .await
        .unwrap_err();
    assert_eq!(refused.1, "CALLER_NOT_ALLOWED");
    archive
        .act(&world, &["eve"], "retention.extend", &until(later), 8)
        .await
        .unwrap();
    let found = archive.search(&world, query(|_| ())).await;
    assert_eq!(found[0].retain_until, later);

    let app = &archive.app;
    let content: Vec<u8> = sql::query_scalar("SELECT content FROM records")
        .fetch_one(app.db.read())
        .await
        .unwrap();
    let content = Digest::try_from(content.as_slice()).unwrap();
    let lock = app.objects.locked_until(&content).await.unwrap();
    assert_eq!(lock, Some(Millis::new(later)));
    assert!(
        app.objects
            .remove(content, world.clock.now())
            .await
            .is_err()
    );
    archive.search(&world, query(|_| ())).await;
    for (sql, reason) in [
        ("DELETE FROM reads", "READ_DELETED"),
        ("UPDATE reads SET salt = subject", "READ_REWRITTEN"),
        ("UPDATE records SET retain_until = 0", "RETENTION_SHORTENED"),
        ("DELETE FROM records", "RECORD_DELETED"),
        ("UPDATE records SET digest = content", "RECORD_REWRITTEN"),
    ] {
        let outcome = app
            .write("attack", async |conn| {
                sql::query(sql).execute(conn).await?;
                Ok(())
            })
            .await;
        let Err(ArchiveError::Database(error)) = outcome else {
            panic!("{sql} went through");
        };
        assert!(error.to_string().contains(reason), "{error}");
    }
    archive.stop().await;
}
