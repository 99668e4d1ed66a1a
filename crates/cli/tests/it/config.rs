//! What `greffe config` says of a service's settings, and that production refuses what `greffe up` makes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Ran, greffe, sample};

/// The relay's settings of a demonstration, with files of their own in a folder.
fn settings(folder: &Path, change: impl Fn(&str) -> String) -> PathBuf {
    let services = sample().data.join("services");
    let text = fs::read_to_string(services.join("relay/config.toml")).unwrap();
    let path = folder.join("relay.toml");
    fs::write(&path, change(&text)).unwrap();
    path
}

fn run(arguments: &[&str], config: &Path, more: &[&str]) -> Ran {
    let mut command = greffe();
    command.args(arguments).arg("--config").arg(config);
    Ran::of(command.args(more).output().unwrap())
}

#[test]
fn what_would_start_is_said_to() {
    let folder = tempfile::tempdir().unwrap();
    let config = settings(folder.path(), str::to_owned);
    let said = run(
        &["config", "check", "relay"],
        &config,
        &["--output", "json"],
    )
    .json();
    assert_eq!(said["service"], "relay");
    assert_eq!(said["tenant"], "demo");
    assert_eq!(said["mode"], "development");
}

#[test]
fn production_refuses_the_development_identity() {
    let folder = tempfile::tempdir().unwrap();
    let config = settings(folder.path(), str::to_owned);
    let production = ["--set", "service.mode=production"];
    let checked = run(&["config", "check", "relay"], &config, &production);
    checked.refused(3, "CONFIG_CHECK");
    for what in ["the TLS authority", "the trust bundle"] {
        let line = format!("DEVELOPMENT_IDENTITY: {what} is of a development identity");
        assert!(checked.stderr.contains(&line), "{}", checked.stderr);
    }
    run(&["serve", "relay"], &config, &production).refused(1, "DEVELOPMENT_IDENTITY");
    // By the environment, too.
    let mut command = greffe();
    command.env("GREFFE__SERVICE__MODE", "production");
    command.args(["serve", "relay", "--config"]).arg(&config);
    Ran::of(command.output().unwrap()).refused(1, "DEVELOPMENT_IDENTITY");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let services = sample().data.join("services");
    fs::write(folder.path().join("bundle.bin"), b"nothing").unwrap();
    let theirs = services.join("archive/tls.key").display().to_string();
    let config = settings(folder.path(), |text| {
        let mut table: toml::Table = text.parse().unwrap();
        let service = table["service"].as_table_mut().unwrap();
        service["tls"]["key"] = theirs.clone().into();
        service["bundle"] = folder
            .path()
            .join("bundle.bin")
            .display()
            .to_string()
            .into();
        let peers = service["peers"].as_table_mut().unwrap();
        peers.remove("archive");
        let mut audit = toml::Table::new();
        audit.insert("address".into(), "audit".into());
        peers["audit"] = audit.into();
        table.to_string()
    });
    let checked = run(
        &["config", "check", "relay"],
        &config,
        &["--set", "service.telemetry.otlp=collector"],
    );
    checked.refused(3, "CONFIG_CHECK");
    for line in [
        "TLS_IDENTITY: ",
        "does not hold a signed statement",
        "service.peers.archive is missing",
        "\"audit\" is not an address: host:port",
        "service.telemetry.otlp = \"collector\" is no collector",
    ] {
        assert!(checked.stderr.contains(line), "{line}: {}", checked.stderr);
    }
    // A setting that nothing reads.
    let unknown = ["--set", "service.listenn=1"];
    run(&["config", "check", "relay"], &config, &unknown).refused_at_once(2, "SETTINGS_REFUSED");
    run(&["serve", "relay"], &config, &unknown).refused_at_once(2, "SETTINGS_REFUSED");
}

#[test]
fn print_says_where_settings_came_from_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("url");
    fs::write(&secret, "postgres://u:canary@h/d\n").unwrap();
    let config = settings(folder.path(), str::to_owned);
    let mut command = greffe();
    command.env("GREFFE__SERVICE__DATABASE__URL_FILE", &secret);
    command
        .args(["config", "print", "relay", "--config"])
        .arg(&config);
    let printed = Ran::of(
        command
            .args(["--set", "service.limits.calls=5"])
            .output()
            .unwrap(),
    );
    assert_eq!(printed.code, 0, "{printed:?}");
    for line in [
        "url = \"(hidden)\" # environment GREFFE__SERVICE__DATABASE__URL_FILE",
        "calls = 5 # flag",
        "tenant = \"demo\" # file",
        "mode = \"development\" # default",
    ] {
        assert!(
            printed.stdout.lines().any(|found| found == line),
            "{line}: {}",
            printed.stdout
        );
    }
    assert!(!printed.stdout.contains("canary"));
}
