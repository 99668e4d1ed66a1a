//! What the command line understands.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::PeopleCommand;
use crate::commands::config::ConfigArguments;
use crate::fail::Failure;
use crate::manual::{CompletionsArguments, ManArguments};
use crate::migrate::MigrateArguments;
use crate::output::Output;
use crate::seal::SealArguments;

/// End-to-end encrypted messaging with a disclosed, threshold-opened archive.
#[derive(Debug, Parser)]
#[command(name = "greffe", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Form of the result on standard output; everything else goes to standard error.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub(crate) output: Output,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  greffe demo                                   the whole life of a message, on a sample
  greffe up --data ./greffe                     every service on this machine
  greffe device enrol --user alice              then: conversation create, notice, acknowledge, send, read
  greffe order request --help                   from search to an order, its approvals and a production
  greffe demo --input 2006-06-01.log.txt --keep --output json

Exit codes: 0 done, 1 something failed here, 2 not understood, 3 refused, 4 does not verify, 5 not reachable, 6 look at an alarm";

/// A command line that was not understood, on one line as every failure.
pub(crate) fn not_understood(error: &clap::Error) -> Failure {
    let text = error.to_string();
    // What follows an empty line is usage and hints.
    let first = text.split("\n\n").next().unwrap_or_default();
    let what: Vec<&str> = first.split_whitespace().collect();
    let what = what.join(" ");
    let what = what.strip_prefix("error: ").unwrap_or(&what);
    Failure::usage("ARGUMENTS", format_args!("{what}; see --help"))
}

/// The form of output that a command line asks for which is otherwise not understood.
pub(crate) fn output_of(arguments: impl Iterator<Item = OsString>) -> Output {
    let mut before = OsString::new();
    for argument in arguments {
        if argument == "--output=json" || (before == "--output" && argument == "json") {
            return Output::Json;
        }
        before = argument;
    }
    Output::Text
}

/// What to do.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "one is parsed a process")]
pub(crate) enum Command {
    /// Run one service in the foreground.
    Serve(ServeArguments),
    /// A service's settings, without starting it.
    Config(ConfigArguments),
    /// Bring the tables of a service's PostgreSQL databases to this version.
    Migrate(MigrateArguments),
    /// The key that a service's secrets are sealed under.
    Seal(SealArguments),
    /// Run every service on this machine, each in its own process; the first start makes a development identity.
    Up(UpArguments),
    /// Seal, archive, deliver, open under an order, produce and verify a sample or your own input.
    Demo(DemoArguments),
    /// Verify a production with nothing but the tenant root's public key: no network, server or clock.
    Verify(VerifyArguments),
    /// Print the script that completes this command in a shell.
    Completions(CompletionsArguments),
    /// Write the manual: a page for each command.
    Man(ManArguments),
    /// What people do.
    #[command(flatten)]
    People(PeopleCommand),
}

/// Which service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Service {
    /// MLS delivery service and journaling gate.
    Relay,
    /// Records, retention, holds, search, orders.
    Archive,
    /// One escrow node.
    Escrow,
    /// The audit log.
    Audit,
}

/// `greffe serve`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  greffe serve relay --config /etc/greffe/relay.toml")]
pub(crate) struct ServeArguments {
    /// Which service.
    #[arg(value_enum)]
    pub(crate) service: Service,
    /// Its settings, TOML; variables GREFFE__TABLE__KEY override them.
    #[arg(long)]
    pub(crate) config: PathBuf,
    /// A setting over file and variables, such as `service.log.filter=debug`; may be repeated.
    #[arg(long, value_name = "TABLE.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Make the keys of the service of this name (`relay`, `escrow-2`) in its data folder, print their public halves and a TLS
    /// certificate request as JSON, and end.
    #[arg(long, value_name = "NAME")]
    pub(crate) prepare: Option<String>,
    /// Drain and end when standard input ends, for a parent process that may die.
    #[arg(long, hide = true)]
    pub(crate) stop_with_stdin: bool,
}

/// What a first start makes.
#[derive(Debug, Clone, Args)]
pub(crate) struct IdentityArguments {
    /// Tenant of a first start: 1 to 63 characters of a-z, 0-9 and '-'.
    #[arg(long, default_value = "demo")]
    pub(crate) tenant: String,
    /// Policy pack of a first start.
    #[arg(long, default_value = "us-broker-dealer")]
    pub(crate) pack: String,
    /// Whom notices tell members to ask, on a first start: a name and an address.
    #[arg(
        long,
        default_value = "the compliance department, compliance@example.org"
    )]
    pub(crate) contact: String,
    /// File that says where services keep what they write, on a first start: PostgreSQL databases, an S3 store with Object Lock,
    /// and whether relay, archive and audit run twice: both relays and both archives serve, the second audit waits to take over.
    /// Without it, SQLite and folders.
    #[arg(long, value_name = "FILE", env = "GREFFE_STORES")]
    pub(crate) stores: Option<PathBuf>,
}

/// `greffe up`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  greffe up --data ./greffe")]
pub(crate) struct UpArguments {
    /// Data folder: new, empty, or made by an earlier `greffe up`.
    #[arg(long, env = "GREFFE_DATA", default_value = "greffe-data")]
    pub(crate) data: PathBuf,
    /// The identity.
    #[command(flatten)]
    pub(crate) identity: IdentityArguments,
}

/// `greffe demo`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  greffe demo\n  greffe demo --input ./mails --keep --data ./demo --output json"
)]
pub(crate) struct DemoArguments {
    /// A chat log, a mail or a folder of .eml files; without it the project's sample.
    #[arg(long)]
    pub(crate) input: Option<PathBuf>,
    /// Folder for everything the demonstration writes: new or empty. Without it, a temporary one.
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// Keep what services and people wrote; without it only the production and the root's public key stay.
    #[arg(long)]
    pub(crate) keep: bool,
    /// The identity.
    #[command(flatten)]
    pub(crate) identity: IdentityArguments,
}

/// `greffe verify`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  greffe verify ./production --root root.pub\n  greffe verify production.zip --root root.pub\n  greffe verify --archive /etc/greffe/archive.toml"
)]
pub(crate) struct VerifyArguments {
    /// Folder or zip of the production. A zip is read where it is, nothing is unpacked.
    #[arg(
        required_unless_present = "archive",
        conflicts_with = "archive",
        requires = "root"
    )]
    pub(crate) production: Option<PathBuf>,
    /// The tenant root's public key: one line, `greffe-root-v1 TENANT HEX`.
    #[arg(long)]
    pub(crate) root: Option<PathBuf>,
    /// Instead of a production, everything an archive holds, against the log: the settings of `greffe serve archive`. No
    /// archive may run over the same databases and data folder; the audit service has to.
    #[arg(long, value_name = "CONFIG", conflicts_with = "root")]
    pub(crate) archive: Option<PathBuf>,
    /// A setting over file and variables, such as `service.data=/restored`; may be repeated.
    #[arg(long, value_name = "TABLE.KEY=VALUE", requires = "archive")]
    pub(crate) set: Vec<String>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;

    use super::*;

    /// A command and all below it.
    fn every(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
        let path = format!("{path} {}", command.get_name());
        found.push((path.clone(), command.clone()));
        for below in command.get_subcommands() {
            every(below, &path, found);
        }
    }

    #[test]
    fn every_command_has_an_example_and_no_name_twice() {
        let mut found = Vec::new();
        every(&Arguments::command(), "", &mut found);
        assert!(found.len() > 40, "{}", found.len());
        for (path, command) in found {
            let help = command.get_after_help().map(ToString::to_string);
            let example = help.unwrap_or_default();
            assert!(
                example.contains("Example") && example.contains(path.trim()),
                "{path}"
            );
            let mut names = BTreeSet::new();
            for argument in command.get_arguments() {
                assert!(
                    names.insert(argument.get_id().clone()),
                    "{path}: {}",
                    argument.get_id()
                );
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_one_line_in_the_form_asked_for() {
        let error = Arguments::try_parse_from(["greffe", "send", "--as"]).unwrap_err();
        let failure = not_understood(&error);
        assert_eq!(failure.reason(), "ARGUMENTS");
        assert!(failure.message().contains("--as"), "{failure}");
        let json = ["greffe", "--output", "json", "x"].map(OsString::from);
        assert_eq!(output_of(json.into_iter()), Output::Json);
        assert_eq!(output_of(["greffe".into()].into_iter()), Output::Text);
    }
}
