//! Opening a database, bringing it to this version, and refusing a server that would lose what was acknowledged.

use core::fmt;
use core::time::Duration;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;

use greffe_types::TenantId;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection as _, Row as _};

use super::wake::Bus;
use super::{Database, DbError, Pool, Reader, Writers, migrate};
use crate::disk::Disk;
use crate::simulation::{self, settled};

/// Longest that SQLite waits for a lock that another process holds.
const BUSY: Duration = Duration::from_secs(10);
/// Readers at once; SQLite gives each a thread.
const READERS: u32 = 4;
const READERS_POSTGRES: u32 = 8;
/// Pages that SQLite's writer keeps, in KiB.
const CACHE: &str = "-16384";
/// A pooled connection that was idle for longer is asked for a sign of life.
const IDLE: Duration = Duration::from_secs(1);
/// Longest that a call waits for a connection, which is also how long it waits for a server that is away.
const PATIENCE: Duration = Duration::from_secs(10);
/// Oldest server: PostgreSQL 14.
const OLDEST: i32 = 140_000;

/// Choices of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DbOptions {
    /// Overwrite what is deleted with zeros: for tables of secrets. SQLite only; see [`Database::scrub_deleted`].
    pub secure_delete: bool,
    /// Bring it to this version. Otherwise it has to be there already: `greffe migrate` does it.
    pub migrate: bool,
    /// Who writes it, when several processes share it.
    pub writers: Writers,
}

impl Default for DbOptions {
    fn default() -> Self {
        Self {
            secure_delete: false,
            migrate: true,
            writers: Writers::Leader,
        }
    }
}

/// The steps to this version, one list for each database.
#[derive(Debug, Clone, Copy)]
pub struct Migrations {
    /// SQLite's.
    pub sqlite: &'static Migrator,
    /// PostgreSQL's; none for what is only ever a file.
    pub postgres: Option<&'static Migrator>,
}

/// Where a database is.
#[derive(Clone)]
pub enum Source {
    /// A file of SQLite.
    File(PathBuf),
    /// A server.
    Postgres(Box<PgConnectOptions>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "Source({})", path.display()),
            Self::Postgres(options) => write!(f, "Source({})", options.get_host()),
        }
    }
}

impl Source {
    /// A server's database, by its address. Row-level security lets this connection see one tenant only.
    ///
    /// # Errors
    /// [`DbError::Address`].
    pub fn postgres(url: &str, tenant: &TenantId, name: &str) -> Result<Self, DbError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(DbError::Address)?
            .application_name(&format!("greffe-{name}"))
            .options([
                ("greffe.tenant", tenant.as_str()),
                // A process that was stopped in the middle of a transaction gives its locks up.
                ("idle_in_transaction_session_timeout", "5s"),
                ("lock_timeout", "20s"),
                ("tcp_user_timeout", "10s"),
                ("client_min_messages", "warning"),
                // A plan that was made while a table was small would be kept when it is not: each statement is planned by what is there.
                ("plan_cache_mode", "force_custom_plan"),
            ]);
        Ok(Self::Postgres(Box::new(options)))
    }
}

impl Database {
    /// Opens or creates a database and brings it to this version.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn open(
        source: &Source,
        migrations: &Migrations,
        options: DbOptions,
    ) -> Result<Self, DbError> {
        match source {
            Source::File(path) => settled(open_sqlite(path, migrations.sqlite, options)).await,
            Source::Postgres(server) => open_postgres(server, migrations.postgres, options).await,
        }
    }

    /// Opens or creates a file of SQLite and brings it to this version.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn open_file(
        path: &Path,
        migrator: &'static Migrator,
        options: DbOptions,
    ) -> Result<Self, DbError> {
        settled(open_sqlite(path, migrator, options)).await
    }
}

async fn open_sqlite(
    path: &Path,
    migrator: &'static Migrator,
    options: DbOptions,
) -> Result<Database, DbError> {
    let failed = |source| DbError::Open {
        path: path.to_owned(),
        source,
    };
    let base = SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .pragma("trusted_schema", "OFF");
    let mut writing = base
        .clone()
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", CACHE);
    if options.secure_delete {
        writing = writing.pragma("secure_delete", "ON");
    }
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        // A writer's queue is bounded by whoever queues, and a call has its own deadline.
        .acquire_timeout(Duration::from_secs(60))
        .connect_with(writing)
        .await
        .map_err(failed)?;
    let migrated = if simulation::is_on() {
        migrate_here(&writer, migrator)
    } else {
        has_log(&writer).await.map_err(failed)?;
        replay(&writer).await.map_err(failed)?;
        migrate::tolerant(migrator).run(&writer).await
    };
    migrated.map_err(|source| DbError::Migrate {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    // SQLite makes the name of a new write-ahead log durable too, and does not say when that fails.
    sync_folder_of(path).map_err(|error| failed(sqlx::Error::Io(error)))?;
    // A simulated reader that waited for another would wait for ever.
    let most = if simulation::is_on() { 64 } else { READERS };
    let readers = SqlitePoolOptions::new()
        .max_connections(most)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(base.pragma("query_only", "ON"))
        .await
        .map_err(failed)?;
    Ok(Database {
        writer: Pool::Sqlite(writer),
        readers: Reader(Pool::Sqlite(readers)),
        writers: options.writers,
        lease: Arc::default(),
        disk: Disk::default(),
        bus: Arc::new(Bus::alone()),
    })
}

/// On this thread, after which the one connection is at once free for what comes next.
fn migrate_here(writer: &SqlitePool, migrator: &'static Migrator) -> Result<(), MigrateError> {
    let mut first = simulation::wait(writer.acquire())?;
    simulation::wait(migrate::tolerant(migrator).run(&mut first))?;
    simulation::wait(first.return_to_pool());
    Ok(())
}

/// Moves what the last process left in the write-ahead log into the file. That process may have ended because an fsync of the log
/// failed: what is read of it now need not be on the disk, and what is written after it would be lost with it.
async fn replay(writer: &SqlitePool) -> sqlx::Result<()> {
    sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")
        .fetch_one(writer)
        .await
        .map(drop)
}

/// That a new file has its write-ahead log. Where the disk fails as SQLite makes it one that has, SQLite says nothing and goes on
/// without: readers and the writer would wait for each other.
async fn has_log(writer: &SqlitePool) -> sqlx::Result<()> {
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(writer)
        .await?;
    if mode == "wal" {
        return Ok(());
    }
    let why = format!("SQLite keeps journal mode {mode}, not the write-ahead log");
    Err(sqlx::Error::Io(std::io::Error::other(why)))
}

fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::File::open(folder)?.sync_all()
}

async fn open_postgres(
    server: &PgConnectOptions,
    migrator: Option<&'static Migrator>,
    options: DbOptions,
) -> Result<Database, DbError> {
    let database = server.get_database().unwrap_or_default().to_owned();
    let failed = |source| DbError::Connect {
        host: server.get_host().to_owned(),
        database: server.get_database().unwrap_or_default().to_owned(),
        source,
    };
    let Some(migrator) = migrator else {
        return Err(DbError::Unfit {
            database,
            problem: "this service keeps a file of its own and nothing else".to_owned(),
        });
    };
    let writer = pool(1).connect_with(server.clone()).await.map_err(failed)?;
    let mut first = writer.acquire().await.map_err(failed)?;
    if let Some(problem) = unfit(&mut first).await.map_err(failed)? {
        return Err(DbError::Unfit { database, problem });
    }
    drop(first);
    migrate::at_start(&writer, migrator, options.migrate, &database).await?;
    let reading = server
        .clone()
        .options([("default_transaction_read_only", "on")]);
    let readers = pool(READERS_POSTGRES)
        .connect_with(reading)
        .await
        .map_err(failed)?;
    Ok(Database {
        writer: Pool::Postgres(writer),
        readers: Reader(Pool::Postgres(readers)),
        writers: options.writers,
        lease: Arc::default(),
        disk: Disk::default(),
        bus: Arc::new(Bus::on(server.clone())),
    })
}

fn pool(connections: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(PATIENCE)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                // False closes it, and another one is taken.
                Ok(meta.idle_for < IDLE || connection.ping().await.is_ok())
            })
        })
}

/// What of the server would lose acknowledged data, or let one tenant see another's.
pub(super) async fn unfit(connection: &mut PgConnection) -> sqlx::Result<Option<String>> {
    let row = sqlx::query(
        "SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS standby,
           current_setting('fsync') AS fsync, current_setting('full_page_writes') AS pages,
           current_setting('synchronous_commit') AS commit, current_setting('server_encoding') AS encoding,
           r.rolsuper AS superuser, r.rolbypassrls AS bypass
         FROM pg_roles r WHERE r.rolname = current_user",
    )
    .fetch_one(connection)
    .await?;
    let on = |name| row.try_get::<String, _>(name).map(|value| value == "on");
    Ok(if row.try_get::<i32, _>("version")? < OLDEST {
        Some("its server is older than PostgreSQL 14".to_owned())
    } else if row.try_get("standby")? {
        Some("its server is a standby: nothing is decided on a copy. Name the primary".to_owned())
    } else if !on("fsync")? || !on("pages")? {
        Some(
            "its server does not wait for its disk: set fsync = on and full_page_writes = on"
                .to_owned(),
        )
    } else if matches!(row.try_get("commit")?, "off" | "local") {
        Some(
            "its server acknowledges before it is safe: set synchronous_commit = on for this role"
                .to_owned(),
        )
    } else if row.try_get::<&str, _>("encoding")? != "UTF8" {
        Some("its encoding is not UTF8".to_owned())
    } else if row.try_get("superuser")? || row.try_get("bypass")? {
        Some(
            "this role passes over row-level security: use one without SUPERUSER and BYPASSRLS"
                .to_owned(),
        )
    } else {
        None
    })
}
