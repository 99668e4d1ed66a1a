//! A service's own SQLite database: one writer, a few readers, transactions with names.
//!
//! WAL with `synchronous = FULL`: what a committed transaction wrote survives a power cut. Writes queue for the one
//! writer here, in memory, instead of failing with SQLITE_BUSY; many small ones belong in a [`group::GroupCommit`].

pub mod group;

use core::time::Duration;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sqlx::Connection as _;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    Sqlite, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool,
    SqlitePoolOptions, SqliteSynchronous,
};
use tonic::Code;

use crate::errors::{Reason, ServiceError};
use crate::files::DISK_FULL;
use crate::telemetry;

/// The database is in use by something else than this process.
pub const STORE_BUSY: Reason = Reason::new("STORE_BUSY");
/// The database failed.
pub const STORE_FAILED: Reason = Reason::new("STORE_FAILED");

/// Longest that SQLite waits for a lock that another process holds.
const BUSY: Duration = Duration::from_secs(10);
/// Readers at once; each has a thread.
const READERS: u32 = 4;
/// A transaction that read first could not become a writer later without SQLITE_BUSY.
const BEGIN: &str = "BEGIN IMMEDIATE";
/// Pages that the writer keeps, in KiB.
const CACHE: &str = "-16384";

/// Choices of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DbOptions {
    /// Overwrite what is deleted with zeros: for tables of secrets. [`Database::truncate_wal`] then clears the log too.
    pub secure_delete: bool,
}

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// It cannot be opened or read.
    #[error("cannot open the database {}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// As SQLite reported it.
        source: sqlx::Error,
    },
    /// It is newer than this program, or was changed by another.
    #[error("cannot bring the database {} to this version", path.display())]
    Migrate {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: Box<MigrateError>,
    },
}

/// An open database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Database {
    /// Opens or creates a database and brings it to this version.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn open(
        path: &Path,
        migrator: &'static Migrator,
        options: DbOptions,
    ) -> Result<Self, DbError> {
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
        migrator
            .run(&writer)
            .await
            .map_err(|source| DbError::Migrate {
                path: path.to_owned(),
                source: Box::new(source),
            })?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(base.pragma("query_only", "ON"))
            .await
            .map_err(failed)?;
        Ok(Self { writer, readers })
    }

    /// For reads outside of a transaction; a write through it is refused.
    pub fn read(&self) -> &SqlitePool {
        &self.readers
    }

    /// Runs a transaction: committed when `work` gives a value, rolled back when it gives an error or is dropped. `name`
    /// is the metric's label and heads the SQL.
    ///
    /// # Errors
    /// Those of `work`, and SQLite's own.
    pub async fn run_tx<T, E, F>(&self, name: &'static str, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut SqliteConnection) -> Result<T, E>,
        E: From<sqlx::Error>,
    {
        let begun = Instant::now();
        let outcome = self.transact(work).await;
        telemetry::transaction(name, outcome.is_ok(), begun.elapsed());
        outcome
    }

    async fn transact<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut SqliteConnection) -> Result<T, E>,
        E: From<sqlx::Error>,
    {
        let mut connection = self.writable().await?;
        let mut tx = connection.begin_with(BEGIN).await?;
        let (outcome, settled) = match work(&mut tx).await {
            Ok(value) => match tx.commit().await {
                Ok(()) => (Ok(value), true),
                Err(error) => (Err(error.into()), false),
            },
            // The error of `work` is the one to report: after some failures, such as a full disk, SQLite has rolled back
            // by itself and says so here.
            Err(error) => (Err(error), tx.rollback().await.is_ok()),
        };
        if !settled {
            connection.close_on_drop();
        }
        outcome
    }

    /// The writer's connection, able to begin. sqlx counts transactions by itself and is left with one that SQLite has
    /// rolled back if its work was dropped just then; such a connection is replaced.
    async fn writable(&self) -> Result<PoolConnection<Sqlite>, sqlx::Error> {
        loop {
            let mut connection = self.writer.acquire().await?;
            if !connection.is_in_transaction() {
                return Ok(connection);
            }
            connection.close_on_drop();
        }
    }

    /// Moves the write-ahead log into the database and empties it, so that nothing deleted stays in it.
    ///
    /// # Errors
    /// [`STORE_BUSY`] while a reader holds an older state; [`STORE_FAILED`].
    pub async fn truncate_wal(&self) -> Result<(), ServiceError> {
        let (busy, _, _): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&self.writer)
            .await?;
        if busy == 0 {
            Ok(())
        } else {
            Err(ServiceError::new(
                Code::Unavailable,
                STORE_BUSY,
                "a reader keeps the write-ahead log in use",
            )
            .retry_after(Duration::from_millis(100)))
        }
    }

    /// Closes all connections; the last one leaves no write-ahead log behind.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// SQLite's failures as callers see them.
impl From<sqlx::Error> for ServiceError {
    fn from(error: sqlx::Error) -> Self {
        store_error(&error).because(error)
    }
}

/// The same without the cause, for an error that several callers share.
fn store_error(error: &sqlx::Error) -> ServiceError {
    // The low byte of SQLite's extended result codes.
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .and_then(|code| code.parse::<i32>().ok())
        .map(|code| code & 0xff);
    match code {
        Some(5 | 6) => ServiceError::new(Code::Unavailable, STORE_BUSY, "the database is in use")
            .retry_after(Duration::from_millis(500)),
        Some(13) => ServiceError::new(
            Code::ResourceExhausted,
            DISK_FULL,
            "no space left; nothing was accepted",
        )
        .retry_after(Duration::from_secs(30)),
        _ if matches!(error, sqlx::Error::PoolTimedOut) => {
            ServiceError::new(Code::Unavailable, STORE_BUSY, "the database is overloaded")
                .retry_after(Duration::from_secs(1))
        }
        _ => ServiceError::new(Code::Internal, STORE_FAILED, "the database failed"),
    }
}

#[cfg(test)]
mod tests;
