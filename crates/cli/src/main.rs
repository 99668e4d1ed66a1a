//! The `greffe` command: every service, a whole machine of them, the demonstration, and what people do.

mod args;
mod commands;
mod connection;
mod demo;
mod enrol;
mod fail;
mod layout;
mod manual;
mod migrate;
mod monitor;
mod operator;
mod output;
mod produce;
mod save;
mod seal;
mod serve;
mod up;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use clap::error::ErrorKind;

use greffe_service_kit::config::{CollectorTls, TelemetryConfig};
use greffe_service_kit::harden;
use greffe_service_kit::telemetry::{self, LogConfig, Origin};

use args::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help and version, asked for or because nothing was.
        Err(answer)
            if !answer.use_stderr()
                || answer.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand =>
        {
            answer.exit()
        }
        Err(error) => {
            let failure = args::not_understood(&error);
            output::report(args::output_of(std::env::args_os()), &failure);
            return failure.exit();
        }
    };
    let output = arguments.output;
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::report(output, &failure);
            failure.exit()
        }
    }
}

/// How long blocking work may go on when everything else has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

fn run(arguments: Arguments) -> fail::Result<()> {
    // Services hold keys, and what people do opens content: before either is read.
    harden::process().map_err(|error| fail::Failure::because("NOT_HARDENED", "greffe", &error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| fail::Failure::failed("RUNTIME", format_args!("no runtime: {error}")))?;
    let output = arguments.output;
    let outcome = runtime.block_on(async {
        traced(&arguments.command)?;
        let outcome = match arguments.command {
            Command::Serve(serve) => serve::run(serve).await,
            Command::Migrate(migrate) => migrate::run(&migrate, output).await,
            Command::Config(config) => commands::config::run(&config, output),
            Command::Seal(seal) => seal::run(&seal, output),
            Command::Up(up) => up::run(up, output).await,
            Command::Demo(demo) => demo::run(demo, output).await,
            Command::Verify(verify) => verify::run(&verify, output).await,
            Command::Completions(completions) => manual::completions(&completions, output),
            Command::Man(man) => manual::man(&man, output),
            Command::People(command) => commands::run(command, output).await,
        };
        telemetry::flush().await;
        outcome
    });
    // A service that was not told to stop still has a thread that waits for its standard input to end: nothing waits for that.
    runtime.shutdown_timeout(LAST_WORDS);
    outcome
}

/// What people do is traced where the environment names a collector, as OpenTelemetry's specification has it; services are
/// told in their settings.
fn traced(command: &Command) -> fail::Result<()> {
    let Some(otlp) = std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT")
        .ok()
        .filter(|_| matches!(command, Command::Demo(_) | Command::People(_)))
    else {
        return Ok(());
    };
    let log = LogConfig {
        filter: "off".to_owned(),
        ..LogConfig::default()
    };
    let file = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let tls = file("OTEL_EXPORTER_OTLP_CERTIFICATE").map(|ca| CollectorTls {
        ca,
        cert: file("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"),
        key: file("OTEL_EXPORTER_OTLP_CLIENT_KEY"),
    });
    let config = TelemetryConfig {
        otlp: Some(otlp),
        tls,
        ..TelemetryConfig::default()
    };
    let origin = Origin {
        service: "greffe".to_owned(),
        tenant: String::new(),
    };
    telemetry::init(&log, &config, &origin)
        .map_err(|error| fail::Failure::because("TELEMETRY", "OTEL_EXPORTER_OTLP_ENDPOINT", &error))
}
