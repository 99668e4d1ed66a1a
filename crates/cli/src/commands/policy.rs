//! `greffe policy`: packs, what they demand, and why a record is kept until when.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use greffe_policy::{ClockKind, Pack, load_folder};
use serde::Serialize;

use super::explain::{ExplainArguments, explain};
use crate::fail::{Failure, Result, chain};
use crate::output::{Output, print};

/// `greffe policy`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  greffe policy list")]
pub(crate) struct PolicyArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The packs that this program carries.
    #[command(after_help = "Example:\n  greffe policy list")]
    List,
    /// A pack: modes, approvals, record classes with every clock and its source.
    #[command(after_help = "Example:\n  greffe policy show us-broker-dealer")]
    Show {
        /// Id of a pack that this program carries, or a pack's folder.
        pack: String,
    },
    /// Until when a record is kept, and which rule says so: every clock with its source, and the winner.
    #[command(after_help = "Example:\n  greffe policy explain DIGEST --as auditor")]
    Explain(ExplainArguments),
    /// Check a pack's folder.
    #[command(after_help = "Example:\n  greffe policy lint policies/packs/us-broker-dealer")]
    Lint {
        /// The folder.
        folder: PathBuf,
    },
}

#[derive(Serialize)]
struct PackView {
    id: String,
    version: u32,
    title: String,
    digest: String,
    languages: Vec<String>,
    modes: Vec<&'static str>,
    minimum_approvers: u32,
    approver_roles: Vec<String>,
    bulk_threshold: u32,
    classes: Vec<ClassView>,
}

#[derive(Serialize)]
struct ClassView {
    name: String,
    title: String,
    hot_years: u16,
    clocks: Vec<ClockView>,
}

/// A retention clock.
#[derive(Debug, Serialize)]
pub(super) struct ClockView {
    pub(super) kind: &'static str,
    pub(super) years: u16,
    pub(super) from: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ends: Option<String>,
    pub(super) citation: String,
    pub(super) evidence: String,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub(super) winner: bool,
}

#[derive(Serialize)]
struct List {
    packs: Vec<PackView>,
}

impl PackView {
    fn new(pack: &Pack) -> Self {
        let minimum = |clock| (ClockKind::Minimum, clock);
        let maximum = |clock| (ClockKind::Maximum, clock);
        let classes = pack.classes().iter().map(|class| ClassView {
            name: class.name().to_owned(),
            title: class.title("en").unwrap_or_default().to_owned(),
            hot_years: class.hot_years(),
            clocks: class
                .minima()
                .iter()
                .map(minimum)
                .chain(class.maxima().iter().map(maximum))
                .map(|(kind, clock)| ClockView {
                    kind: kind_name(kind),
                    years: clock.years,
                    from: clock.start.to_string(),
                    ends: None,
                    citation: clock.citation.clone(),
                    evidence: clock.evidence.to_string(),
                    winner: false,
                })
                .collect(),
        });
        let rule = pack.approval();
        Self {
            id: pack.id().to_owned(),
            version: pack.version(),
            title: pack.title().to_owned(),
            digest: pack.digest().to_string(),
            languages: pack.languages().to_vec(),
            modes: pack.modes_allowed().map(|mode| mode.as_str()).collect(),
            minimum_approvers: rule.minimum(),
            approver_roles: rule
                .required_roles()
                .iter()
                .map(ToString::to_string)
                .collect(),
            bulk_threshold: rule.bulk_threshold(),
            classes: classes.collect(),
        }
    }

    fn line(&self) -> String {
        format!(
            "{} version {} ({}): {}; modes {}\n",
            self.id,
            self.version,
            self.digest,
            self.title,
            self.modes.join(", ")
        )
    }

    fn text(&self) -> String {
        let mut text = self.line();
        text.push_str(&format!(
            "orders need {} approvers, among them {}; over {} records one more\n",
            self.minimum_approvers,
            self.approver_roles.join(" and "),
            self.bulk_threshold
        ));
        for class in &self.classes {
            text.push_str(&format!("class {}: {}\n", class.name, class.title));
            for clock in &class.clocks {
                text.push_str(&format!(
                    "  {} {} y from {} [{}; {}]\n",
                    clock.kind, clock.years, clock.from, clock.citation, clock.evidence
                ));
            }
        }
        text
    }
}

/// A clock's kind, in words.
pub(super) const fn kind_name(kind: ClockKind) -> &'static str {
    match kind {
        ClockKind::Minimum => "at least",
        ClockKind::Maximum => "at most",
    }
}

/// Does what was asked.
pub(crate) async fn run(arguments: PolicyArguments, output: Output) -> Result<()> {
    match arguments.what {
        What::List => {
            let packs = Pack::all_embedded().iter().map(PackView::new).collect();
            print(output, &List { packs }, |list| {
                list.packs.iter().map(PackView::line).collect()
            })
        }
        What::Show { pack } => {
            let view = match Pack::embedded(&pack) {
                Some(pack) => PackView::new(pack),
                None if Path::new(&pack).is_dir() => PackView::new(&folder(Path::new(&pack))?),
                None => return Err(crate::up::unknown_pack(&pack)),
            };
            print(output, &view, PackView::text)
        }
        What::Lint { folder: path } => {
            let view = PackView::new(&folder(&path)?);
            print(output, &view, PackView::line)
        }
        What::Explain(arguments) => explain(arguments, output).await,
    }
}

/// Reads and checks a pack's folder.
pub(super) fn folder(path: &Path) -> Result<Pack> {
    load_folder(path).map_err(|error| {
        Failure::unverified(
            "POLICY_INVALID",
            format_args!("{}: {}", path.display(), chain(&error)),
        )
    })
}
