//! Transactions, group commit, and what a full disk looks like.

use std::sync::LazyLock;

mod replicas;
mod server;

use super::group::{Batch, GroupCommit, GroupError, GroupLimits};
use core::time::Duration;

use sqlx::migrate::Migrator;
use tonic::Code;

use super::*;
use crate::files::DISK_FULL;

static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = Migrator::DEFAULT;
    migrator.migrations = vec![sqlx::migrate::Migration::new(
        1,
        "init".into(),
        sqlx::migrate::MigrationType::Simple,
        sqlx::SqlStr::from_static("CREATE TABLE item (n INTEGER PRIMARY KEY) STRICT"),
        false,
    )]
    .into();
    migrator
});

async fn open(options: DbOptions) -> (tempfile::TempDir, Database) {
    let folder = tempfile::tempdir().unwrap();
    let db = Database::open_file(&folder.path().join("a.sqlite"), &MIGRATOR, options)
        .await
        .unwrap();
    (folder, db)
}

async fn count(db: &Database) -> i64 {
    sql::query_scalar("SELECT count(*) FROM item")
        .fetch_one(db.read())
        .await
        .unwrap()
}

struct Insert {
    largest: usize,
    settled: Vec<bool>,
}

impl Batch for Insert {
    type Request = i64;
    type Response = (i64, usize, Vec<bool>);

    async fn apply(
        &mut self,
        tx: &mut Connection,
        requests: Vec<i64>,
    ) -> Result<Vec<Self::Response>, sqlx::Error> {
        self.largest = self.largest.max(requests.len());
        let mut answers = Vec::new();
        for n in requests {
            sql::query("INSERT INTO item (n) VALUES ($1)")
                .bind(n)
                .execute(&mut *tx)
                .await?;
            answers.push((n, self.largest, self.settled.clone()));
        }
        Ok(answers)
    }

    fn settled(&mut self, committed: bool) {
        self.settled.push(committed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_whole_or_nothing() {
    let (_folder, db) = open(DbOptions {
        secure_delete: true,
        ..DbOptions::default()
    })
    .await;
    // In a task of its own: the future has to be Send.
    let inner = db.clone();
    tokio::spawn(async move {
        let wanted = 7_i64;
        let done: Result<i64, ServiceError> = inner
            .run_tx("insert", async |tx: &mut Connection| {
                sql::query("INSERT INTO item (n) VALUES ($1)")
                    .bind(wanted)
                    .execute(&mut *tx)
                    .await?;
                Ok(wanted)
            })
            .await;
        assert_eq!(done.unwrap(), 7);
    })
    .await
    .unwrap();
    let undone: Result<(), ServiceError> = db
        .run_tx("undo", async |tx: &mut Connection| {
            sql::query("INSERT INTO item (n) VALUES (8)")
                .execute(&mut *tx)
                .await?;
            Err(sqlx::Error::RowNotFound.into())
        })
        .await;
    assert_eq!(undone.unwrap_err().reason(), STORE_FAILED);
    assert_eq!(count(&db).await, 1);
    let write = sql::query("DELETE FROM item").execute(db.read()).await;
    assert!(write.is_err(), "readers only read");
    db.scrub_deleted().await.unwrap();
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_51_after_a_failed_fsync_nothing_more_is_written() {
    let (folder, db) = open(DbOptions::default()).await;
    let path = folder.path().join("b.sqlite");
    let other = Database::open_file(&path, &MIGRATOR, DbOptions::default()).await;
    let other = other.unwrap().sharing(&db);
    let insert = async |db: &Database| -> Result<(), ServiceError> {
        db.run_tx("insert", async |tx: &mut Connection| {
            sql::query("INSERT INTO item (n) VALUES (1)")
                .execute(&mut *tx)
                .await?;
            Ok(())
        })
        .await
    };
    insert(&db).await.unwrap();
    db.disk().failed("a file beside it");
    // Both databases of the service: the process ends, whichever it was.
    for db in [&db, &other] {
        let refused = insert(db).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.reason()),
            (Code::Unavailable, NOT_DURABLE)
        );
        db.lost().await;
        let ended = db.close().await.unwrap_err();
        assert_eq!(ended.reason(), NOT_DURABLE);
        assert!(ended.to_string().contains("a file beside it"), "{ended}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_share_a_transaction() {
    let (_folder, db) = open(DbOptions::default()).await;
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
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_batch_fails_for_everybody() {
    let (_folder, db) = open(DbOptions::default()).await;
    let batch = Insert {
        largest: 0,
        settled: Vec::new(),
    };
    let group = GroupCommit::spawn(
        "insert",
        db.clone(),
        batch,
        GroupLimits {
            max_batch: 8,
            queue: 2,
        },
    );
    // The writer is busy: the requests wait together, the third finds no place.
    let outcome = db
        .run_tx("hold", async |_tx: &mut Connection| {
            let first = tokio::spawn({
                let group = group.clone();
                async move { group.submit(1).await }
            });
            tokio::time::sleep(Duration::from_millis(50)).await;
            let waiting = [(2, 0), (2, 1)].map(|(n, _)| {
                let group = group.clone();
                tokio::spawn(async move { group.submit(n).await })
            });
            tokio::time::sleep(Duration::from_millis(50)).await;
            let full = group.submit(3).await;
            assert!(matches!(full, Err(GroupError::Overloaded)));
            Ok::<_, sqlx::Error>((first, waiting))
        })
        .await
        .unwrap();
    let (first, waiting) = outcome;
    first.await.unwrap().unwrap();
    for answer in waiting {
        let failed = answer.await.unwrap().unwrap_err();
        assert!(matches!(failed, GroupError::Failed(_)));
        assert_eq!(ServiceError::from(failed).reason(), STORE_FAILED);
    }
    assert_eq!(count(&db).await, 1);
    let after = group.submit(4).await.unwrap();
    assert_eq!(after.2, [true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_39_a_full_disk_refuses_and_keeps_what_was_accepted() {
    let (_folder, db) = open(DbOptions::default()).await;
    db.run_tx("before", async |tx: &mut Connection| {
        sql::query("INSERT INTO item (n) VALUES (1)")
            .execute(&mut *tx)
            .await
            .map(drop)
    })
    .await
    .unwrap();
    // SQLite takes the present size instead of a limit below it: there is no room for one more page.
    let Pool::Sqlite(writer) = &db.writer else {
        panic!("a file");
    };
    sqlx::raw_sql("CREATE TABLE big (x BLOB); PRAGMA max_page_count = 1")
        .execute(writer)
        .await
        .unwrap();
    let refused: Result<(), ServiceError> = db
        .run_tx("fill", async |tx: &mut Connection| {
            sql::query("INSERT INTO big (x) VALUES (zeroblob(100000))")
                .execute(&mut *tx)
                .await?;
            Ok(())
        })
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.reason(), DISK_FULL);
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(count(&db).await, 1);
    // The writer goes on; here on a new connection, which has room again.
    db.run_tx("after", async |tx: &mut Connection| {
        sql::query("INSERT INTO item (n) VALUES (2)")
            .execute(&mut *tx)
            .await
            .map(drop)
    })
    .await
    .unwrap();
    assert_eq!(count(&db).await, 2);
}
