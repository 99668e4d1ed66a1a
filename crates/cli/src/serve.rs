//! `greffe serve`: one service in the foreground.

use core::future::Future;
use std::path::Path;

use greffe_service_kit::boot::StartError;
use greffe_service_kit::config::{ConfigError, ServiceConfig, Settings};
use greffe_service_kit::prepare::{Prepared, prepare_in};
use greffe_service_kit::secrets::Keystore;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, stdin};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{ServeArguments, Service};
use crate::fail::{Exit, Failure, Result, chain};
use crate::output::{Output, print};

/// Variables that override settings begin with this and `__`.
const PREFIX: &str = "GREFFE";

/// Runs a service until it is told to stop, or prepares its keys.
pub(crate) async fn run(arguments: ServeArguments) -> Result<()> {
    let settings = settings(&arguments.config, &arguments.set)?;
    match arguments.service {
        Service::Relay => {
            let config: greffe_relay::Config = read(&settings)?;
            if let Some(name) = &arguments.prepare {
                return prepared(name, &config.service, greffe_relay::KEYS);
            }
            serve(&arguments, |stop| greffe_relay::serve(config, stop)).await
        }
        Service::Archive => {
            let config: greffe_archive::Config = read(&settings)?;
            if let Some(name) = &arguments.prepare {
                return prepared(name, &config.service, greffe_archive::KEYS);
            }
            serve(&arguments, |stop| greffe_archive::serve(config, stop)).await
        }
        Service::Escrow => {
            let config: greffe_escrow::Config = read(&settings)?;
            if let Some(name) = &arguments.prepare {
                return prepared(name, &config.service, greffe_escrow::KEYS);
            }
            serve(&arguments, |stop| greffe_escrow::serve(config, stop)).await
        }
        Service::Audit => {
            let config: greffe_audit::Config = read(&settings)?;
            if let Some(name) = &arguments.prepare {
                return prepared(name, &config.service, greffe_audit::KEYS);
            }
            serve(&arguments, |stop| greffe_audit::serve(config, stop)).await
        }
    }
}

/// The settings of a service from its file and the environment.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Result<T> {
    read(&settings(path, &[])?)
}

/// Settings from a file, the environment, and flags over both.
pub(crate) fn settings(path: &Path, flags: &[String]) -> Result<Settings> {
    Settings::load(Some(path), PREFIX, flags).map_err(|error| refused(&error))
}

/// Settings as their service wants them.
pub(crate) fn read<T: DeserializeOwned>(settings: &Settings) -> Result<T> {
    settings.read().map_err(|error| refused(&error))
}

fn refused(error: &ConfigError) -> Failure {
    Failure::new(Exit::Usage, "SETTINGS_REFUSED", chain(error))
}

fn prepared(name: &str, service: &ServiceConfig, keys: &[(&str, &str)]) -> Result<()> {
    let keystore = Keystore::from(service);
    let made = prepare_in(name, &service.tenant, &service.data, &keystore, keys);
    let made: Prepared = made.map_err(|error| {
        Failure::because(
            error.reason(),
            format_args!("{name} cannot make its keys"),
            &error,
        )
    })?;
    print(Output::Json, &made, |_| String::new())
}

async fn serve<F>(
    arguments: &ServeArguments,
    run: impl FnOnce(core::pin::Pin<Box<dyn Future<Output = ()> + Send>>) -> F,
) -> Result<()>
where
    F: Future<Output = core::result::Result<(), StartError>>,
{
    let stop = Box::pin(told_to_stop(arguments.stop_with_stdin)?);
    run(stop).await.map_err(|error| {
        let exit = match &error {
            StartError::Config(_) => Exit::Usage,
            StartError::Folder(_) => Exit::Refused,
            _ => Exit::Failed,
        };
        Failure::new(exit, error.reason(), chain(&error))
    })
}

/// SIGTERM, SIGINT, or, when a parent asked for it, the end of standard input.
fn told_to_stop(with_stdin: bool) -> Result<impl Future<Output = ()> + Send> {
    let failed = |error: std::io::Error| {
        Failure::failed("SIGNALS", format_args!("signals cannot be caught: {error}"))
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        let parent_gone = async {
            if !with_stdin {
                return core::future::pending().await;
            }
            let mut byte = [0];
            while matches!(stdin().read(&mut byte).await, Ok(1)) {}
        };
        if with_stdin {
            // A terminal's interrupt reaches the whole process group: the parent decides when its services stop.
            tokio::select! {
                _ = terminate.recv() => {}
                () = parent_gone => {}
            }
        } else {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_settings_are_understood() {
        let file = |name: &str| {
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../deploy/config/{name}.toml"))
        };
        load::<greffe_relay::Config>(&file("relay")).unwrap();
        load::<greffe_archive::Config>(&file("archive")).unwrap();
        load::<greffe_escrow::Config>(&file("escrow-1")).unwrap();
        load::<greffe_audit::Config>(&file("audit")).unwrap();
        assert!(load::<greffe_audit::Config>(&file("relay")).is_err());
    }

    /// As `deploy/LIMITS.md` writes a setting.
    fn written(key: &str, value: u64) -> String {
        let number = if key.ends_with("_ms") {
            format!("{} s", value / 1000)
        } else if value >= 1 << 30 && value.is_multiple_of(1 << 30) {
            format!("{} GiB", value >> 30)
        } else if value >= 1 << 20 && value.is_multiple_of(1 << 20) {
            format!("{} MiB", value >> 20)
        } else if value >= 1000 {
            format!("{},{:03}", value / 1000, value % 1000)
        } else {
            value.to_string()
        };
        format!("`{key}` {number}")
    }

    #[test]
    fn the_list_of_limits_has_every_setting_as_it_is_by_default() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
        let text = std::fs::read_to_string(folder.join("LIMITS.md")).unwrap();
        let has = |settings: serde_json::Value, wanted: fn(&str) -> bool| {
            let settings = settings.as_object().unwrap();
            let wanted = settings.iter().filter(|(key, _)| wanted(key));
            let keys: Vec<_> = wanted
                .map(|(key, value)| written(key, value.as_u64().unwrap()))
                .collect();
            for key in &keys {
                assert!(text.contains(key), "deploy/LIMITS.md does not say {key}");
            }
            keys.len()
        };
        let json = |value: serde_json::Result<serde_json::Value>| value.unwrap();
        let limits = greffe_service_kit::config::Limits::default();
        assert!(has(json(serde_json::to_value(limits)), |_| true) >= 11);
        let relay = greffe_relay::config::RelayConfig::default();
        assert!(has(json(serde_json::to_value(relay)), |_| true) >= 6);
        let archive = greffe_archive::config::ArchiveConfig::default();
        let searches = |key: &str| key.starts_with("searches");
        assert_eq!(has(json(serde_json::to_value(archive)), searches), 2);
        let escrow = greffe_escrow::config::EscrowConfig::default();
        let bounds = |key: &str| !key.ends_with("_ms");
        assert!(has(json(serde_json::to_value(escrow)), bounds) >= 4);
    }

    /// With every line that is commented out there.
    #[test]
    fn the_sample_settings_are_understood_in_full() {
        fn whole<T: DeserializeOwned>(name: &str) -> T {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config");
            let text = std::fs::read_to_string(folder.join(name)).unwrap();
            let setting = |line: &str| {
                let key = line.split(" = ").next().unwrap_or_default();
                line.starts_with('[') || (line != key && !key.contains(' '))
            };
            let lines: Vec<&str> = text
                .lines()
                .map(|line| match line.strip_prefix("# ") {
                    Some(rest) if setting(rest) => rest,
                    _ => line,
                })
                .collect();
            let settings = Settings::parse(&lines.join("\n"), None, "T", [], &[]).unwrap();
            read(&settings).unwrap()
        }
        let relay: greffe_relay::Config = whole("relay.toml");
        assert!(relay.service.seal.is_some() && relay.service.health.is_some());
        whole::<greffe_archive::Config>("archive.toml");
        whole::<greffe_escrow::Config>("escrow-1.toml");
        whole::<greffe_audit::Config>("audit.toml");
    }
}
