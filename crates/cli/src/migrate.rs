//! `greffe migrate`: the tables of a service's PostgreSQL databases, by a role that owns them.

use std::path::PathBuf;

use clap::Args;
use greffe_service_kit::config::{DatabaseConfig, ServiceConfig};
use greffe_service_kit::db::{Database, Migrations, Source};
use serde::Serialize;

use crate::args::Service;
use crate::fail::{Failure, Result};
use crate::output::{Output, print};
use crate::serve;

/// `greffe migrate`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  GREFFE__SERVICE__DATABASE__URL_FILE=/run/owner-url greffe migrate relay --config /etc/greffe/relay.toml"
)]
pub(crate) struct MigrateArguments {
    /// Which service.
    #[arg(value_enum)]
    service: Service,
    /// Its settings, TOML; variables GREFFE__TABLE__KEY override them. The role of service.database.url has to own the tables.
    #[arg(long)]
    config: PathBuf,
    /// A setting over file and variables; may be repeated.
    #[arg(long, value_name = "TABLE.KEY=VALUE")]
    set: Vec<String>,
    /// Only say which steps would run.
    #[arg(long)]
    dry_run: bool,
}

/// A database with its name and steps.
type Known<'a> = (&'static str, &'a DatabaseConfig, Migrations);

#[derive(Debug, Serialize)]
struct Migrated {
    dry_run: bool,
    steps: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    database: &'static str,
    version: i64,
    description: String,
    state: &'static str,
}

/// Runs it. The service may run meanwhile, in this version or the one before.
pub(crate) async fn run(arguments: &MigrateArguments, output: Output) -> Result<()> {
    let settings = serve::settings(&arguments.config, &arguments.set)?;
    match arguments.service {
        Service::Relay => {
            let config: greffe_relay::Config = serve::read(&settings)?;
            let known = [main(
                &config.service,
                "relay",
                greffe_relay::app::MIGRATIONS,
            )?];
            migrate(arguments, &config.service, &known, output).await
        }
        Service::Archive => {
            let config: greffe_archive::Config = serve::read(&settings)?;
            let mut known = vec![main(
                &config.service,
                "archive",
                greffe_archive::store::MAIN,
            )?];
            if let Some(wraps) = &config.archive.wraps {
                known.push(("wraps", wraps, greffe_archive::store::WRAPS));
            }
            migrate(arguments, &config.service, &known, output).await
        }
        Service::Escrow => {
            let config: greffe_escrow::Config = serve::read(&settings)?;
            let known = [main(
                &config.service,
                "escrow",
                greffe_escrow::app::MIGRATIONS,
            )?];
            migrate(arguments, &config.service, &known, output).await
        }
        Service::Audit => {
            let config: greffe_audit::Config = serve::read(&settings)?;
            let known = [main(&config.service, "audit", greffe_audit::MIGRATIONS)?];
            migrate(arguments, &config.service, &known, output).await
        }
    }
}

fn main<'a>(
    service: &'a ServiceConfig,
    name: &'static str,
    migrations: Migrations,
) -> Result<Known<'a>> {
    let database = service.database.as_ref().ok_or_else(|| {
        Failure::refused(
            "NO_SERVER",
            "service.database.url names no server: the tables are in SQLite, which every start brings to its version",
        )
    })?;
    Ok((name, database, migrations))
}

async fn migrate(
    arguments: &MigrateArguments,
    service: &ServiceConfig,
    known: &[Known<'_>],
    output: Output,
) -> Result<()> {
    let mut lines = Vec::new();
    for (name, config, migrations) in known {
        let failed = |error| {
            Failure::because(
                "DATABASE_FAILED",
                format_args!("the tables of {name} are not of this version"),
                &error,
            )
        };
        let source = Source::postgres(config.url.expose(), &service.tenant, "migrate");
        let steps = Database::migrate(&source.map_err(failed)?, migrations, arguments.dry_run)
            .await
            .map_err(failed)?;
        lines.extend(steps.into_iter().map(|step| Line {
            database: name,
            version: step.version,
            description: step.description,
            state: match (step.done, arguments.dry_run) {
                (true, _) => "had run",
                (false, false) => "ran",
                (false, true) => "would run",
            },
        }));
    }
    let migrated = Migrated {
        dry_run: arguments.dry_run,
        steps: lines,
    };
    print(output, &migrated, |migrated| {
        let lines = migrated.steps.iter().map(|step| {
            format!(
                "{} {:04} {}: {}\n",
                step.database, step.version, step.description, step.state
            )
        });
        lines.collect()
    })
}
