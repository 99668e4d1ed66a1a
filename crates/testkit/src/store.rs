//! Which database the tests of a service run on: SQLite, or PostgreSQL when `GREFFE_TEST_STORE` says so.

use std::sync::Arc;

use crate::postgres::{OWNER, Postgres};

/// The variable that chooses: `sqlite`, the same as absent, or `postgres`.
pub const VARIABLE: &str = "GREFFE_TEST_STORE";

/// How long a lease holds in tests, in milliseconds: how long a start waits for a process that died.
pub const LEASE_MS: u64 = 4_000;

/// One service's database on the cluster that the test process shares. It outlives the service's restarts.
#[derive(Debug, Clone)]
pub struct Store {
    postgres: Arc<Postgres>,
    url: String,
    name: String,
}

/// What a [`Store`] held at some time.
#[derive(Debug, Clone)]
pub struct Copy(String);

/// Whether the tests run on PostgreSQL.
///
/// # Panics
/// When the variable is neither of the two.
pub fn on_postgres() -> bool {
    match std::env::var(VARIABLE).as_deref() {
        Err(_) | Ok("" | "sqlite") => false,
        Ok("postgres") => true,
        Ok(other) => panic!("{VARIABLE} is {other:?}: `sqlite` or `postgres`"),
    }
}

impl Store {
    /// A fresh, empty one; none when the tests run on SQLite.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start.
    pub async fn chosen() -> Option<Self> {
        if on_postgres() {
            Some(Self::new().await)
        } else {
            None
        }
    }

    /// A fresh, empty one.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start.
    pub async fn new() -> Self {
        let postgres = tokio::task::spawn_blocking(Postgres::shared)
            .await
            .unwrap_or_else(|error| panic!("cannot start PostgreSQL: {error}"));
        let url = postgres.database().await;
        Self {
            name: url.rsplit('/').next().unwrap_or_default().to_owned(),
            postgres,
            url,
        }
    }

    /// Its URL as [`OWNER`]: who makes the tables.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its URL as [`RUNTIME`](crate::postgres::RUNTIME): what a service runs as.
    pub fn runtime_url(&self) -> String {
        Postgres::as_runtime(&self.url)
    }

    /// Runs statements as superuser, whom no policy binds; gives what they print, a row a line.
    ///
    /// # Panics
    /// When one fails.
    pub fn psql(&self, sql: &str) -> String {
        self.postgres.psql(&self.name, sql)
    }

    /// Whoever connects from now on notifies nobody: a function of that name comes first, and does nothing.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn silence(&self) {
        self.psql("CREATE FUNCTION public.pg_notify(text, text) RETURNS void LANGUAGE sql AS ''");
        self.psql(&format!(
            "ALTER DATABASE {} SET search_path = public, pg_catalog",
            self.name
        ));
    }

    /// Whether any column of any row holds these bytes. What a deleted row leaves on the disk until its page is used again
    /// is not looked at.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        let dump = self.postgres.dump(&self.name, &["--data-only"]);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        dump.contains(&hex) || dump.as_bytes().windows(bytes.len()).any(|w| w == bytes)
    }

    /// Its tables, indexes, triggers, policies and rights as `pg_dump` writes them.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn schema(&self) -> String {
        self.postgres.dump(&self.name, &["--schema-only"])
    }

    /// What it holds now. Nobody may be connected.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn copy(&self) -> Copy {
        let copy = format!("{}_copy_{}", self.name, self.postgres.number());
        self.clone_database(&self.name, &copy);
        Copy(copy)
    }

    /// Replaces everything by what it held then. Nobody may be connected.
    ///
    /// # Panics
    /// When it cannot be replaced.
    pub fn restore(&self, copy: &Copy) {
        self.drop_it();
        self.clone_database(&copy.0, &self.name);
    }

    /// Replaces everything by nothing, not even tables; the rights of the roles stay. Nobody may be connected.
    ///
    /// # Panics
    /// When it cannot be replaced.
    pub fn empty(&self) {
        self.drop_it();
        self.clone_database("template0", &self.name);
        self.postgres.grant(&self.name);
    }

    fn drop_it(&self) {
        let sql = format!("DROP DATABASE {}", self.name);
        self.postgres.psql("postgres", &sql);
    }

    fn clone_database(&self, from: &str, to: &str) {
        let sql = format!("CREATE DATABASE {to} TEMPLATE {from} OWNER {OWNER}");
        self.postgres.psql("postgres", &sql);
    }
}
