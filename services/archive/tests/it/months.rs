//! Records in partitions by month, on PostgreSQL whatever the other tests run on.

use core::time::Duration;

use greffe_api::archive as api;
use greffe_archive::jobs::months as job;
use greffe_archive::store::{batches, months, reads};
use greffe_service_kit::db::sql;
use greffe_types::Millis;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use tonic::{Code, Status};

use crate::people::{by, query};
use crate::support::{Archive, World, receipt_of, refusal};
use crate::world::{Talk, tenant};

/// Half a second before February 2027.
pub const ENDING: Millis = Millis::new(1_801_439_999_500);

pub fn psql(world: &World, sql: &str) -> String {
    world.stores.as_ref().unwrap()[0]
        .psql(sql)
        .trim()
        .to_owned()
}

/// A connection of a role to the archive's database, as the archive makes its own.
async fn connection(url: &str, tenant: &str) -> PgConnection {
    let options: PgConnectOptions = url.parse().unwrap();
    let options = options.options([("greffe.tenant", tenant)]);
    options.connect().await.unwrap()
}

pub async fn get(archive: &Archive, world: &World, digest: &[u8]) -> Result<u64, Status> {
    let digest = digest.to_vec();
    let request = by(world, "ann", api::GetRecordRequest { digest });
    let answer = archive.records().get_record(request).await?;
    Ok(answer.into_inner().summary.unwrap().record)
}

/// Two records of January and two of February, of one conversation.
async fn over_the_end(world: &World, archive: &Archive, talk: &mut Talk) -> Vec<Vec<u8>> {
    let mut digests = Vec::new();
    for text in ["1", "2", "3", "4"] {
        if text == "3" {
            world.clock.advance(Duration::from_secs(1));
        }
        let receipt = archive.archive(talk.message(text)).await;
        digests.push(receipt.entry_digest.clone());
    }
    digests
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_ends_while_records_come() {
    let world = World::on_postgres(ENDING).await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let digests = over_the_end(&world, &archive, &mut talk).await;
    assert_eq!(
        psql(
            &world,
            "SELECT tableoid::regclass, min(record), max(record) FROM records GROUP BY 1 ORDER BY 1"
        ),
        "records_2027_01|1|2\nrecords_2027_02|3|4"
    );
    // What is unique is so over both months, and a retry finds its receipt in the one that has passed.
    let mut again = Talk::new(1);
    let first = again.message("1");
    assert_eq!(
        archive.archive(first.clone()).await.entry_digest,
        digests[0]
    );
    let repeated = talk.request(first.entry.unwrap());
    let answers = archive.send(vec![repeated]).await.unwrap();
    assert!(answers[0].void.is_some(), "{answers:?}");
    // Searches, single records and ranges go over both.
    let found = archive.search(&world, query(|_| ())).await;
    assert_eq!(
        found.iter().map(|r| r.record).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
    for (digest, record) in digests.iter().zip(1..) {
        assert_eq!(get(&archive, &world, digest).await.unwrap(), record);
    }
    let range = api::GetRangeRequest {
        conversation: talk.id.to_vec(),
        first: 1,
        last: 5,
    };
    archive
        .records()
        .get_range(by(&world, "ann", range))
        .await
        .unwrap();
    let app = &archive.app;
    while batches::receipt_proof(app.db.read(), &app.scope, 5)
        .await
        .unwrap()
        .is_none()
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    archive.stop().await;
}

/// The partitions that a statement looked into.
async fn touched(archive: &Archive, statement: &str, binds: &[i64]) -> Vec<String> {
    let sql = format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {statement}");
    let mut explain = sql::query(AssertSqlSafe(sql)).bind(tenant().as_str().to_owned());
    for bind in binds {
        explain = explain.bind(*bind);
    }
    let plan = archive
        .app
        .write("explain", async |conn| Ok(explain.fetch_all(conn).await?))
        .await
        .unwrap();
    let lines = plan
        .iter()
        .map(|row| row.get::<String>("QUERY PLAN").unwrap());
    let scanned = lines.filter(|line| {
        line.contains(" on records_2") && line.contains("Scan") && !line.contains("never executed")
    });
    scanned
        .map(|line| {
            line.split(" on ")
                .nth(1)
                .unwrap()
                .split(' ')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_looked_for_in_its_month_alone() {
    let world = World::on_postgres(ENDING).await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    over_the_end(&world, &archive, &mut talk).await;
    job::ahead(&archive.app, ENDING).await.unwrap();
    let made = months::all(archive.app.db.read()).await.unwrap();
    assert!(made.len() >= 5, "{made:?}");
    for (record, at, month) in [
        (2, ENDING.get(), "records_2027_01"),
        (3, ENDING.get() + 1000, "records_2027_02"),
    ] {
        let at = i64::try_from(at).unwrap();
        assert_eq!(
            touched(&archive, reads::BY_KEY, &[record, at]).await,
            [month]
        );
        let (far, fence) = (i64::MAX, 1);
        let moved = touched(&archive, reads::EXTEND, &[record, 0, far, fence]).await;
        assert_eq!(moved, [month]);
    }
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_role_of_the_service_removes_a_month_or_a_record_of_it() {
    let world = World::on_postgres(ENDING).await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    over_the_end(&world, &archive, &mut talk).await;
    archive.stop().await;
    let store = &world.stores.as_ref().unwrap()[0];
    let mut service = connection(&store.runtime_url(), "acme").await;
    let mut owner = connection(store.url(), "acme").await;
    for (sql, as_service, as_owner) in [
        (
            "DELETE FROM records_2027_01",
            "RECORD_DELETED",
            "RECORD_DELETED",
        ),
        (
            "UPDATE records_2027_01 SET retain_until = 0",
            "RETENTION_SHORTENED",
            "RETENTION_SHORTENED",
        ),
        (
            "UPDATE records_2027_01 SET archived_at = 0",
            "RECORD_REWRITTEN",
            "RECORD_REWRITTEN",
        ),
        (
            "UPDATE record_keys SET archived_at = 0",
            "RECORD_REWRITTEN",
            "RECORD_REWRITTEN",
        ),
        (
            "DELETE FROM record_keys",
            "RECORD_DELETED",
            "RECORD_DELETED",
        ),
        ("DELETE FROM months", "MONTH_FORGOTTEN", "MONTH_FORGOTTEN"),
        (
            "TRUNCATE records_2027_01",
            "permission denied",
            "RECORD_DELETED",
        ),
        ("TRUNCATE records", "permission denied", "RECORD_DELETED"),
        (
            "TRUNCATE record_keys",
            "permission denied",
            "RECORD_DELETED",
        ),
    ] {
        for (role, expected) in [(&mut service, as_service), (&mut owner, as_owner)] {
            let error = role.execute(sql).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{sql}: {error}");
        }
    }
    for sql in [
        "DROP TABLE records_2027_01",
        "ALTER TABLE records DETACH PARTITION records_2027_01",
        "ALTER TABLE records_2027_01 DISABLE TRIGGER ALL",
        "ALTER TABLE records_2027_01 NO FORCE ROW LEVEL SECURITY",
        "DROP FUNCTION ensure_months(BIGINT, BIGINT)",
    ] {
        let error = service.execute(sql).await.unwrap_err().to_string();
        assert!(error.contains("must be owner"), "{sql}: {error}");
    }
    // What makes months with its owner's rights is for those who write records.
    let stranger = format!("stranger_{}", psql(&world, "SELECT current_database()"));
    psql(&world, &format!("CREATE ROLE {stranger}"));
    for (role, may) in [
        (stranger.as_str(), "f"),
        (greffe_testkit::postgres::RUNTIME, "t"),
    ] {
        let sql = format!(
            "SELECT has_function_privilege('{role}', 'ensure_months(bigint, bigint)', 'EXECUTE')"
        );
        assert_eq!(psql(&world, &sql), may, "{role}");
    }
    psql(&world, &format!("DROP ROLE {stranger}"));
    // Row-level security goes with every partition, reached by its own name too, and binds the owner.
    for url in [store.url().to_owned(), store.runtime_url()] {
        for (tenant, seen) in [("acme", 2), ("other", 0)] {
            let mut role = connection(&url, tenant).await;
            let count: i64 = sqlx::query_scalar("SELECT count(*) FROM records_2027_01")
                .fetch_one(&mut role)
                .await
                .unwrap();
            assert_eq!(count, seen, "{tenant}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn months_are_made_ahead_and_no_clock_makes_thousands() {
    let world = World::on_postgres(ENDING).await;
    let archive = world.start().await;
    let app = &archive.app;
    assert_eq!(job::ahead(app, ENDING).await.unwrap(), 4);
    let mut talk = Talk::new(1);
    archive.archive(talk.message("1")).await;
    // A clock that jumps: the record that comes has its month made, and a few more.
    world.clock.advance(Duration::from_secs(400 * 24 * 3600));
    archive.archive(talk.message("2")).await;
    let names =
        "SELECT string_agg(name, ' ' ORDER BY name) FROM months WHERE name > 'records_2027_05'";
    assert_eq!(
        psql(&world, names),
        "records_2028_03 records_2028_04 records_2028_05 records_2028_06"
    );
    // A clock that runs away is refused before it has filled the catalogue.
    let mut year = 2030;
    let refused = loop {
        let at = format!("{year}-01-01T00:00:00Z")
            .parse::<jiff::Timestamp>()
            .unwrap();
        let at = Millis::new(u64::try_from(at.as_millisecond()).unwrap());
        match job::make(app, at).await {
            Ok(()) => year += 1,
            Err(error) => break error,
        }
    };
    let causes = greffe_service_kit::errors::Causes(&refused).to_string();
    assert!(causes.contains("MONTHS_REFUSED"), "{causes}");
    assert!((2038..2048).contains(&year), "{year}");
    assert!(
        psql(&world, "SELECT count(*) FROM months")
            .parse::<u32>()
            .unwrap()
            < 60
    );
    // Then nothing is archived, and everybody is told why.
    world.clock.set(Millis::new(2_600_000_000_000));
    let answers = archive.send(vec![talk.message("3")]).await.unwrap();
    assert_eq!(answers[0].retry_reason, "MONTH_MISSING");
    archive.stop().await;
    let archive = world.start_behind().await;
    let missing = "months: the months of records cannot be made or read".to_owned();
    while !archive
        .health
        .ready()
        .is_err_and(|why| why.contains(&missing))
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_whose_month_is_missing_is_ready_as_soon_as_it_leads() {
    // No month of that time was made with the tables.
    let world = World::on_postgres(Millis::new(2_600_000_000_000)).await;
    let archive = world.start_behind().await;
    let begun = std::time::Instant::now();
    while archive.health.ready().is_err() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            archive.health.ready()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_that_was_detached_is_missed_and_not_passed_over() {
    let world = World::on_postgres(ENDING).await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let digests = over_the_end(&world, &archive, &mut talk).await;
    psql(
        &world,
        "ALTER TABLE records DETACH PARTITION records_2027_01",
    );

    let expected = (Code::FailedPrecondition, "MONTH_DETACHED".to_owned());
    let refused = get(&archive, &world, &digests[0]).await.unwrap_err();
    assert_eq!(refusal(refused), expected);
    let search = |from| api::SearchRecordsRequest {
        query: Some(query(|q| q.from = from)),
        ..Default::default()
    };
    let refused = archive
        .records()
        .search_records(by(&world, "ann", search(0)))
        .await
        .unwrap_err();
    assert_eq!(refusal(refused), expected);
    // Everything else goes on, and nothing takes a number or a digest of that month twice.
    assert_eq!(get(&archive, &world, &digests[2]).await.unwrap(), 3);
    let late = ENDING.get() + 40 * 24 * 3_600_000;
    let found = archive.search(&world, query(|q| q.from = late)).await;
    assert!(found.is_empty());
    let first = Talk::new(1).message("1");
    let answers = archive
        .send(vec![talk.request(first.entry.unwrap())])
        .await
        .unwrap();
    assert!(answers[0].void.is_some(), "{answers:?}");
    receipt_of(&answers[0]);

    psql(
        &world,
        "ALTER TABLE records ATTACH PARTITION records_2027_01 FOR VALUES FROM (1798761600000) TO (1801440000000)",
    );
    assert_eq!(get(&archive, &world, &digests[0]).await.unwrap(), 1);
    assert_eq!(archive.search(&world, query(|_| ())).await.len(), 5);
    archive.stop().await;
    let store = &world.stores.as_ref().unwrap()[0];
    let mut service = connection(&store.runtime_url(), "acme").await;
    let error = service
        .execute("DELETE FROM records_2027_01")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("RECORD_DELETED"), "{error}");
}
