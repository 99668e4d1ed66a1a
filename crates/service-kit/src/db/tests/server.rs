//! On a real PostgreSQL server: transactions, group commit, fencing, a killed primary, servers that are not fit.

use core::time::Duration;
use std::sync::Arc;

use greffe_testkit::postgres::Postgres;
use greffe_types::TenantId;
use sqlx::migrate::{Migration, MigrationType};

use super::*;
use crate::db::lease::{FENCED, Lease};

/// Longer than any test runs.
pub(super) const LONG: Duration = Duration::from_secs(600);

pub(super) static POSTGRES: LazyLock<Migrator> = LazyLock::new(|| {
    let sql = "CREATE TABLE item (n BIGINT PRIMARY KEY);
         CREATE TABLE lease (tenant TEXT NOT NULL PRIMARY KEY, fence BIGINT NOT NULL, holder TEXT NOT NULL, expires BIGINT NOT NULL)";
    let mut migrator = Migrator::DEFAULT;
    migrator.migrations = vec![Migration::new(
        1,
        "init".into(),
        MigrationType::Simple,
        sqlx::SqlStr::from_static(sql),
        false,
    )]
    .into();
    migrator
});

pub(super) fn tenant() -> TenantId {
    TenantId::new("acme").unwrap()
}

async fn try_connect(url: &str) -> Result<Database, DbError> {
    let migrations = Migrations {
        sqlite: &MIGRATOR,
        postgres: Some(&POSTGRES),
    };
    let source = Source::postgres(url, &tenant(), "test").unwrap();
    Database::open(&source, &migrations, DbOptions::default()).await
}

async fn connect(url: &str) -> Database {
    try_connect(url).await.unwrap()
}

async fn leader(url: &str) -> (Database, Lease) {
    let db = connect(url).await;
    let lease = db.take_lease_for(&tenant(), "test", LONG).await.unwrap();
    (db, lease)
}

pub(super) async fn shared() -> (Arc<Postgres>, String) {
    let postgres = tokio::task::spawn_blocking(Postgres::shared).await.unwrap();
    let url = postgres.database().await;
    (postgres, url)
}

pub(super) async fn insert(db: &Database, n: i64) -> Result<(), ServiceError> {
    db.run_tx("insert", async |tx: &mut Connection| {
        sql::query("INSERT INTO item (n) VALUES ($1)")
            .bind(n)
            .execute(&mut *tx)
            .await?;
        Ok(())
    })
    .await
}

/// Time passes without the process, as after SIGSTOP: it renews nothing for a long while and still believes in its lease.
pub(super) fn run_out(postgres: &Postgres, url: &str) {
    let name = url.rsplit('/').next().unwrap();
    postgres.psql(name, "UPDATE lease SET expires = 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_whole_or_nothing_on_a_server() {
    let (_postgres, url) = shared().await;
    let (db, _) = leader(&url).await;
    insert(&db, 7).await.unwrap();
    let undone: Result<(), ServiceError> = db
        .run_tx("undo", async |tx: &mut Connection| {
            sql::query("INSERT INTO item (n) VALUES (8)")
                .execute(&mut *tx)
                .await?;
            Err(sqlx::Error::RowNotFound.into())
        })
        .await;
    assert_eq!(undone.unwrap_err().reason(), STORE_FAILED);
    // Dropped in the middle: nothing of it stays, and the next one is served.
    let dropped = db.run_tx("dropped", async |tx: &mut Connection| {
        sql::query("INSERT INTO item (n) VALUES (9)")
            .execute(&mut *tx)
            .await?;
        core::future::pending::<Result<(), sqlx::Error>>().await
    });
    let dropped = timeout(Duration::from_millis(300), dropped).await;
    assert!(dropped.is_err());
    insert(&db, 10).await.unwrap();
    assert_eq!(count(&db).await, 2);
    let write = sql::query("DELETE FROM item").execute(db.read()).await;
    assert!(write.is_err(), "readers only read");
    db.scrub_deleted().await.unwrap();
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_share_a_transaction_on_a_server() {
    let (_postgres, url) = shared().await;
    let (db, _) = leader(&url).await;
    let batch = Insert {
        largest: 0,
        settled: Vec::new(),
    };
    let group = GroupCommit::spawn("insert", db.clone(), batch, GroupLimits::default());
    let answers = futures::future::join_all((0..300).map(|n| group.submit(n))).await;
    for (n, answer) in (0..300).zip(&answers) {
        assert_eq!(answer.as_ref().unwrap().0, n);
    }
    assert_eq!(count(&db).await, 300);
    let largest = answers.iter().map(|a| a.as_ref().unwrap().1).max();
    assert!(largest.unwrap() > 1, "they were gathered");
    // One that fails fails alone, and the batches after it are taken.
    let twice = group.submit(0).await.unwrap_err();
    assert_eq!(ServiceError::from(twice).reason(), STORE_FAILED);
    group.submit(1_000).await.unwrap();
    assert_eq!(count(&db).await, 301);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_52_a_stale_leader_is_fenced() {
    let (postgres, url) = shared().await;
    let first = connect(&url).await;
    let lease = first.take_lease_for(&tenant(), "test", LONG).await.unwrap();
    insert(&first, 1).await.unwrap();
    // One transaction is under way when the process stops; its outcome is decided after the other has taken over.
    let (begun, go_on) = (tokio::sync::Notify::new(), tokio::sync::Notify::new());
    let held = first.run_tx("held", async |tx: &mut Connection| {
        sql::query("INSERT INTO item (n) VALUES (2)")
            .execute(&mut *tx)
            .await?;
        begun.notify_one();
        go_on.notified().await;
        sql::query("INSERT INTO item (n) VALUES (3)")
            .execute(&mut *tx)
            .await?;
        Ok::<_, ServiceError>(())
    });
    let taken_over = async {
        begun.notified().await;
        run_out(&postgres, &url);
        let second = leader(&url).await;
        // It waited for the first one's transaction, which the server has ended for being idle.
        go_on.notify_one();
        second
    };
    let (held, (second, newer)) = tokio::join!(held, taken_over);
    assert!(newer.fence() > lease.fence());
    assert!(held.is_err(), "begun before, refused all the same");
    for n in 10..20 {
        let refused = insert(&first, n).await.unwrap_err();
        assert_eq!(refused.reason(), FENCED);
        insert(&second, 100 + n).await.unwrap();
    }
    assert_eq!(count(&second).await, 11, "what was acknowledged, once");
    assert!(lease.lost().is_cancelled(), "the process has to end");
    first.close().await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_goes_to_the_next_at_once_when_it_is_given_up_or_nobody_holds_it() {
    let (_postgres, url) = shared().await;
    let first = connect(&url).await;
    first.take_lease_for(&tenant(), "1", LONG).await.unwrap();
    first.close().await.unwrap();
    // As a start that fails leaves it.
    let second = connect(&url).await;
    second.take_lease_for(&tenant(), "2", LONG).await.unwrap();
    drop(second);
    let third = connect(&url).await;
    let tenant = tenant();
    let taken = third.take_lease_for(&tenant, "3", LONG);
    let lease = timeout(Duration::from_secs(20), taken).await;
    assert_eq!(lease.unwrap().unwrap().fence(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_52_a_killed_primary_loses_nothing_acknowledged() {
    let postgres = tokio::task::spawn_blocking(Postgres::own).await.unwrap();
    let url = postgres.database().await;
    // Longer than the server is away: the lease itself survives.
    let mut db = connect(&url).await;
    let mut lease = db.take_lease_for(&tenant(), "test", LONG).await.unwrap();
    let (mut kept, mut unknown) = (Vec::new(), 0);
    for round in 0..3_i64 {
        let writing = tokio::spawn({
            let db = db.clone();
            async move {
                let mut kept = Vec::new();
                for n in 0..100_000 {
                    let n = round * 100_000 + n;
                    match insert(&db, n).await {
                        Ok(()) => kept.push(n),
                        Err(refused) => return (kept, refused),
                    }
                }
                panic!("the server was not killed");
            }
        });
        tokio::time::sleep(Duration::from_millis(150)).await;
        let server = postgres.clone();
        tokio::task::spawn_blocking(move || server.kill())
            .await
            .unwrap();
        let (acknowledged, refused) = writing.await.unwrap();
        assert_eq!(refused.code(), Code::Unavailable);
        kept.extend(acknowledged);
        // Meanwhile: come back, or, where a commit's answer was lost, not to this process.
        let meanwhile = insert(&db, -1).await.unwrap_err();
        assert_eq!(meanwhile.code(), Code::Unavailable);
        let lost = lease.lost().is_cancelled();
        assert_eq!(meanwhile.reason(), if lost { FENCED } else { STORE_BUSY });
        let server = postgres.clone();
        tokio::task::spawn_blocking(move || server.start())
            .await
            .unwrap();
        if lost {
            unknown += 1;
            drop(db);
            db = connect(&url).await;
            run_out(&postgres, &url);
            lease = db.take_lease_for(&tenant(), "test", LONG).await.unwrap();
        }
        // By itself, without a restart, when every outcome was known.
        insert(&db, -2 - round).await.unwrap();
        kept.push(-2 - round);
    }
    let found: Vec<i64> = sql::query_scalar("SELECT n FROM item")
        .fetch_all(db.read())
        .await
        .unwrap();
    assert!(kept.len() > 10, "it worked before it was killed");
    for n in &kept {
        assert!(found.contains(n), "{n} was acknowledged");
    }
    assert!(!found.contains(&-1));
    assert!(found.len() <= kept.len() + unknown, "what was not known");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_52_a_server_away_between_transactions_costs_no_restart() {
    let postgres = tokio::task::spawn_blocking(Postgres::own).await.unwrap();
    let url = postgres.database().await;
    let db = connect(&url).await;
    let lease = db.take_lease_for(&tenant(), "test", LONG).await.unwrap();
    insert(&db, 1).await.unwrap();
    let server = postgres.clone();
    tokio::task::spawn_blocking(move || server.kill())
        .await
        .unwrap();
    let reading = sql::query("SELECT 1").execute(db.read());
    let (away, reading) = tokio::join!(insert(&db, 2), reading);
    for away in [away.unwrap_err(), reading.unwrap_err().into()] {
        assert_eq!(
            (away.code(), away.reason()),
            (Code::Unavailable, STORE_BUSY)
        );
    }
    let server = postgres.clone();
    tokio::task::spawn_blocking(move || server.start())
        .await
        .unwrap();
    insert(&db, 2).await.unwrap();
    assert_eq!(count(&db).await, 2);
    assert!(!lease.lost().is_cancelled());
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_52_a_commit_whose_outcome_is_not_known_ends_the_lease() {
    let postgres = tokio::task::spawn_blocking(Postgres::own).await.unwrap();
    // What happens while the server commits, and whether the outcome is known.
    for (happens, known) in [
        ("RAISE EXCEPTION 'no'", true),
        ("PERFORM pg_terminate_backend(pg_backend_pid())", false),
        ("PERFORM pg_sleep(60)", false),
    ] {
        let url = postgres.database().await;
        let name = url.rsplit('/').next().unwrap().to_owned();
        let db = connect(&url).await;
        let lease = db.take_lease_for(&tenant(), "test", LONG).await.unwrap();
        let sql = format!(
            "CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
               BEGIN {happens}; RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER gone AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
               WHEN (NEW.n = 13) EXECUTE FUNCTION gone()"
        );
        postgres.psql(&name, &sql);
        insert(&db, 1).await.unwrap();
        let cutting = async {
            if happens.contains("sleep") {
                kill_sleeper(&postgres, &name).await;
            }
        };
        let (told, ()) = tokio::join!(insert(&db, 13), cutting);
        let told = told.unwrap_err();
        assert_eq!(lease.lost().is_cancelled(), !known, "{happens}: {told:?}");
        let after = insert(&db, 2).await;
        if known {
            assert_eq!(told.reason(), STORE_FAILED);
            after.unwrap();
            assert_eq!(count(&db).await, 2);
        } else {
            assert_eq!(told.code(), Code::Unavailable);
            assert_eq!(after.unwrap_err().reason(), FENCED);
        }
    }
}

/// Kills the session that sleeps, as the system would when memory runs out.
async fn kill_sleeper(postgres: &Postgres, name: &str) {
    let find = format!(
        "SELECT pid FROM pg_stat_activity WHERE datname = '{name}' AND wait_event = 'PgSleep'"
    );
    loop {
        if let Ok(pid) = postgres.psql("postgres", &find).trim().parse::<i32>() {
            let pid = nix::unistd::Pid::from_raw(pid);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn problem(url: &str) -> String {
    match try_connect(url).await {
        Err(DbError::Unfit { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_would_lose_or_show_something_are_refused() {
    let postgres = tokio::task::spawn_blocking(Postgres::own).await.unwrap();
    let url = postgres.database().await;
    let name = url.rsplit('/').next().unwrap();
    try_connect(&url).await.unwrap();
    for (set, reset, word) in [
        (
            format!("ALTER DATABASE {name} SET synchronous_commit = off"),
            format!("ALTER DATABASE {name} RESET synchronous_commit"),
            "synchronous_commit",
        ),
        (
            "ALTER ROLE greffe_owner SET synchronous_commit = local".to_owned(),
            "ALTER ROLE greffe_owner RESET synchronous_commit".to_owned(),
            "synchronous_commit",
        ),
        (
            "ALTER ROLE greffe_owner BYPASSRLS".to_owned(),
            "ALTER ROLE greffe_owner NOBYPASSRLS".to_owned(),
            "BYPASSRLS",
        ),
        (
            "ALTER ROLE greffe_owner SUPERUSER".to_owned(),
            "ALTER ROLE greffe_owner NOSUPERUSER".to_owned(),
            "SUPERUSER",
        ),
        (
            "ALTER SYSTEM SET full_page_writes = off; SELECT pg_reload_conf()".to_owned(),
            "ALTER SYSTEM RESET full_page_writes; SELECT pg_reload_conf()".to_owned(),
            "full_page_writes",
        ),
    ] {
        for statement in set.split("; ") {
            postgres.psql("postgres", statement);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let said = problem(&url).await;
        assert!(said.contains(word), "{set}: {said}");
        for statement in reset.split("; ") {
            postgres.psql("postgres", statement);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        try_connect(&url).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_53_a_standby_database_is_refused() {
    let postgres = tokio::task::spawn_blocking(Postgres::own).await.unwrap();
    let url = postgres.database().await;
    let (db, lease) = leader(&url).await;
    insert(&db, 1).await.unwrap();
    let standby = tokio::task::spawn_blocking({
        let postgres = postgres.clone();
        move || postgres.standby()
    })
    .await
    .unwrap();
    let there = standby.at(&url);
    let said = problem(&there).await;
    assert!(said.contains("standby"), "{said}");
    // And the copy has what was acknowledged, for whoever makes it the primary.
    let name = url.rsplit('/').next().unwrap();
    while standby.psql(name, "SELECT n FROM item") != "1\n" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!lease.lost().is_cancelled());
    db.close().await.unwrap();
}
