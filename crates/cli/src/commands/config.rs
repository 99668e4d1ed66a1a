//! `greffe config`: whether a service would start with its settings, and what they are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use greffe_service_kit::check::check;
use greffe_service_kit::config::{ServiceConfig, Settings, Source};
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::args::Service;
use crate::fail::{Failure, Result, chain};
use crate::output::{Output, narrate, print};
use crate::serve;

/// `greffe config`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  greffe config check relay --config /etc/greffe/relay.toml")]
pub(crate) struct ConfigArguments {
    /// What to do.
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say everything that would keep the service from starting, without starting it: settings, files, certificate, root
    /// key, trust bundle. Nothing is written and nobody is called.
    #[command(after_help = "Example:\n  greffe config check relay --config /etc/greffe/relay.toml")]
    Check(Which),
    /// Print the settings in force as TOML, each with where it came from; secrets are hidden.
    #[command(after_help = "Example:\n  greffe config print relay --config /etc/greffe/relay.toml")]
    Print(Which),
}

#[derive(Debug, Args)]
struct Which {
    /// Which service.
    #[arg(value_enum)]
    service: Service,
    /// Its settings, TOML; variables GREFFE__TABLE__KEY override them.
    #[arg(long)]
    config: PathBuf,
    /// A setting over file and variables, such as `service.log.filter=debug`; may be repeated.
    #[arg(long, value_name = "TABLE.KEY=VALUE")]
    set: Vec<String>,
}

/// Runs it.
pub(crate) fn run(arguments: &ConfigArguments, output: Output) -> Result<()> {
    match &arguments.command {
        ConfigCommand::Check(which) => check_it(which, output),
        ConfigCommand::Print(which) => print_it(which, output),
    }
}

/// What a service is told.
struct Known {
    settings: Settings,
    service: ServiceConfig,
    /// With every default.
    effective: Table,
    /// The services it cannot do without.
    peers: &'static [&'static str],
}

impl Known {
    fn read(which: &Which) -> Result<Self> {
        let settings = serve::settings(&which.config, &which.set)?;
        match which.service {
            Service::Relay => {
                let peers = &["audit", "archive"];
                Self::of(settings, peers, |c: &greffe_relay::Config| &c.service)
            }
            Service::Archive => {
                let peers = &["audit"];
                Self::of(settings, peers, |c: &greffe_archive::Config| &c.service)
            }
            Service::Escrow => {
                let peers = &["audit"];
                Self::of(settings, peers, |c: &greffe_escrow::Config| &c.service)
            }
            Service::Audit => Self::of(settings, &[], |c: &greffe_audit::Config| &c.service),
        }
    }

    fn of<C: DeserializeOwned + Serialize>(
        settings: Settings,
        peers: &'static [&'static str],
        service: impl FnOnce(&C) -> &ServiceConfig,
    ) -> Result<Self> {
        let config: C = serve::read(&settings)?;
        let effective = Table::try_from(&config).map_err(|error| {
            Failure::because("OUTPUT", "the settings cannot be written as TOML", &error)
        })?;
        Ok(Self {
            service: service(&config).clone(),
            settings,
            effective,
            peers,
        })
    }
}

#[derive(Debug, Serialize)]
struct Checked<'a> {
    service: &'a str,
    tenant: &'a str,
    mode: String,
}

fn check_it(which: &Which, output: Output) -> Result<()> {
    let known = Known::read(which)?;
    let problems = check(&known.service, known.peers);
    for problem in &problems {
        narrate(format_args!("{}: {}", problem.reason(), chain(problem)));
    }
    if !problems.is_empty() {
        let each: Vec<&str> = problems.iter().map(|problem| problem.reason()).collect();
        return Err(Failure::refused(
            "CONFIG_CHECK",
            format_args!(
                "{} would not start with these settings, see above: {}",
                which.config.display(),
                each.join(", ")
            ),
        ));
    }
    let mode = known.effective.get("service").and_then(|s| s.get("mode"));
    let checked = Checked {
        service: name(which.service),
        tenant: known.service.tenant.as_str(),
        mode: mode.and_then(Value::as_str).unwrap_or_default().to_owned(),
    };
    print(output, &checked, |c| {
        format!(
            "{} of tenant {} can start with these settings, mode {}\n",
            c.service, c.tenant, c.mode
        )
    })
}

const fn name(service: Service) -> &'static str {
    match service {
        Service::Relay => "relay",
        Service::Archive => "archive",
        Service::Escrow => "escrow",
        Service::Audit => "audit",
    }
}

#[derive(Debug, Serialize)]
struct Printed {
    settings: Table,
    sources: BTreeMap<String, String>,
}

fn print_it(which: &Which, output: Output) -> Result<()> {
    let known = Known::read(which)?;
    let mut lines = Lines {
        settings: &known.settings,
        text: String::new(),
        sources: BTreeMap::new(),
    };
    lines.table(&mut Vec::new(), &known.effective);
    let (text, sources) = (lines.text, lines.sources);
    let printed = Printed {
        settings: known.effective,
        sources,
    };
    print(output, &printed, |_| text)
}

/// Writes tables with their plain settings first, each with where it came from.
struct Lines<'a> {
    settings: &'a Settings,
    text: String,
    sources: BTreeMap<String, String>,
}

impl Lines<'_> {
    fn table(&mut self, path: &mut Vec<String>, table: &Table) {
        let (tables, plain): (Vec<_>, Vec<_>) =
            table.iter().partition(|(_, value)| value.is_table());
        if !path.is_empty() && (!plain.is_empty() || tables.is_empty()) {
            let gap = if self.text.is_empty() { "" } else { "\n" };
            self.text.push_str(&format!("{gap}[{}]\n", path.join(".")));
        }
        for (key, value) in plain {
            path.push(key.clone());
            let source = match self.settings.source(path) {
                Source::Default => "default".to_owned(),
                Source::File => "file".to_owned(),
                Source::Variable(name) => format!("environment {name}"),
                Source::Flag => "flag".to_owned(),
            };
            self.text.push_str(&format!("{key} = {value} # {source}\n"));
            self.sources.insert(path.join("."), source);
            path.pop();
        }
        for (key, value) in tables {
            if let Value::Table(inner) = value {
                path.push(key.clone());
                self.table(path, inner);
                path.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_printed_is_toml_with_sources_and_without_secrets() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config/relay.toml");
        let text = format!(
            "{}\n[service.database]\nurl = 'postgres://u:canary@h/d'\n",
            std::fs::read_to_string(file).unwrap()
        );
        let settings = Settings::parse(
            &text,
            None,
            "T",
            [("T__SERVICE__LOG__FILTER".to_owned(), "warn".to_owned())],
            &["service.limits.calls=9".to_owned()],
        )
        .unwrap();
        let known = Known::of(settings, &[], |c: &greffe_relay::Config| &c.service).unwrap();
        let mut lines = Lines {
            settings: &known.settings,
            text: String::new(),
            sources: BTreeMap::new(),
        };
        lines.table(&mut Vec::new(), &known.effective);
        let text = lines.text;
        for line in [
            "tenant = \"example-bank\" # file",
            "filter = \"warn\" # environment T__SERVICE__LOG__FILTER",
            "calls = 9 # flag",
            "streams = 256 # default",
            "url = \"(hidden)\" # file",
            "[service.peers.archive]",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(!text.contains("canary"));
        // It can be read again, as what it was.
        let again: Table = text.parse().unwrap();
        assert_eq!(again, known.effective);
    }
}
