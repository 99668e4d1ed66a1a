//! The databases' failures as callers see them.

use core::time::Duration;
use std::path::PathBuf;

use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};
use tonic::Code;

use super::lease::Fenced;
use crate::disk::{NOT_DURABLE, NotDurable};
use crate::errors::{Reason, ServiceError};
use crate::files::DISK_FULL;

/// The database is in use by something else than this process, or does not answer.
pub const STORE_BUSY: Reason = Reason::new("STORE_BUSY");
/// The database failed.
pub const STORE_FAILED: Reason = Reason::new("STORE_FAILED");

const IDLE_IN_TRANSACTION: &str = "25P03";

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
    /// A step failed, or one that has run is not this program's.
    #[error("cannot bring the database {} to this version", path.display())]
    Migrate {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: Box<MigrateError>,
    },
    /// The address is none.
    #[error(
        "service.database.url is no address of a PostgreSQL database: postgres://USER:PASSWORD@HOST/DATABASE"
    )]
    Address(#[source] sqlx::Error),
    /// It cannot be reached, or refused us.
    #[error("the PostgreSQL database {database} on {host} cannot be used")]
    Connect {
        /// Its host, or the folder of its socket.
        host: String,
        /// Its name.
        database: String,
        /// As reported.
        source: sqlx::Error,
    },
    /// It has not this version's tables and may not get them from us.
    #[error("cannot bring the PostgreSQL database {database} to this version")]
    MigrateServer {
        /// Its name.
        database: String,
        /// What is wrong.
        source: Box<MigrateError>,
    },
    /// Acknowledged data would not be safe there.
    #[error("the PostgreSQL database {database} is not fit for this: {problem}")]
    Unfit {
        /// Its name.
        database: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The lease cannot be taken.
    #[error("cannot take the lease on the database")]
    Lease(#[source] sqlx::Error),
}

/// Whether another process has taken over: this one has to stop.
pub fn is_fenced(error: &sqlx::Error) -> bool {
    fenced(error).is_some()
}

/// Whether SQLite could not make something durable: SQLITE_IOERR_FSYNC and SQLITE_IOERR_DIR_FSYNC.
pub(super) fn is_failed_sync(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| {
        error.try_downcast_ref::<sqlx::sqlite::SqliteError>()?;
        error.code()?.parse::<i32>().ok()
    });
    matches!(code, Some(1034 | 1290))
}

fn is_not_durable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error
            .get_ref()
            .is_some_and(|cause| cause.is::<NotDurable>()),
        error => is_failed_sync(error),
    }
}

fn fenced(error: &sqlx::Error) -> Option<&Fenced> {
    match error {
        sqlx::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

impl From<sqlx::Error> for ServiceError {
    fn from(error: sqlx::Error) -> Self {
        store_error(&error).because(error)
    }
}

pub(super) fn wal_in_use() -> ServiceError {
    ServiceError::new(
        Code::Unavailable,
        STORE_BUSY,
        "a reader keeps the write-ahead log in use",
    )
    .retry_after(Duration::from_millis(100))
}

/// Whether a commit that failed is known to have changed nothing. PostgreSQL has rolled back when it gives an error; a
/// connection that broke, or that the server ended, says nothing, but for one that was ended before it asked to commit.
pub(super) fn is_rolled_back(error: &sqlx::Error) -> bool {
    let Some(error) = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
    else {
        return false;
    };
    error.code() == IDLE_IN_TRANSACTION
        || !matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)
}

/// Whether the same may succeed a little later: a server that restarts, is busy, or cannot be reached.
pub(super) fn is_passing(error: &sqlx::Error) -> bool {
    matches!(kind(error), Kind::Busy | Kind::Overloaded | Kind::Away)
}

enum Kind {
    Busy,
    Full,
    Overloaded,
    Away,
    Failed,
}

/// The same without the cause, for an error that several callers share.
pub(crate) fn store_error(error: &sqlx::Error) -> ServiceError {
    if is_fenced(error) {
        return ServiceError::new(
            Code::Unavailable,
            super::lease::FENCED,
            "another process has taken over; connect again",
        )
        .retry_after(Duration::from_millis(500));
    }
    if is_not_durable(error) {
        return ServiceError::new(
            Code::Unavailable,
            NOT_DURABLE,
            "the disk did not keep what it was given; the service starts anew",
        )
        .retry_after(Duration::from_secs(1));
    }
    let busy = |message, after| {
        ServiceError::new(Code::Unavailable, STORE_BUSY, message).retry_after(after)
    };
    match kind(error) {
        Kind::Busy => busy("the database is in use", Duration::from_millis(500)),
        Kind::Overloaded => busy("the database is overloaded", Duration::from_secs(1)),
        Kind::Away => busy("the database does not answer", Duration::from_secs(1)),
        Kind::Full => ServiceError::new(
            Code::ResourceExhausted,
            DISK_FULL,
            "no space left; nothing was accepted",
        )
        .retry_after(Duration::from_secs(30)),
        Kind::Failed => ServiceError::new(Code::Internal, STORE_FAILED, "the database failed"),
    }
}

fn kind(error: &sqlx::Error) -> Kind {
    match error {
        sqlx::Error::PoolTimedOut => return Kind::Overloaded,
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed => return Kind::Away,
        _ => {}
    }
    let Some(error) = error.as_database_error() else {
        return Kind::Failed;
    };
    let Some(code) = error.code() else {
        return Kind::Failed;
    };
    if error.try_downcast_ref::<PgDatabaseError>().is_some() {
        // SQLSTATE, appendix A of PostgreSQL's manual.
        match code.as_ref() {
            "53100" => Kind::Full,
            "53200" | "53300" => Kind::Overloaded,
            // Serialisation, deadlock, lock not available, cancelled, idle in transaction for too long.
            "40001" | "40P01" | "55P03" | "57014" | "25P03" => Kind::Busy,
            // Shutting down, starting, and a primary that has become a standby.
            "57P01" | "57P02" | "57P03" | "25006" => Kind::Away,
            code if code.starts_with("08") => Kind::Away,
            _ => Kind::Failed,
        }
    } else {
        // The low byte of SQLite's extended result codes.
        match code.parse::<i32>().map(|code| code & 0xff) {
            Ok(5 | 6) => Kind::Busy,
            Ok(13) => Kind::Full,
            _ => Kind::Failed,
        }
    }
}
