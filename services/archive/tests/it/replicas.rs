//! Two archives at once on one PostgreSQL database, whatever the other tests run on.

use core::time::Duration;

use greffe_api::archive as api;
use greffe_archive::jobs::sweep;
use greffe_archive::store::dispositions::Step;
use greffe_archive::store::{attachments, keys, records, removals, wraps};
use greffe_envelope::label::sha256;
use greffe_envelope::pb::{self, log_entry::Event};
use greffe_service_kit::clock::Clock as _;
use greffe_service_kit::db::sql;
use greffe_testkit::store::Store;
use greffe_types::{Digest, Millis};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Executor as _};
use tonic::Code;

use crate::people::query;
use crate::support::{Archive, World, receipt_of, refusal, step_of};
use crate::world::{NOW, Talk, attachment_ciphertext};

const LATER: Millis = Millis::new(NOW.get() + 3 * 366 * 24 * 3_600_000);
const PEOPLE: [&str; 3] = ["gus", "eve", "dan"];

/// Two that run; the first leads.
async fn two() -> (World, Archive, Archive) {
    let world = World::on_postgres(NOW).await;
    let leader = world.start().await;
    while !leader.app.leads() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let other = world.start_another("archive-b").await;
    assert!(!other.app.leads());
    (world, leader, other)
}

/// What an archive answers in the end, as a relay that tries again sees it.
async fn answered(archive: &Archive, requests: &[api::IngestRequest]) -> Vec<api::IngestResponse> {
    for _ in 0..50 {
        let answers = archive.send(requests.to_vec()).await.unwrap();
        assert_eq!(answers.len(), requests.len());
        if answers.iter().all(|answer| answer.retry_reason.is_empty()) {
            return answers;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never archived");
}

/// Receipts in batches of the log.
fn logged_receipts(world: &World) -> u64 {
    let entries = world.log.entries().into_iter();
    entries
        .filter_map(|entry| match entry.event {
            Some(Event::Receipts(batch)) => Some(batch.count),
            _ => None,
        })
        .sum()
}

async fn until_logged(world: &World, count: u64) {
    for _ in 0..1000 {
        if logged_receipts(world) >= count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(logged_receipts(world), count);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_61_an_entry_handed_to_two_archives_at_once_has_one_effect() {
    const TALKS: u8 = 4;
    const EACH: u64 = 25;
    let (world, a, b) = two().await;
    let mut entries: Vec<Vec<api::IngestRequest>> = Vec::new();
    for n in 1..=TALKS {
        let mut talk = Talk::new(n);
        entries.push(
            (0..EACH)
                .map(|m| talk.message(&format!("{n} {m}")))
                .collect(),
        );
    }
    let handed = entries.iter().map(|entries| async {
        // Both have all of them, each in another rhythm.
        tokio::join!(
            async {
                let mut answers = Vec::new();
                for part in entries.chunks(3) {
                    answers.extend(answered(&a, part).await);
                }
                answers
            },
            async {
                let mut answers = Vec::new();
                for part in entries.chunks(7) {
                    answers.extend(answered(&b, part).await);
                }
                answers
            }
        )
    });
    for (at_a, at_b) in futures::future::join_all(handed).await {
        assert_eq!(at_a.len() as u64, EACH);
        assert_eq!(at_a, at_b, "two answers for one number");
        for (answer, sequence) in at_a.iter().zip(1..) {
            assert_eq!(receipt_of(answer).sequence, sequence);
        }
    }
    let total = u64::from(TALKS) * EACH;
    let (app, scope) = (&a.app, &a.app.scope);
    assert_eq!(keys::last(app.db.read(), scope).await.unwrap(), total);
    let rows: i64 = sql::query_scalar("SELECT COUNT(*) FROM records")
        .fetch_one(app.db.read())
        .await
        .unwrap();
    assert_eq!(rows as u64, total);
    until_logged(&world, total).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_61_a_crash_between_rows_and_answer_has_one_effect() {
    let (world, a, b) = two().await;
    let mut talk = Talk::new(1);
    a.archive(talk.message("1")).await;
    let entry = talk.message("2");
    let open = a.open().await.unwrap();
    open.requests.send(entry.clone()).await.unwrap();
    let (db, scope) = (b.app.db.clone(), b.app.scope.clone());
    while keys::last(db.read(), &scope).await.unwrap() < 2 {
        tokio::task::yield_now().await;
    }
    // The rows are there, and nobody has read the answer; the relay tries the other one.
    a.kill();
    drop(open);
    let stored = records::answered(db.read(), &scope, &talk.id, 2)
        .await
        .unwrap()
        .unwrap();
    let again = b.archive(entry).await;
    assert_eq!(*again.raw(), stored.receipt);
    b.archive(talk.message("3")).await;
    assert_eq!(keys::last(db.read(), &scope).await.unwrap(), 3);
    let digest = Digest::try_from(again.entry_digest.as_slice()).unwrap();
    let sealed = wraps::load(b.app.wraps.read(), &scope, &digest)
        .await
        .unwrap();
    assert_eq!(sealed.len(), 1);
    // Who was left takes the lease, and what is to be in the log gets there once.
    until_logged(&world, 3).await;
    assert!(b.app.leads());
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_succeeded_is_refused_by_every_archive() {
    let (_world, a, b) = two().await;
    let mut talk = Talk::new(1);
    talk.fence = 2;
    a.archive(talk.message("1")).await;
    talk.fence = 1;
    let refused = b.send(vec![talk.message("2")]).await.unwrap_err();
    assert_eq!(refusal(refused), (Code::Aborted, "FENCED".to_owned()));
    a.stop().await;
    b.stop().await;
}

/// Attack 48 at two archives: a hold at one races a disposition at the other; one of them is first, and the other one knows.
#[tokio::test(flavor = "multi_thread")]
async fn attack_48_a_hold_at_one_archive_and_a_disposition_at_another_are_never_both() {
    const RECORDS: u8 = 12;
    let (world, a, b) = two().await;
    let mut talk = Talk::new(1);
    let requests = (0..RECORDS).map(|n| talk.message(&n.to_string())).collect();
    let answers = a.send(requests).await.unwrap();
    a.open_matter(&world, 1).await;
    world.clock.set(LATER);
    let (mut disposed_of, mut kept) = (0, 0);
    for (answer, n) in answers.iter().zip(0..RECORDS) {
        let record = u64::from(n) + 1;
        let hold = api::HoldAct {
            hold: vec![100 + n; 16],
            matter: vec![1; 16],
            query: Some(query(|q| q.conversation = vec![1; 16])),
            reason: "litigation".into(),
        };
        let act = api::DisposeAct {
            record: receipt_of(answer).entry_digest.clone(),
            reason: "its time has come".into(),
        };
        let (holding, disposing) = if n % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let (placed, disposed) = tokio::join!(
            async {
                tokio::time::sleep(Duration::from_millis(u64::from(n) * 4)).await;
                holding
                    .act(&world, &["dan"], "hold.place", &hold, 200 + n)
                    .await
            },
            disposing.act(&world, &PEOPLE, "record.dispose", &act, 3 + 10 * n)
        );
        placed.unwrap();
        let step = step_of(&a.app, record).await;
        match disposed {
            Ok(_) => {
                assert_eq!(step, Step::Gone as i64);
                disposed_of += 1;
            }
            Err(refused) => {
                assert_eq!(refused.1, "RECORD_HELD");
                assert_eq!(step, Step::Live as i64);
                kept += 1;
            }
        }
        holding
            .act(&world, &["eve", "dan"], "hold.release", &hold, 130 + 4 * n)
            .await
            .unwrap();
        let cooled = world.clock.now().get() + 73 * 3_600_000;
        world.clock.set(Millis::new(cooled));
    }
    assert_eq!(disposed_of + kept, i32::from(RECORDS));
    let tombstones = world.log.entries().into_iter();
    let tombstones = tombstones.filter(|e| matches!(e.event, Some(Event::Tombstone(_))));
    assert_eq!(tombstones.count(), disposed_of as usize);
    a.stop().await;
    b.stop().await;
}

fn hold_of(talk: &Talk) -> api::HoldAct {
    api::HoldAct {
        hold: vec![100; 16],
        matter: vec![1; 16],
        query: Some(query(|q| q.conversation = talk.id.to_vec())),
        reason: "litigation".into(),
    }
}

fn disposal_of(record: &[u8]) -> api::DisposeAct {
    api::DisposeAct {
        record: record.to_vec(),
        reason: "its time has come".into(),
    }
}

/// One record whose time is over, and a matter.
async fn one_record(world: &World, archive: &Archive, talk: &mut Talk) -> api::DisposeAct {
    let receipt = archive.archive(talk.message("1")).await;
    archive.open_matter(world, 1).await;
    world.clock.set(LATER);
    disposal_of(&receipt.entry_digest)
}

/// Attack 48, the hold first: it comes when the other archive has everything to decide by but the time.
#[tokio::test(flavor = "multi_thread")]
async fn attack_48_a_hold_that_comes_while_another_archive_judges_keeps_the_record() {
    let (world, a, b) = two().await;
    let mut talk = Talk::new(1);
    let act = one_record(&world, &a, &mut talk).await;
    let hold = hold_of(&talk);
    world.log.hold_checkpoints(true);
    let (disposed, ()) = tokio::join!(b.act(&world, &PEOPLE, "record.dispose", &act, 3), async {
        world.log.until_asked().await;
        a.act(&world, &["dan"], "hold.place", &hold, 200)
            .await
            .unwrap();
        world.log.hold_checkpoints(false);
    });
    assert_eq!(disposed.unwrap_err().1, "RECORD_HELD");
    assert_eq!(step_of(&a.app, 1).await, Step::Live as i64);
    a.stop().await;
    b.stop().await;
}

/// Attack 48, the disposition first: it has looked at the holds and is not written down yet. A hold at the other archive waits until
/// it is, and binds nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn attack_48_a_hold_waits_for_the_disposition_that_another_archive_decides() {
    let (world, a, b) = two().await;
    let mut talk = Talk::new(1);
    let act = one_record(&world, &a, &mut talk).await;
    let hold = hold_of(&talk);
    let store = &world.stores.as_ref().unwrap()[0];
    let count = |sql: &str| store.psql(sql).trim().parse::<u64>().unwrap();
    let mut stopper = locked(store, "dispositions").await;
    let ((placed, disposed), ()) = tokio::join!(
        async {
            tokio::join!(
                async {
                    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'dispositions'::regclass";
                    while count(waiting) == 0 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    a.act(&world, &["dan"], "hold.place", &hold, 200).await
                },
                b.act(&world, &PEOPLE, "record.dispose", &act, 3)
            )
        },
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(
                count("SELECT count(*) FROM holds"),
                0,
                "a hold and a disposition at once"
            );
            stopper.execute("ROLLBACK").await.unwrap();
        }
    );
    placed.unwrap();
    disposed.unwrap();
    assert_eq!(step_of(&a.app, 1).await, Step::Gone as i64);
    a.stop().await;
    b.stop().await;
}

/// Keeps everybody from writing a table until what this gives rolls back.
async fn locked(store: &Store, table: &str) -> PgConnection {
    let options: PgConnectOptions = store.url().parse().unwrap();
    let mut stopper = options.connect().await.unwrap();
    let sql = format!("BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE");
    stopper.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    stopper
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_lead_waits_for_a_disposition_no_longer_than_it_says() {
    let (world, a, b) = two().await;
    let mut talk = Talk::new(1);
    let act = one_record(&world, &a, &mut talk).await;
    let mut stopper = locked(&world.stores.as_ref().unwrap()[1], "destroyed").await;
    let refused = b.act(&world, &PEOPLE, "record.dispose", &act, 3).await;
    assert_eq!(
        refused.unwrap_err(),
        (Code::Unavailable, "DISPOSITION_UNDER_WAY".to_owned())
    );
    assert_eq!(step_of(&a.app, 1).await, Step::Decided as i64);
    stopper.execute("ROLLBACK").await.unwrap();
    b.act(&world, &PEOPLE, "record.dispose", &act, 3)
        .await
        .unwrap();
    assert_eq!(step_of(&a.app, 1).await, Step::Gone as i64);
    a.stop().await;
    b.stop().await;
}

fn start_of(talk: &Talk, bytes: &[u8]) -> api::AttachmentStart {
    api::AttachmentStart {
        digest: sha256(bytes).to_vec(),
        size: bytes.len() as u64,
        conversation: talk.id.to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_names_an_attachment_at_one_archive_or_the_other_removes_it() {
    let (world, a, b) = two().await;
    let mut talk = Talk::new(1);
    for round in 1..=12_u8 {
        let bytes = attachment_ciphertext(round);
        let name = sha256(&bytes);
        b.put_attachment(start_of(&talk, &bytes), &[&bytes])
            .await
            .unwrap();
        world.clock.advance(Duration::from_secs(25 * 3600));
        let reference = pb::AttachmentRef {
            digest: name.to_vec(),
            size: bytes.len() as u64,
        };
        let message = talk.message_with("named", |h| h.attachments.push(reference));
        let (swept, answers) = tokio::join!(
            async {
                tokio::time::sleep(Duration::from_millis(u64::from(round) * 2)).await;
                sweep::remove_unnamed(&a.app).await.unwrap()
            },
            b.send(vec![message.clone()])
        );
        let answer = answers.unwrap().remove(0);
        if answer.retry_reason.is_empty() {
            assert_eq!(swept, 0, "a named attachment was removed");
        } else {
            assert_eq!(answer.retry_reason, "ATTACHMENT_MISSING");
            // The relay sends it again, and then the record comes to name it.
            b.put_attachment(start_of(&talk, &bytes), &[&bytes])
                .await
                .unwrap();
            answered(&b, &[message]).await;
        }
        assert_eq!(a.app.object(name).await.unwrap(), bytes);
        assert!(a.app.objects.locked_until(&name).await.unwrap().is_some());
        assert_eq!(sweep::remove_unnamed(&a.app).await.unwrap(), 0);
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_an_object_is_removed_nobody_names_or_uploads_it() {
    let (world, a, b) = two().await;
    let mut talk = Talk::new(1);
    let bytes = attachment_ciphertext(1);
    let name = sha256(&bytes);
    let start = start_of(&talk, &bytes);
    a.put_attachment(start.clone(), &[&bytes]).await.unwrap();
    world.clock.advance(Duration::from_secs(25 * 3600));
    // As far as the sweep of one gets before it is paused.
    let app = &a.app;
    let before = app.now().minus(Duration::from_secs(24 * 3600));
    let decided = app
        .write("test", async |conn| {
            Ok(attachments::abandon(conn, &app.scope, &name, before).await?)
        })
        .await
        .unwrap();
    assert!(decided);
    let reference = pb::AttachmentRef {
        digest: name.to_vec(),
        size: bytes.len() as u64,
    };
    let message = talk.message_with("named", |h| h.attachments.push(reference));
    let answers = b.send(vec![message.clone()]).await.unwrap();
    assert_eq!(answers[0].retry_reason, "ATTACHMENT_MISSING");
    let refused = b
        .put_attachment(start.clone(), &[&bytes])
        .await
        .unwrap_err();
    assert_eq!(
        refusal(refused),
        (Code::Unavailable, "STORE_UNAVAILABLE".to_owned())
    );
    // The next sweep goes on with it.
    assert_eq!(sweep::remove_unnamed(app).await.unwrap(), 1);
    app.write("test", async |conn| {
        assert!(!removals::any(conn, &app.scope).await?);
        Ok(())
    })
    .await
    .unwrap();
    b.put_attachment(start, &[&bytes]).await.unwrap();
    answered(&b, &[message]).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_lead_serves_people_and_takes_over() {
    let (world, a, b) = two().await;
    let mut talk = Talk::new(1);
    let receipt = b.archive(talk.message("1")).await;
    b.open_matter(&world, 1).await;
    let found = b.search(&world, query(|_| ())).await;
    assert_eq!(found.len(), 1);
    until_logged(&world, 1).await;
    a.stop().await;
    // Until it leads nothing of its is logged; then everything.
    let other = b.archive(talk.message("2")).await;
    assert!(other.sequence == 2 && receipt.sequence == 1);
    until_logged(&world, 2).await;
    assert!(b.app.leads());
    b.stop().await;
}
