//! Several processes that write one PostgreSQL database at once: one transaction after the other, one leader, wake-ups.

use core::time::Duration;
use std::time::Instant;

use greffe_testkit::postgres::Postgres;
use tokio::sync::Notify;

use super::server::{LONG, POSTGRES, run_out, shared, tenant};
use super::*;
use crate::db::lease::FENCED;
use crate::db::wake::{Listener, Wake};

/// A process among others.
async fn replica(url: &str) -> Database {
    let migrations = Migrations {
        sqlite: &MIGRATOR,
        postgres: Some(&POSTGRES),
    };
    let source = Source::postgres(url, &tenant(), "test").unwrap();
    let options = DbOptions {
        writers: Writers::Any,
        ..DbOptions::default()
    };
    Database::open(&source, &migrations, options).await.unwrap()
}

/// Reads what the last one wrote and writes one more, as whoever gives dense numbers does.
async fn add_one(db: &Database) -> Result<i64, ServiceError> {
    db.run_tx("add_one", async |tx: &mut Connection| {
        let last: i64 = sql::query_scalar("SELECT COALESCE(MAX(n), 0) FROM item")
            .fetch_one(&mut *tx)
            .await?;
        sql::query("INSERT INTO item (n) VALUES ($1)")
            .bind(last + 1)
            .execute(&mut *tx)
            .await?;
        Ok(last + 1)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_11_two_replicas_give_each_number_once() {
    let (_postgres, url) = shared().await;
    let both = [replica(&url).await, replica(&url).await];
    let mut given = Vec::new();
    let writing = both.iter().map(|db| async {
        let mut given = Vec::new();
        for _ in 0..200 {
            given.push(add_one(db).await.unwrap());
        }
        given
    });
    for numbers in futures::future::join_all(writing).await {
        assert!(numbers.is_sorted());
        given.extend(numbers);
    }
    given.sort_unstable();
    assert_eq!(given, (1..=400).collect::<Vec<_>>(), "each once, no gap");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_52_a_replica_that_stands_still_in_a_transaction_holds_nobody_up() {
    let (_postgres, url) = shared().await;
    let (stopped, other) = (replica(&url).await, replica(&url).await);
    let (begun, go_on) = (Notify::new(), Notify::new());
    let held = stopped.run_tx("held", async |tx: &mut Connection| {
        sql::query("INSERT INTO item (n) VALUES (7)")
            .execute(&mut *tx)
            .await?;
        begun.notify_one();
        go_on.notified().await;
        sql::query("INSERT INTO item (n) VALUES (8)")
            .execute(&mut *tx)
            .await?;
        Ok::<_, ServiceError>(())
    });
    let goes_on = async {
        begun.notified().await;
        let waited = Instant::now();
        assert_eq!(
            add_one(&other).await.unwrap(),
            1,
            "nothing of the other is seen"
        );
        assert!(waited.elapsed() < Duration::from_secs(15));
        go_on.notify_one();
    };
    let (held, ()) = tokio::join!(held, goes_on);
    assert_eq!(held.unwrap_err().code(), Code::Unavailable);
    assert_eq!(count(&other).await, 1);
    // It is not the leader: it goes on as soon as it moves again.
    assert_eq!(add_one(&stopped).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_52_a_stale_leader_among_replicas_is_fenced() {
    let (postgres, url) = shared().await;
    let (first, second) = (replica(&url).await, replica(&url).await);
    let epoch = async |db: &Database| {
        let asked = db.run_tx("epoch", async |tx: &mut Connection| {
            Ok::<_, ServiceError>(tx.epoch())
        });
        asked.await
    };
    assert_eq!(epoch(&second).await.unwrap(), 0, "nobody has led");
    let lease = first.candidate(&tenant(), "1", LONG).await.unwrap();
    let lease = lease.gained().await.unwrap();
    let waiting = second.candidate(&tenant(), "2", LONG).await.unwrap();
    // Both write, and see whose epoch it is.
    for db in [&first, &second] {
        add_one(db).await.unwrap();
        assert_eq!(epoch(db).await.unwrap(), lease.fence());
    }
    run_out(&postgres, &url);
    let newer = second.candidate(&tenant(), "2", LONG).await.unwrap();
    let newer = newer.gained().await.unwrap();
    assert_eq!(newer.fence(), lease.fence() + 1);
    drop(waiting);
    // The first one still believes that it leads, and so writes nothing at all.
    assert!(!lease.lost().is_cancelled());
    assert_eq!(add_one(&first).await.unwrap_err().reason(), FENCED);
    first.lost().await;
    assert_eq!(epoch(&second).await.unwrap(), newer.fence());
    assert_eq!(count(&second).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_52_a_commit_of_unknown_outcome_ends_no_replica() {
    let (postgres, url) = shared().await;
    let db = replica(&url).await;
    let lease = db.candidate(&tenant(), "1", LONG).await.unwrap();
    let lease = lease.gained().await.unwrap();
    let name = url.rsplit('/').next().unwrap();
    postgres.psql(
        name,
        "CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
           BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER gone AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
           WHEN (NEW.n = 2) EXECUTE FUNCTION gone()",
    );
    assert_eq!(add_one(&db).await.unwrap(), 1);
    assert_eq!(add_one(&db).await.unwrap_err().code(), Code::Unavailable);
    // It decides by the database, which has what it has.
    postgres.psql(name, "DROP TRIGGER gone ON item");
    assert_eq!(add_one(&db).await.unwrap(), 2);
    assert!(!lease.lost().is_cancelled());
}

async fn tell(db: &Database, word: &str) {
    db.run_tx("tell", async |tx: &mut Connection| {
        db.notify(tx, "news", [word.to_owned()]).await?;
        Ok::<_, ServiceError>(())
    })
    .await
    .unwrap();
}

/// Waits until notifications come through, then for this word.
async fn hears(listener: &mut Listener, from: &Database, word: &str) {
    let waited = Instant::now();
    loop {
        tell(from, word).await;
        let heard = timeout(Duration::from_millis(500), listener.next()).await;
        if heard == Ok(Wake::Heard(vec![word.to_owned()])) {
            return;
        }
        assert!(waited.elapsed() < Duration::from_secs(20), "{heard:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_wake_each_other_and_look_by_themselves_when_nobody_does() {
    let (postgres, url) = shared().await;
    let (one, two) = (replica(&url).await, replica(&url).await);
    let mut mine = one.listen("news", LONG);
    let mut other = two.listen("news", LONG);
    let mut silent = two.listen("other", LONG);
    // Both hear, so that what does not come is not late.
    hears(&mut mine, &two, "b").await;
    hears(&mut other, &one, "a").await;
    // Nobody wakes himself, and a topic is its own.
    let heard = async |listener: &mut Listener| {
        let mut words = Vec::new();
        while let Ok(heard) = timeout(Duration::from_millis(300), listener.next()).await {
            words.extend(match heard {
                Wake::Heard(words) => words,
                Wake::Look => Vec::new(),
            });
        }
        words
    };
    assert!(!heard(&mut mine).await.contains(&"a".to_owned()));
    assert!(heard(&mut silent).await.is_empty());
    // Rolled back, nothing is said.
    let undone: Result<(), ServiceError> = one
        .run_tx("tell", async |tx: &mut Connection| {
            one.notify(tx, "news", ["never".to_owned()]).await?;
            Err(sqlx::Error::RowNotFound.into())
        })
        .await;
    assert!(undone.is_err());
    assert!(!heard(&mut other).await.contains(&"never".to_owned()));
    // The connection breaks: whoever listens is told to look, and hears again.
    cut_listeners(&postgres, &url);
    let told = timeout(Duration::from_secs(20), other.next()).await;
    assert_eq!(told, Ok(Wake::Look));
    hears(&mut other, &one, "c").await;
    // No notification ever comes through: it is time now and then.
    silence(&postgres, &url);
    let (one, two) = (replica(&url).await, replica(&url).await);
    let mut now_and_then = two.listen("news", Duration::from_millis(500));
    for _ in 0..4 {
        tell(&one, "lost").await;
        let told = timeout(Duration::from_secs(20), now_and_then.next()).await;
        assert_eq!(told, Ok(Wake::Look));
    }
}

fn cut_listeners(postgres: &Postgres, url: &str) {
    let name = url.rsplit('/').next().unwrap();
    let cut = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND query LIKE 'LISTEN%'"
    );
    assert!(!postgres.psql("postgres", &cut).is_empty());
}

/// Whoever connects from now on notifies nobody: another function of that name comes first.
fn silence(postgres: &Postgres, url: &str) {
    let name = url.rsplit('/').next().unwrap();
    postgres.psql(
        name,
        "CREATE FUNCTION public.pg_notify(text, text) RETURNS void LANGUAGE sql AS ''",
    );
    postgres.psql(
        "postgres",
        &format!("ALTER DATABASE {name} SET search_path = public, pg_catalog"),
    );
}

#[tokio::test]
async fn one_process_alone_leads_and_is_never_woken() {
    let migrator: &'static Migrator = Box::leak(Box::new({
        let mut migrator = Migrator::DEFAULT;
        migrator.migrations = vec![sqlx::migrate::Migration::new(
            1,
            "init".into(),
            sqlx::migrate::MigrationType::Simple,
            sqlx::SqlStr::from_static(
                "CREATE TABLE item (n INTEGER PRIMARY KEY) STRICT;
                 CREATE TABLE lease (tenant TEXT NOT NULL PRIMARY KEY, fence INTEGER NOT NULL, holder TEXT NOT NULL,
                   expires INTEGER NOT NULL) STRICT",
            ),
            false,
        )]
        .into();
        migrator
    }));
    let folder = tempfile::tempdir().unwrap();
    let options = DbOptions {
        writers: Writers::Any,
        ..DbOptions::default()
    };
    let file = folder.path().join("a.sqlite");
    for epoch in 1..3 {
        let db = Database::open_file(&file, migrator, options).await.unwrap();
        let lease = db.candidate(&tenant(), "1", LONG).await.unwrap();
        assert_eq!(lease.gained().await.unwrap().fence(), epoch);
        let mut listener = db.listen("news", Duration::from_millis(1));
        add_one(&db).await.unwrap();
        tell(&db, "a").await;
        let woken = timeout(Duration::from_millis(50), listener.next()).await;
        assert!(woken.is_err());
        db.close().await.unwrap();
    }
}
