//! A service's own database, SQLite or PostgreSQL: one writer, a few readers, transactions with names.
//!
//! What a committed transaction wrote survives a power cut: SQLite runs in WAL mode with `synchronous = FULL`, a PostgreSQL
//! server that would not wait for its disk is refused. When an fsync of SQLite's fails, nothing more is written ([`Disk`]). Writes queue for the one writer here, in memory; many small ones
//! belong in a [`group::GroupCommit`].
//!
//! Several processes may share a PostgreSQL database. Either one of them holds the [`lease`] and writes ([`Writers::Leader`]), or all
//! write ([`Writers::Any`]): then the database lets one transaction of a tenant after the other in, whichever process it is
//! of, so that what is decided inside a transaction is decided by the only writer there is. The lease then says whose
//! background work it is. Every transaction of a process that took it checks its fencing epoch before anything else.

mod errors;
pub mod group;
pub mod lease;
mod migrate;
mod open;
pub mod sql;
pub mod wake;

use core::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPool;
use sqlx::sqlite::SqlitePool;
use sqlx::{Executor as _, Postgres, Row as _, Sqlite, Transaction};
use tokio::sync::SetOnce;
use tokio::time::timeout;

use crate::disk::{Disk, NOT_DURABLE, NotDurable};
use crate::errors::{Reason, ServiceError};
use crate::simulation::{self, Act, settled};
use crate::telemetry;

pub(crate) use errors::store_error;
pub use errors::{DbError, STORE_BUSY, STORE_FAILED, is_fenced};
use lease::{Fenced, Lease};
pub use migrate::Step;
pub use open::{DbOptions, Migrations, Source};
use sql::Target;
use wake::Bus;

/// A transaction that read first could not become a writer later without SQLITE_BUSY.
const BEGIN_SQLITE: &str = "BEGIN IMMEDIATE";
/// Longest that a transaction of a server may take, longer than its lock timeout.
const STUCK: Duration = Duration::from_secs(60);
/// Longest that a server's connections are waited for at the end.
const FAREWELL: Duration = Duration::from_secs(5);
const BEGIN_POSTGRES: &str = "BEGIN";
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// One round trip. A key share lock is what a take-over waits for, and what a renewal does not.
const BEGIN_FENCED: &str =
    "BEGIN; SELECT fence FROM lease WHERE tenant = current_setting('greffe.tenant') FOR KEY SHARE";
/// One round trip. First come, first served; the lock has no row, and ends with the transaction. What follows it in statements
/// of their own sees everything that was committed before.
const BEGIN_IN_TURN: &str = "BEGIN;
    SELECT pg_advisory_xact_lock(hashtextextended(current_setting('greffe.tenant'), 0));
    SELECT fence FROM lease WHERE tenant = current_setting('greffe.tenant') FOR KEY SHARE";

/// Who writes a PostgreSQL database that several processes share. A file of SQLite has one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Writers {
    /// The process that holds the lease.
    #[default]
    Leader,
    /// Every process, one transaction after the other. One that waits for its turn in vain is refused with [`STORE_BUSY`]; one
    /// whose process stands still in the middle is ended by the server.
    Any,
}

/// An open database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    writer: Pool,
    readers: Reader,
    writers: Writers,
    lease: Arc<SetOnce<Lease>>,
    bus: Arc<Bus>,
    disk: Disk,
}

#[derive(Debug, Clone)]
enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// Why a process may not go on with its database.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Ended {
    /// Another process has taken over.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// An fsync failed.
    #[error(transparent)]
    NotDurable(#[from] NotDurable),
}

impl Ended {
    /// Stable reason.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Fenced(_) => lease::FENCED,
            Self::NotDurable(_) => NOT_DURABLE,
        }
    }
}

/// For reads outside of a transaction.
#[derive(Debug, Clone)]
pub struct Reader(Pool);

impl Reader {
    fn as_target(&self) -> Target<'_> {
        match &self.0 {
            Pool::Sqlite(pool) => Target::SqlitePool(pool),
            Pool::Postgres(pool) => Target::PostgresPool(pool),
        }
    }
}

impl Reader {
    /// One connection for several reads.
    ///
    /// # Errors
    /// The database's.
    pub async fn acquire(&self) -> sqlx::Result<Reading> {
        Ok(Reading(Connection::new(match &self.0 {
            Pool::Sqlite(pool) => Held::Sqlite(settled(pool.acquire()).await?),
            Pool::Postgres(pool) => Held::Postgres(pool.acquire().await?),
        })))
    }

    /// Several reads of one and the same state.
    ///
    /// # Errors
    /// The database's.
    pub async fn begin(&self) -> sqlx::Result<Reading> {
        Ok(Reading(Connection::new(match &self.0 {
            Pool::Sqlite(pool) if simulation::is_on() => {
                let mut reading = Connection::new(Held::Sqlite(settled(pool.acquire()).await?));
                settled(reading.run("BEGIN")).await?;
                reading.open = true;
                return Ok(Reading(reading));
            }
            Pool::Sqlite(pool) => Held::SqliteSnapshot(pool.begin().await?),
            Pool::Postgres(pool) => Held::PostgresSnapshot(pool.begin_with(SNAPSHOT).await?),
        })))
    }
}

/// A connection that only reads; dropped, it goes back to the others.
#[derive(Debug)]
pub struct Reading(Connection);

impl Deref for Reading {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Reading {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

/// A transaction's connection.
#[derive(Debug)]
pub struct Connection {
    held: Held,
    epoch: u64,
    /// Under simulation: a transaction is open that ends with it.
    open: bool,
}

#[derive(Debug)]
enum Held {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
    SqliteSnapshot(Transaction<'static, Sqlite>),
    PostgresSnapshot(Transaction<'static, Postgres>),
}

impl Connection {
    const fn new(held: Held) -> Self {
        Self {
            held,
            epoch: 0,
            open: false,
        }
    }

    /// Fencing epoch of the lease while this transaction runs: no take-over comes in between. What it writes carries it, and so
    /// an epoch in later rows is never lower. 0 before anybody has led, and outside of a transaction.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    fn as_target(&mut self) -> Target<'_> {
        match &mut self.held {
            Held::Sqlite(connection) => Target::SqliteConnection(connection),
            Held::Postgres(connection) => Target::PostgresConnection(connection),
            Held::SqliteSnapshot(connection) => Target::SqliteConnection(connection),
            Held::PostgresSnapshot(connection) => Target::PostgresConnection(connection),
        }
    }

    async fn run(&mut self, sql: &'static str) -> sqlx::Result<()> {
        match self.as_target() {
            Target::SqliteConnection(connection) => connection.execute(sql).await.map(drop),
            Target::SqlitePool(pool) => pool.execute(sql).await.map(drop),
            Target::PostgresConnection(connection) => connection.execute(sql).await.map(drop),
            Target::PostgresPool(pool) => pool.execute(sql).await.map(drop),
        }
    }

    fn close_on_drop(&mut self) {
        if simulation::is_on() {
            self.open = true;
            return;
        }
        match &mut self.held {
            Held::Sqlite(connection) => connection.close_on_drop(),
            Held::Postgres(connection) => connection.close_on_drop(),
            // They roll themselves back.
            Held::SqliteSnapshot(_) | Held::PostgresSnapshot(_) => {}
        }
    }
}

/// Under simulation a connection goes back at once: the task in which the pool would do that runs beside what comes next.
impl Drop for Connection {
    fn drop(&mut self) {
        if !simulation::is_on() {
            return;
        }
        if self.open {
            // One that cannot be rolled back was rolled back before.
            let _ = simulation::wait(self.run("ROLLBACK"));
        }
        if let Held::Sqlite(connection) = &mut self.held {
            simulation::wait(connection.return_to_pool());
        }
    }
}

/// A pool's own connection under simulation, for as long as `held` lives; everywhere else the target as it is.
fn held_for<'a>(target: Target<'a>, held: &'a mut Option<Connection>) -> sqlx::Result<Target<'a>> {
    match target {
        Target::SqlitePool(pool) if simulation::is_on() => {
            let connection = Held::Sqlite(simulation::wait(pool.acquire())?);
            Ok(held.insert(Connection::new(connection)).as_target())
        }
        target => Ok(target),
    }
}

/// A transaction under way. Dropped before it is settled, it takes its connection with it: neither database keeps
/// anything of it then, and the next transaction gets a new one.
struct Open {
    connection: Connection,
    settled: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.settled {
            self.connection.close_on_drop();
        }
    }
}

impl Database {
    /// For reads outside of a transaction; a write through it is refused.
    pub const fn read(&self) -> &Reader {
        &self.readers
    }

    /// Runs a transaction: committed when `work` gives a value, rolled back when it gives an error or is dropped. `name`
    /// is the metric's label and heads the SQL.
    ///
    /// # Errors
    /// Those of `work`, and the database's own; one for which [`is_fenced`] holds once another process has taken over.
    pub async fn run_tx<T, E, F>(&self, name: &'static str, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut Connection) -> Result<T, E>,
        E: From<sqlx::Error>,
    {
        let begun = Instant::now();
        let outcome = if self.is_shared() {
            match timeout(STUCK, self.transact(work)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(self.stuck().into()),
            }
        } else {
            simulation::transaction(Act::Begin(name)).await?;
            let outcome = settled(self.transact(work)).await;
            simulation::transaction(Act::Committed(name)).await?;
            outcome
        };
        telemetry::transaction(name, outcome.is_ok(), begun.elapsed());
        outcome
    }

    /// A connection that answers nothing: its outcome is not known, and another process may do better.
    fn stuck(&self) -> sqlx::Error {
        if let Some(lease) = self.lease.get() {
            lease.lose("a transaction was not answered");
        }
        sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "the database does not answer",
        ))
    }

    async fn transact<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut Connection) -> Result<T, E>,
        E: From<sqlx::Error>,
    {
        let mut open = self.begin().await?;
        match work(&mut open.connection).await {
            Ok(value) => {
                self.commit(&mut open).await?;
                Ok(value)
            }
            // The error of `work` is the one to report: after some failures, such as a full disk, the database has rolled
            // back by itself and says so here.
            Err(error) => {
                open.settled = open.connection.run("ROLLBACK").await.is_ok();
                Err(error)
            }
        }
    }

    async fn begin(&self) -> sqlx::Result<Open> {
        self.disk.check()?;
        let lease = self.lease.get();
        if let Some(lease) = lease {
            lease.check_held()?;
        }
        let mut open = Open {
            connection: Connection::new(match &self.writer {
                Pool::Sqlite(pool) => Held::Sqlite(pool.acquire().await?),
                Pool::Postgres(pool) => Held::Postgres(pool.acquire().await?),
            }),
            settled: false,
        };
        let found: Option<i64> = match (&mut open.connection.held, self.writers) {
            (Held::SqliteSnapshot(_) | Held::PostgresSnapshot(_), _) => None,
            (Held::Sqlite(connection), _) => {
                connection.execute(BEGIN_SQLITE).await?;
                match lease {
                    None => None,
                    Some(lease) => {
                        sql::query_scalar("SELECT fence FROM lease WHERE tenant = $1")
                            .bind(lease.tenant())
                            .fetch_optional(&mut open.connection)
                            .await?
                    }
                }
            }
            (Held::Postgres(connection), Writers::Any) => {
                // The lock's own row comes first.
                let rows = connection.fetch_all(BEGIN_IN_TURN).await?;
                rows.get(1).map(|row| row.try_get(0)).transpose()?
            }
            (Held::Postgres(connection), Writers::Leader) => match lease {
                None => {
                    connection.execute(BEGIN_POSTGRES).await?;
                    None
                }
                Some(_) => {
                    let row = connection.fetch_optional(BEGIN_FENCED).await?;
                    row.map(|row| row.try_get(0)).transpose()?
                }
            },
        };
        if let Some(lease) = lease {
            lease.check(found)?;
        }
        open.connection.epoch = found.unwrap_or_default().cast_unsigned();
        Ok(open)
    }

    async fn commit(&self, open: &mut Open) -> sqlx::Result<()> {
        match open.connection.run("COMMIT").await {
            Ok(()) => {
                open.settled = true;
                Ok(())
            }
            Err(error) => {
                self.note_sync(&error);
                // The only writer keeps state in memory beside the database and has to begin anew. One of several looks at the
                // database each time.
                if matches!(self.writer, Pool::Postgres(_))
                    && self.writers == Writers::Leader
                    && !errors::is_rolled_back(&error)
                    && let Some(lease) = self.lease.get()
                {
                    lease.lose("a commit's outcome is not known");
                }
                Err(error)
            }
        }
    }

    /// Whether several processes may share it.
    pub const fn is_shared(&self) -> bool {
        matches!(self.writer, Pool::Postgres(_))
    }

    /// Overwrites what was deleted as far as the database can. SQLite's write-ahead log is moved into the file, where
    /// `secure_delete` has written zeros, and emptied. PostgreSQL is asked to vacuum what this role owns (the rest is
    /// autovacuum's) and overwrites as pages fill again: there, what was deleted is gone from the tables at once, and from pages
    /// and write-ahead log in time.
    ///
    /// # Errors
    /// [`STORE_BUSY`] while a reader of SQLite holds an older state; [`STORE_FAILED`].
    pub async fn scrub_deleted(&self) -> Result<(), ServiceError> {
        match &self.writer {
            Pool::Sqlite(pool) => {
                let truncate = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)");
                let (busy, _, _): (i64, i64, i64) = settled(async {
                    let mut held = None;
                    let target = held_for(Target::SqlitePool(pool), &mut held)?;
                    match target {
                        Target::SqliteConnection(connection) => {
                            truncate.fetch_one(connection).await
                        }
                        _ => truncate.fetch_one(pool).await,
                    }
                })
                .await
                .inspect_err(|error| self.note_sync(error))?;
                if busy == 0 {
                    Ok(())
                } else {
                    Err(errors::wal_in_use())
                }
            }
            Pool::Postgres(pool) => {
                pool.execute("VACUUM").await?;
                Ok(())
            }
        }
    }

    /// Comes back when the lease was ours and is lost, or something could not be made durable: the process has to end.
    pub async fn lost(&self) {
        let fenced = async { self.lease.wait().await.lost().cancelled().await };
        tokio::select! {
            () = fenced => {}
            () = self.disk.lost() => {}
        }
    }

    /// Whether everything that was to be durable is; shared with those who write files beside this database.
    pub const fn disk(&self) -> &Disk {
        &self.disk
    }

    /// As `other` does, it ends with a disk that fails: for a further database of one service.
    #[must_use]
    pub fn sharing(mut self, other: &Self) -> Self {
        self.disk = other.disk.clone();
        self
    }

    fn note_sync(&self, error: &sqlx::Error) {
        if errors::is_failed_sync(error) {
            self.disk.failed("a database");
        }
    }

    /// Gives up the lease, if there is one, and closes all connections; SQLite's last one leaves no write-ahead log behind.
    ///
    /// # Errors
    /// [`Ended`] when it had to end before.
    pub async fn close(&self) -> Result<(), Ended> {
        let held = self.lease.get().map_or(Ok(()), Lease::check_held);
        if let Some(lease) = self.lease.get() {
            lease.release().await;
        }
        self.bus.close();
        for pool in [&self.readers.0, &self.writer] {
            match pool {
                // Under simulation a task may be in the middle of its reads; its connection closes with it.
                Pool::Sqlite(pool) if simulation::is_on() => drop(pool.close()),
                Pool::Sqlite(pool) => pool.close().await,
                // A connection that answers nothing is not waited for.
                Pool::Postgres(pool) => drop(timeout(FAREWELL, pool.close()).await),
            }
        }
        self.disk.check()?;
        Ok(held?)
    }
}

#[cfg(test)]
mod tests;
