//! Row-level security: what a connection of one tenant sees and writes of another's rows, in every table there is.

use greffe_testkit::postgres::Postgres;
use greffe_testkit::store::Store;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Executor as _};

use super::{ALL, at, open};

/// Tables without a tenant. A log is one tenant's and has a database of its own, with roles of its own: its leaves are read
/// whole by everybody who may read at all. Which months there are is no tenant's.
const WITHOUT: [(&str, &str); 3] = [
    ("audit", "leaf"),
    ("audit", "checkpoint"),
    ("archive", "months"),
];
/// Which steps have run.
const STEPS: &str = "_sqlx_migrations";

/// A row of tenant `acme` with something in every column: `n`, so that no two tables' rows share a key.
fn row(store: &Store, table: &str, n: usize) -> String {
    let columns = store.psql(&format!(
        "SELECT column_name || ' ' || data_type FROM information_schema.columns
         WHERE table_schema = 'public' AND table_name = '{table}' AND is_identity = 'NO' ORDER BY ordinal_position"
    ));
    let (names, values): (Vec<&str>, Vec<String>) = columns
        .lines()
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            let value = match kind {
                _ if name == "tenant" => "'acme'".to_owned(),
                // In a month that has a partition.
                _ if table == "records" && name == "archived_at" => {
                    "(SELECT min(begins) FROM months)".to_owned()
                }
                "text" => "'x'".to_owned(),
                "bytea" => format!("'\\x{n:02x}'"),
                "bigint" => n.to_string(),
                other => panic!("{table}.{name} is {other}"),
            };
            (name, value)
        })
        .unzip();
    format!(
        "INSERT INTO {table} ({}) VALUES ({})",
        names.join(", "),
        values.join(", ")
    )
}

/// A connection of a tenant, or of none.
async fn connect(url: &str, tenant: Option<&str>) -> PgConnection {
    let options: PgConnectOptions = url.parse().unwrap();
    let options = match tenant {
        Some(tenant) => options.options([("greffe.tenant", tenant)]),
        None => options,
    };
    PgConnection::connect_with(&options).await.unwrap()
}

async fn run(connection: &mut PgConnection, sql: &str) -> Result<u64, sqlx::Error> {
    let done = connection
        .execute(sqlx::AssertSqlSafe(sql.to_owned()))
        .await?;
    Ok(done.rows_affected())
}

/// SQLite compares text byte by byte; so does PostgreSQL, whatever the database's locale, where the column says so.
#[tokio::test(flavor = "multi_thread")]
async fn text_is_sorted_the_same_in_both_databases() {
    for (name, migrations) in ALL {
        let store = Store::new().await;
        let db = open(&at(store.url()), &migrations).await.unwrap();
        db.close().await.unwrap();
        let others = store.psql(
            "SELECT c.relname || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
             WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'i') AND a.attnum > 0
               AND c.relname NOT LIKE '\\_sqlx%' AND a.attcollation NOT IN (0, '\"C\"'::regcollation)",
        );
        assert_eq!(others, "", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_level_security_keeps_the_tenants_of_every_table_apart() {
    for (name, migrations) in ALL {
        let store = Store::new().await;
        let db = open(&at(store.url()), &migrations).await.unwrap();
        db.close().await.unwrap();
        let tables = store.psql(
            "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
             AND c.relkind IN ('r', 'p') ORDER BY 1",
        );
        let mut fenced = 0;
        for (n, table) in (1..).zip(tables.lines()) {
            let exempt = table == STEPS || WITHOUT.contains(&(name, table));
            let forced = store.psql(&format!(
                "SELECT relrowsecurity AND relforcerowsecurity AND EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid)
                 FROM pg_class c WHERE c.oid = '{table}'::regclass"
            ));
            assert_eq!(forced.trim() == "t", !exempt, "{name}: {table}");
            if exempt {
                continue;
            }
            fenced += 1;
            // A month's rows are those of the table it is part of: no row of its own.
            let part =
                format!("SELECT relispartition FROM pg_class WHERE oid = '{table}'::regclass");
            if store.psql(&part).trim() == "t" {
                continue;
            }
            let insert = row(&store, table, n);
            store.psql(&insert);
            // The role of the service, and the owner of the tables as well.
            for url in [Postgres::as_runtime(store.url()), store.url().to_owned()] {
                let count = format!("SELECT 1 FROM {table}");
                let mut theirs = connect(&url, Some("acme")).await;
                assert_eq!(
                    run(&mut theirs, &count).await.unwrap(),
                    1,
                    "{name}: {table}"
                );
                let mut ours = connect(&url, Some("bank")).await;
                for sql in [
                    count.clone(),
                    format!("UPDATE {table} SET fence = 7"),
                    format!("UPDATE {table} SET tenant = 'bank'"),
                    format!("DELETE FROM {table}"),
                ] {
                    let done = run(&mut ours, &sql).await;
                    assert_eq!(done.unwrap(), 0, "{name}: {sql}");
                }
                let refused = run(&mut ours, &insert).await.unwrap_err();
                let refused = refused.as_database_error().unwrap().code().unwrap();
                assert_eq!(refused, "42501", "{name}: {insert}");
                // Who does not say whose it is gets nothing.
                let mut nobody = connect(&url, None).await;
                let none = run(&mut nobody, &count).await;
                assert!(none.is_err() || none.unwrap() == 0, "{name}: {table}");
                // Nor is a row given away.
                let give = format!("UPDATE {table} SET tenant = 'bank'");
                assert!(run(&mut theirs, &give).await.is_err(), "{name}: {give}");
            }
        }
        assert!(fenced > 0, "{name}");
    }
}
