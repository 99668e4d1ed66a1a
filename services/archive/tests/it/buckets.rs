//! The archive on two buckets with Object Lock, at a real server: what is written, read, extended, repaired and disposed of.
//!
//! The server has its own clock, the archive of these tests one set by hand: so far back that locks run out within the test.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use greffe_api::archive as api;
use greffe_archive::app::App;
use greffe_archive::config::{BucketConfig, ObjectsConfig};
use greffe_archive::jobs::scrub::{self, Round};
use greffe_archive::jobs::{disposition, sweep};
use greffe_archive::objects::ObjectError;
use greffe_archive::store::dispositions::Step;
use greffe_envelope::label::sha256;
use greffe_envelope::pb;
use greffe_service_kit::boot::Boot;
use greffe_service_kit::clock::Clock as _;
use greffe_service_kit::config::Secret;
use greffe_service_kit::db::sql;
use greffe_testkit::ceph::s3::Client;
use greffe_testkit::ceph::s3::error::ProvideErrorMetadata as _;
use greffe_testkit::ceph::s3::primitives::{ByteStream, DateTime};
use greffe_testkit::ceph::s3::types::{ObjectLockRetention, ObjectLockRetentionMode};
use greffe_testkit::ceph::{Ceph, OWNER, REGION};
use greffe_testkit::proxy::{Mode, Proxy};
use greffe_types::{Digest, Millis};

use crate::people::{approval, by, order, query};
use crate::support::{Archive, World, refusal};
use crate::world::{NOW, Talk, attachment_ciphertext, pack};

const PEOPLE: [&str; 3] = ["gus", "eve", "dan"];

/// A world whose archive keeps its objects in two buckets, with their owner's credentials.
struct Buckets {
    world: World,
    client: Client,
    names: [String; 2],
}

impl Buckets {
    async fn new() -> Self {
        Self::at(|| NOW).await
    }

    /// At a time that is asked for once the servers run.
    async fn at(now: impl FnOnce() -> Millis) -> Self {
        let ceph = tokio::task::spawn_blocking(Ceph::shared).await.unwrap();
        let names = [ceph.locking_bucket().await, ceph.locking_bucket().await];
        let mut world = World::at(now()).await;
        let replica = ObjectsConfig::S3(bucket(&ceph, &names[1]));
        world.objects = Some(ObjectsConfig::S3(BucketConfig {
            replica: Some(Box::new(replica)),
            ..bucket(&ceph, &names[0])
        }));
        Self {
            world,
            client: ceph.client(OWNER),
            names,
        }
    }

    /// Version ids of an object in a bucket, the newest first.
    async fn versions(&self, bucket: &str, object: &Digest) -> Vec<String> {
        let listed = self
            .client
            .list_object_versions()
            .bucket(bucket)
            .prefix(key(object));
        let listed = listed.send().await.unwrap();
        let ids = listed.versions().iter().filter_map(|v| v.version_id());
        ids.map(str::to_owned).collect()
    }

    /// Puts other bytes over an object in a bucket.
    async fn overwrite(&self, bucket: &str, object: &Digest, bytes: Vec<u8>) {
        let put = self.client.put_object().bucket(bucket).key(key(object));
        put.body(ByteStream::from(bytes)).send().await.unwrap();
    }
}

fn bucket(ceph: &Ceph, name: &str) -> BucketConfig {
    BucketConfig {
        endpoint: ceph.endpoint(),
        region: REGION.into(),
        bucket: name.into(),
        prefix: "acme/".into(),
        access_key_id: Secret::new(OWNER.access_key),
        secret_access_key: Secret::new(OWNER.secret_key),
        path_style: true,
        ca: None,
        replica: None,
    }
}

fn key(object: &Digest) -> String {
    let name = object.to_string();
    format!("acme/objects/{}/{}", &name[..2], &name[2..])
}

fn real_now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Millis::new(u64::try_from(since.as_millis()).unwrap())
}

/// When a message has to be archived for its retention to end at `end`.
fn archived_for(end: Millis) -> Millis {
    let mut at = end.minus(Duration::from_secs(3 * 366 * 24 * 3600));
    // Retention counts in calendar years: the difference is a day at most, found in a few steps.
    for _ in 0..4 {
        let until = pack().retain_until("communication", at).unwrap();
        at = Millis::new((at.get() + end.get()).saturating_sub(until.get()));
    }
    at
}

async fn content_of(app: &App, record: i64) -> Digest {
    let name: Vec<u8> = sql::query_scalar("SELECT content FROM records WHERE record = $1")
        .bind(record)
        .fetch_one(app.db.read())
        .await
        .unwrap();
    Digest::try_from(name.as_slice()).unwrap()
}

async fn step_of(app: &App, record: i64) -> i64 {
    sql::query_scalar("SELECT disposal FROM records WHERE record = $1")
        .bind(record)
        .fetch_one(app.db.read())
        .await
        .unwrap()
}

async fn attachment(archive: &Archive, talk: &Talk, bytes: &[u8]) -> pb::AttachmentRef {
    let name = sha256(bytes);
    let start = api::AttachmentStart {
        digest: name.to_vec(),
        size: bytes.len() as u64,
        conversation: talk.id.to_vec(),
    };
    let parts: Vec<&[u8]> = bytes.chunks(1 << 20).collect();
    archive.put_attachment(start, &parts).await.unwrap();
    pb::AttachmentRef {
        digest: name.to_vec(),
        size: bytes.len() as u64,
    }
}

/// What a released order gives to its reader: ciphertexts of the records, and an attachment of the first.
async fn read(archive: &Archive, world: &World, records: &[Digest], name: &Digest) -> Vec<Vec<u8>> {
    archive.open_matter(world, 1).await;
    let (order, list) = order(world, records);
    archive.file(world, &order, list).await.unwrap();
    for person in ["bea", "cam"] {
        let approval = approval(world, &order, person);
        archive.approve(world, approval).await.unwrap();
    }
    let fetched = archive.fetch(world, "fay").await.unwrap();
    let mut read: Vec<_> = fetched.into_iter().map(|f| f.ciphertext).collect();
    let request = api::FetchAttachmentRequest {
        order: vec![9; 16],
        record: records[0].to_vec(),
        digest: name.to_vec(),
    };
    let mut stream = archive
        .orders()
        .fetch_attachment(by(world, "fay", request))
        .await
        .unwrap()
        .into_inner();
    let mut whole = Vec::new();
    while let Some(part) = stream.message().await.unwrap() {
        whole.extend(part.chunk);
    }
    read.push(whole);
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_46_records_live_and_end_in_two_buckets_and_no_clock_of_ours_ends_them_early() {
    // Locks run out this much later, by the server's clock.
    let mut end = Millis::new(0);
    let buckets = Buckets::at(|| {
        end = real_now().plus(Duration::from_secs(60));
        archived_for(end)
    })
    .await;
    let world = &buckets.world;
    let archive = world.start().await;
    let app: Arc<App> = archive.app.clone();
    let mut talk = Talk::new(1);
    let bytes = attachment_ciphertext(1);
    let name = sha256(&bytes);
    let reference = attachment(&archive, &talk, &bytes).await;
    assert_eq!(app.objects.locked_until(&name).await.unwrap(), None);
    let message = talk.message_with("with an attachment", |h| h.attachments.push(reference));
    let first = archive.archive(message).await;
    let second = archive.archive(talk.message("kept longer")).await;
    let digests = [&first, &second].map(|r| Digest::try_from(r.entry_digest.as_slice()).unwrap());
    let contents = [content_of(&app, 1).await, content_of(&app, 2).await];
    let until = Millis::new(first.retain_until);
    assert!(
        until >= end && until < end.plus(Duration::from_secs(20)),
        "{until} {end}"
    );
    for object in [&name, &contents[0], &contents[1]] {
        assert!(app.objects.locked_until(object).await.unwrap() >= Some(until));
        for bucket in &buckets.names {
            assert_eq!(buckets.versions(bucket, object).await.len(), 1);
        }
    }
    let ciphertexts = read(&archive, world, &digests, &name).await;
    for (ciphertext, content) in ciphertexts.iter().zip(&contents) {
        assert_eq!(sha256(ciphertext), *content);
    }
    assert_eq!(ciphertexts[2], bytes);

    // The second record is kept a year longer.
    let later = until.plus(Duration::from_secs(365 * 24 * 3600));
    let act = api::RetentionAct {
        records: vec![digests[1].to_vec()],
        retain_until: later.get(),
        reason: "policy".into(),
    };
    archive
        .act(world, &["eve"], "retention.extend", &act, 5)
        .await
        .unwrap();
    assert!(app.objects.locked_until(&contents[1]).await.unwrap() >= Some(later));

    // The archive's clock is set forward: wraps go, for the rows permit it; the buckets still refuse.
    world.clock.set(until.plus(Duration::from_secs(60)));
    let act = api::DisposeAct {
        record: digests[0].to_vec(),
        reason: "its time has come".into(),
    };
    assert!(real_now() < until, "the machine is too slow for this test");
    // Whether it is still waited for when the answer comes does not matter.
    let _early = archive
        .act(world, &PEOPLE, "record.dispose", &act, 11)
        .await;
    assert_eq!(step_of(&app, 1).await, Step::Logged as i64);
    for bucket in &buckets.names {
        for object in [&name, &contents[0]] {
            assert_eq!(buckets.versions(bucket, object).await.len(), 1);
        }
    }
    // Once the lock has run out by the server's clock the disposition goes on to its end, in both buckets.
    while real_now() < until.plus(Duration::from_secs(2)) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    disposition::sweep(&app).await.unwrap();
    assert_eq!(step_of(&app, 1).await, Step::Gone as i64);
    for bucket in &buckets.names {
        for object in [&name, &contents[0]] {
            assert!(buckets.versions(bucket, object).await.is_empty());
        }
        assert_eq!(buckets.versions(bucket, &contents[1]).await.len(), 1);
    }
    // The scrub knows what has to be there, and what not.
    let round = scrub::round(&app).await.unwrap();
    let expected = Round {
        checked: 1,
        ..Round::default()
    };
    assert_eq!(round, expected);
    drop(app);
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_46_50_what_the_buckets_credentials_do_to_records_is_refused_or_found_and_repaired()
{
    let buckets = Buckets::new().await;
    let world = &buckets.world;
    let archive = world.start().await;
    let app = archive.app.clone();
    let mut talk = Talk::new(1);
    let mut contents = Vec::new();
    for n in 1..=3 {
        archive.archive(talk.message(&n.to_string())).await;
        contents.push(content_of(&app, n).await);
    }
    let whole = app.object(contents[0]).await.unwrap();
    for bucket in &buckets.names {
        let version = &buckets.versions(bucket, &contents[0]).await[0];
        let delete = buckets.client.delete_object().bucket(bucket);
        let delete = delete.key(key(&contents[0])).version_id(version);
        let refused = delete.send().await.expect_err("a record was deleted");
        assert_eq!(refused.code(), Some("AccessDenied"));
        let soon = DateTime::from_secs(real_now().get() as i64 / 1000 + 5);
        let shorten = buckets.client.put_object_retention().bucket(bucket);
        let shorten = shorten
            .key(key(&contents[0]))
            .version_id(version)
            .retention(
                ObjectLockRetention::builder()
                    .mode(ObjectLockRetentionMode::Compliance)
                    .retain_until_date(soon)
                    .build(),
            );
        assert!(shorten.send().await.is_err(), "a lock was shortened");
    }
    // One byte of the first, a delete mark over the second in both, the third unlocked by a version of the same bytes.
    let mut rotted = whole.clone();
    rotted[7] ^= 1;
    buckets
        .overwrite(&buckets.names[0], &contents[0], rotted)
        .await;
    for bucket in &buckets.names {
        let mark = buckets.client.delete_object().bucket(bucket);
        mark.key(key(&contents[1])).send().await.unwrap();
    }
    let third = app.object(contents[2]).await.unwrap();
    buckets
        .overwrite(&buckets.names[1], &contents[2], third)
        .await;

    assert_eq!(app.object(contents[0]).await.unwrap(), whole);
    app.object(contents[1]).await.unwrap();
    let round = scrub::round(&app).await.unwrap();
    let (failed, repaired) = (3, 3);
    assert_eq!(
        round,
        Round {
            checked: 3,
            failed,
            repaired,
            held: 0
        }
    );
    let clean = scrub::round(&app).await.unwrap();
    assert_eq!((clean.checked, clean.failed), (3, 0));
    for content in &contents {
        assert!(app.objects.locked_until(content).await.unwrap().is_some());
    }
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_47_no_clock_of_ours_removes_an_object_early_or_shortens_its_lock() {
    const TEN_YEARS: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
    let buckets = Buckets::at(real_now).await;
    let world = &buckets.world;
    let archive = world.start().await;
    let app = archive.app.clone();
    let (mut talk, now) = (Talk::new(1), world.clock.now());
    world.log.witness_at(Some(now));
    let bytes = attachment_ciphertext(1);
    let name = sha256(&bytes);
    let reference = attachment(&archive, &talk, &bytes).await;
    let naming = |talk: &mut Talk, text: &str| {
        let reference = reference.clone();
        talk.message_with(text, |h| h.attachments.push(reference))
    };
    let first = archive.archive(naming(&mut talk, "1")).await;
    let objects = [name, content_of(&app, 1).await];
    let locks = async || {
        let mut locks = Vec::new();
        for object in &objects {
            locks.push(app.objects.locked_until(object).await.unwrap().unwrap());
            for bucket in &buckets.names {
                assert_eq!(buckets.versions(bucket, object).await.len(), 1);
            }
        }
        locks
    };
    let before = locks().await;
    assert!(
        before
            .iter()
            .all(|lock| *lock >= Millis::new(first.retain_until))
    );
    let act = api::DisposeAct {
        record: first.entry_digest.clone(),
        reason: "its time has come".into(),
    };
    // Backwards by less than clocks may differ: the attachment's lock stays at the later date.
    world.clock.set(now.minus(Duration::from_secs(240)));
    let second = archive.archive(naming(&mut talk, "2")).await;
    assert!(second.retain_until < first.retain_until);
    assert_eq!(locks().await, before);
    // And once more with the clock right again.
    world.clock.set(now.plus(Duration::from_secs(60)));
    archive.archive(naming(&mut talk, "3")).await;
    let after = locks().await;
    assert!(
        after[0] > before[0] && after[1] == before[1],
        "{after:?} {before:?}"
    );
    let before = after;
    // Ahead: no disposition, by the witnesses' clocks; the sweep and the scrub leave what is locked.
    world.clock.set(now.plus(TEN_YEARS));
    let refused = archive
        .act(world, &PEOPLE, "record.dispose", &act, 11)
        .await;
    assert_eq!(refused.unwrap_err().1, "CLOCK_DISAGREEMENT");
    sweep::remove_unnamed(&app).await.unwrap();
    assert_eq!(scrub::round(&app).await.unwrap().failed, 0);
    for object in objects {
        let refused = app.objects.remove(object, now).await.unwrap_err();
        assert!(matches!(refused, ObjectError::Locked { .. }), "{refused}");
    }
    assert_eq!(locks().await, before);
    // Behind: the log is newer, and nothing is archived under a date in the past.
    world.clock.set(now.minus(TEN_YEARS));
    let answers = archive.send(vec![naming(&mut talk, "4")]).await.unwrap();
    assert_eq!(answers[0].retry_reason, "CLOCK_BEHIND_LOG");
    assert_eq!(locks().await, before);
    drop(app);
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_51_nothing_is_acknowledged_while_a_put_fails_or_its_outcome_is_unknown() {
    let mut buckets = Buckets::new().await;
    let ceph = tokio::task::spawn_blocking(Ceph::shared).await.unwrap();
    let proxy = Proxy::start(&ceph.endpoint()).await;
    if let Some(ObjectsConfig::S3(primary)) = &mut buckets.world.objects {
        primary.endpoint = proxy.endpoint();
    }
    let world = &buckets.world;
    let archive = world.start().await;
    let app = archive.app.clone();
    let mut talk = Talk::new(1);
    for (mode, record) in [Mode::Away, Mode::CutAnswer, Mode::Forge]
        .into_iter()
        .zip(1..)
    {
        let message = talk.message(&format!("{mode:?}"));
        proxy.set(mode);
        let answers = archive.send(vec![message.clone()]).await.unwrap();
        assert_eq!(answers[0].retry_reason, "STORE_UNAVAILABLE", "{mode:?}");
        assert!(archive.search(world, query(|_| ())).await.len() < record);
        proxy.set(Mode::Pass);
        let receipt = archive.archive(message.clone()).await;
        assert_eq!(archive.archive(message).await, receipt, "{mode:?}");
        let content = content_of(&app, record as i64).await;
        assert!(app.objects.locked_until(&content).await.unwrap().is_some());
        app.object(content).await.unwrap();
    }
    let round = scrub::round(&app).await.unwrap();
    assert_eq!((round.checked, round.failed), (3, 0));
    drop(app);
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_gets_to_the_objects_it_binds_within_a_scrub() {
    let buckets = Buckets::new().await;
    let world = &buckets.world;
    let archive = world.start().await;
    let app = archive.app.clone();
    let (mut held, mut free) = (Talk::new(1), Talk::new(2));
    archive.archive(held.message("held")).await;
    archive.archive(free.message("free")).await;
    archive.open_matter(world, 1).await;
    let hold = api::HoldAct {
        hold: vec![3; 16],
        matter: vec![1; 16],
        query: Some(query(|q| q.conversation = vec![1; 16])),
        reason: "litigation".into(),
    };
    archive
        .act(world, &["ann"], "hold.place", &hold, 9)
        .await
        .unwrap();
    assert_eq!(scrub::round(&app).await.unwrap().held, 1);
    for bucket in &buckets.names {
        for (record, status) in [(1, Some("ON")), (2, None)] {
            let content = content_of(&app, record).await;
            let version = &buckets.versions(bucket, &content).await[0];
            let shown = buckets.client.get_object_legal_hold().bucket(bucket);
            let shown = shown.key(key(&content)).version_id(version).send().await;
            let shown = shown.ok().and_then(|shown| shown.legal_hold?.status);
            assert_eq!(shown.as_ref().map(|s| s.as_str()), status);
        }
    }
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_stream_into_buckets_complete_or_not_at_all_and_unnamed_ones_are_removed() {
    let buckets = Buckets::new().await;
    let world = &buckets.world;
    let archive = world.start().await;
    let talk = Talk::new(1);
    let bytes: Vec<u8> = (0..40_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let name = sha256(&bytes);
    let start = api::AttachmentStart {
        digest: name.to_vec(),
        size: bytes.len() as u64,
        conversation: talk.id.to_vec(),
    };
    let short: Vec<&[u8]> = bytes[1..].chunks(1 << 20).collect();
    let refused = archive.put_attachment(start, &short).await.unwrap_err();
    assert_eq!(refusal(refused).1, "ATTACHMENT_MISMATCH");
    assert!(!archive.app.objects.contains(&name).await.unwrap());
    attachment(&archive, &talk, &bytes).await;
    assert_eq!(archive.app.object(name).await.unwrap(), bytes);
    world.clock.advance(Duration::from_secs(25 * 3600));
    assert_eq!(sweep::remove_unnamed(&archive.app).await.unwrap(), 1);
    for bucket in &buckets.names {
        assert!(buckets.versions(bucket, &name).await.is_empty());
    }
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_does_not_start_on_a_bucket_that_does_not_lock() {
    let ceph = tokio::task::spawn_blocking(Ceph::shared).await.unwrap();
    let plain = ceph.bucket_name();
    let client = ceph.client(OWNER);
    client.create_bucket().bucket(&plain).send().await.unwrap();
    let mut world = World::new().await;
    world.objects = Some(ObjectsConfig::S3(bucket(&ceph, &plain)));
    let boot = Boot::start(&world.service_config()).unwrap();
    let refused = greffe_archive::open(&boot, world.archive_config()).await;
    let refused = refused.expect_err("it started");
    let causes = greffe_service_kit::errors::Causes(&refused).to_string();
    assert!(
        causes.contains(&plain) && causes.contains("versions"),
        "{causes}"
    );
}
