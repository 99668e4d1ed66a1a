//! What cannot be known while a month of records is detached, and is not guessed. On PostgreSQL, whatever the other tests run on.

use core::time::Duration;

use greffe_api::archive as api;
use greffe_archive::app::App;
use greffe_archive::jobs::disposition;
use greffe_archive::store::dispositions::{self, Step};
use greffe_envelope::label::sha256;
use greffe_envelope::pb;
use greffe_service_kit::db::sql;
use greffe_types::{Digest, Millis};
use tonic::Code;

use crate::months::{ENDING, get, psql};
use crate::people::{approval, by, order, query};
use crate::support::{Archive, World, refusal, step_of};
use crate::world::{Talk, attachment_ciphertext};

/// When the retention of what was archived around [`ENDING`] has run.
const LATER: Millis = Millis::new(ENDING.get() + 4 * 366 * DAY);
const DAY: u64 = 24 * 3_600_000;
const PEOPLE: [&str; 3] = ["gus", "eve", "dan"];

fn detach(world: &World) {
    psql(
        world,
        "ALTER TABLE records DETACH PARTITION records_2027_01 CONCURRENTLY",
    );
}

fn attach(world: &World) {
    psql(
        world,
        "DO $$ DECLARE m months; BEGIN SELECT * INTO m FROM months WHERE name = 'records_2027_01';
         EXECUTE format('ALTER TABLE records ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', m.name, m.begins, m.ends); END $$",
    );
}

fn month_detached() -> (Code, String) {
    (Code::FailedPrecondition, "MONTH_DETACHED".to_owned())
}

fn dispose(record: &[u8]) -> api::DisposeAct {
    api::DisposeAct {
        record: record.to_vec(),
        reason: "its time has come".into(),
    }
}

async fn content_of(app: &App, record: u64) -> Digest {
    let name: Vec<u8> = sql::query_scalar("SELECT content FROM records WHERE record = $1")
        .bind(i64::try_from(record).unwrap())
        .fetch_one(app.db.read())
        .await
        .unwrap();
    Digest::try_from(name.as_slice()).unwrap()
}

/// One message of January, and one of February; gives their digests.
async fn two_months(
    world: &World,
    archive: &Archive,
    talk: &mut Talk,
    change: impl Fn(&mut pb::Header),
) -> [Vec<u8>; 2] {
    let january = archive.archive(talk.message_with("1", &change)).await;
    world.clock.advance(Duration::from_secs(1));
    let february = archive.archive(talk.message_with("2", &change)).await;
    [&january, &february].map(|receipt| receipt.entry_digest.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_a_detached_month_may_need_wait_for_it() {
    let world = World::on_postgres(ENDING).await;
    let archive = world.start().await;
    let app = &archive.app;
    let mut talk = Talk::new(1);
    let bytes = attachment_ciphertext(3);
    let shared = sha256(&bytes);
    let start = api::AttachmentStart {
        digest: shared.to_vec(),
        size: bytes.len() as u64,
        conversation: talk.id.to_vec(),
    };
    archive.put_attachment(start, &[&bytes]).await.unwrap();
    let [january, february] = two_months(&world, &archive, &mut talk, |header| {
        header.attachments = vec![pb::AttachmentRef {
            digest: shared.to_vec(),
            size: bytes.len() as u64,
        }];
    })
    .await;
    let content = content_of(app, 2).await;
    world.clock.set(LATER);
    detach(&world);

    // Wraps and tombstone wait for nothing.
    archive
        .act(&world, &PEOPLE, "record.dispose", &dispose(&february), 1)
        .await
        .unwrap();
    assert_eq!(step_of(app, 2).await, Step::Logged as i64);
    let unneeded = app
        .write("test", async |conn| {
            let found = dispositions::get(conn, &app.scope, 2).await?.unwrap();
            Ok(dispositions::unneeded(conn, &app.scope, &found).await?)
        })
        .await
        .unwrap();
    assert_eq!(unneeded, [content], "the attachment is January's too");
    disposition::sweep(app).await.unwrap();
    disposition::carry_out(app, 2).await.unwrap();
    assert_eq!(step_of(app, 2).await, Step::Logged as i64);
    let contains = async |name| app.objects.contains(name).await.unwrap();
    assert!(contains(&content).await && contains(&shared).await);
    // Of the month itself nothing can be disposed of, and nobody takes it for done.
    let refused = archive
        .act(&world, &PEOPLE, "record.dispose", &dispose(&january), 11)
        .await;
    assert_eq!(refused.unwrap_err(), month_detached());

    attach(&world);
    disposition::carry_out(app, 2).await.unwrap();
    assert_eq!(step_of(app, 2).await, Step::Gone as i64);
    assert!(!contains(&content).await && contains(&shared).await);
    archive
        .act(&world, &PEOPLE, "record.dispose", &dispose(&january), 21)
        .await
        .unwrap();
    assert!(!contains(&shared).await);
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disposition_under_way_in_a_detached_month_is_not_taken_for_done() {
    let world = World::on_postgres(ENDING).await;
    let archive = world.start().await;
    let app = &archive.app;
    let mut talk = Talk::new(1);
    let [january, _] = two_months(&world, &archive, &mut talk, |_| ()).await;
    world.clock.set(LATER);
    let act = dispose(&january);
    archive
        .act(&world, &PEOPLE, "record.dispose", &act, 1)
        .await
        .unwrap();
    detach(&world);
    for outcome in [
        disposition::carry_out(app, 1).await,
        disposition::finished(app, 1).await,
    ] {
        assert!(format!("{outcome:?}").contains("Detached"), "{outcome:?}");
    }
    attach(&world);
    // The month comes back from a copy that was made before: it is disposed of once more, under the tombstone that it has.
    psql(&world, "UPDATE records SET disposal = 0 WHERE record = 1");
    let index = archive
        .act(&world, &PEOPLE, "record.dispose", &act, 11)
        .await
        .unwrap();
    let leaf = world.log.entries()[usize::try_from(index).unwrap()].clone();
    assert!(matches!(
        leaf.event,
        Some(pb::log_entry::Event::Tombstone(_))
    ));
    assert_eq!(step_of(app, 1).await, Step::Gone as i64);
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_not_approved_while_the_packs_of_its_records_are_unknown() {
    let world = World::on_postgres(ENDING).await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let digests = two_months(&world, &archive, &mut talk, |_| ()).await;
    archive.open_matter(&world, 1).await;
    let records = digests.map(|digest| Digest::try_from(digest.as_slice()).unwrap());
    let (order, list) = order(&world, &records);
    archive.file(&world, &order, list).await.unwrap();
    detach(&world);
    let bea = approval(&world, &order, "bea");
    let refused = archive.approve(&world, bea.clone()).await.unwrap_err();
    assert_eq!(refused, month_detached());
    attach(&world);
    archive.approve(&world, bea).await.unwrap();
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_a_clock_far_ahead_reaches_is_not_searched_without_its_month() {
    let world = World::on_postgres(ENDING).await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    // Archived in January, and sent in April by the sender's clock.
    let ahead = ENDING.get() + 90 * DAY;
    let [january, february] = two_months(&world, &archive, &mut talk, |h| h.sent_at = ahead).await;
    archive.open_matter(&world, 1).await;
    let hold = api::HoldAct {
        hold: vec![7; 16],
        matter: vec![1; 16],
        query: Some(query(|q| q.from = ENDING.get() + 60 * DAY)),
        reason: "litigation".into(),
    };
    archive
        .act(&world, &["dan"], "hold.place", &hold, 50)
        .await
        .unwrap();
    let search = async |from| {
        let request = api::SearchRecordsRequest {
            query: Some(query(|q| q.from = from)),
            ..Default::default()
        };
        let answer = archive
            .records()
            .search_records(by(&world, "ann", request))
            .await;
        answer
            .map(|found| found.into_inner().records.len())
            .map_err(refusal)
    };
    let matters = async || {
        let request = by(&world, "ann", api::ListMattersRequest::default());
        let answer = archive.records().list_matters(request).await;
        answer
            .map(|listed| listed.into_inner().matters[0].holds[0].records)
            .map_err(refusal)
    };
    assert_eq!(search(ENDING.get() + 60 * DAY).await, Ok(2));
    assert_eq!(matters().await, Ok(2));
    detach(&world);
    assert_eq!(search(ENDING.get() + 60 * DAY).await, Err(month_detached()));
    assert_eq!(matters().await, Err(month_detached()));
    assert_eq!(search(ahead + DAY).await, Ok(0));
    assert!(get(&archive, &world, &january).await.is_err());
    assert_eq!(get(&archive, &world, &february).await.unwrap(), 2);
    attach(&world);
    assert_eq!(search(ENDING.get() + 60 * DAY).await, Ok(2));
    assert_eq!(matters().await, Ok(2));
    archive.stop().await;
}
