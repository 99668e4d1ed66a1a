//! Bringing a database to this version. Steps only add: each version's tables serve the version before it, which may still
//! run, or run again.

use sqlx::Connection as _;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnection, PgPool};

use super::open::unfit;
use super::{Database, DbError, Migrations, Source};

/// A step to this version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its number; they run in this order.
    pub version: i64,
    /// What it does.
    pub description: String,
    /// Whether it had run before.
    pub done: bool,
}

impl Database {
    /// The steps of a server's database to this version. Those that have not run are run, unless `dry`.
    ///
    /// # Errors
    /// [`DbError`]: for a file of SQLite [`DbError::Unfit`], which every start brings to its version.
    pub async fn migrate(
        source: &Source,
        migrations: &Migrations,
        dry: bool,
    ) -> Result<Vec<Step>, DbError> {
        let (Source::Postgres(server), Some(migrator)) = (source, migrations.postgres) else {
            return Err(DbError::Unfit {
                database: "of this service".to_owned(),
                problem: "it is a file of SQLite, which every start brings to its version"
                    .to_owned(),
            });
        };
        let database = server.get_database().unwrap_or_default().to_owned();
        let failed = |source| DbError::Connect {
            host: server.get_host().to_owned(),
            database: database.clone(),
            source,
        };
        let mut connection = PgConnection::connect_with(server).await.map_err(failed)?;
        if let Some(problem) = unfit(&mut connection).await.map_err(failed)? {
            return Err(DbError::Unfit { database, problem });
        }
        let done = done(&mut connection, &database).await?;
        if !dry {
            tolerant(migrator)
                .run(&mut connection)
                .await
                .map_err(|source| refused(&database, source))?;
        }
        let steps = migrator.iter().map(|step| Step {
            version: step.version,
            description: step.description.to_string(),
            done: done.iter().any(|(version, _)| *version == step.version),
        });
        let steps = steps.collect();
        connection.close().await.map_err(failed)?;
        Ok(steps)
    }
}

/// The same steps, for a database to which a newer program's may have been applied.
pub(super) fn tolerant(migrator: &Migrator) -> Migrator {
    let mut tolerant = Migrator::DEFAULT;
    tolerant.migrations = migrator.migrations.clone();
    tolerant.ignore_missing = true;
    tolerant
}

/// Runs the steps, or checks that they have run.
pub(super) async fn at_start(
    pool: &PgPool,
    migrator: &'static Migrator,
    run: bool,
    database: &str,
) -> Result<(), DbError> {
    if run {
        let ran = tolerant(migrator).run(pool).await;
        return ran.map_err(|source| refused(database, source));
    }
    let failed = |source| refused(database, MigrateError::Execute(source));
    let mut connection = pool.acquire().await.map_err(failed)?;
    let done = done(&mut connection, database).await?;
    for step in migrator.iter() {
        let ran = done.iter().find(|(version, _)| *version == step.version);
        if ran.is_some_and(|(_, checksum)| checksum.as_slice() != &*step.checksum) {
            return Err(DbError::Unfit {
                database: database.to_owned(),
                problem: format!(
                    "its migration {} is not this service's ({}): another service's database, or a changed step",
                    step.version, step.description
                ),
            });
        }
    }
    let ran = |version| done.iter().any(|(ran, _)| *ran == version);
    match migrator.iter().find(|step| !ran(step.version)) {
        None => Ok(()),
        Some(step) => Err(DbError::Unfit {
            database: database.to_owned(),
            problem: format!(
                "migration {} ({}) has not run; run `greffe migrate` with a role that owns the tables first",
                step.version, step.description
            ),
        }),
    }
}

/// Which steps have run, with their checksums.
async fn done(
    connection: &mut PgConnection,
    database: &str,
) -> Result<Vec<(i64, Vec<u8>)>, DbError> {
    let failed = |source| refused(database, MigrateError::Execute(source));
    let there: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if !there {
        return Ok(Vec::new());
    }
    sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success")
        .fetch_all(connection)
        .await
        .map_err(failed)
}

fn refused(database: &str, source: MigrateError) -> DbError {
    DbError::MigrateServer {
        database: database.to_owned(),
        source: Box::new(source),
    }
}
