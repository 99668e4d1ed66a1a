//! Tables in both databases: migrations that are killed, mixed versions, the two roles, and the fence between tenants.

mod fence;

use std::path::Path;

use greffe_service_kit::db::{Connection, Database, DbError, DbOptions, Migrations, Source, sql};
use greffe_testkit::postgres::Postgres;
use greffe_testkit::store::Store;
use greffe_types::TenantId;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use crate::support::{Ran, greffe};

/// Every database that a service keeps.
pub(crate) const ALL: [(&str, Migrations); 5] = [
    ("relay", greffe_relay::app::MIGRATIONS),
    ("archive", greffe_archive::store::MAIN),
    ("wraps", greffe_archive::store::WRAPS),
    ("audit", greffe_audit::MIGRATIONS),
    ("escrow", greffe_escrow::app::MIGRATIONS),
];

fn tenant() -> TenantId {
    TenantId::new("acme").unwrap()
}

fn at(url: &str) -> Source {
    Source::postgres(url, &tenant(), "test").unwrap()
}

async fn open(source: &Source, migrations: &Migrations) -> Result<Database, DbError> {
    Database::open(source, migrations, DbOptions::default()).await
}

/// Ends the session after its `at`-th change of the schema, as a killed server or network would.
const KILLER: &str = "
    CREATE SCHEMA killer;
    CREATE SEQUENCE killer.count;
    CREATE TABLE killer.plan (at BIGINT);
    INSERT INTO killer.plan VALUES (1);
    CREATE FUNCTION killer.strike() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        IF session_user <> 'postgres' AND nextval('killer.count') = (SELECT at FROM killer.plan) THEN
            PERFORM pg_terminate_backend(pg_backend_pid());
        END IF;
    END $$;
    CREATE EVENT TRIGGER strike ON ddl_command_end EXECUTE FUNCTION killer.strike()";

/// How many tables there are.
const TABLES: &str = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename <> '_sqlx_migrations'";

#[tokio::test(flavor = "multi_thread")]
async fn attack_54_migrations_killed_at_every_statement_on_postgresql() {
    for (name, migrations) in ALL {
        let whole = Store::new().await;
        open(&at(whole.url()), &migrations)
            .await
            .unwrap()
            .close()
            .await
            .unwrap();
        // Each step is all there or not at all: so many tables after none of them, one of them, and so on.
        let mut whole_steps = vec![String::from("0")];
        let postgres = migrations.postgres.unwrap();
        for count in 1..postgres.iter().count() {
            let part = Migrations {
                postgres: Some(Box::leak(Box::new(first(postgres, count)))),
                ..migrations
            };
            let store = Store::new().await;
            open(&at(store.url()), &part)
                .await
                .unwrap()
                .close()
                .await
                .unwrap();
            whole_steps.push(store.psql(TABLES).trim().to_owned());
        }
        let store = Store::new().await;
        store.psql(KILLER);
        let mut killed = 0;
        loop {
            match open(&at(store.url()), &migrations).await {
                Ok(db) => break db.close().await.unwrap(),
                Err(DbError::MigrateServer { .. }) => killed += 1,
                Err(error) => panic!("{name}, statement {}: {error:?}", killed + 1),
            }
            let left = store.psql(&format!(
                "SELECT setval('killer.count', 1, false);
                 UPDATE killer.plan SET at = {};
                 {TABLES}",
                killed + 1
            ));
            let left = left.trim().strip_prefix("1\n").unwrap().to_owned();
            assert!(
                whole_steps.contains(&left),
                "{name}: all of a step or nothing, not {left} tables"
            );
        }
        assert!(killed > 10, "{name}: {killed}");
        store.psql("DROP EVENT TRIGGER strike; DROP SCHEMA killer CASCADE");
        assert_eq!(store.schema(), whole.schema(), "{name}");
    }
}

/// The statements of a migration for SQLite.
fn statements(sql: &str) -> Vec<String> {
    let bare: Vec<&str> = sql
        .lines()
        .map(|line| line.split("--").next().unwrap_or_default())
        .collect();
    let mut found = Vec::new();
    let mut next = String::new();
    for part in bare.join("\n").split_inclusive(';') {
        next.push_str(part);
        let trigger = next.trim_start().starts_with("CREATE TRIGGER");
        if !trigger || next.trim_end().to_uppercase().ends_with("END;") {
            found.push(core::mem::take(&mut next));
        }
    }
    found.retain(|statement| !statement.trim().is_empty());
    found
}

/// The first steps of a migrator.
fn first(migrator: &Migrator, count: usize) -> Migrator {
    let mut part = Migrator::DEFAULT;
    part.migrations = migrator.migrations[..count].to_vec().into();
    part
}

async fn file(path: &Path) -> sqlx::SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
    options.connect().await.unwrap()
}

async fn schema(path: &Path) -> Vec<String> {
    let mut db = file(path).await;
    let sql = "SELECT type || ' ' || name || ' ' || ifnull(sql, '') FROM sqlite_master ORDER BY type, name";
    let rows = sqlx::query(sql).fetch_all(&mut db).await.unwrap();
    let schema = rows.iter().map(|row| row.get(0)).collect();
    db.close().await.unwrap();
    schema
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_54_migrations_killed_at_every_statement_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    for (name, migrations) in ALL {
        let at = |file: &str| folder.path().join(format!("{name}-{file}"));
        let whole = Source::File(at("whole"));
        open(&whole, &migrations)
            .await
            .unwrap()
            .close()
            .await
            .unwrap();
        let whole = schema(&at("whole")).await;
        for (step, migration) in migrations.sqlite.iter().enumerate() {
            let all = statements(migration.sql.as_str());
            for count in 0..=all.len() {
                let before = at(&format!("{step}-{count}"));
                let mut db = file(&before).await;
                first(migrations.sqlite, step).run(&mut db).await.unwrap();
                sqlx::query("BEGIN").execute(&mut db).await.unwrap();
                for statement in &all[..count] {
                    let statement = sqlx::AssertSqlSafe(statement.clone());
                    sqlx::raw_sql(statement).execute(&mut db).await.unwrap();
                }
                // What SIGKILL leaves: the files as they are now.
                let left = at(&format!("{step}-{count}-left"));
                for end in ["", "-wal"] {
                    let from = format!("{}{end}", before.display());
                    std::fs::copy(from, format!("{}{end}", left.display())).unwrap();
                }
                open(&Source::File(left.clone()), &migrations)
                    .await
                    .unwrap()
                    .close()
                    .await
                    .unwrap();
                assert_eq!(schema(&left).await, whole, "{name} {step} {count}");
            }
        }
    }
}

/// The same with a step more, as the next version may have: it adds.
fn next_version(migrator: &'static Migrator) -> &'static Migrator {
    let mut next = first(migrator, migrator.iter().count());
    let more = Migration::new(
        9_999,
        "next".into(),
        MigrationType::Simple,
        sqlx::SqlStr::from_static(
            "CREATE TABLE later (n BIGINT NOT NULL PRIMARY KEY); ALTER TABLE lease ADD COLUMN later BIGINT NOT NULL DEFAULT 0",
        ),
        false,
    );
    next.migrations.to_mut().push(more);
    Box::leak(Box::new(next))
}

async fn work(db: &Database) {
    db.run_tx("test", async |tx: &mut Connection| {
        sql::query("UPDATE lease SET holder = 'somebody' WHERE tenant = $1")
            .bind("acme")
            .execute(tx)
            .await
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_54_the_version_before_works_on_newer_tables() {
    let folder = tempfile::tempdir().unwrap();
    for (name, migrations) in ALL {
        if name == "wraps" {
            continue; // no lease of its own
        }
        let next = Migrations {
            sqlite: next_version(migrations.sqlite),
            postgres: migrations.postgres.map(next_version),
        };
        let store = Store::new().await;
        for source in [at(store.url()), Source::File(folder.path().join(name))] {
            let old = open(&source, &migrations).await.unwrap();
            let lease = old.take_lease(&tenant(), "old").await.unwrap();
            work(&old).await;
            if let Source::Postgres(_) = source {
                // While the old one runs.
                let steps = Database::migrate(&source, &next, true).await.unwrap();
                assert!(!steps.last().unwrap().done);
                Database::migrate(&source, &next, false).await.unwrap();
                work(&old).await;
            }
            old.close().await.unwrap();
            let new = open(&source, &next).await.unwrap();
            let newer = new.take_lease(&tenant(), "new").await.unwrap();
            assert!(newer.fence() > lease.fence());
            work(&new).await;
            new.close().await.unwrap();
            // Back to the old one.
            let old = open(&source, &migrations).await.unwrap();
            let newest = old.take_lease(&tenant(), "old").await.unwrap();
            assert!(newest.fence() > newer.fence());
            work(&old).await;
            old.close().await.unwrap();
        }
    }
}

fn migrate(service: &str, urls: &[(&str, &str)], more: &[&str]) -> Ran {
    let config =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../deploy/config/{service}.toml"));
    let mut command = greffe();
    for (variable, url) in urls {
        command.env(variable, url);
    }
    command.arg("migrate").arg(service.trim_end_matches("-1"));
    command.arg("--config").arg(config).args(more);
    Ran::of(command.output().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_migrates_and_the_service_only_reads_and_writes() {
    const MAIN: &str = "GREFFE__SERVICE__DATABASE__URL";
    const WRAPS: &str = "GREFFE__ARCHIVE__WRAPS__URL";
    let tenant = TenantId::new("example-bank").unwrap();
    for (service, databases) in [
        ("relay", &ALL[..1]),
        ("archive", &ALL[1..3]),
        ("audit", &ALL[3..4]),
        ("escrow-1", &ALL[4..]),
    ] {
        let stores = [Store::new().await, Store::new().await];
        let urls: Vec<(&str, &str)> = [MAIN, WRAPS]
            .into_iter()
            .zip(stores.iter().map(Store::url))
            .take(databases.len())
            .collect();
        let runtime: Vec<String> = urls
            .iter()
            .map(|(_, url)| Postgres::as_runtime(url))
            .collect();
        let start = async |url: &str, migrations: &Migrations| {
            let source = Source::postgres(url, &tenant, service).unwrap();
            let options = DbOptions {
                migrate: false,
                ..DbOptions::default()
            };
            Database::open(&source, migrations, options).await
        };
        for (url, (_, migrations)) in runtime.iter().zip(databases) {
            let early = start(url, migrations).await.unwrap_err().to_string();
            assert!(early.contains("greffe migrate"), "{early}");
        }
        let migrators = databases.iter().filter_map(|(_, all)| all.postgres);
        let count: usize = migrators.map(|all| all.iter().count()).sum();
        // Who only reads and writes makes no tables.
        let theirs: Vec<(&str, &str)> = urls
            .iter()
            .zip(&runtime)
            .map(|((variable, _), url)| (*variable, url.as_str()))
            .collect();
        migrate(service, &theirs, &[]).refused(1, "DATABASE_FAILED");
        let states = |more: &[&str]| -> Vec<String> {
            let said = migrate(service, &urls, &[&["--output", "json"], more].concat()).json();
            let steps = said["steps"].as_array().unwrap();
            assert_eq!(steps.len(), count);
            let state = |step: &serde_json::Value| step["state"].as_str().unwrap().to_owned();
            steps.iter().map(state).collect()
        };
        let each = |state: &str| vec![state.to_owned(); count];
        assert_eq!(states(&["--dry-run"]), each("would run"));
        assert_eq!(states(&["--dry-run"]), each("would run"), "nothing has run");
        assert_eq!(states(&[]), each("ran"));
        assert_eq!(states(&[]), each("had run"));
        for (url, (name, migrations)) in runtime.iter().zip(databases) {
            let db = start(url, migrations).await.unwrap();
            if *name != "wraps" {
                db.take_lease(&tenant, "test").await.unwrap();
            }
            let refused = db
                .run_tx("test", async |tx: &mut Connection| {
                    sql::query("CREATE TABLE mine (n BIGINT)").execute(tx).await
                })
                .await;
            assert!(refused.is_err(), "{name}");
            db.close().await.unwrap();
        }
    }
}

#[test]
fn a_service_with_sqlite_has_nothing_to_migrate() {
    migrate("relay", &[], &[]).refused_at_once(3, "NO_SERVER");
}
