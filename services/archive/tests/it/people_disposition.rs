//! Disposition: not early, not while a hold stands, never half.

use greffe_service_kit::db::sql;
use std::path::Path;

use greffe_api::archive as api;
use greffe_archive::app::App;
use greffe_archive::jobs::disposition;
use greffe_archive::store::dispositions::{self, New, Step};
use greffe_archive::store::{outbox, wraps};
use greffe_envelope::pb::{self, log_entry::Event};
use greffe_service_kit::clock::Clock as _;
use greffe_types::{Digest, Millis};
use prost::Message as _;
use tonic::Code;

use crate::people::{order, query, signed_act};
use crate::support::{World, step_of};
use crate::world::{NOW, Talk, attachment_ciphertext};

/// When the retention of a message archived at [`NOW`] has run, and a little more.
const LATER: Millis = Millis::new(NOW.get() + 3 * 366 * 24 * 3_600_000);

const PEOPLE: [&str; 3] = ["gus", "eve", "dan"];

fn dispose(record: &Digest) -> api::DisposeAct {
    api::DisposeAct {
        record: record.to_vec(),
        reason: "its time has come".into(),
    }
}

fn digest(receipt: &pb::Receipt) -> Digest {
    Digest::try_from(receipt.entry_digest.as_slice()).unwrap()
}

async fn content_of(app: &App, record: u64) -> Digest {
    let name: Vec<u8> = sql::query_scalar("SELECT content FROM records WHERE record = $1")
        .bind(record as i64)
        .fetch_one(app.db.read())
        .await
        .unwrap();
    Digest::try_from(name.as_slice()).unwrap()
}

/// Whether the data folder or a database holds some bytes.
fn found_anywhere(world: &World, wanted: &[u8]) -> bool {
    found_in(&world.data(), wanted)
        || world
            .stores
            .iter()
            .flatten()
            .any(|store| store.holds(wanted))
}

/// Whether any file of a folder holds some bytes.
fn found_in(folder: &Path, wanted: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            return found_in(&entry.path(), wanted);
        }
        let bytes = std::fs::read(entry.path()).unwrap();
        bytes.windows(wanted.len()).any(|window| window == wanted)
    })
}

fn tombstones(world: &World) -> Vec<pb::Tombstone> {
    let entries = world.log.entries().into_iter();
    entries
        .filter_map(|entry| match entry.event {
            Some(Event::Tombstone(tombstone)) => Some(tombstone),
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_disposed_of_is_unreadable_and_its_neighbour_opens() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let gone = digest(&*archive.archive(talk.message("gone")).await);
    let kept = digest(&*archive.archive(talk.message("kept")).await);
    let app = archive.app.clone();
    let wrap = wraps::load(app.wraps.read(), &app.scope, &gone)
        .await
        .unwrap()[0]
        .sealed
        .clone();
    let content = content_of(&app, 1).await;
    assert!(found_anywhere(&world, &wrap));

    let act = dispose(&gone);
    for (people, nonce, reason) in [
        (&PEOPLE[..], 1, "RETENTION_NOT_OVER"),
        (&PEOPLE[..2], 11, "RETENTION_NOT_OVER"),
    ] {
        let refused = archive
            .act(&world, people, "record.dispose", &act, nonce)
            .await;
        assert_eq!(refused.unwrap_err().1, reason);
    }
    world.clock.set(LATER);
    for (people, nonce, reason) in [
        (&["gus", "eve"][..], 21, "APPROVALS_TOO_FEW"),
        (&["eve", "eve", "dan"], 31, "APPROVALS_SELF"),
        (&["gus", "dan", "dan"], 41, "APPROVALS_SAME_PERSON"),
        (&["gus", "eve", "hal"], 51, "APPROVALS_NOT_AN_APPROVER"),
        (&["hal", "eve", "dan"], 61, "CALLER_NOT_ALLOWED"),
    ] {
        let refused = archive
            .act(&world, people, "record.dispose", &act, nonce)
            .await;
        assert_eq!(
            refused.unwrap_err(),
            (Code::PermissionDenied, reason.into())
        );
    }
    assert_eq!(step_of(&app, 1).await, 0);

    let index = archive
        .act(&world, &PEOPLE, "record.dispose", &act, 71)
        .await
        .unwrap();
    let tombstone = tombstones(&world).pop().unwrap();
    assert_eq!(tombstone.envelope, gone.to_vec());
    assert_eq!(tombstone.acts.len(), 3);
    let life = app.config.wrap_backup_life();
    assert_eq!(tombstone.backups_expire_at, LATER.plus(life).get());
    let logged = world.log.entries()[index as usize].event.clone();
    assert_eq!(logged, Some(Event::Tombstone(tombstone)));

    assert_eq!(step_of(&app, 1).await, Step::Gone as i64);
    let left = wraps::load(app.wraps.read(), &app.scope, &gone)
        .await
        .unwrap();
    assert!(left.is_empty());
    assert!(!app.objects.contains(&content).await.unwrap());
    assert!(
        !found_anywhere(&world, &wrap),
        "a trace of the wrap is left"
    );
    let summaries = archive.search(&world, query(|_| ())).await;
    assert!(summaries[0].disposed && !summaries[1].disposed);

    // A retry is answered as before; another attempt finds it gone.
    let again = archive
        .act(&world, &PEOPLE, "record.dispose", &act, 71)
        .await;
    assert_eq!(again, Ok(index));
    let refused = archive
        .act(&world, &PEOPLE, "record.dispose", &act, 81)
        .await;
    assert_eq!(refused.unwrap_err().1, "RECORD_DISPOSED");

    // The neighbour is released and read; an order over what is gone is refused.
    archive.open_matter(&world, 1).await;
    let (over_gone, list) = order(&world, &[gone]);
    let refused = archive.file(&world, &over_gone, list).await.unwrap_err();
    assert_eq!(refused.1, "ORDER_RECORD_UNKNOWN");
    let left = wraps::load(app.wraps.read(), &app.scope, &kept)
        .await
        .unwrap();
    assert_eq!(left.len(), 1);
    assert!(
        app.objects
            .contains(&content_of(&app, 2).await)
            .await
            .unwrap()
    );
    drop(app);
    archive.stop().await;
}

/// Attack 47: our clock ten years ahead, or behind, alone disposes of nothing.
#[tokio::test(flavor = "multi_thread")]
async fn attack_47_one_clock_destroys_nothing() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let record = digest(&*archive.archive(talk.message("1")).await);
    world.log.witness_at(Some(NOW));
    for (nonce, clock) in [
        (1, Millis::new(NOW.get() + 10 * 366 * 24 * 3_600_000)),
        (11, LATER),
        (21, Millis::new(NOW.get() + 700_000)),
    ] {
        world.clock.set(clock);
        let refused = archive
            .act(&world, &PEOPLE, "record.dispose", &dispose(&record), nonce)
            .await;
        assert_eq!(refused.unwrap_err().1, "CLOCK_DISAGREEMENT");
    }
    // Witnesses ahead of us do not help either.
    world.clock.set(NOW);
    world.log.witness_at(Some(LATER));
    let refused = archive
        .act(&world, &PEOPLE, "record.dispose", &dispose(&record), 31)
        .await;
    assert_eq!(refused.unwrap_err().1, "CLOCK_DISAGREEMENT");
    assert_eq!(step_of(&archive.app, 1).await, 0);
    archive.stop().await;
}

/// Attack 48: a hold races a disposition; one of them is first, and the other one knows.
#[tokio::test(flavor = "multi_thread")]
async fn attack_48_a_hold_and_a_disposition_are_never_both() {
    const RECORDS: u8 = 12;
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let requests = (0..RECORDS).map(|n| talk.message(&n.to_string())).collect();
    let answers = archive.send(requests).await.unwrap();
    archive.open_matter(&world, 1).await;
    world.clock.set(LATER);
    let mut outcomes = [0, 0];
    for (answer, n) in answers.iter().zip(0..RECORDS) {
        let receipt = crate::support::receipt_of(answer);
        let record = u64::from(n) + 1;
        let hold = api::HoldAct {
            hold: vec![100 + n; 16],
            matter: vec![1; 16],
            // This record alone: numbers of a conversation are not asked for, its sender and class are the others' too.
            query: Some(query(|q| q.conversation = vec![1; 16])),
            reason: "litigation".into(),
        };
        let nonce = 10 * n;
        let act = dispose(&digest(&receipt));
        let placing = archive.act(&world, &["dan"], "hold.place", &hold, 200 + n);
        let disposing = archive.act(&world, &PEOPLE, "record.dispose", &act, 3 + nonce);
        let (placed, disposed) = tokio::join!(
            async {
                // Spread over what a disposition takes.
                tokio::time::sleep(std::time::Duration::from_millis(u64::from(n) * 3)).await;
                placing.await
            },
            disposing
        );
        placed.unwrap();
        let bound = archive.search(&world, query(|_| ())).await;
        let step = step_of(&archive.app, record).await;
        match disposed {
            Ok(_) => {
                assert_eq!(step, Step::Gone as i64);
                assert!(bound[usize::from(n)].disposed);
                outcomes[0] += 1;
            }
            Err(refused) => {
                assert_eq!(refused.1, "RECORD_HELD");
                assert_eq!(step, 0);
                outcomes[1] += 1;
            }
        }
        // The hold is released before the next round, and has cooled off.
        archive
            .act(&world, &["eve", "dan"], "hold.release", &hold, 130 + 4 * n)
            .await
            .unwrap();
        let cooled = world.clock.now().get() + 73 * 3_600_000;
        world.clock.set(Millis::new(cooled));
    }
    assert_eq!(outcomes[0] + outcomes[1], i32::from(RECORDS));
    assert_eq!(tombstones(&world).len(), outcomes[0] as usize);
    archive.stop().await;
}

/// Attack 57: of two holds that overlap one is released; the record stays until the other is, too.
#[tokio::test(flavor = "multi_thread")]
async fn attack_57_the_record_stays_while_one_hold_stands() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let record = digest(&*archive.archive(talk.message("1")).await);
    archive.open_matter(&world, 1).await;
    let hold = |h: u8, query| api::HoldAct {
        hold: vec![h; 16],
        matter: vec![1; 16],
        query: Some(query),
        reason: "litigation".into(),
    };
    let by_talk = hold(1, query(|q| q.conversation = vec![1; 16]));
    let by_custodian = hold(2, query(|q| q.participant = "bob".into()));
    for (hold, nonce) in [(&by_talk, 11), (&by_custodian, 12)] {
        archive
            .act(&world, &["dan"], "hold.place", hold, nonce)
            .await
            .unwrap();
    }
    world.clock.set(LATER);
    let cool = || {
        let later = world.clock.now().get() + 73 * 3_600_000;
        world.clock.set(Millis::new(later));
    };
    let act = dispose(&record);
    let held = async |nonce| {
        let refused = archive
            .act(&world, &PEOPLE, "record.dispose", &act, nonce)
            .await;
        assert_eq!(refused.unwrap_err().1, "RECORD_HELD");
    };
    held(21).await;
    archive
        .act(&world, &["dan", "eve"], "hold.release", &by_talk, 31)
        .await
        .unwrap();
    cool();
    held(41).await;
    archive
        .act(&world, &["dan", "eve"], "hold.release", &by_custodian, 51)
        .await
        .unwrap();
    // Released, and still cooling off.
    held(61).await;
    let early: Vec<_> = PEOPLE
        .iter()
        .zip(71..)
        .map(|(person, nonce)| signed_act(&world, person, "record.dispose", &act, nonce))
        .collect();
    cool();
    // What was signed before the last hold was gone approves nothing.
    let request = crate::people::by(&world, "gus", api::ActRequest { acts: early });
    let refused = archive.records().act(request).await.unwrap_err();
    assert_eq!(crate::support::refusal(refused).1, "APPROVALS_TOO_EARLY");
    archive
        .act(&world, &PEOPLE, "record.dispose", &act, 81)
        .await
        .unwrap();
    archive.stop().await;
}

/// However far a disposition had come when the process died, the next one brings it to its end, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_disposition_survives_a_crash_at_every_step() {
    for steps in 0..=3 {
        let world = World::new().await;
        let archive = world.start().await;
        let mut talk = Talk::new(1);
        let record = digest(&*archive.archive(talk.message("1")).await);
        world.clock.set(LATER);
        let app = archive.app.clone();
        let tombstone = pb::Tombstone {
            envelope: record.to_vec(),
            acts: vec![],
            backups_expire_at: LATER.get(),
        };
        let append = outbox::append_id("tombstone", &[record.as_bytes()]);
        let new = New {
            record: 1,
            decided_at: LATER.get(),
            backups_expire_at: LATER.get(),
            append: &append,
            tombstone: &tombstone.encode_to_vec(),
        };
        app.write("decide", async |conn| {
            assert!(dispositions::decide(conn, &app.scope, &new).await?);
            Ok(())
        })
        .await
        .unwrap();
        // Whoever leads looks for dispositions too, and may be ahead of us.
        while step_of(&app, 1).await < 1 + steps {
            disposition::step(&app, 1).await.unwrap();
        }
        let content = content_of(&app, 1).await;
        drop(app);
        archive.stop().await;

        let archive = world.start().await;
        while step_of(&archive.app, 1).await != Step::Gone as i64 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let app = &archive.app;
        assert!(!app.objects.contains(&content).await.unwrap());
        let left = wraps::load(app.wraps.read(), &app.scope, &record)
            .await
            .unwrap();
        assert!(left.is_empty());
        assert_eq!(tombstones(&world), [tombstone]);
        archive.stop().await;
    }
}

/// An attachment that another record names stays until that one goes, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_shared_attachment_goes_with_the_last_of_its_records() {
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
    let attach = |header: &mut pb::Header| {
        header.attachments = vec![pb::AttachmentRef {
            digest: name.to_vec(),
            size: bytes.len() as u64,
        }];
    };
    let mut records = Vec::new();
    for text in ["1", "2"] {
        let request = talk.message_with(text, attach);
        records.push(digest(&*archive.archive(request).await));
    }
    world.clock.set(LATER);
    for (record, nonce, stays) in [(&records[0], 1, true), (&records[1], 11, false)] {
        archive
            .act(&world, &PEOPLE, "record.dispose", &dispose(record), nonce)
            .await
            .unwrap();
        assert_eq!(archive.app.objects.contains(&name).await.unwrap(), stays);
    }
    archive.stop().await;
}
